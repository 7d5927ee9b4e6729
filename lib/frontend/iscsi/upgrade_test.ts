import assert from "node:assert/strict";
import { testWorlds } from "../../io/test_kit.ts";
import { BHS_BYTES, Field, Opcode, serialBefore } from "./pdu.ts";
import { Bench, Initiator, pattern, play, rw10, type Script } from "./test_kit.ts";

/** Begins to suspend. @returns what it came to, once it did */
function suspend(bench: Bench, graceMs = 5000): { problem: string | undefined } {
  const state: { problem: string | undefined } = { problem: undefined };
  bench.frontend.suspend(graceMs, (problem) => state.problem = problem);
  return state;
}

testWorlds("a session goes on with the next process, whatever was agreed on", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      for (const digest of ["None", "CRC32C"]) {
        const keys = { HeaderDigest: digest, DataDigest: digest, MaxRecvDataSegmentLength: "4096" };
        const initiator = yield* bench.initiator({ ...keys, ImmediateData: "No", FirstBurstLength: "8192" });
        for (let round = 1; round <= 5; round++) {
          const written = pattern(300 * 512, round);
          assert.equal((yield* initiator.scsi(rw10(0x2a, 8, 300), { out: written })).status, 0);
          yield* bench.move();
          const nop = yield* initiator.expect(Opcode.NOP_IN);
          assert.equal(nop.u32(Field.EXP_CMD_SN), initiator.cmdSN);
          assert.equal(
            (nop.u32(Field.MAX_CMD_SN) - initiator.cmdSN + 1) >>> 0,
            128,
            "the whole window is open",
          );
          const read = yield* initiator.scsi(rw10(0x28, 8, 300), { read: written.length });
          assert.deepEqual(read.data, written);
        }
        initiator.stream.close();
        yield () => initiator.closed;
      }
      yield* bench.settled();
      const late = yield* bench.initiator();
      yield* bench.stop(late);
    })(),
  );
});

testWorlds("under load no command is lost, repeated or failed by ten moves", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* (): Script {
      const initiator = yield* bench.initiator();
      const open = new Map<number, number>();
      let done = 0, moves = 0, moving: Script | undefined, condition: () => boolean = () => true;
      const out = pattern(4096);
      while (done < 3000 || open.size > 0) {
        while (
          done + open.size < 3000 && open.size < 24 && !serialBefore(initiator.maxCmdSN, initiator.cmdSN)
        ) {
          open.set(initiator.command(rw10(0x2a, (done + open.size) % 1000 * 8, 8), { out }, 4096), done);
        }
        yield () =>
          initiator.received.length > 0 || initiator.closed || (moving !== undefined && condition());
        assert.equal(initiator.closed, false);
        for (let pdu = initiator.received.shift(); pdu; pdu = initiator.received.shift()) {
          if (pdu.opcode === Opcode.NOP_IN) continue;
          assert.equal(pdu.opcode, Opcode.SCSI_RESPONSE);
          assert.equal(pdu.header[3], 0);
          assert.ok(open.delete(pdu.u32(Field.TASK_TAG)), "an answer to something that was not asked");
          done++;
        }
        if (!moving && moves < 10 && done > moves * 250) moving = bench.move();
        if (moving && condition()) {
          const next = moving.next();
          if (next.done) {
            moving = undefined;
            moves++;
          } else condition = next.value;
        }
      }
      assert.equal(moves, 10);
      yield* bench.stop(initiator);
    })(),
  );
});

