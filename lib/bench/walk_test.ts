import assert from "node:assert/strict";
import fc from "fast-check";
import { NO_BLOCK, type Order, Walk } from "./walk.ts";

for (const order of ["shuffled", "once"] as const satisfies Order[]) {
  Deno.test(`a walk that is ${order} visits every block exactly once`, () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer(), (blocks, seed) => {
      const walk = new Walk(order, blocks, seed);
      const seen = new Set<number>();
      for (let block = walk.next(); block !== NO_BLOCK; block = walk.next()) {
        assert.ok(block >= 0 && block < blocks && !seen.has(block), `block ${block} of ${blocks}`);
        seen.add(block);
      }
      assert.equal(seen.size, blocks);
      assert.equal(walk.next(), NO_BLOCK);
    }));
  });
}

Deno.test("a sequential walk begins again, a random one stays inside and repeats with its seed", () => {
  const sequential = new Walk("sequential", 3);
  assert.deepEqual(Array.from({ length: 7 }, () => sequential.next()), [0, 1, 2, 0, 1, 2, 0]);
  const draw = (seed: number) => {
    const walk = new Walk("random", 10, seed);
    return Array.from({ length: 1000 }, () => walk.next());
  };
  const blocks = draw(7);
  assert.deepEqual([...new Set(blocks)].sort((a, b) => a - b), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(draw(7), blocks);
  assert.notDeepEqual(draw(8), blocks);
});

Deno.test("a random walk reaches blocks beyond 32 bits", () => {
  const blocks = 2 ** 40;
  const walk = new Walk("random", blocks, 3);
  const drawn = Array.from({ length: 200 }, () => walk.next());
  assert.ok(drawn.every((block) => Number.isSafeInteger(block) && block >= 0 && block < blocks));
  assert.ok(drawn.some((block) => block > 2 ** 33) && new Set(drawn).size === 200);
});
