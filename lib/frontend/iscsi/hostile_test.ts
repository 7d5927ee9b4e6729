import assert from "node:assert/strict";
import { testWorlds } from "../../io/test_kit.ts";
import { BHS_BYTES, Field, FINAL, IMMEDIATE, NO_TAG, Opcode } from "./pdu.ts";
import { Bench, Initiator, pattern, play, rw10, type Script, TARGET } from "./test_kit.ts";
import { formatPairs } from "./text.ts";

/** Numbers from a seed (mulberry32), so that a failing run can be repeated. */
class Dice {
  #state: number;
  constructor(readonly seed: number) {
    this.#state = seed >>> 0;
  }
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  }
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }
  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

const OPCODES = [0, 1, 2, 3, 4, 5, 6, 0x10, 0x1c, 0x20, 0x21, 0x3f];

/** A header whose fields are plausible or absurd, with the data it announces, or less. */
function randomPdu(dice: Dice, cmdSN: number): Uint8Array {
  const header = dice.bytes(BHS_BYTES);
  const view = new DataView(header.buffer);
  header[0] = dice.pick(OPCODES) | (dice.below(2) ? IMMEDIATE : 0);
  header[4] = dice.below(8) === 0 ? dice.below(256) : 0;
  const length = dice.pick([0, 0, 1, 48, 512, 4096, 70_000, 262_144, 262_145, 0xffffff]);
  view.setUint32(Field.DATA_LENGTH, (header[4] << 24) | length);
  if (dice.below(2)) view.setUint32(Field.LUN, 1 << 16);
  if (dice.below(2)) view.setUint32(Field.LUN + 4, 0);
  view.setUint32(Field.TASK_TAG, dice.below(20));
  if (dice.below(2)) view.setUint32(Field.TRANSFER_TAG, dice.pick([NO_TAG, 0, 512, 8192, 0x7fffffff]));
  if (dice.below(4)) view.setUint32(Field.CMD_SN, cmdSN);
  if (dice.below(2)) {
    header.set([dice.pick([0x28, 0x2a, 0x12, 0x5f, 0x42, 0x89, 0x93, 0x55, 0xa3, 0x2f])], Field.CDB);
  }
  const body = length > 65_536 && dice.below(2) ? dice.below(2000) : length;
  const whole = new Uint8Array(BHS_BYTES + 4 * header[4] + ((body + 3) & ~3));
  whole.set(header);
  if (body > 0) whole.set(dice.bytes(Math.min(body, 5000)), BHS_BYTES + 4 * header[4]);
  return dice.below(10) === 0 ? whole.subarray(0, dice.below(whole.length)) : whole;
}

testWorlds("random PDUs after a login end at most their own connection and lose no memory", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const witness = yield* bench.initiator({}, "iqn.2001-04.com.example:witness");
      const kept = pattern(64 * 512);
      assert.equal((yield* witness.scsi(rw10(0x2a, 16_384, 64), { out: kept })).status, 0);
      for (let seed = 1; seed <= 60; seed++) {
        const dice = new Dice(seed);
        const attacker = yield* bench.initiator(
          dice.pick([{}, { InitialR2T: "No" }, { ImmediateData: "No" }]),
        );
        for (let i = 0; i < 20 && !attacker.closed; i++) {
          attacker.raw(randomPdu(dice, attacker.cmdSN));
          if (dice.below(3) === 0) yield* pause(2);
          if (attacker.received.length > 0) {
            attacker.cmdSN = attacker.received.at(-1)?.u32(Field.EXP_CMD_SN) ?? 0;
          }
        }
        attacker.stream.close();
        yield () => attacker.closed && bench.frontend.sessions.length === 1;
        yield* bench.settled();
        const alive = yield* witness.clearAttentionsAndReservations();
        assert.ok(alive, `seed ${seed}`);
      }
      assert.ok(bench.closings.every((code) => code !== ""), "every connection ended for a reason");
      assert.ok(new Set(bench.closings).size >= 3, `reasons seen: ${[...new Set(bench.closings)]}`);
      yield* bench.stop(witness);
    })(),
  );
});

function* pause(ticks: number): Script {
  yield () => ticks-- <= 0;
}

