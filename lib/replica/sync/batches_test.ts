import assert from "node:assert/strict";
import fc from "fast-check";
import {
  BadTableError,
  type Batch,
  BATCH_DATA_BYTES,
  BATCH_RUNS,
  batchCheck,
  batchesOf,
  batchSum,
  decodeTable,
  encodeTable,
  loadSums,
  readBatch,
  type Run,
  runCount,
  type SparseSource,
  tableBytes,
} from "./batches.ts";

const BLOCK = 4096;

/** A file whose blocks are data where the list says so. */
function sourceOf(blocks: readonly boolean[]): SparseSource {
  return {
    size: blocks.length * BLOCK,
    runs: (begin, end) => {
      const runs: { offset: number; length: number }[] = [];
      for (let block = begin / BLOCK; block < Math.ceil(end / BLOCK); block++) {
        if (!blocks[block]) continue;
        const last = runs.at(-1);
        if (last && last.offset + last.length === block * BLOCK) last.length += BLOCK;
        else runs.push({ offset: block * BLOCK, length: BLOCK });
      }
      return runs;
    },
    read: (into, offset) => into.fill(offset / BLOCK % 251),
  };
}

Deno.test("batches cover a file without gaps, hold all its data, and are small", () => {
  fc.assert(fc.property(
    fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 700 })), { maxLength: 12 }),
    (pattern) => {
      const blocks = pattern.flatMap(([data, count]) => new Array<boolean>(count).fill(data));
      const source = sourceOf(blocks), runs: Run[] = [];
      let until = 0;
      for (const batch of batchesOf(source, 0, source.size)) {
        assert.equal(batch.begin, until);
        assert.ok(batch.bytes <= BATCH_DATA_BYTES && batch.runs.length <= BATCH_RUNS);
        assert.equal(batch.runs.reduce((sum, { length }) => sum + length, 0), batch.bytes);
        for (const { offset, length } of batch.runs) {
          assert.ok(offset >= batch.begin && offset + length <= batch.end);
          runs.push({ offset, length });
        }
        until = batch.end;
      }
      assert.equal(until, source.size);
      const held = new Set(
        runs.flatMap(({ offset, length }) =>
          Array.from({ length: length / BLOCK }, (_, i) => offset / BLOCK + i)
        ),
      );
      assert.deepEqual(blocks.map((_, block) => held.has(block)), blocks);
    },
  ));
});

Deno.test("a table survives its travel, whatever offsets a volume can have", () => {
  const runs = fc.array(fc.tuple(fc.integer({ min: 0, max: 2 ** 36 }), fc.integer({ min: 1, max: 100 })), {
    maxLength: 40,
  }).map((steps) => {
    let at = 0;
    return steps.map(([gap, blocks]) => {
      const run = { offset: at + gap * BLOCK, length: blocks * BLOCK };
      at = run.offset + run.length;
      return run;
    });
  }).filter((all) => all.reduce((sum, { length }) => sum + length, 0) <= BATCH_DATA_BYTES);
  fc.assert(fc.property(runs, (all) => {
    const end = all.reduce((last, { offset, length }) => Math.max(last, offset + length), 0) + BLOCK;
    const bytes = all.reduce((sum, { length }) => sum + length, 0);
    const batch: Batch = { begin: 0, end, runs: all, bytes }, table = encodeTable(batch);
    assert.equal(table.length, tableBytes(runCount(table)));
    assert.deepEqual(decodeTable(table, 0, end), batch);
  }));
});

Deno.test("a table of any bytes is refused or names runs within its range", () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 4, maxLength: 200 }), (bytes) => {
    try {
      const whole = bytes.subarray(0, 4 + Math.floor((bytes.length - 4) / 16) * 16);
      const { runs } = decodeTable(whole, 4096, 2 ** 40);
      for (const { offset, length } of runs) {
        assert.ok(offset >= 4096 && length > 0 && offset + length <= 2 ** 40);
      }
    } catch (error) {
      assert.ok(error instanceof BadTableError);
    }
  }));
  assert.throws(() => runCount(new Uint8Array([0, 0, 1, 0])), BadTableError);
});

Deno.test("the sum of a batch tells other data and other holes", async () => {
  await loadSums();
  const sum = (blocks: boolean[], batch = [...batchesOf(sourceOf(blocks), 0, blocks.length * BLOCK)][0]) => {
    const table = encodeTable(batch),
      data = readBatch(sourceOf(blocks), batch, new Uint8Array(BATCH_DATA_BYTES));
    return [batchSum(table, data), batchCheck(table, data)];
  };
  const sums = [[true, false], [false, true], [true, true], [false, false]].map((blocks) => sum(blocks));
  assert.equal(new Set(sums.map(([one]) => one)).size, 4);
  assert.equal(new Set(sums.map(([, two]) => two)).size, 4);
  const table = new Uint8Array(4), data = new Uint8Array(100);
  const before = [batchSum(table, data), batchCheck(table, data)];
  data[50] = 1;
  assert.notEqual(batchSum(table, data), before[0]);
  assert.notEqual(batchCheck(table, data), before[1]);
  for (const [one, two] of sums) {
    assert.match(one, /^[0-9a-f]{16}$/);
    assert.match(two, /^[0-9a-f]{8}$/);
  }
});
