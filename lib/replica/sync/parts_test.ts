import assert from "node:assert/strict";
import fc from "fast-check";
import { Limiter } from "./limiter.ts";
import { Parts } from "./parts.ts";

Deno.test("whoever comes and goes, every byte is copied by somebody who finished", () => {
  const step = fc.tuple(fc.integer({ min: 0, max: 3 }), fc.boolean());
  fc.assert(fc.property(fc.nat({ max: 2 ** 40 }), fc.array(step, { maxLength: 60 }), (size, steps) => {
    const parts = new Parts(size), copied: [number, number][] = [];
    const held = new Map<number, readonly [number, number]>();
    const ask = (who: number) => {
      const before = held.get(who);
      if (before) copied.push([...before]);
      held.delete(who);
      const next = parts.next(who);
      if (typeof next === "object") held.set(who, [next.begin, next.end]);
      return next;
    };
    for (const [who, leaves] of steps) {
      if (leaves) {
        parts.leave(who);
        held.delete(who);
      } else ask(who);
    }
    for (const who of [0, 1, 2, 3]) parts.leave(who);
    held.clear();
    while (ask(9) !== "done");
    assert.ok(parts.complete);
    let until = 0;
    for (const [begin, end] of copied.sort((a, b) => a[0] - b[0])) {
      assert.equal(begin, until, "no gap, and nothing counted twice");
      until = end;
    }
    assert.equal(until, size);
  }));
});

Deno.test("parts are large at first, and small where all are to end together", () => {
  const GIB = 2 ** 30, MIB = 2 ** 20, parts = new Parts(4 * GIB), lengths: number[] = [];
  for (let part = parts.next("a"); typeof part === "object"; part = parts.next("a")) {
    lengths.push((part.end - part.begin) / MIB);
  }
  assert.equal(lengths[0], 512);
  assert.equal(lengths.at(-1), 64);
  assert.ok(lengths.every((length, i) => length <= (lengths[i - 1] ?? Infinity) && length % 64 === 0));
  assert.equal(lengths.reduce((sum, length) => sum + length, 0), 4096);
});

Deno.test("the last ones wait for each other, and what is skipped is complete", () => {
  const parts = new Parts(100);
  assert.deepEqual(parts.next("a"), { begin: 0, end: 100 });
  assert.equal(parts.next("b"), "wait");
  parts.leave("a");
  assert.deepEqual(parts.next("b"), { begin: 0, end: 100 });
  assert.ok(!parts.complete && parts.has("b"));
  assert.equal(parts.next("b"), "done");
  const skipped = new Parts(2 ** 45);
  skipped.next("a");
  skipped.skip();
  assert.ok(skipped.complete);
  assert.equal(skipped.next("a"), "done");
});

Deno.test("without a limit nothing waits; a limit that is lifted lets go of who waits", async () => {
  const limiter = new Limiter();
  await limiter.take(2 ** 50);
  limiter.rate = 1;
  const waiting = limiter.take(2 ** 50);
  limiter.rate = 0;
  await waiting;
  assert.equal(limiter.rate, 0);
});
