/**
 * FilesSync between replica processes: what arrives is what was sent, whoever is killed on the way.
 *
 * @module
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { assertSameFile, fill, makeReplica, startTogether, SyncReplica, writeSparse } from "./sync_kit.ts";
import { run } from "./support/process.ts";
import { tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

const BLOCKS = 4096, MIB = 1024 * 1024;
const NAMES = ["a", "b", "c"];

function source(directory: string, blocks = BLOCKS): void {
  makeReplica(
    directory,
    blocks,
    [
      { name: "a", parent: "" },
      { name: "b", parent: "a" },
      { name: "c", parent: "b", userCreated: false },
    ],
    "c",
    42,
  );
}

/** What the engine asks for. */
function wanted(directory: string) {
  return NAMES.flatMap((name) => {
    const image = `volume-snap-${name}.img`;
    const data = (Deno.statSync(`${directory}/${image}`).blocks ?? 0) * 512;
    return [[image, data] as const, [`${image}.meta`, 0] as const].map(([file, actualSize]) => ({
      fromFileName: file,
      toFileName: file,
      actualSize,
    }));
  });
}

function sameFiles(from: string, to: string): void {
  for (const name of NAMES) {
    for (const file of [`volume-snap-${name}.img`, `volume-snap-${name}.img.meta`]) {
      assertSameFile(`${to}/${file}`, `${from}/${file}`);
    }
  }
}

async function sync(
  target: SyncReplica,
  sources: readonly SyncReplica[],
  files: ReturnType<typeof wanted>,
  droverVerify = false,
) {
  await target.agent.unary("filesSync", {
    fromAddress: sources[0].address,
    fromAddressMap: Object.fromEntries(sources.map(({ address }) => [address, true])),
    toHost: "127.0.0.1",
    syncFileInfoList: files,
    fastSync: true,
    droverVerify,
  });
  return await target.agent.unary("replicaRebuildStatus", {});
}

Deno.test("a rebuild brings every snapshot; the next one sends what differs and no more", async () => {
  using dir = tempDir();
  const from = dir.join("s"), to = dir.join("t");
  source(from);
  await using started = await startTogether(
    new SyncReplica(from, dir.path).open(),
    new SyncReplica(to, dir.path).start("--size", `${BLOCKS * 4096}`),
  );
  const [one, target] = started.all;
  const files = wanted(from), status = await sync(target, [one], files, true);
  sameFiles(from, to);
  const total = files.reduce((sum, { actualSize }) => sum + actualSize, 0);
  assert.deepEqual([status.state, status.progress, status.isRebuilding, status.error], [
    "complete",
    100,
    false,
    "",
  ]);
  assert.equal(Number(status.droverBytesTotal), total);
  assert.ok(Number(status.droverBytesReceived) >= total * 0.9, `${status.droverBytesReceived} of ${total}`);

  // One block is changed, one lost, one too many: the rest is not sent again.
  const file = Deno.openSync(`${to}/volume-snap-b.img`, { write: true });
  const bytes = new Uint8Array(4096);
  fill(bytes, 9);
  for (const block of [3, 1000, 4000]) {
    file.seekSync(block * 4096, Deno.SeekMode.Start);
    file.writeSync(bytes);
  }
  file.close();
  const again = await sync(target, [one], files, true);
  sameFiles(from, to);
  assert.ok(Number(again.droverBytesReceived) <= 4 * MIB, `${again.droverBytesReceived} bytes were sent`);

  // Equal checksums on both sides: the data is not even read.
  for (const replica of [one, target]) {
    await replica.agent.unary("snapshotHash", { snapshotName: "a" });
    await waitFor(async () =>
      (await replica.agent.unary("snapshotHashStatus", { snapshotName: "a" })).state === "complete"
        ? true
        : null
    );
  }
  const inode = Deno.statSync(`${to}/volume-snap-a.img`).mtime;
  const record = Deno.readTextFileSync(`${to}/volume-snap-a.img.checksum`);
  await sync(target, [one], files);
  assert.deepEqual(Deno.statSync(`${to}/volume-snap-a.img`).mtime, inode);
  assert.equal(
    JSON.parse(Deno.readTextFileSync(`${to}/volume-snap-a.img.checksum`)).checksum,
    JSON.parse(record).checksum,
  );
});

