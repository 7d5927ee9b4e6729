import assert from "node:assert/strict";
import { testWorlds } from "../../io/test_kit.ts";
import { Field, FINAL, IMMEDIATE, NO_TAG, Opcode, RejectReason, TaskFunction } from "./pdu.ts";
import { Asc } from "./scsi/sense.ts";
import { SESSION_DEPTH } from "./session_memory.ts";
import { Bench, Initiator, pattern, play, rw10 } from "./test_kit.ts";

const A = "iqn.2001-04.com.example:a", B = "iqn.2001-04.com.example:b";

testWorlds(
  "a new session reports power on once; the same initiator port coming back replaces its session",
  (io) => {
    const bench = new Bench(io);
    play(
      io,
      (function* () {
        const first = yield* Initiator.connect(io, bench.frontend.port);
        yield* first.login();
        assert.deepEqual(yield* first.clearAttentions(), [Asc.POWER_ON]);
        bench.device.holding = true;
        first.command(rw10(0x2a, 0, 1), { out: pattern(512) }, 512);
        yield () => bench.device.held.length === 1;
        const second = yield* Initiator.connect(io, bench.frontend.port);
        second.loginRequest(
          [["InitiatorName", first.name], ["TargetName", "iqn.2019-10.io.longhorn:test"]],
          FINAL | 4 | 3,
        );
        yield () => first.closed;
        // The disk still has a write of the old session: the new one must not begin before that is over.
        assert.equal(second.received.length, 0);
        bench.device.release();
        const response = yield* second.expect(Opcode.LOGIN_RESPONSE);
        assert.equal(response.u16(36), 0);
        assert.deepEqual(yield* second.clearAttentions(), [Asc.NEXUS_LOSS]);
        assert.deepEqual(bench.closings, ["reinstated"]);
        assert.equal(bench.frontend.sessions.length, 1);
        yield* bench.settled();
        yield* bench.stop(second);
      })(),
    );
  },
);

testWorlds("of several logins of one initiator port at once, the last one stays", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const first = yield* bench.initiator();
      bench.device.holding = true;
      first.command(rw10(0x2a, 0, 1), { out: pattern(512) }, 512);
      yield () => bench.device.held.length === 1;
      const next: Initiator[] = [];
      for (let i = 0; i < 3; i++) {
        const initiator = yield* Initiator.connect(io, bench.frontend.port);
        initiator.loginRequest(
          [["InitiatorName", first.name], ["TargetName", "iqn.2019-10.io.longhorn:test"]],
          FINAL | 4 | 3,
        );
        next.push(initiator);
      }
      yield () => first.closed;
      bench.device.release();
      yield () => next.filter((i) => i.closed).length === 2;
      const last = next.find((i) => !i.closed) as Initiator;
      const response = yield* last.expect(Opcode.LOGIN_RESPONSE);
      assert.equal(response.u16(36), 0);
      assert.equal((response.u32(Field.MAX_CMD_SN) - response.u32(Field.EXP_CMD_SN)) | 0, SESSION_DEPTH - 1);
      assert.deepEqual(yield* last.clearAttentions(), [Asc.NEXUS_LOSS]);
      assert.equal(bench.frontend.sessions.length, 1);
      yield* bench.settled();
      yield* bench.stop(last);
    })(),
  );
});

testWorlds(
  "another ISID is another session, and a session handle cannot be used for a second connection",
  (io) => {
    const bench = new Bench(io);
    play(
      io,
      (function* () {
        const first = yield* bench.initiator();
        const other = yield* Initiator.connect(io, bench.frontend.port);
        (other as { isid: readonly number[] }).isid = [0x40, 0, 0, 2, 0, 0];
        const login = yield* other.login();
        assert.equal(login.u16(36), 0);
        const tsih = login.u16(Field.TSIH);
        assert.notEqual(tsih, 0);
        assert.equal(bench.frontend.sessions.length, 2);
        for (const [handle, status] of [[tsih, 0x0206], [tsih + 77, 0x020a]]) {
          const third = yield* Initiator.connect(io, bench.frontend.port);
          third.loginRequest([["InitiatorName", third.name]], FINAL | 4 | 3, handle);
          assert.equal((yield* third.expect(Opcode.LOGIN_RESPONSE)).u16(36), status);
          yield () => third.closed;
        }
        assert.equal((yield* first.scsi([0])).status, 0);
        yield* bench.stop(first, other);
      })(),
    );
  },
);

