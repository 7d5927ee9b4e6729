/** Merging and pruning beside user I/O, and cut short. */
import assert from "node:assert/strict";
import { Errno } from "../io/errno.ts";
import type { Completer, Io } from "../io/io.ts";
import { settle, settleOne } from "../io/test_kit.ts";
import { foldProblem } from "./folds.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import { Awaited, BLOCK, block, CREATED, diskTest, longhornView, readBlock } from "./test_kit.ts";

const BLOCKS = 512, SIZE = BLOCKS * BLOCK;
const A = "volume-snap-a.img", B = "volume-snap-b.img";

/** `a` holds 1 everywhere, `b` 2 in every second block, the head 3 in every fourth. */
function layered(
  io: Io,
  parent: string,
): { disk: ReplicaDisk; data: Awaited; directory: string; head: string } {
  const directory = `${parent}/r`;
  ReplicaDisk.create(io, directory, { size: SIZE });
  const disk = ReplicaDisk.open(io, directory), data = new Awaited(io, disk);
  data.write(0, new Uint8Array(SIZE).fill(1));
  disk.changes.snapshot("a", { userCreated: true, created: CREATED });
  for (let i = 0; i < BLOCKS; i += 2) data.write(i * BLOCK, block(2));
  disk.changes.snapshot("b", { userCreated: true, created: CREATED });
  for (let i = 0; i < BLOCKS; i += 4) data.write(i * BLOCK, block(3));
  disk.markRemoved("a");
  return { disk, data, directory, head: disk.info().head };
}

function expected(number: number): number {
  return number % 4 === 0 ? 3 : number % 2 === 0 ? 2 : 1;
}

diskTest("a merge copies the child's data while writes, unmaps and snapshots go on", (io, parent) => {
  const { disk, data, directory, head } = layered(io, parent);
  const at = io.arena.reserve(2 * BLOCK, BLOCK);
  io.arena.u8.fill(9, at, at + BLOCK);
  disk.markRemoved("b");
  const results = settle(
    io,
    (who, tag) => disk.folds.coalesce(A, B, head, who, tag),
    (who, tag) => disk.unmap(6 * BLOCK, 2 * BLOCK, who, tag),
    (who, tag) => disk.write(8 * BLOCK, BLOCK, at, false, who, tag),
    (who, tag) => disk.unmap(400 * BLOCK, 10 * BLOCK, who, tag),
  );
  assert.deepEqual([results[0], results[2]], [0, BLOCK]);
  assert.ok(results[1] >= 0 && results[3] >= 0);
  disk.changes.replace(B, A);
  const model = (i: number) => (i === 6 || i === 7 || (i >= 400 && i < 410)) ? 0 : i === 8 ? 9 : expected(i);
  for (let i = 0; i < BLOCKS; i++) assert.equal(readBlock(data, i), model(i), `block ${i}`);
  disk.close();
  const view = longhornView(io.files, directory);
  for (let i = 0; i < BLOCKS; i++) assert.equal(view[i * BLOCK], model(i), `block ${i}, opened again`);
});

diskTest("what is merged is given back at once, and nobody who reads meanwhile sees a hole", (io, parent) => {
  const { disk, data, directory, head } = layered(io, parent);
  const at = io.arena.reserve(BLOCKS * BLOCK, BLOCK),
    begin = (name: string) => io.files.stat(`${directory}/${name}`);
  const before = begin(A).allocated, reads = Array.from({ length: 200 }, (_, i) => 1 + 2 * i);
  const results = settle(
    io,
    (who, tag) => disk.folds.coalesce(A, B, head, who, tag),
    ...reads.map((number) => (who: Completer, tag: number) =>
      disk.read((number - 1) * BLOCK, 2 * BLOCK, at + (number - 1) * BLOCK, who, tag)
    ),
  );
  assert.deepEqual(results, [0, ...reads.map(() => 2 * BLOCK)]);
  for (const number of reads) {
    for (const one of [number - 1, number]) {
      assert.equal(io.arena.u8[at + one * BLOCK], expected(one), `block ${one}, read meanwhile`);
    }
  }
  assert.equal(begin(B).allocated, 0, "the child's data is the parent's now");
  assert.equal(begin(A).allocated, before, "which had room for it");
  for (let i = 0; i < BLOCKS; i++) assert.equal(readBlock(data, i), expected(i), `block ${i}`);
  disk.close();
  const view = longhornView(io.files, directory);
  for (let i = 0; i < BLOCKS; i++) assert.equal(view[i * BLOCK], expected(i), `block ${i}, opened again`);
});

