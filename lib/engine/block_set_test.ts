import assert from "node:assert/strict";
import fc from "fast-check";
import { BlockSet, SET_BLOCK_BYTES } from "./block_set.ts";

const CHUNK = 128 * 1024 * 1024;
const BYTES = 4 * CHUNK + 12 * SET_BLOCK_BYTES;

const range = fc.record({
  kind: fc.constantFrom("touched", "whole", "remove"),
  // Around the borders of chunks, where mistakes are.
  chunk: fc.integer({ min: 0, max: 4 }),
  near: fc.integer({ min: -20, max: 20 }),
  length: fc.oneof(fc.integer({ min: 1, max: 60_000 }), fc.constantFrom(CHUNK, 2 * CHUNK)),
});

Deno.test("a set of blocks is what a plain set of numbers is, whatever was added and taken out", () => {
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), (steps) => {
      const set = new BlockSet(BYTES), model = new Set<number>();
      for (const { kind, chunk, near, length } of steps) {
        const offset = Math.max(0, chunk * CHUNK + near * 512), end = Math.min(BYTES, offset + length);
        if (end <= offset) continue;
        const whole = kind === "whole";
        const from = whole ? Math.ceil(offset / SET_BLOCK_BYTES) : Math.floor(offset / SET_BLOCK_BYTES);
        const to = whole ? Math.floor(end / SET_BLOCK_BYTES) : Math.ceil(end / SET_BLOCK_BYTES);
        if (kind === "touched") set.addTouched(offset, end - offset);
        else if (whole) set.addWhole(offset, end - offset);
        else set.removeTouched(offset, end - offset);
        for (let b = from; b < to; b++) {
          if (kind === "remove") model.delete(b);
          else model.add(b);
        }
      }
      assert.equal(set.count, model.size);
      const seen: number[] = [];
      for (
        let [first, count] = set.next(0, 5000);
        count > 0;
        [first, count] = set.next(first + count, 5000)
      ) {
        assert.ok(count <= 5000);
        for (let b = first; b < first + count; b++) seen.push(b);
      }
      assert.deepEqual(seen, [...model].sort((a, b) => a - b));
    }),
    { numRuns: 60 },
  );
});

Deno.test("a set that would need more memory than it may have says so", () => {
  const set = new BlockSet(BYTES, 2);
  for (let chunk = 0; chunk < 3; chunk++) set.addTouched(chunk * CHUNK, 1);
  assert.ok(set.overflown);
  const whole = new BlockSet(BYTES, 0);
  whole.addTouched(0, 4 * CHUNK);
  assert.ok(!whole.overflown, "whole chunks take no page");
  assert.equal(whole.count, 4 * CHUNK / SET_BLOCK_BYTES);
});