testWorlds("commands outside the window are ignored, a gap ends the connection", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator();
      bench.device.holding = true;
      const tags: number[] = [];
      for (let i = 0; i < SESSION_DEPTH + 5; i++) {
        tags.push(initiator.command(rw10(0x28, i, 1), { read: 512 }));
      }
      yield () => bench.device.held.length === SESSION_DEPTH;
      // The window is full: a ping sent as an immediate command is still answered and tells so.
      initiator.pdu(Opcode.NOP_OUT | IMMEDIATE, FINAL, { 16: 9, 20: NO_TAG, 24: initiator.cmdSN });
      const pong = yield* initiator.expect(Opcode.NOP_IN);
      assert.equal((pong.u32(Field.MAX_CMD_SN) - pong.u32(Field.EXP_CMD_SN)) | 0, -1);
      bench.device.release();
      for (let i = 0; i < SESSION_DEPTH; i++) {
        const pdu = yield* initiator.expect(Opcode.DATA_IN);
        assert.ok(tags.slice(0, SESSION_DEPTH).includes(pdu.u32(Field.TASK_TAG)));
      }
      initiator.cmdSN -= 5; // those were ignored
      assert.equal((yield* initiator.scsi([0])).status, 0);
      assert.equal((initiator.maxCmdSN - initiator.cmdSN) | 0, SESSION_DEPTH - 1, "the window is open again");
      initiator.cmdSN += 1;
      initiator.command([0]);
      yield () => initiator.closed;
      assert.deepEqual(bench.closings, ["sequence"]);
      yield* bench.settled();
      yield* bench.stop();
    })(),
  );
});

testWorlds("more immediate commands than there is room for are rejected", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator();
      bench.device.holding = true;
      for (let i = 0; i < 9; i++) initiator.command(rw10(0x28, i, 1), { read: 512, immediate: true });
      assert.equal((yield* initiator.expect(Opcode.REJECT)).header[2], RejectReason.TOO_MANY_IMMEDIATE);
      bench.device.release();
      for (let i = 0; i < 8; i++) yield* initiator.expect(Opcode.DATA_IN);
      yield* bench.settled();
      yield* bench.stop(initiator);
    })(),
  );
});

testWorlds("a task is aborted wherever it is, and the answer waits for the disk", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator({ InitialR2T: "Yes", ImmediateData: "No" });
      // Waiting for data: at once.
      const waiting = initiator.command(rw10(0x2a, 0, 8), { out: pattern(4096) });
      const r2t = yield* initiator.expect(Opcode.R2T);
      assert.equal(yield* initiator.manage(TaskFunction.ABORT_TASK, waiting), 0);
      yield* bench.settled();
      initiator.dataOut(waiting, r2t.u32(Field.TRANSFER_TAG), pattern(4096), 0, 4096); // nobody wants it any more
      assert.equal(yield* initiator.manage(TaskFunction.ABORT_TASK, waiting), 1, "there is no such task");
      // With the disk: when the disk is done.
      bench.device.holding = true;
      const running = initiator.command(rw10(0x28, 0, 8), { read: 4096 });
      yield () => bench.device.held.length === 1;
      initiator.pdu(Opcode.TASK_MANAGEMENT | IMMEDIATE, FINAL | TaskFunction.ABORT_TASK, {
        8: 1 << 16,
        16: 4711,
        20: running,
        24: initiator.cmdSN,
      });
      initiator.pdu(Opcode.NOP_OUT | IMMEDIATE, FINAL, { 16: 9, 20: NO_TAG, 24: initiator.cmdSN });
      yield* initiator.expect(Opcode.NOP_IN);
      assert.equal(initiator.received.length, 0);
      bench.device.release();
      assert.equal((yield* initiator.expect(Opcode.TASK_MANAGEMENT_RESPONSE)).u32(Field.TASK_TAG), 4711);
      yield* bench.settled();
      assert.equal((yield* initiator.scsi([0])).status, 0);
      yield* bench.stop(initiator);
    })(),
  );
});

