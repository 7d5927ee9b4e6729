import assert from "node:assert/strict";
import fc from "fast-check";
import { SimCluster } from "../io/sim/mod.ts";
import { BlockLocks } from "./block_locks.ts";
import { Requests, type SlotOwner } from "./requests.ts";

/** Locks of requests that note in which order they were let in. */
class Bench implements SlotOwner {
  readonly requests: Requests;
  readonly locks: BlockLocks;
  readonly granted: number[] = [];
  onGrant: (slot: number) => void = () => {};

  constructor(world: SimCluster) {
    let requests: Requests | undefined;
    world.host("a").spawn("test", (io) => requests = new Requests(io));
    assert(requests);
    this.requests = requests;
    this.locks = new BlockLocks(requests);
  }

  ask(first: number, end: number, exclusive: boolean): number {
    const slot = this.requests.acquire(this, 0, 0, 0, { complete: () => {} }, 0);
    if (this.locks.acquire(slot, first, end, exclusive)) this.granted.push(slot);
    return slot;
  }

  lockGranted(slot: number): void {
    this.granted.push(slot);
    this.onGrant(slot);
  }

  bufferGranted(): void {}
}

Deno.test("shared requests never wait for each other, exclusive ones wait for everybody on their blocks", () => {
  using world = new SimCluster(1);
  const bench = new Bench(world);
  const a = bench.ask(0, 10, false), b = bench.ask(5, 15, false);
  assert.deepEqual(bench.granted, [a, b]);
  const c = bench.ask(9, 10, true), d = bench.ask(20, 21, true);
  assert.deepEqual(bench.granted, [a, b, d]);
  const e = bench.ask(9, 12, false), f = bench.ask(10, 12, false);
  assert.deepEqual(bench.granted, [a, b, d, f], "e must not overtake c, f is elsewhere");
  bench.locks.release(a);
  assert.deepEqual(bench.granted, [a, b, d, f]);
  bench.locks.release(b);
  assert.deepEqual(bench.granted, [a, b, d, f, c]);
  bench.locks.release(c);
  assert.deepEqual(bench.granted, [a, b, d, f, c, e]);
});

Deno.test("an owner may release as soon as it is let in", () => {
  using world = new SimCluster(1);
  const bench = new Bench(world);
  const first = bench.ask(0, 1, true);
  const others = [bench.ask(0, 1, true), bench.ask(0, 1, true), bench.ask(0, 1, false)];
  bench.onGrant = (slot) => bench.locks.release(slot);
  bench.locks.release(first);
  assert.deepEqual(bench.granted, [first, ...others]);
});

Deno.test("whatever is asked and released: no conflict is let in, nobody is forgotten, nobody is overtaken", () => {
  const ask = fc.record({
    first: fc.nat(20),
    length: fc.integer({ min: 1, max: 6 }),
    exclusive: fc.boolean(),
  });
  fc.assert(fc.property(fc.array(fc.oneof(ask, fc.nat(30)), { maxLength: 60 }), (actions) => {
    using world = new SimCluster(1);
    const bench = new Bench(world);
    const asked = new Map<number, { first: number; end: number; exclusive: boolean; order: number }>();
    let order = 0, seen = 0;
    const held = new Set<number>();
    const overlap = (a: number, b: number) => {
      const x = asked.get(a), y = asked.get(b);
      return x && y && (x.exclusive || y.exclusive) && x.first < y.end && y.first < x.end;
    };
    const check = () => {
      for (; seen < bench.granted.length; seen++) {
        const slot = bench.granted[seen];
        for (const other of held) assert(!overlap(slot, other), "conflict");
        for (const other of asked.keys()) {
          const waits = other !== slot && !held.has(other) && !bench.granted.includes(other);
          const older = (asked.get(other)?.order ?? 0) < (asked.get(slot)?.order ?? 0);
          assert(!(waits && older && overlap(slot, other)), "overtaken");
        }
        held.add(slot);
      }
    };
    const release = (slot: number) => {
      held.delete(slot);
      asked.delete(slot);
      bench.granted.splice(bench.granted.indexOf(slot), 1);
      seen--;
      bench.locks.release(slot);
      check();
    };
    for (const action of actions) {
      if (typeof action === "number") {
        const slots = [...held];
        if (slots.length > 0) release(slots[action % slots.length]);
      } else {
        const { first, length, exclusive } = action;
        // The slot's number is known only afterwards; a lock granted at once is checked then.
        const slot = bench.ask(first, first + length, exclusive);
        asked.set(slot, { first, end: first + length, exclusive, order: order++ });
        check();
      }
    }
    while (held.size > 0) release([...held][0]);
    assert.equal(asked.size, 0, "forgotten");
  }));
});
