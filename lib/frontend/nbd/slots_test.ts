import assert from "node:assert/strict";
import fc from "fast-check";
import { Slots, Use } from "./slots.ts";

Deno.test("every connection gets its share at any time, and the account is right", () => {
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 16 }),
    fc.array(fc.record({ who: fc.nat(), take: fc.boolean() }), { maxLength: 400 }),
    (connections, actions) => {
      const slots = new Slots(64, connections);
      const held: number[][] = Array.from({ length: connections }, () => []);
      const share = Math.max(2, Math.min(8, Math.floor(32 / connections)));
      for (const { who, take } of actions) {
        const mine = held[who % connections] as number[];
        if (take && slots.available(mine.length)) {
          const slot = slots.take(mine.length, Use.READ);
          assert.ok(held.every((other) => !other.includes(slot)), "slot given twice");
          mine.push(slot);
        } else if (!take && mine.length > 0) {
          slots.give(mine.length, mine[0] as number);
          mine.shift();
        }
        assert.equal(slots.free, 64 - held.flat().length);
        assert.ok(held.every((other) => other.length >= share || slots.available(other.length)), "starved");
        assert.ok(!held.some((other) => slots.available(other.length)) || slots.free > 0);
      }
      for (const mine of held) {
        for (; mine.length > 0; mine.shift()) slots.give(mine.length, mine[0] as number);
      }
      assert.equal(slots.free, 64);
      let alone = 0;
      while (slots.available(alone)) slots.take(alone++, Use.WRITE);
      assert.equal(alone, 64 - share * (connections - 1), "all that is not kept for others");
    },
  ));
});

Deno.test("too few slots for the connections are refused", () => {
  assert.throws(() => new Slots(16, 9), /16 request slots are too few for 9/);
});
