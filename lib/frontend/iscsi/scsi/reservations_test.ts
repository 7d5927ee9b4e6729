import assert from "node:assert/strict";
import fc from "fast-check";
import { testWorlds } from "../../../io/test_kit.ts";
import { TaskFunction } from "../pdu.ts";
import { Bench, type Initiator, pattern, play, type Result, rw10, type Script } from "../test_kit.ts";
import { Access } from "./command.ts";
import { Nexus, NO_CONFLICT } from "./nexus.ts";
import { isType, Outcome, Reservations } from "./reservations.ts";
import { Asc, Status } from "./sense.ts";

const TYPES = [1, 3, 5, 6, 7, 8];
const CONFLICT = Status.RESERVATION_CONFLICT;

/** Which accesses conflict for the holder, another registrant, and a stranger: SPC-4 table 65, by type. */
const TABLE: Record<number, [number, number, number]> = {
  1: [NO_CONFLICT, Access.WRITE, Access.WRITE],
  3: [NO_CONFLICT, Access.READ, Access.READ],
  5: [NO_CONFLICT, NO_CONFLICT, Access.WRITE],
  6: [NO_CONFLICT, NO_CONFLICT, Access.READ],
  7: [NO_CONFLICT, NO_CONFLICT, Access.WRITE],
  8: [NO_CONFLICT, NO_CONFLICT, Access.READ],
};

function three(): { r: Reservations; a: Nexus; b: Nexus; c: Nexus } {
  const [a, b, c] = ["a", "b", "c"].map((name) => new Nexus(`iqn.x:${name}`, "400000000001")) as [
    Nexus,
    Nexus,
    Nexus,
  ];
  return { r: new Reservations([a, b, c]), a, b, c };
}

for (const type of TYPES) {
  Deno.test(`type ${type} keeps out whom SPC-4 says, and nobody after the release`, () => {
    const { r, a, b, c } = three();
    assert.equal(r.register(a, 0n, 1n), Outcome.DONE);
    assert.equal(r.register(b, undefined, 2n), Outcome.DONE);
    assert.equal(r.reserve(a, 9n, type), Outcome.CONFLICT, "wrong key");
    assert.equal(r.reserve(c, 0n, type), Outcome.CONFLICT, "not registered");
    assert.equal(r.reserve(a, 1n, type), Outcome.DONE);
    assert.deepEqual([a, b, c].map((n) => n.conflictFrom), TABLE[type]);
    assert.equal(r.reserve(a, 1n, type), Outcome.DONE, "again");
    assert.equal(r.reserve(a, 1n, type === 1 ? 3 : 1), Outcome.CONFLICT, "another type");
    assert.equal(r.release(a, 1n, type === 1 ? 3 : 1), Outcome.INVALID_RELEASE);
    if (type < 7) assert.equal(r.release(b, 2n, type), Outcome.DONE, "not the holder: nothing happens");
    assert.equal(r.type, type);
    assert.equal(r.release(a, 1n, type), Outcome.DONE);
    assert.deepEqual([a, b, c].map((n) => n.conflictFrom), [NO_CONFLICT, NO_CONFLICT, NO_CONFLICT]);
    assert.equal(b.take(), type >= 5 ? Asc.RESERVATIONS_RELEASED : Asc.NONE);
  });
}

Deno.test("a preempted port loses its registration and is told so", () => {
  const { r, a, b, c } = three();
  r.register(a, 0n, 1n);
  r.register(b, 0n, 2n);
  r.register(c, 0n, 2n);
  r.reserve(b, 2n, 3);
  const removed: string[] = [];
  assert.equal(r.preempt(a, 1n, 7n, 3, () => {}), Outcome.CONFLICT, "nobody has key 7");
  assert.equal(r.preempt(a, 1n, 0n, 3, () => {}), Outcome.BAD_KEY);
  assert.equal(r.preempt(a, 1n, 2n, 1, (port) => removed.push(port)), Outcome.DONE);
  assert.deepEqual(removed, [b.port, c.port]);
  assert.deepEqual([r.type, r.holderKey, r.registrations.length], [1, 1n, 1]);
  assert.deepEqual([a.take(), b.take(), c.take()], [
    Asc.NONE,
    Asc.REGISTRATIONS_PREEMPTED,
    Asc.REGISTRATIONS_PREEMPTED,
  ]);
});

