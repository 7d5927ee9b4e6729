import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import { Code, RpcError } from "../rpc/errors.ts";
import { Binaries } from "./binaries.ts";
import { Broadcast } from "./broadcast.ts";
import { describeExit, exitOfWaitStatus } from "./exit.ts";
import { globalMount, parseMountLines, unmountBelow, VolumeMounts } from "./filesystems.ts";
import { WATCH_QUEUE } from "./limits.ts";
import { checkName, volumeOfEngine } from "./names.ts";
import { findByEnvironment, parseStat, processStat } from "./proc.ts";

Deno.test("names of engines tell their volume; other names do not", () => {
  assert.equal(volumeOfEngine("vol-e-0"), "vol");
  assert.equal(volumeOfEngine("pvc-e-1-e-a1b2"), "pvc-e-1");
  assert.equal(volumeOfEngine("vol-r-12345678"), undefined);
  assert.equal(volumeOfEngine("-e-0"), undefined);
  assert.throws(() => checkName(""), { code: Code.INVALID_ARGUMENT, message: /missing required argument/ });
});

Deno.test("the words for ends are those that callers know", () => {
  assert.equal(describeExit(exitOfWaitStatus(61 << 8)), "exit status 61");
  assert.equal(describeExit(exitOfWaitStatus(9)), "signal: killed");
  assert.equal(describeExit(exitOfWaitStatus(0x80 | 6)), "signal: aborted", "with a core file");
  assert.equal(describeExit(exitOfWaitStatus(35)), "signal: signal 35");
  assert.equal(describeExit(exitOfWaitStatus(0)), "");
});

Deno.test("a line of /proc/PID/stat is read whatever the program is called", () => {
  const fields = ["S", ...Array.from({ length: 50 }, (_, index) => String(index + 4))];
  const stat = parseStat(`17 (a) b (c)) ${fields.join(" ")}\n`);
  assert.deepEqual(stat, { pid: 17, startTicks: 22, zombie: false, waitStatus: 52 });
  assert.equal(parseStat(""), undefined);
  assert.equal(parseStat("17 (sleep) S 1"), undefined);
  const own = processStat(Deno.pid);
  assert.ok(own && own.pid === Deno.pid && own.startTicks > 0 && !own.zombie);
  assert.equal(processStat(2 ** 22 + 1), undefined);
});

Deno.test("a process is found by its environment, and not its children", async () => {
  const id = crypto.randomUUID();
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", "sleep 60 & wait"],
    env: { DROVER_TEST_ID: id },
    detached: true,
    stdout: "null",
  }).spawn();
  try {
    const found = findByEnvironment("DROVER_TEST_ID", new Set([id, "another"]));
    assert.deepEqual([...found.keys()], [id]);
    assert.equal(found.get(id)?.pid, child.pid);
    assert.equal(findByEnvironment("DROVER_TEST_ID", new Set()).size, 0);
  } finally {
    Deno.kill(-child.pid, "SIGKILL");
    await child.status;
  }
});

Deno.test("a watcher sees all changes from the moment it began; one that lags is cut off", async () => {
  const broadcast = new Broadcast<number>(), over = new AbortController();
  const watch = broadcast.watch(over.signal), slow = broadcast.watch(over.signal);
  broadcast.send(1);
  assert.equal((await watch.next()).value, 1);
  for (let i = 2; i < WATCH_QUEUE + 2; i++) {
    broadcast.send(i);
    assert.equal((await watch.next()).value, i);
  }
  broadcast.send(0);
  const seen: number[] = [];
  await assert.rejects(async () => {
    for await (const one of slow) seen.push(one);
  }, { code: Code.ABORTED, message: /list again/ });
  assert.equal(seen.length, WATCH_QUEUE, "what was queued comes first");
  assert.equal(broadcast.watchers, 1);
  assert.equal((await watch.next()).value, 0);
  const end = watch.next();
  over.abort();
  assert.equal((await end).done, true);
  assert.equal(broadcast.watchers, 0);
});

Deno.test("watchers that were never asked for anything go away with their call, and there is a bound", async () => {
  const broadcast = new Broadcast<number>(), over = new AbortController();
  for (let i = 0; i < 256; i++) broadcast.watch(over.signal);
  assert.throws(() => broadcast.watch(over.signal), { code: Code.RESOURCE_EXHAUSTED });
  over.abort();
  assert.equal(broadcast.watchers, 0);
  const last = broadcast.watch(new AbortController().signal);
  broadcast.send(1);
  broadcast.close();
  assert.equal((await last.next()).value, 1);
  assert.equal((await last.next()).done, true);
});