diskTest(
  "a prune gives back what the head hides and nothing else, while writes and unmaps go on",
  (io, parent) => {
    const { disk, data, directory, head } = layered(io, parent);
    const at = io.arena.reserve(BLOCK, BLOCK);
    io.arena.u8.fill(9, at, at + BLOCK);
    disk.markRemoved("b");
    const before = io.files.stat(`${directory}/${B}`).allocated;
    const results = settle(
      io,
      (who, tag) => disk.folds.prune(B, head, who, tag),
      (who, tag) => disk.write(9 * BLOCK, BLOCK, at, false, who, tag),
      (who, tag) => disk.unmap(100 * BLOCK, 8 * BLOCK, who, tag),
    );
    assert.deepEqual(results.slice(0, 2), [0, BLOCK]);
    assert.ok(io.files.stat(`${directory}/${B}`).allocated < before);
    const model = (i: number) => i >= 100 && i < 108 ? 0 : i === 9 ? 9 : expected(i);
    for (let i = 0; i < BLOCKS; i++) assert.equal(readBlock(data, i), model(i), `block ${i}`);
    disk.close();
    const view = longhornView(io.files, directory);
    for (let i = 0; i < BLOCKS; i++) assert.equal(view[i * BLOCK], model(i), `block ${i}, opened again`);
  },
);

diskTest(
  "a job that makes no sense is refused, one under way keeps its disks, a cancelled one can be begun again",
  (io, parent) => {
    const { disk, data, head } = layered(io, parent);
    const nobody = { complete: () => assert.fail("not begun") };
    assert.throws(() => disk.folds.coalesce(B, head, head, nobody, 0), /active differencing disk/);
    assert.throws(() => disk.folds.prune(A, head, nobody, 0), /not the only child/);
    assert.throws(() => disk.folds.prune(B, head, nobody, 0), /not marked as removed/);
    const result = settleOne(io, (who, tag) => {
      disk.folds.coalesce(A, B, head, who, tag);
      assert.throws(() => disk.folds.coalesce(A, B, head, nobody, 0), /merged or pruned already/);
      assert.throws(() => disk.changes.replace(B, A), /is being merged/);
      assert.throws(() => disk.changes.remove(B, true), /is being merged/);
      assert.throws(() => disk.close(), /being merged/);
      disk.changes.snapshot("c", { userCreated: true, created: CREATED });
      disk.folds.cancel();
    });
    assert.equal(result, -Errno.ECANCELED);
    assert.match(foldProblem(result, A)?.message ?? "", /begin again/);
    assert.equal(settleOne(io, (who, tag) => disk.folds.coalesce(A, B, disk.info().head, who, tag)), 0);
    disk.changes.replace(B, A);
    disk.markRemoved("c");
    const pruned = settleOne(io, (who, tag) => {
      disk.folds.prune("volume-snap-c.img", disk.info().head, who, tag);
      disk.changes.snapshot("d", { userCreated: true, created: CREATED });
    });
    assert.equal(pruned, -Errno.ECANCELED, "the head has changed");
    for (let i = 0; i < BLOCKS; i++) assert.equal(readBlock(data, i), expected(i), `block ${i}`);
    disk.close();
  },
);