Deno.test("a holder that unregisters releases; with all registrants the last one does", () => {
  const { r, a, b } = three();
  r.register(a, 0n, 1n);
  r.register(b, 0n, 2n);
  r.reserve(a, 1n, 5);
  r.register(a, 1n, 0n);
  assert.deepEqual([r.type, b.take()], [0, Asc.RESERVATIONS_RELEASED]);
  r.register(a, 0n, 1n);
  r.reserve(a, 1n, 8);
  r.register(a, 1n, 0n);
  assert.equal(r.type, 8);
  r.register(b, 2n, 0n);
  assert.equal(r.type, 0);
});

Deno.test("whatever is done, a reservation has a registered holder, and no holder is kept out", () => {
  const port = fc.nat(2), key = fc.constantFrom(0n, 1n, 2n, 3n), type = fc.constantFrom(...TYPES);
  const step = fc.tuple(fc.nat(5), port, key, key, type);
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const { r, a, b, c } = three();
    const nexuses = [a, b, c];
    let generation = 0;
    for (const [what, who, k, k2, t] of steps) {
      const nexus = nexuses[who] as Nexus;
      if (what === 0) r.register(nexus, k, k2);
      else if (what === 1) r.register(nexus, undefined, k2);
      else if (what === 2) r.reserve(nexus, k, t);
      else if (what === 3) r.release(nexus, k, t);
      else if (what === 4) r.preempt(nexus, k, k2, t, () => {});
      else r.clear(nexus, k);
      assert.ok(r.generation >= generation);
      generation = r.generation;
      const holders = r.registrations.filter((x) => r.holds(x));
      assert.equal(holders.length > 0, r.type !== 0, "a reservation is held by somebody");
      assert.ok(r.type === 0 || isType(r.type));
      assert.ok(r.registrations.every((x) => x.key !== 0n));
      assert.equal(new Set(r.registrations.map((x) => x.port)).size, r.registrations.length);
      for (const n of nexuses) {
        const own = r.find(n);
        if (own && r.holds(own)) assert.equal(n.conflictFrom, NO_CONFLICT);
        if (r.type === 0) assert.equal(n.conflictFrom, NO_CONFLICT);
        if (!own && r.type !== 0) assert.notEqual(n.conflictFrom, NO_CONFLICT);
      }
    }
  }));
});

// ---- over the wire ---------------------------------------------------------------------------------------------

const Out = { REGISTER: 0, RESERVE: 1, RELEASE: 2, CLEAR: 3, PREEMPT_AND_ABORT: 5, IGNORE: 6 } as const;

function* out(
  i: Initiator,
  action: number,
  key: number,
  actionKey: number,
  type = 0,
  flags = 0,
): Script<Result> {
  const list = new Uint8Array(24);
  list[7] = key;
  list[15] = actionKey;
  list[20] = flags;
  return yield* i.scsi([0x5f, action, type, 0, 0, 0, 0, 0, 24, 0], { out: list });
}

