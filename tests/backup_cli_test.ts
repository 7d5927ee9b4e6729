/**
 * `drover backup` as people use it: an image into a store, from there into a volume, a backup of the volume, files of
 * it, checks, removal. And what it says to mistakes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { drover, serveVolume } from "./cli_kit.ts";
import { peerTest } from "./support/conditional.ts";
import { run, spawnLogged } from "./support/process.ts";
import { s3Server } from "./support/s3_server.ts";
import { tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";
import { fill } from "./sync_kit.ts";

const MIB = 1024 * 1024;

/** An image with data and holes. */
function makeImage(path: string, bytes: number): void {
  using file = Deno.openSync(path, { write: true, create: true });
  file.truncateSync(bytes);
  const data = new Uint8Array(3 * MIB);
  for (const [index, offset] of [0, 9 * MIB + 4096, 20 * MIB].entries()) {
    fill(data, index + 1);
    file.seekSync(offset, Deno.SeekMode.Start);
    file.writeSync(data);
  }
}

async function backup(...args: string[]): Promise<{ stdout: string; stderr: string; code: number }> {
  return await drover("backup", ...args);
}

/** The JSON that a command prints. */
async function json<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await backup(...args, "-o", "json");
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as T;
}

interface Row {
  readonly name: string;
  readonly state: string;
  readonly incremental: boolean;
  readonly uploadedBytes: number;
}

peerTest("an image goes into a volume by way of a store, and the volume's backups come out as files", {
  needs: ["qemu-io", "qemu-img"],
}, async () => {
  using dir = tempDir();
  Deno.mkdirSync(dir.join("store"));
  const target = ["--target", `vfs://${dir.join("store")}`], image = dir.join("image");
  makeImage(image, 32 * MIB);
  assert.equal((await backup("import", "golden", image, ...target, "--name", "first")).code, 0);
  const listen = ["--frontend", "nbd", "--listen", `unix:${dir.join("s")}`];
  await using volume = await serveVolume("data", dir.path, ["--size", "32m", "--replicas", "2", ...listen]);
  await run("qemu-io", ["-f", "raw", volume.endpoint, "-c", "write -P 0x5a 15M 1M", "-c", "flush"]);
  const where = [...target, "--dir", dir.path];
  const refused = await backup("restore", "golden", "--into", "data", ...where);
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /nobody is there to ask; --yes/);
  const restored = await backup("restore", "golden", "--into", "data", "--yes", ...where);
  assert.equal(restored.code, 0, restored.stderr);
  assert.match(restored.stdout, /data holds first of golden, 32 MiB/);
  const again = await backup("restore", "golden", "--into", "data", "--yes", "--continue", ...where);
  assert.equal(again.code, 2);
  assert.match(again.stderr, /no interrupted restore into data is noted/);
  await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", image, volume.endpoint]);

  const full = await json<Row & { backup: string }>("create", "data", ...where);
  assert.equal(full.incremental, false);
  await run("qemu-io", ["-f", "raw", volume.endpoint, "-c", "write -P 0x33 21M 64k", "-c", "flush"]);
  const next = await json<Row & { backup: string; url: string }>(
    "create",
    "data",
    "--label",
    "a=b",
    ...where,
  );
  assert.equal(next.incremental, true);
  assert.ok(next.uploadedBytes <= 3 * MIB, "one block is moved");
  const rows = await json<Row[]>("ls", "data", ...target);
  assert.deepEqual(rows.map(({ name, state }) => [name, state]), [
    [full.backup, "complete"],
    [next.backup, "complete"],
  ]);

  const copy = dir.join("copy.qcow2");
  assert.equal((await backup("restore-to-file", next.url, copy, "--format", "qcow2")).code, 0);
  await run("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", copy, volume.endpoint]);
  assert.equal((await backup("restore-to-file", "data", full.backup, dir.join("old"), ...target)).code, 0);
  await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", dir.join("old"), image]);
  assert.equal((await backup("verify", "data", ...target)).code, 0);
});