testWorlds("garbage instead of a login ends the connection with a reason", (io) => {
  const bench = new Bench(io, { timing: { loginMs: 500 } });
  play(
    io,
    (function* () {
      const text = (pairs: [string, string][]): Uint8Array => formatPairs(pairs);
      const name: [string, string] = ["InitiatorName", "iqn.2001-04.com.example:x"];
      const flags = FINAL | (1 << 2) | 3;
      const cases: [string, number, Uint8Array][] = [
        ["no initiator name", flags, text([["TargetName", TARGET]])],
        ["no target name", flags, text([name])],
        ["another target", flags, text([name, ["TargetName", "iqn.2000-01.com.example:other"]])],
        ["no pair", flags, new TextEncoder().encode("hello\0")],
        ["a key twice", flags, text([name, ["TargetName", TARGET], ["TargetName", TARGET]])],
        ["a long key", flags, text([["k".repeat(100), "v"]])],
        ["too many keys", flags, text(Array.from({ length: 100 }, (_, i) => [`X-${i}`, "1"]))],
        ["too much text", flags, new Uint8Array(20_000).fill(65)],
        ["a reserved stage", FINAL | (2 << 2) | 3, text([name])],
        ["a transit back", FINAL | (1 << 2), text([name])],
        ["a session type of its own", flags, text([name, ["SessionType", "Other"]])],
        ["transit in the middle of the text", flags | 0x40, text([name])],
      ];
      for (const [what, loginFlags, data] of cases) {
        const initiator = yield* Initiator.connect(io, bench.frontend.port);
        initiator.pdu(Opcode.LOGIN | IMMEDIATE, loginFlags, { 16: 1, 24: 1 }, data);
        const response = yield* initiator.expect(Opcode.LOGIN_RESPONSE);
        assert.equal(response.u16(36) >> 8, 2, what);
        yield () => initiator.closed;
        assert.equal(bench.events.at(-1)?.code, "login", what);
      }
      for (
        const [what, bytes, code] of [
          ["something else than a login", new Uint8Array(48), "protocol"],
          [
            "HTTP",
            new TextEncoder().encode("GET / HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n"),
            "protocol",
          ],
          ["nothing", new Uint8Array(0), "timeout"],
          ["half a header", new Uint8Array(20).fill(0x43), "timeout"],
        ] as const
      ) {
        const initiator = yield* Initiator.connect(io, bench.frontend.port);
        initiator.raw(bytes);
        yield () => initiator.closed;
        assert.equal(bench.events.at(-1)?.code, code, what);
      }
      for (let seed = 1; seed <= 40; seed++) {
        const dice = new Dice(seed);
        const initiator = yield* Initiator.connect(io, bench.frontend.port);
        for (let i = 0; i < 4; i++) {
          const bytes = randomPdu(dice, 0);
          bytes[0] = Opcode.LOGIN | IMMEDIATE;
          initiator.raw(bytes);
        }
        yield* pause(3);
        initiator.stream.close();
        yield () => initiator.closed;
      }
      yield () => bench.events.filter((e) => e.kind === "connected").length === bench.closings.length;
      yield* bench.settled();
      yield* bench.stop();
    })(),
  );
});

testWorlds("a login that never ends is ended", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* Initiator.connect(io, bench.frontend.port);
      const name: [string, string][] = [["InitiatorName", initiator.name], ["TargetName", TARGET]];
      let status = 0;
      for (let i = 0; status === 0; i++) {
        initiator.loginRequest(i === 0 ? name : [], 1 << 2);
        status = (yield* initiator.expect(Opcode.LOGIN_RESPONSE)).u16(36);
        assert.ok(i < 100);
      }
      assert.equal(status, 0x0200);
      yield () => initiator.closed;
      yield* bench.stop();
    })(),
  );
});

testWorlds("an initiator that does not read stalls nobody else", (io) => {
  const bench = new Bench(io, {}, 8 * 1024 * 1024);
  play(
    io,
    (function* () {
      const deaf = yield* bench.initiator({}, "iqn.2001-04.com.example:deaf");
      const other = yield* bench.initiator({}, "iqn.2001-04.com.example:other");
      deaf.stream.pause();
      for (let i = 0; i < 40; i++) deaf.command(rw10(0x28, 0, 256), { read: 131_072 });
      yield* pause(20);
      const out = pattern(4096);
      for (let i = 0; i < 50; i++) {
        assert.equal((yield* other.scsi(rw10(0x2a, i * 8, 8), { out })).status, 0);
      }
      deaf.stream.resume();
      let answers = 0;
      while (answers < 40) if ((yield* deaf.expect(Opcode.DATA_IN)).flags & 1) answers++;
      yield* bench.settled();
      yield* bench.stop(deaf, other);
    })(),
  );
});

testWorlds(
  "initiators that send none of the data that they were asked for keep nobody else from work, and are closed",
  (io) => {
    const bench = new Bench(io, { timing: { pingMs: 700 }, maxConnections: 4 }, 16 * 1024 * 1024);
    play(
      io,
      (function* () {
        const mute: Initiator[] = [];
        for (const name of ["a", "b", "c"]) {
          mute.push(yield* bench.initiator({ ImmediateData: "No" }, `iqn.2001-04.com.example:${name}`));
        }
        const other = yield* bench.initiator({}, "iqn.2001-04.com.example:other");
        const blocks = 2048, mass = pattern(blocks * 512);
        for (const initiator of mute) {
          for (let i = 0; i < 20; i++) initiator.command(rw10(0x2a, 0, blocks), { out: mass });
        }
        yield* pause(20);
        const out = pattern(4096);
        // None of them has gone yet: what is kept for this one serves it.
        for (let i = 0; i < 20; i++) {
          assert.equal((yield* other.scsi(rw10(0x2a, 30_000 + i * 8, 8), { out })).status, 0);
          assert.equal((yield* other.scsi(rw10(0x28, 30_000 + i * 8, 8), { read: 4096 })).status, 0);
        }
        assert.deepEqual(bench.closings, []);
        // They answer pings: it is not silence that ends them.
        yield () => {
          for (const initiator of [...mute, other]) {
            const pings = initiator.received.splice(0).filter(({ opcode }) => opcode === Opcode.NOP_IN);
            if (initiator.closed) continue;
            for (const ping of pings) {
              const answer = { 16: NO_TAG, 20: ping.u32(Field.TRANSFER_TAG), 24: initiator.cmdSN };
              initiator.pdu(Opcode.NOP_OUT | IMMEDIATE, FINAL, answer);
            }
          }
          return bench.closings.length > 0;
        };
        const [end] = bench.events.filter(({ kind }) => kind === "closed");
        assert.match(end?.message ?? "", /sent no data for 0.7 s that it was asked for/);
        for (const initiator of mute) initiator.stream.close();
        yield* bench.settled();
        yield* bench.stop(other);
      })(),
    );
  },
);