testWorlds("persistent reservations between three initiators, seen from outside", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const names = ["a", "b", "c"].map((n) => `iqn.2001-04.com.example:${n}`);
      const [a, b, c] = [
        yield* bench.initiator({}, names[0]),
        yield* bench.initiator({}, names[1]),
        yield* bench.initiator({}, names[2]),
      ];
      assert.equal((yield* out(a, Out.REGISTER, 0, 1)).status, 0);
      assert.equal((yield* out(b, Out.IGNORE, 0, 2)).status, 0);
      assert.equal((yield* out(a, Out.RESERVE, 1, 0, 5)).status, 0);
      const write = function* (i: Initiator): Script<number> {
        return (yield* i.scsi(rw10(0x2a, 0, 1), { out: pattern(512) })).status;
      };
      assert.deepEqual([yield* write(a), yield* write(b), yield* write(c)], [0, 0, CONFLICT]);
      assert.equal((yield* c.scsi(rw10(0x28, 0, 1), { read: 512 })).status, 0);
      assert.equal((yield* c.scsi([0])).status, 0);
      const keys = (yield* c.scsi([0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0], { read: 256 })).data;
      assert.deepEqual([keys[3], keys[7], keys[15], keys[23]], [2, 16, 1, 2]);
      const held = (yield* c.scsi([0x5e, 1, 0, 0, 0, 0, 0, 1, 0, 0], { read: 256 })).data;
      assert.deepEqual([held.length, held[15], held[21]], [24, 1, 5]);
      const full = (yield* c.scsi([0x5e, 3, 0, 0, 0, 0, 0, 4, 0, 0], { read: 1024 })).data;
      const text = new TextDecoder().decode(full);
      assert.ok(text.includes(`${names[0]},i,0x400000010000`) && text.includes(names[1] as string));
      assert.equal(new DataView(full.buffer, full.byteOffset).getUint32(4) + 8, full.length);
      const capabilities = (yield* c.scsi([0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0], { read: 8 })).data;
      assert.deepEqual([capabilities[1], capabilities[4], capabilities[5]], [8, 0xea, 1]);
      assert.equal(
        (yield* out(a, Out.REGISTER, 1, 1, 0, 0x01)).asc,
        Asc.INVALID_FIELD_IN_PARAMETERS,
        "APTPL",
      );
      assert.equal((yield* a.scsi([0x16])).status, CONFLICT, "RESERVE(6) while keys are registered");
      // A session that ends keeps its registration; a reset changes nothing.
      a.stream.close();
      yield () => a.closed && bench.frontend.sessions.length === 2;
      const back = yield* bench.initiator({}, names[0]);
      assert.equal(yield* write(back), 0);
      yield* back.manage(TaskFunction.LOGICAL_UNIT_RESET);
      for (const i of [back, b, c]) yield* i.clearAttentions();
      assert.equal(yield* write(c), CONFLICT);
      // PREEMPT AND ABORT: the victim's command ends without a word.
      bench.device.holding = true;
      back.command(rw10(0x28, 0, 1), { read: 512 });
      yield () => bench.device.held.length === 1;
      assert.equal((yield* out(b, Out.PREEMPT_AND_ABORT, 2, 1, 3)).status, 0);
      bench.device.release();
      assert.deepEqual(yield* back.clearAttentions(), [Asc.REGISTRATIONS_PREEMPTED]);
      assert.equal((yield* back.scsi(rw10(0x28, 0, 1), { read: 512 })).status, CONFLICT);
      assert.equal((yield* out(b, Out.CLEAR, 2, 0)).status, 0);
      assert.deepEqual([yield* write(back), yield* write(c)], [0, 0]);
      yield* bench.settled();
      yield* bench.stop(back, b, c);
    })(),
  );
});

testWorlds("RESERVE(6) keeps others out until the release, a reset or the end of the session", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const [a, b] = [yield* bench.initiator({}, "iqn.x:a"), yield* bench.initiator({}, "iqn.x:b")];
      const ready = function* (i: Initiator): Script<number> {
        return (yield* i.scsi([0])).status;
      };
      for (const [reserve, release] of [[[0x16], [0x17]], [[0x56], [0x57]]]) {
        assert.equal((yield* a.scsi(reserve as number[])).status, 0);
        assert.deepEqual([yield* ready(a), yield* ready(b)], [0, CONFLICT]);
        assert.equal((yield* b.scsi(reserve as number[])).status, CONFLICT);
        assert.equal((yield* out(b, Out.REGISTER, 0, 1)).status, CONFLICT);
        assert.equal((yield* b.scsi(release as number[])).status, 0, "of somebody else: nothing happens");
        assert.equal(yield* ready(b), CONFLICT);
        assert.equal((yield* a.scsi(release as number[])).status, 0);
        assert.equal(yield* ready(b), 0);
      }
      yield* a.scsi([0x16]);
      yield* b.manage(TaskFunction.LOGICAL_UNIT_RESET);
      yield* b.clearAttentions();
      assert.equal(yield* ready(b), 0);
      yield* a.clearAttentions();
      yield* a.scsi([0x16]);
      a.stream.close();
      yield () => bench.frontend.sessions.length === 1;
      assert.equal(yield* ready(b), 0);
      yield* bench.stop(b);
    })(),
  );
});