peerTest("a stand-by disk of another NBD server follows backups, and is activated", {
  needs: ["qemu-nbd", "qemu-img"],
}, async () => {
  using dir = tempDir();
  Deno.mkdirSync(dir.join("store"));
  const image = dir.join("image"), standby = dir.join("standby"), socket = dir.join("s");
  const target = ["--target", `vfs://${dir.join("store")}`], state = ["--state", dir.join("notes")];
  makeImage(image, 32 * MIB);
  Deno.writeFileSync(standby, new Uint8Array(32 * MIB).fill(7));
  await using server = spawnLogged("qemu-nbd", [
    "-f",
    "raw",
    "-x",
    "disk",
    "-t",
    "-e",
    "4",
    "-k",
    socket,
    standby,
  ]);
  await waitFor(() => Deno.statSync(socket).isSocket);
  const place = `nbd+unix:///disk?socket=${socket}`;
  const follow = ["follow", "v", "--into", place, "--once", "--yes", ...state, ...target];
  assert.equal((await backup("import", "v", image, "--name", "one", ...target)).code, 0);
  const first = await backup(...follow);
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stdout, /holds one \(full\)/);
  await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", image, place]);
  {
    using file = Deno.openSync(image, { write: true });
    file.seekSync(5 * MIB, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array(4096).fill(1));
  }
  assert.equal((await backup("import", "v", image, "--name", "two", ...target)).code, 0);
  assert.match((await backup(...follow)).stdout, /holds two \(incremental\)/);
  await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", image, place]);
  const active = await backup("activate", place, ...state);
  assert.equal(active.code, 0, active.stderr);
  assert.match(active.stdout, /holds two of v, and is an ordinary volume/);
  assert.equal((await backup("activate", place, ...state)).code, 2);
  assert.ok(server.running);
});

peerTest("a store in S3 is listed, checked and cleared; keys come from a file and are never shown", {
  needs: ["versitygw"],
}, async () => {
  await using server = await s3Server();
  using dir = tempDir();
  const keys = dir.join("keys"), secret = server.credentials().AWS_SECRET_ACCESS_KEY ?? "";
  const lines = Object.entries(server.credentials()).map(([name, value]) => `${name}=${value}`);
  Deno.writeTextFileSync(keys, lines.join("\n"), { mode: 0o600 });
  const target = ["--target", server.url("b"), "--credentials", keys];
  makeImage(dir.join("image"), 32 * MIB);
  assert.equal((await backup("import", "v", dir.join("image"), "--name", "one", ...target)).code, 0);
  const [row] = await json<{ name: string; backups: number }[]>("ls", ...target);
  assert.deepEqual([row?.name, row?.backups], ["v", 1]);
  const blocks = [...walk(server.files)].filter((path) => path.endsWith(".blk"));
  Deno.writeFileSync(blocks[0] ?? "", new Uint8Array(10));
  const bad = await backup("verify", "v", ...target);
  assert.equal(bad.code, 1);
  assert.match(bad.stdout, new RegExp(`bad: block ${blocks[0]?.slice(-68, -4)} .* of one:`));
  const file = await backup("restore-to-file", "v", dir.join("out"), ...target);
  assert.equal(file.code, 1);
  assert.throws(() => Deno.statSync(dir.join("out")), Deno.errors.NotFound);
  assert.equal((await backup("rm", "v", "--all", "--yes", ...target)).code, 0);
  assert.deepEqual([...walk(server.files)], []);

  Deno.writeTextFileSync(keys, lines.join("\n").replace(secret, "hidden-and-wrong"));
  const wrong = await backup("ls", ...target);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /AWS_SECRET_ACCESS_KEY is wrong/);
  assert.doesNotMatch(wrong.stderr + file.stderr + bad.stderr, /hidden|testpassword/);
});

Deno.test("mistakes are named in one line, with what to do", async () => {
  using dir = tempDir();
  Deno.mkdirSync(dir.join("store"));
  const target = ["--target", `vfs://${dir.join("store")}`];
  const refused = async (code: number, pattern: RegExp, ...args: string[]): Promise<void> => {
    const result = await backup(...args);
    assert.equal(result.code, code, `${args.join(" ")}: ${result.stdout}${result.stderr}`);
    assert.match(result.stderr, pattern);
    assert.doesNotMatch(result.stderr, /^\s+at /m, "no stack");
  };
  await refused(2, /which target\? --target URL, or \$DROVER_BACKUP_TARGET/, "ls");
  await refused(2, /the kind "ftp" is not known/, "ls", "--target", "ftp://x");
  await refused(2, /AWS_ACCESS_KEY_ID is not set/, "ls", "--target", "s3://bucket@r/");
  await refused(1, /there are no backups of volume x on vfs/, "ls", "x", ...target);
  await refused(2, /which backup of x\? \(--all/, "rm", "x", ...target);
  await refused(2, /--keep-for 3y: expected for example/, "retain", "x", "--keep-for", "3y", ...target);
  await refused(2, /no volume data in .*none/, "create", "data", "--dir", dir.join("none"), ...target);
  await refused(
    2,
    /--compression best: expected lz4/,
    "import",
    "x",
    "f",
    "--compression",
    "best",
    ...target,
  );
  await refused(2, /where to\? --into VOLUME/, "restore", "x", ...target);
});

function* walk(directory: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(directory)) {
    if (isDirectory) yield* walk(`${directory}/${name}`);
    else if (!name.startsWith(".")) yield `${directory}/${name}`;
  }
}