Deno.test("a large file comes from several sources, and goes on when one of them, or the target, is killed", async () => {
  using dir = tempDir();
  const directories = [dir.join("s0"), dir.join("s1")], to = dir.join("t"), again = dir.join("again");
  const image = "volume-snap-a.img", blocks = 20480, size = `${blocks * 4096}`;
  makeReplica(directories[0], blocks, [{ name: "a", parent: "" }], "a", 1);
  writeSparse(`${directories[0]}/${image}`, blocks, 77, 0.95);
  await run("cp", ["-r", "--sparse=always", ...directories]);
  await using started = await startTogether(
    new SyncReplica(directories[0], dir.path).open(),
    new SyncReplica(directories[1], dir.path).open(),
    new SyncReplica(to, dir.path).start("--size", size),
    new SyncReplica(again, dir.path).start("--size", size),
  );
  const [one, two, target, other] = started.all, files = wanted2(directories[0]), total = files[0].actualSize;
  const done = async (replica: SyncReplica, bytes: number) =>
    await waitFor(async () => {
      const { droverBytesDone } = await replica.agent.unary("replicaRebuildStatus", {});
      return Number(droverBytesDone) > bytes ? Number(droverBytesDone) : null;
    });
  // A target that is killed in the middle. So slow that a machine that stands still for seconds does not end it first.
  await other.agent.unary("droverSyncLimitSet", { bytesPerSecond: 10 * MIB });
  const lost = assert.rejects(sync(other, [one, two], files));
  const kept = await done(other, total / 4);
  await other.kill();
  await lost;
  const restart = other.start();
  // One of the sources.
  const before = [one, target].map(peakOf);
  await target.agent.unary("droverSyncLimitSet", { bytesPerSecond: 10 * MIB });
  const shared = sync(target, [one, two], files);
  await done(target, 8 * MIB);
  await two.kill();
  await target.agent.unary("droverSyncLimitSet", { bytesPerSecond: 0 });
  const first = await shared;
  assert.deepEqual([first.state, first.fromReplicaAddressList.length], ["complete", 2]);
  assertSameFile(`${to}/${image}`, `${directories[0]}/${image}`);
  // Threads and buffers, whatever the file's size.
  const grown = [one, target].map((replica, i) => peakOf(replica) - before[i]);
  assert.ok(grown.every((bytes) => bytes < MEMORY_BYTES), `the processes grew by ${grown} bytes`);
  // The target goes on where it was.
  await restart;
  const { droverBytesReceived } = await sync(other, [one], files);
  assertSameFile(`${again}/${image}`, `${directories[0]}/${image}`);
  const limit = total - kept + BATCH_BYTES;
  assert.ok(Number(droverBytesReceived) < limit, `${droverBytesReceived} of ${total}, ${kept} were there`);
  // No source is left.
  await one.kill();
  await assert.rejects(sync(other, [one], files), /cannot fetch volume-snap-a\.img/);
  assert.equal((await other.agent.unary("replicaRebuildStatus", {})).state, "error");
  // What did not come must not be taken for complete by whoever looks at names only.
  await other.replica.unary("replicaOpen", {});
  await assert.rejects(other.replica.unary("replicaReload", {}), /the rebuild failed, begin it again/);
  await other.agent.unary("reset", {});
  await other.replica.unary("replicaReload", {});
});

/** What may have to be sent again after a death: what was told as done and not settled yet, a batch. */
const BATCH_BYTES = 4 * MIB;

/** What a transfer may add to the memory of a process, bytes: less than the file has. */
const MEMORY_BYTES = 64 * MIB;

/** The most memory that a replica's process had until now, bytes. */
function peakOf({ process }: SyncReplica): number {
  const status = Deno.readTextFileSync(`/proc/${process?.pid}/status`);
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

function wanted2(directory: string) {
  const file = "volume-snap-a.img";
  const actualSize = (Deno.statSync(`${directory}/${file}`).blocks ?? 0) * 512;
  return [{ fromFileName: file, toFileName: file, actualSize }];
}

Deno.test("sources that are not alike are not mixed: one of them gives everything", async () => {
  using dir = tempDir();
  const merged = dir.join("s0"), whole = dir.join("s1"), to = dir.join("t"), image = "volume-snap-b.img";
  for (const directory of [merged, whole]) {
    makeReplica(directory, BLOCKS, [{ name: "a", parent: "" }, { name: "b", parent: "a" }], "b", 5);
  }
  // The same volume after a purge of a: what a had is in b.
  makeReplica(merged, BLOCKS, [{ name: "b", parent: "" }], "b", 6);
  Deno.removeSync(`${merged}/volume-snap-a.img`);
  Deno.removeSync(`${merged}/volume-snap-a.img.meta`);
  await using started = await startTogether(
    new SyncReplica(merged, dir.path).open(),
    new SyncReplica(whole, dir.path).open(),
    new SyncReplica(to, dir.path).start("--size", `${BLOCKS * 4096}`),
  );
  const [one, two, target] = started.all;
  const list = ["a", "b"].map((name) => ({
    fromFileName: `volume-snap-${name}.img`,
    toFileName: `volume-snap-${name}.img`,
    actualSize: 100 * MIB,
  }));
  const status = await sync(target, [one, two], list);
  assert.equal(status.state, "complete");
  assertSameFile(`${to}/${image}`, `${whole}/${image}`);
  await sync(target, [two, one], list.slice(1));
  assertSameFile(`${to}/${image}`, `${whole}/${image}`);
  await sync(target, [one, two], list.slice(1));
  assertSameFile(`${to}/${image}`, `${merged}/${image}`);
});

Deno.test("names and addresses that cannot be are refused before anything happens", async () => {
  using dir = tempDir();
  await using target = await new SyncReplica(dir.join("t"), dir.path).start("--size", "1m");
  const ask = (file: string, fromAddress: string) =>
    target.agent.unary("filesSync", {
      fromAddress,
      toHost: "127.0.0.1",
      syncFileInfoList: [{ fromFileName: file, toFileName: file }],
    });
  await assert.rejects(ask("../../etc/passwd", "tcp://127.0.0.1:1"), /must not leave/);
  await assert.rejects(ask("volume-head-000.img", "tcp://127.0.0.1:1"), /only snapshots/);
  await assert.rejects(ask("volume-snap-a.img", ""), /no address/);
  await assert.rejects(target.agent.unary("receiverLaunch", { toFileName: "volume.meta" }), /only snapshots/);
  await assert.rejects(target.agent.unary("fileSend", { fromFileName: "volume.meta" }), /only snapshots/);
  assert.equal(existsSync(dir.join("etc")), false);
});