Deno.test("programs come from allowed places only, and a link does not lead out of them", () => {
  using directory = tempDir();
  const place = directory.join("engines"), outside = directory.join("outside");
  Deno.mkdirSync(`${place}/image`, { recursive: true });
  Deno.writeTextFileSync(`${place}/image/longhorn`, "");
  Deno.writeTextFileSync(outside, "");
  Deno.symlinkSync(outside, `${place}/link`);
  Deno.mkdirSync(`${place}-more`);
  Deno.writeTextFileSync(`${place}-more/x`, "");
  const own = { command: "/usr/bin/deno", args: ["run", "engine.ts"] };
  const binaries = new Binaries((name) => name === "engine" ? own : undefined, [
    place,
    directory.join("later"),
  ]);
  assert.deepEqual(binaries.locate("engine"), own);
  assert.equal(
    binaries.locate(`${place}/image/longhorn`).command,
    Deno.realPathSync(`${place}/image/longhorn`),
  );
  const refused = [
    outside,
    `${place}/link`,
    `${place}/../outside`,
    `${place}-more/x`,
    "sh",
    "./engines/image/longhorn",
    "/bin/sh",
  ];
  for (const path of refused) {
    assert.throws(
      () => binaries.locate(path),
      (error) => error instanceof RpcError && error.code === Code.PERMISSION_DENIED,
      path,
    );
  }
  assert.throws(() => binaries.locate(`${place}/none`), { code: Code.NOT_FOUND, message: /no such file/ });
});

Deno.test("a file system that became read-only is seen by the path that holds the volume's hash", async () => {
  const path = (volume: string): string => `/var/lib/kubelet/plugins/x/${globalMount(volume)}`;
  assert.match(globalMount("vol"), /^[0-9a-f]{64}\/globalmount$/);
  let text = [
    `/dev/longhorn/a ${path("a")} ext4 ro,relatime 0 0`,
    `/dev/longhorn/b ${path("b")} ext4 rw,relatime,emergency_ro 0 0`,
    `/dev/longhorn/c ${path("c")} ext4 rw,relatime,errors=remount-ro 0 0`,
    "/dev/sda1 /a\\040b ext4 ro 0 0",
    "",
  ].join("\n");
  assert.equal(parseMountLines(text)[3]?.path, "/a b");
  const ran: string[] = [];
  const mounts = new VolumeMounts(() => text, {
    run: (argv) => {
      ran.push(argv.join(" "));
      return Promise.resolve({ code: argv.at(-1) === path("a") ? 0 : 1, stdout: "", stderr: "busy" });
    },
  });
  assert.deepEqual([...mounts.readOnly(["a", "b", "c", "d"])], ["a", "b"]);
  await mounts.remount("a");
  assert.deepEqual(ran.splice(0), [`mount -o remount,rw ${path("a")}`]);
  await assert.rejects(mounts.remount("b"), { code: Code.INTERNAL, message: /busy/ });
  await assert.rejects(mounts.remount("d"), { code: Code.NOT_FOUND });
  await assert.rejects(mounts.remount(""), { code: Code.INVALID_ARGUMENT });
  ran.length = 0;
  assert.deepEqual(await mounts.thaw((volume) => volume === "b"), [path("a")]);
  assert.deepEqual(ran, [`fsfreeze --unfreeze ${path("a")}`, `fsfreeze --unfreeze ${path("c")}`]);
  text = text.replace("ro,relatime", "rw,relatime");
  assert.deepEqual([...mounts.readOnly(["a"])], []);
});

Deno.test("what is mounted below a directory is unmounted, the deepest first; what is in use stays", async () => {
  const text =
    "a:/x /m/a nfs4 rw 0 0\nb:/x /m/a/b nfs4 rw 0 0\nc:/x /m nfs4 rw 0 0\nd:/x /more nfs4 rw 0 0\n";
  const ran: string[] = [];
  const run = (argv: readonly string[]) => {
    ran.push(argv.join(" "));
    return Promise.resolve({ code: argv[1] === "/m/a" ? 32 : 0, stdout: "", stderr: "" });
  };
  assert.deepEqual(await unmountBelow("/m", text, { run }), ["/m/a/b"]);
  assert.deepEqual(ran, ["umount /m/a/b", "umount /m/a"]);
});