testWorlds("a write that waits for its data ends before the handover", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator({ ImmediateData: "No" });
      const out = pattern(64 * 512);
      const tag = initiator.command(rw10(0x2a, 0, 64), { out });
      const r2t = yield* initiator.expect(Opcode.R2T);
      const state = suspend(bench);
      yield () => io.now() > 0;
      assert.equal(state.problem, undefined);
      initiator.dataOut(tag, r2t.u32(Field.TRANSFER_TAG), out, 0, out.length, 16_384);
      assert.equal((yield* initiator.finish(tag, { out }, 1)).status, 0);
      yield () => state.problem !== undefined;
      assert.equal(state.problem, "");
      // What comes now waits, also in part, and is served by the next process.
      initiator.raw(new Uint8Array([0x01 | 0x40]));
      yield* bench.move();
      const rest = new Uint8Array(BHS_BYTES - 1), view = new DataView(rest.buffer);
      rest[0] = 0x81;
      view.setUint32(8 - 1, 1 << 16);
      view.setUint32(16 - 1, 777);
      view.setUint32(24 - 1, initiator.cmdSN);
      initiator.raw(rest);
      yield* initiator.expect(Opcode.NOP_IN);
      const answer = yield* initiator.expect(Opcode.SCSI_RESPONSE);
      assert.deepEqual([answer.u32(Field.TASK_TAG), answer.header[3]], [777, 0]);
      const read = yield* initiator.scsi(rw10(0x28, 0, 64), { read: out.length });
      assert.deepEqual(read.data, out);
      yield* bench.stop(initiator);
    })(),
  );
});

testWorlds(
  "who does not come to rest is closed, the others go on; and a handover can be taken back",
  (io) => {
    const bench = new Bench(io);
    play(
      io,
      (function* () {
        const stuck = yield* bench.initiator({ ImmediateData: "No" }, "iqn.2001-04.com.example:stuck");
        const good = yield* bench.initiator();
        stuck.command(rw10(0x2a, 0, 64), { out: pattern(64 * 512) });
        yield* stuck.expect(Opcode.R2T);
        const state = suspend(bench, 20);
        yield () => state.problem !== undefined;
        assert.equal(state.problem, "");
        yield () => stuck.closed;
        bench.frontend.resume();
        yield* good.expect(Opcode.NOP_IN);
        assert.equal((yield* good.scsi([0])).status, 0);
        yield* bench.move(20);
        yield* good.expect(Opcode.NOP_IN);
        assert.equal((yield* good.scsi([0])).status, 0);
        yield* bench.stop(good);
      })(),
    );
  },
);

testWorlds("reservations, mode pages and unit attentions move along; new logins work as before", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const holder = yield* bench.initiator();
      const other = yield* bench.initiator({}, "iqn.2001-04.com.example:other");
      const key = new Uint8Array(24);
      key.set([0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10], 8);
      const own = new Uint8Array([...key.subarray(8, 16), ...new Uint8Array(16)]);
      assert.equal((yield* holder.scsi([0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], { out: key })).status, 0);
      assert.equal((yield* holder.scsi([0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], { out: own })).status, 0);
      // MODE SELECT(6): descriptor sense on.
      const select = new Uint8Array([0, 0, 0, 0, 0x0a, 0x0a, 4, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
      assert.equal((yield* holder.scsi([0x15, 0x10, 0, 0, select.length, 0], { out: select })).status, 0);
      const silent = yield* Initiator.connect(io, bench.frontend.port);
      const { port, endpoint } = bench.frontend;
      yield () => bench.events.filter(({ kind }) => kind === "connected").length === 3;
      yield* bench.move();
      assert.deepEqual([bench.frontend.port, bench.frontend.endpoint], [port, endpoint]);
      yield* holder.expect(Opcode.NOP_IN);
      yield* other.expect(Opcode.NOP_IN);
      const attention = yield* other.scsi([0]);
      assert.deepEqual([attention.key, attention.asc, attention.sense[0]], [6, 0x2a01, 0x72]);
      assert.equal((yield* other.scsi(rw10(0x2a, 0, 1), { out: pattern(512) })).status, 0x18);
      assert.equal((yield* holder.scsi(rw10(0x2a, 0, 1), { out: pattern(512) })).status, 0);
      const keys = (yield* other.scsi([0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0], { read: 256 })).data;
      assert.deepEqual([...keys.subarray(8, 16)], [...key.subarray(8, 16)]);
      silent.name = "iqn.2001-04.com.example:silent";
      assert.equal((yield* silent.login()).u16(36), 0);
      yield* bench.stop(holder, other, silent);
    })(),
  );
});
