import assert from "node:assert/strict";
import fc from "fast-check";
import { SLOTS } from "./limits.ts";
import { Overlaps } from "./overlap.ts";

class Columns {
  readonly offset = new Float64Array(SLOTS);
  readonly length = new Float64Array(SLOTS);
  readonly overlaps = new Overlaps(this.offset, this.length);

  enter(slot: number, offset: number, length: number): boolean {
    this.offset[slot] = offset;
    this.length[slot] = length;
    return this.overlaps.enter(slot);
  }

  leave(slot: number): number[] {
    this.overlaps.leave(slot);
    const started: number[] = [];
    for (let next = this.overlaps.next(); next >= 0; next = this.overlaps.next()) started.push(next);
    return started;
  }
}

Deno.test("changes that touch nothing in common pass, also when they touch each other's borders", () => {
  const c = new Columns();
  assert.equal(c.enter(1, 0, 4096), true);
  assert.equal(c.enter(2, 4096, 4096), true);
  assert.equal(c.enter(3, 8192, 512), true);
  assert.equal(c.overlaps.active, 3);
});

Deno.test("a change that overlaps one under way waits for it, and for those that wait before it", () => {
  const c = new Columns();
  assert.equal(c.enter(1, 0, 4096), true);
  assert.equal(c.enter(2, 2048, 4096), false);
  assert.equal(c.enter(3, 5000, 4096), false, "it overlaps only the one that waits");
  assert.equal(c.enter(4, 20_000, 512), true);
  assert.equal(c.overlaps.blocked, 2);
  assert.deepEqual(c.leave(4), []);
  assert.deepEqual(c.leave(1), [2]);
  assert.deepEqual(c.leave(2), [3]);
  assert.equal(c.overlaps.has(3), true);
  assert.deepEqual(c.leave(3), []);
  assert.deepEqual([c.overlaps.active, c.overlaps.blocked], [0, 0]);
});

Deno.test("against a model: never two overlapping at once, first come first served, everybody's turn comes", () => {
  const step = fc.record({
    offset: fc.nat(40),
    length: fc.integer({ min: 0, max: 10 }),
    ends: fc.nat(3),
    pick: fc.nat(1000),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
    const c = new Columns(), active = new Set<number>(), queue: number[] = [];
    const clash = (a: number, b: number) =>
      c.offset[a] < c.offset[b] + c.length[b] && c.offset[b] < c.offset[a] + c.length[a];
    let slot = 0;
    const start = (started: number) => {
      for (const other of active) assert.ok(!clash(started, other), `${started} beside ${other}`);
      for (const before of queue) {
        if (before === started) break;
        assert.ok(!clash(started, before), `${started} went before ${before}`);
      }
      if (queue.includes(started)) queue.splice(queue.indexOf(started), 1);
      active.add(started);
    };
    const end = (pick: number) => {
      const ending = [...active][pick % active.size];
      active.delete(ending);
      for (const started of c.leave(ending)) start(started);
      for (const waits of queue) {
        const free = [...active].every((other) => !clash(waits, other)) &&
          queue.slice(0, queue.indexOf(waits)).every((before) => !clash(waits, before));
        assert.ok(!free, `${waits} waits for nothing`);
      }
    };
    for (const { offset, length, ends, pick } of steps) {
      slot++;
      if (c.enter(slot, offset, length)) start(slot);
      else queue.push(slot);
      for (let i = 0; i < ends && active.size > 0; i++) end(pick);
      assert.deepEqual([c.overlaps.active, c.overlaps.blocked], [active.size, queue.length]);
    }
    while (active.size > 0) end(0);
    assert.deepEqual(queue, []);
  }));
});

Deno.test("a wide change is not starved by small ones that keep coming", () => {
  const c = new Columns();
  c.enter(1, 0, 10);
  assert.equal(c.enter(2, 0, 1000), false);
  let small = 3;
  assert.equal(c.enter(small, 500, 10), false, "it would pass the wide one");
  assert.deepEqual(c.leave(1), [2]);
  small++;
  assert.equal(c.enter(small, 900, 10), false);
  assert.deepEqual(c.leave(2), [3, 4]);
});
