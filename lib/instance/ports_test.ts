import assert from "node:assert/strict";
import fc from "fast-check";
import { Code } from "../rpc/errors.ts";
import { NO_PORTS, portArguments, type PortBlock, PortRange } from "./ports.ts";

Deno.test("ports come in rows, the next after the last, and around the end", () => {
  const range = new PortRange(100, 109);
  assert.deepEqual(range.allocate(4), { start: 100, end: 103 });
  assert.deepEqual(range.allocate(4), { start: 104, end: 107 });
  range.release({ start: 100, end: 103 });
  assert.deepEqual(range.allocate(3), { start: 100, end: 102 }, "only two are left at the end");
  assert.deepEqual(
    range.allocate(2),
    { start: 108, end: 109 },
    "a freed port is used again as late as can be",
  );
  assert.deepEqual(range.allocate(0), NO_PORTS);
  assert.throws(() => range.allocate(2), {
    code: Code.RESOURCE_EXHAUSTED,
    message: "no 2 free ports in a row in 100-109 (9 of 10 are given out)",
  });
  assert.throws(() => range.allocate(11), { code: Code.RESOURCE_EXHAUSTED });
  assert.deepEqual(range.allocate(1), { start: 103, end: 103 });
});

Deno.test("a port that a stranger has is passed over", () => {
  const range = new PortRange(100, 109, (port) => port !== 102);
  assert.deepEqual(range.allocate(3), { start: 103, end: 105 });
  assert.deepEqual(range.allocate(2), { start: 106, end: 107 });
});

Deno.test("whatever is allocated, reserved and released, no port is given out twice, and none is lost", () => {
  const step = fc.record({ count: fc.integer({ min: 0, max: 6 }), release: fc.boolean(), pick: fc.nat() });
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const range = new PortRange(10, 30), held: PortBlock[] = [], used = new Set<number>();
    for (const { count, release, pick } of steps) {
      if (release && held.length > 0) {
        const [block] = held.splice(pick % held.length, 1);
        if (!block) continue;
        range.release(block);
        for (let port = block.start; port <= block.end; port++) used.delete(port);
        continue;
      }
      let block: PortBlock;
      try {
        block = range.allocate(count);
      } catch {
        for (let at = 10; at + count - 1 <= 30; at++) {
          const row = Array.from({ length: count }, (_, i) => at + i);
          assert.ok(row.some((port) => used.has(port)), `${count} ports at ${at} were free`);
        }
        continue;
      }
      if (count === 0) continue;
      assert.equal(block.end - block.start + 1, count);
      for (let port = block.start; port <= block.end; port++) {
        assert.ok(port >= 10 && port <= 30 && !used.has(port));
        used.add(port);
      }
      held.push(block);
    }
    assert.equal(range.used, used.size);
  }));
});

Deno.test("ranges that make no sense are refused", () => {
  for (const text of ["", "10", "20-10", "0-5", "1-70000", "a-b", "1-2-3"]) {
    assert.throws(() => PortRange.parse(text), RangeError, text);
  }
  assert.equal(PortRange.parse("10000-20000").used, 0);
});

Deno.test("arguments get their ports and are cut at commas", () => {
  const ports = { start: 10005, end: 10007 };
  assert.deepEqual(portArguments(["--listen,:"], 1, ports), ["--listen", ":10005"]);
  assert.deepEqual(portArguments(["--a,0.0.0.0:", "--b="], 3, ports), ["--a", "0.0.0.0:10005", "--b=10006"]);
  assert.deepEqual(portArguments([], 3, ports), []);
  assert.throws(() => portArguments(["a", "b"], 1, ports), { code: Code.INVALID_ARGUMENT });
});