testWorlds("task sets are cleared and the unit is reset for all initiators", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const a = yield* bench.initiator({}, A), b = yield* bench.initiator({}, B);
      bench.device.holding = true;
      a.command(rw10(0x28, 0, 1), { read: 512 });
      b.command(rw10(0x28, 0, 1), { read: 512 });
      yield () => bench.device.held.length === 2;
      let answer = -1;
      const clear = a.manage(TaskFunction.CLEAR_TASK_SET);
      const condition = clear.next().value as () => boolean;
      yield () => bench.frontend.sessions.every((s) => s.tasks.every((t) => t.state === 0 || t.aborted));
      bench.device.release();
      yield condition;
      answer = clear.next().value as number;
      assert.equal(answer, 0);
      assert.deepEqual(yield* b.clearAttentions(), [Asc.COMMANDS_CLEARED]);
      assert.deepEqual(yield* a.clearAttentions(), []);
      assert.equal(yield* a.manage(TaskFunction.LOGICAL_UNIT_RESET), 0);
      assert.deepEqual(yield* a.clearAttentions(), [Asc.BUS_DEVICE_RESET]);
      assert.deepEqual(yield* b.clearAttentions(), [Asc.BUS_DEVICE_RESET]);
      assert.equal(yield* a.manage(TaskFunction.LOGICAL_UNIT_RESET, NO_TAG, 5), 2, "no such unit");
      assert.equal(yield* a.manage(TaskFunction.TASK_REASSIGN), 4);
      assert.equal(yield* a.manage(TaskFunction.CLEAR_ACA), 5);
      assert.equal(yield* a.manage(TaskFunction.ABORT_TASK_SET), 0);
      assert.equal(yield* a.manage(TaskFunction.TARGET_WARM_RESET), 0);
      assert.equal(yield* a.manage(TaskFunction.TARGET_COLD_RESET), 0);
      yield () => a.closed && b.closed;
      assert.deepEqual(bench.closings, ["reset", "reset"]);
      yield* bench.settled();
      yield* bench.stop();
    })(),
  );
});

testWorlds("wrong Data-Out fails its command and nothing else", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator({ InitialR2T: "Yes", ImmediateData: "No" });
      const out = pattern(4096);
      for (const [dataSN, offset, length] of [[1, 0, 4096], [0, 512, 3584], [0, 0, 3584]]) {
        const tag = initiator.command(rw10(0x2a, 0, 8), { out });
        const r2t = yield* initiator.expect(Opcode.R2T);
        initiator.pdu(Opcode.DATA_OUT, FINAL, {
          8: 1 << 16,
          16: tag,
          20: r2t.u32(Field.TRANSFER_TAG),
          36: dataSN,
          40: offset,
        }, out.subarray(0, length));
        const failed = yield* initiator.finish(tag, {}, 1);
        assert.deepEqual([failed.status, failed.key], [2, 0xb], `${dataSN} ${offset} ${length}`);
      }
      // Unsolicited data that was not agreed on.
      const tag = initiator.command(rw10(0x2a, 0, 8), { out }, 4096);
      const failed = yield* initiator.finish(tag);
      assert.deepEqual([failed.key, failed.asc], [0xb, Asc.UNEXPECTED_UNSOLICITED_DATA]);
      yield* bench.settled();
      assert.equal(bench.memory.chunks, 0, "nothing was written");
      yield* bench.stop(initiator);
    })(),
  );
});

