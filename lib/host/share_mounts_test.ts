import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import type { CommandResult } from "./command.ts";
import { type Share, ShareError, ShareMounts } from "./share_mounts.ts";

/** A host whose `mount` and `umount` change a mount table of its own. */
function fakeHost(proc: string, answer: (argv: readonly string[]) => Partial<CommandResult>) {
  const commands: string[][] = [];
  const table = `${proc}/self/mountinfo`;
  Deno.mkdirSync(`${proc}/self`, { recursive: true });
  Deno.writeTextFileSync(table, "");
  Deno.writeTextFileSync(`${proc}/filesystems`, "nodev\tproc\n\text4\n");
  const run = (argv: readonly string[]): Promise<CommandResult> => {
    commands.push([...argv]);
    const result = { code: 0, stdout: "", stderr: "", ...answer(argv) };
    const lines = Deno.readTextFileSync(table);
    const point = argv.at(-1) ?? "";
    if (result.code === 0 && argv[0] === "mount") {
      Deno.writeTextFileSync(table, `${lines}1 2 0:1 / ${point} rw - ${argv[2]}4 ${argv.at(-2)} rw\n`);
    }
    if (result.code === 0 && argv[0] === "umount") {
      Deno.writeTextFileSync(
        table,
        lines.split("\n").filter((line) => !line.includes(` ${point} `)).join("\n"),
      );
    }
    return Promise.resolve(result);
  };
  return { commands, mounts: new ShareMounts({ runner: { run }, proc }) };
}

function share(directory: string, more: Partial<Share> = {}): Share {
  return {
    type: "nfs",
    source: "h:/x",
    directory,
    tries: [["vers=4.2", "soft"], ["vers=4.1", "soft"]],
    ...more,
  };
}

Deno.test("a share is mounted with the first options that work, and used again", async () => {
  using dir = tempDir();
  const { commands, mounts } = fakeHost(
    dir.join("proc"),
    (argv) => ({ code: argv.includes("vers=4.2,soft") ? 32 : 0 }),
  );
  const place = dir.join("m/h/x");
  await Promise.all([mounts.mount(share(place)), mounts.mount(share(place))]);
  const calls = commands.map((argv) => argv.slice(0, 5).join(" "));
  assert.deepEqual(calls, [
    "mount -t nfs -o vers=4.2,soft",
    "mount -t nfs -o vers=4.1,soft",
    `stat -f -- ${place}`,
  ]);
  await assert.rejects(
    mounts.mount(share(place, { source: "other:/x" })),
    /is the mount point of h:\/x \(nfs4\) already/,
  );
  assert.deepEqual(await mounts.unmountAll(dir.join("m")), [place]);
  assert.deepEqual(await mounts.unmountAll(dir.join("m")), []);
});

Deno.test("a share whose server forgot it is mounted anew", async () => {
  using dir = tempDir();
  const { commands, mounts } = fakeHost(dir.join("proc"), (argv) => ({ code: argv[0] === "stat" ? 1 : 0 }));
  const place = dir.join("m/h/x");
  await mounts.mount(share(place));
  await mounts.mount(share(place));
  assert.deepEqual(commands.map(([program]) => program), ["mount", "stat", "umount", "mount"]);
});

Deno.test("a password is in no command line, and its file is gone afterwards", async () => {
  using dir = tempDir();
  let file = "", content = "", mode = 0;
  const { commands, mounts } = fakeHost(dir.join("proc"), (argv) => {
    file = /credentials=([^, ]+)/.exec(argv.join(" "))?.[1] ?? "";
    content = Deno.readTextFileSync(file);
    mode = Deno.statSync(file).mode ?? 0;
    return {};
  });
  const login = { username: "me", password: "hidden" };
  await mounts.mount(share(dir.join("m/s"), { type: "cifs", source: "//s/x", tries: [["soft"]], login }));
  assert.equal(content, "username=me\npassword=hidden\n");
  assert.equal(mode & 0o777, 0o600);
  assert.doesNotMatch(commands.flat().join(" "), /hidden/);
  assert.throws(() => Deno.statSync(file), Deno.errors.NotFound);
  await assert.rejects(
    mounts.mount(share(dir.join("m/t"), { type: "cifs", login: { username: "a\nb", password: "" } })),
    ShareError,
  );
});

Deno.test("a machine without the file system says what to install", async () => {
  using dir = tempDir();
  const stderr = "mount: unknown filesystem type 'nfs'.";
  const { mounts } = fakeHost(dir.join("proc"), () => ({ code: 32, stderr }));
  await assert.rejects(
    mounts.mount(share(dir.join("m/a"))),
    /has no NFS: load it with "modprobe nfs".*nfs-common/,
  );
  Deno.writeTextFileSync(dir.join("proc/filesystems"), "nodev\tnfs\nnodev\tnfs4\n");
  await assert.rejects(
    mounts.mount(share(dir.join("m/a"))),
    /mount\.nfs is missing: install the Debian package nfs-common/,
  );
  const refused = fakeHost(dir.join("proc"), () => ({ code: 32, stderr: "access denied by server" }));
  await assert.rejects(
    refused.mounts.mount(share(dir.join("m/a"))),
    (error: Error) =>
      /with vers=4\.2,soft: access denied by server; with vers=4\.1/.test(error.message) &&
      !/install/.test(error.message),
  );
});
