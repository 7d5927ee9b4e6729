import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import { READS_PER_TURN, SLOT_BITS, SLOTS } from "./limits.ts";
import type { Link, Mode } from "./link.ts";
import { Meters } from "./meters.ts";
import { MetricsWindow } from "./metrics_window.ts";
import { lateLinks } from "./patience.ts";
import { Slots, SlotState } from "./slots.ts";
import { Turns } from "./turns.ts";

Deno.test("reads go round, a few per turn, and to all copies alike", () => {
  const turns = new Turns(), counts = [0, 0, 0];
  const order = Array.from({ length: 30 * READS_PER_TURN }, () => turns.next(3));
  for (const turn of order) counts[turn]++;
  assert.ok(Math.max(...counts) - Math.min(...counts) <= READS_PER_TURN, counts.join());
  const changes = order.filter((turn, i) => i > 0 && turn !== order[i - 1]).length;
  assert.ok(changes >= 28 && changes <= 30, `${changes} changes`);
  assert.ok(Array.from({ length: 50 }, () => turns.next(2)).every((turn) => turn < 2), "a copy left");
  turns.single = true;
  assert.ok(Array.from({ length: 50 }, () => turns.next(3)).every((turn) => turn === 0));
});

interface Late {
  readonly links: readonly Mode[];
  /** Age of a request in ms, and the indices of the links that have not answered it. */
  readonly requests: readonly (readonly [age: number, waiting: readonly number[]])[];
  /** Ages of the links' pings, ms. */
  readonly pings?: readonly number[];
  readonly late: readonly number[];
}

const S = 8000;
const LATE: Readonly<Record<string, Late>> = {
  "none before S": { links: ["RW", "RW"], requests: [[S, [0]]], late: [] },
  "one after S, while another is punctual": { links: ["RW", "RW"], requests: [[S + 1, [1]]], late: [1] },
  "all late together: patience until 2 S": { links: ["RW", "RW"], requests: [[2 * S, [0, 1]]], late: [] },
  "all late together after 2 S": { links: ["RW", "RW"], requests: [[2 * S + 1, [0, 1]]], late: [0, 1] },
  "late for different requests": { links: ["RW", "RW"], requests: [[S + 1, [0]], [S + 1, [1]]], late: [] },
  "one of two is late beyond 2 S": {
    links: ["RW", "RW"],
    requests: [[S + 1, [0]], [2 * S + 1, [1]]],
    late: [1],
  },
  "the last copy has 2 S": { links: ["RW"], requests: [[2 * S, [0]]], late: [] },
  "the last copy after 2 S": { links: ["RW"], requests: [[2 * S + 1, [0]]], late: [0] },
  "an incomplete copy has S only": { links: ["RW", "WO"], requests: [[S + 1, [0, 1]]], late: [1] },
  "a ping without answer counts like a request": {
    links: ["RW", "RW"],
    requests: [],
    pings: [S + 1, 0],
    late: [0],
  },
  "pings that nobody answers have 2 S": {
    links: ["RW", "RW"],
    requests: [],
    pings: [2 * S, 2 * S],
    late: [],
  },
  "pings that nobody answers, after 2 S": {
    links: ["RW", "RW"],
    requests: [],
    pings: [2 * S + 1, 2 * S],
    late: [0],
  },
  "one late with a request, the other with a ping": {
    links: ["RW", "RW"],
    requests: [[S + 1, [0]]],
    pings: [0, S + 1],
    late: [],
  },
  "a punctual incomplete copy does not count": {
    links: ["RW", "WO"],
    requests: [[S + 1, [0]]],
    late: [],
  },
};
for (const [name, { links, requests, pings, late }] of Object.entries(LATE)) {
  Deno.test(`who is given up: ${name}`, () => {
    const slots = new Slots(), now = 1_000_000;
    const fake = links.map((mode, i) =>
      ({ mode, bit: 1 << i, pingAge: () => pings?.[i] ?? 0 }) as unknown as Link
    );
    for (const [age, waiting] of requests) {
      const slot = slots.take();
      slots.state[slot] = SlotState.ACTIVE;
      slots.sentAt[slot] = now - age;
      slots.waiting[slot] = waiting.reduce((mask, i) => mask | (1 << i), 0);
    }
    // Requests that are not with the replicas do not count, however old they are.
    const blocked = slots.take();
    slots.state[blocked] = SlotState.BLOCKED;
    slots.waiting[blocked] = 3;
    assert.deepEqual(lateLinks(now, S, slots, fake).map((link) => fake.indexOf(link)), late);
  });
}

Deno.test("a sequence number finds its slot only as long as that use of it lasts", () => {
  const slots = new Slots(), seen = new Set<number>();
  for (let i = 0; i < 5000; i++) {
    const slot = slots.take();
    slots.state[slot] = SlotState.ACTIVE;
    const sequence = slots.sequence(slot);
    assert.equal(slots.find(sequence), slot);
    assert.ok(!seen.has(sequence), `${sequence} again after ${i} uses`);
    seen.add(sequence);
    slots.give(slot);
    assert.equal(slots.find(sequence), -1);
  }
  for (const sequence of seen) assert.equal(slots.find(sequence), -1);
  for (let slot = SLOTS; slot < 1 << SLOT_BITS; slot++) assert.equal(slots.find(slot), -1);
});

Deno.test("slots are all there, each once, and no more", () => {
  const slots = new Slots(), taken = new Set<number>();
  for (let i = 0; i < SLOTS; i++) taken.add(slots.take());
  assert.equal(taken.size, SLOTS);
  assert.equal(slots.used, SLOTS);
  assert.throws(() => slots.take(), /more requests under way than the volume has slots/);
});

Deno.test("metrics are per second over the time since the last look, and never of less than a second", () => {
  let now = 5000;
  const meters = new Meters(), window = new MetricsWindow(() => now);
  const zero = {
    readThroughput: 0,
    writeThroughput: 0,
    readLatency: 0,
    writeLatency: 0,
    readIOPS: 0,
    writeIOPS: 0,
  };
  meters.count(Op.READ, 1 << 30, 7);
  assert.deepEqual(window.sample(meters.totals()), zero, "nothing to compare with yet");
  for (let i = 0; i < 10; i++) meters.count(Op.READ, 4096, 2);
  for (let i = 0; i < 4; i++) meters.count(Op.WRITE, 8192, 0.5);
  meters.count(Op.WRITE_DURABLE, 512, 3);
  meters.count(Op.UNMAP, 1 << 20, 9);
  meters.count(Op.FLUSH, 0, 9);
  now += 2000;
  const sample = window.sample(meters.totals());
  assert.deepEqual(sample, {
    readThroughput: 20_480,
    writeThroughput: (4 * 8192 + 512) / 2,
    readLatency: 2e6,
    writeLatency: 1e6,
    readIOPS: 5,
    writeIOPS: 3, // 2.5, rounded
  });
  meters.count(Op.READ, 4096, 2);
  now += 999;
  assert.equal(window.sample(meters.totals()), sample);
  now += 1;
  assert.equal(window.sample(meters.totals()).readIOPS, 1);
  now += 1000;
  assert.deepEqual(window.sample(meters.totals()), zero);
});
