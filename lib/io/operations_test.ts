import assert from "node:assert/strict";
import fc from "fast-check";
import { MAX_OPERATIONS } from "./io.ts";
import { Kind, Operations } from "./operations.ts";

Deno.test("every operation is told once, with its own tag and result, in the order posted", () => {
  fc.assert(fc.property(fc.array(fc.nat(3), { maxLength: 300 }), (steps) => {
    const operations = new Operations();
    const told: [number, number][] = [];
    const who = { complete: (tag: number, result: number) => void told.push([tag, result]) };
    const expected: [number, number][] = [];
    const held: [number, number][] = [];
    steps.forEach((step, tag) => {
      const slot = operations.take(Kind.READ, 3, 0, 0, 0, who, tag * 2 ** 20);
      if (step === 0) held.push([slot, tag]);
      else {
        operations.post(slot, -tag);
        expected.push([tag * 2 ** 20, -tag]);
      }
      if (step === 3) operations.deliver();
      const free = step === 2 && held.pop();
      if (free) {
        operations.deliver();
        operations.finish(free[0], free[1]);
        expected.push([free[1] * 2 ** 20, free[1]]);
      }
      assert.equal(operations.underWay, held.length + operations.ended);
    });
    operations.deliver();
    assert.deepEqual(told, expected);
    assert.equal(operations.ended, 0);
  }));
});

Deno.test("operations posted while others are told wait for the next turn, and the queue wraps", () => {
  const operations = new Operations();
  let told = 0;
  const who = {
    complete() {
      told++;
      operations.post(operations.take(Kind.READ, 3, 0, 0, 0, who, 0), 0);
    },
  };
  for (let i = 0; i < MAX_OPERATIONS; i++) operations.post(operations.take(Kind.READ, 3, 0, 0, 0, who, 0), 0);
  assert.throws(() => operations.take(Kind.READ, 3, 0, 0, 0, who, 0), RangeError);
  operations.deliver();
  assert.equal(told, MAX_OPERATIONS);
  operations.deliver();
  assert.equal(told, 2 * MAX_OPERATIONS);
});
