import assert from "node:assert/strict";
import { Errno, IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import { crashBefore, drawOptions, SimCluster, type SimHost, type SimIo } from "../io/sim/mod.ts";
import { inspect, writeVolumeMeta } from "./directory.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import { makeSpare, replaceFromSpare, SPARE_BYTES, SPARE_FILE } from "./spare.ts";
import type { DroverRecord, VolumeMeta } from "./volume_meta.ts";

const DIRECTORY = "/replica", BYTES = 1024 * 1024, SPARE = `${DIRECTORY}/${SPARE_FILE}`;

/** Runs a process to its end, or to a crash. */
function run(world: SimCluster, host: SimHost, main: (io: SimIo) => void, options = {}): void {
  host.boot();
  const self = host.spawn("replica", main, { arenaBytes: 8 * 1024 * 1024, ...options });
  if (self.alive) self.kill();
  world.runToEnd();
}

function created(io: SimIo): void {
  ReplicaDisk.create(io, DIRECTORY, { size: BYTES });
  assert.ok(makeSpare(io.files, DIRECTORY));
}

function metaOf(io: SimIo): VolumeMeta {
  const { meta } = inspect(io.files, DIRECTORY);
  assert.ok(meta);
  return meta;
}

function record(revision: number): DroverRecord {
  return { id: "a", generation: 1, revision, boot: "b", members: ["a"], unknown: {} };
}

function withRevision(io: SimIo, revision: number): void {
  writeVolumeMeta(io.files, DIRECTORY, { ...metaOf(io), drover: record(revision) });
}

Deno.test("volume.meta is replaced on a full disk, as often as one likes, and never takes space", () => {
  using world = new SimCluster(1);
  const host = world.host("a");
  run(world, host, (io) => {
    created(io);
    host.disk.setFree(0);
    const used = host.disk.usedBytes;
    for (let revision = 1; revision <= 20; revision++) {
      withRevision(io, revision);
      assert.deepEqual([metaOf(io).drover?.revision, host.disk.usedBytes], [revision, used]);
    }
    // A shorter one leaves nothing of a longer one.
    writeVolumeMeta(io.files, DIRECTORY, { ...metaOf(io), drover: undefined });
    assert.equal(metaOf(io).drover, undefined);
    assert.deepEqual(io.files.list(DIRECTORY).filter((name) => name.endsWith(".tmp")), []);
  });
});

Deno.test("a crash at any point leaves the old content or the new one, and a spare for the next time", () => {
  for (const power of [true, false]) {
    for (let seed = 0; seed < 4; seed++) {
      for (let point = 0, reached = true; reached; point++) {
        using world = new SimCluster(100 * seed + point, drawOptions(seed));
        const host = world.host("a");
        run(world, host, (io) => {
          created(io);
          withRevision(io, 1);
          withRevision(io, 2);
        });
        host.disk.setFree(0);
        let done = false;
        run(world, host, (io) => {
          withRevision(io, 3);
          withRevision(io, 4);
          done = true;
        }, { onMutation: crashBefore(point, power) });
        reached = !done;
        host.disk.setFree(4 * SPARE_BYTES);
        run(world, host, (io) => {
          const { drover } = metaOf(io), revision = drover?.revision ?? 0;
          assert.ok(revision >= 2 && (!done || revision === 4), `${point}: ${revision}`);
          assert.ok(makeSpare(io.files, DIRECTORY));
          assert.deepEqual([io.files.stat(SPARE).links, io.files.exists(`${SPARE}.tmp`)], [1, false]);
          host.disk.setFree(0);
          withRevision(io, 9);
          assert.equal(metaOf(io).drover?.revision, 9);
        });
      }
    }
  }
});

Deno.test("a spare with a second name is not written to, and one that was lost is made again", () => {
  using world = new SimCluster(1);
  const host = world.host("a");
  run(world, host, (io) => {
    created(io);
    const { files } = io, fails = () => assert.throws(() => withRevision(io, 5), isEnospc);
    // As a power cut can leave it: both names are the same file.
    files.unlink(SPARE);
    files.link(`${DIRECTORY}/volume.meta`, SPARE);
    host.disk.setFree(0);
    const before = metaOf(io);
    fails();
    assert.deepEqual(metaOf(io), before);
    assert.ok(!makeSpare(files, DIRECTORY), "there is no space for one");
    assert.ok(!files.exists(SPARE));
    fails();
    host.disk.setFree(SPARE_BYTES);
    assert.ok(makeSpare(files, DIRECTORY));
    withRevision(io, 5);
    assert.equal(metaOf(io).drover?.revision, 5);
    const long = new Uint8Array(SPARE_BYTES + 1);
    assert.equal(replaceFromSpare(files, DIRECTORY, "volume.meta", long), false);
  });
});

Deno.test("other errors than lack of space are told as they are", () => {
  using world = new SimCluster(1);
  const host = world.host("a");
  run(world, host, (io) => {
    created(io);
    host.disk.inject({ on: "write", errno: Errno.EIO });
    const names = io.files.list(DIRECTORY);
    assert.throws(
      () => withRevision(io, 1),
      (error) => error instanceof IoError && error.errno === Errno.EIO,
    );
    assert.deepEqual(io.files.list(DIRECTORY), names);
    io.files.unlink(SPARE);
    assert.throws(() => makeSpare(io.files as Files, DIRECTORY), IoError);
  });
});

function isEnospc(error: unknown): boolean {
  return error instanceof IoError && error.errno === Errno.ENOSPC;
}