testWorlds("with little memory everything takes its turn and ends well", (io) => {
  // 1 MiB for 128 commands of 64 KiB from two initiators.
  const bench = new Bench(io, {}, 1024 * 1024);
  play(
    io,
    (function* () {
      const initiators = [
        yield* bench.initiator({ InitialR2T: "No" }, A),
        yield* bench.initiator({ InitialR2T: "Yes", ImmediateData: "No" }, B),
      ];
      const out = pattern(128 * 512);
      let busy = 0;
      for (const [n, initiator] of initiators.entries()) {
        const open = new Set<number>();
        for (let i = 0; i < 64; i++) {
          const write = i % 2 === 0;
          const cdb = rw10(write ? 0x2a : 0x28, (n * 64 + i) * 128, 128);
          open.add(initiator.command(cdb, write ? { out } : { read: out.length }, n === 0 ? 8192 : 0));
        }
        while (open.size > 0) {
          const pdu = yield* initiator.next();
          if (pdu.opcode === Opcode.R2T) {
            const from = pdu.u32(Field.BUFFER_OFFSET);
            const to = from + pdu.u32(Field.DESIRED_LENGTH);
            initiator.dataOut(pdu.u32(Field.TASK_TAG), pdu.u32(Field.TRANSFER_TAG), out, from, to);
          } else if (pdu.opcode === Opcode.SCSI_RESPONSE || pdu.flags & 1) {
            assert.ok(pdu.header[3] === 0 || pdu.header[3] === 8, `status ${pdu.header[3]}`);
            if (pdu.header[3] === 8) busy++;
            assert.ok(open.delete(pdu.u32(Field.TASK_TAG)));
          }
        }
      }
      assert.ok(busy < 64, "not everything is turned away");
      yield* bench.settled();
      yield* bench.stop(...initiators);
    })(),
  );
});

testWorlds("ORDERED tasks wait for those before them, and those after wait for them", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator();
      bench.device.holding = true;
      const read = (attribute: number): number =>
        initiator.command(rw10(0x28, 0, 1), { read: 512, attribute });
      const tags = [read(1), read(1), read(2), read(1)];
      const head = read(3);
      yield () => bench.device.held.length === 3; // two SIMPLE ones and HEAD OF QUEUE
      for (const go of bench.device.held.splice(0)) go();
      const first = new Set<number>();
      for (let i = 0; i < 3; i++) first.add((yield* initiator.expect(Opcode.DATA_IN)).u32(Field.TASK_TAG));
      assert.deepEqual(first, new Set([tags[0], tags[1], head]));
      yield () => bench.device.held.length === 1; // the ORDERED one alone
      for (const go of bench.device.held.splice(0)) go();
      assert.equal((yield* initiator.expect(Opcode.DATA_IN)).u32(Field.TASK_TAG), tags[2]);
      bench.device.release();
      yield () => initiator.received.length > 0 || bench.device.held.length > 0;
      bench.device.release();
      assert.equal((yield* initiator.expect(Opcode.DATA_IN)).u32(Field.TASK_TAG), tags[3]);
      yield* bench.stop(initiator);
    })(),
  );
});

testWorlds("a broken digest ends the connection", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const keys = { HeaderDigest: "CRC32C", DataDigest: "CRC32C" };
      const ping = { 16: 9, 20: NO_TAG, 24: 0 };
      const a = yield* bench.initiator(keys, A);
      a.pdu(Opcode.NOP_OUT | IMMEDIATE, FINAL, ping, pattern(10), "header digest");
      yield () => a.closed;
      const b = yield* bench.initiator(keys, B);
      b.pdu(Opcode.NOP_OUT | IMMEDIATE, FINAL, ping, pattern(10), "data digest");
      yield () => b.closed;
      const c = yield* bench.initiator(keys, A);
      c.pdu(
        Opcode.SCSI_COMMAND,
        FINAL | 0x21,
        { 8: 1 << 16, 16: 5, 20: 512, 24: c.cmdSN, 32: 0x2a000000, 36: 0, 40: 1 << 24 },
        pattern(512),
        "data digest",
      );
      yield () => c.closed;
      assert.deepEqual(bench.closings, ["digest", "digest", "digest"]);
      assert.equal(bench.memory.chunks, 0, "nothing was written");
      yield* bench.settled();
      yield* bench.stop();
    })(),
  );
});
