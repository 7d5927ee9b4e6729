import assert from "node:assert/strict";
import { IoError } from "../../io/errno.ts";
import { testWorlds } from "../../io/test_kit.ts";
import { SettingError } from "./errors.ts";
import { Field, FINAL, IMMEDIATE, NO_TAG, Opcode, RejectReason } from "./pdu.ts";
import { IscsiFrontend, type IscsiOptions, targetNameOf } from "./target.ts";
import { Bench, Initiator, pattern, play, rw10, TARGET } from "./test_kit.ts";

testWorlds("what is written comes back, whatever way of sending was agreed on", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      let seed = 0;
      for (const ImmediateData of ["Yes", "No"]) {
        for (const InitialR2T of ["Yes", "No"]) {
          for (const digest of ["None", "CRC32C"]) {
            for (const burst of ["8192", "262144"]) {
              const initiator = yield* bench.initiator({
                ImmediateData,
                InitialR2T,
                HeaderDigest: digest,
                DataDigest: digest,
                MaxBurstLength: burst,
                FirstBurstLength: burst === "8192" ? "4096" : "65536",
                MaxRecvDataSegmentLength: burst === "8192" ? "512" : "262144",
              });
              const written = pattern(300 * 512, ++seed);
              const write = yield* initiator.scsi(rw10(0x2a, 8, 300), { out: written });
              assert.equal(write.status, 0);
              const read = yield* initiator.scsi(rw10(0x28, 8, 300), { read: written.length });
              assert.deepEqual(read.data, written, `${ImmediateData} ${InitialR2T} ${digest} ${burst}`);
              initiator.stream.close();
              yield () => initiator.closed;
            }
          }
        }
      }
      yield* bench.settled();
      yield* bench.stop();
    })(),
  );
});

testWorlds("a discovery session learns the target and its portal, and nothing else works in it", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* Initiator.connect(io, bench.frontend.port);
      const login = yield* initiator.login({ MaxBurstLength: "512" }, "Discovery");
      assert.equal(login.text.get("MaxBurstLength"), "Irrelevant");
      const send = (text: string): void =>
        initiator.pdu(
          Opcode.TEXT | IMMEDIATE,
          FINAL,
          { 16: 9, 20: NO_TAG, 24: initiator.cmdSN },
          new TextEncoder().encode(text),
        );
      send("SendTargets=All\0");
      const all = yield* initiator.expect(Opcode.TEXT_RESPONSE);
      assert.deepEqual([...all.text], [["TargetName", TARGET], [
        "TargetAddress",
        `127.0.0.1:${bench.frontend.port},1`,
      ]]);
      send("SendTargets=iqn.2000-01.com.example:other\0");
      assert.equal((yield* initiator.expect(Opcode.TEXT_RESPONSE)).data.length, 0);
      send("X-com.example.strange=1\0MaxBurstLength=512\0");
      const late = yield* initiator.expect(Opcode.TEXT_RESPONSE);
      assert.deepEqual([...late.text], [["X-com.example.strange", "NotUnderstood"], [
        "MaxBurstLength",
        "Reject",
      ]]);
      initiator.command([0]);
      assert.equal((yield* initiator.expect(Opcode.REJECT)).header[2], RejectReason.PROTOCOL_ERROR);
      yield* bench.stop(initiator);
    })(),
  );
});

testWorlds("text goes on over several requests, and SendTargets works in a normal session", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator();
      const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
      initiator.pdu(
        Opcode.TEXT | IMMEDIATE,
        0x40,
        { 16: 9, 20: NO_TAG, 24: initiator.cmdSN },
        bytes("SendTar"),
      );
      const first = yield* initiator.expect(Opcode.TEXT_RESPONSE);
      assert.equal(first.flags, 0);
      const tag = first.u32(Field.TRANSFER_TAG);
      assert.notEqual(tag, NO_TAG);
      initiator.pdu(
        Opcode.TEXT | IMMEDIATE,
        FINAL,
        { 16: 9, 20: tag, 24: initiator.cmdSN },
        bytes("gets=\0"),
      );
      const second = yield* initiator.expect(Opcode.TEXT_RESPONSE);
      assert.equal(second.text.get("TargetName"), TARGET);
      yield* bench.stop(initiator);
    })(),
  );
});

testWorlds("other logical units say that they are not there; REPORT LUNS and INQUIRY answer on all", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator();
      for (const lun of [0, 2, 0x4001 & 0x3fff | 0x4000]) {
        const expectOurs = lun === 0x4001; // flat space addressing of 1
        const inquiry = yield* initiator.scsi([0x12, 0, 0, 0, 96, 0], { read: 96, lun });
        assert.equal(inquiry.data[0], expectOurs ? 0 : 0x7f);
        const ready = yield* initiator.scsi([0], { lun });
        assert.deepEqual([ready.status, ready.key, ready.asc], expectOurs ? [0, 0, 0] : [2, 5, 0x2500]);
        const luns = yield* initiator.scsi([0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], { read: 16, lun });
        assert.deepEqual([...luns.data], [0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        const sense = yield* initiator.scsi([3, 0, 0, 0, 18, 0], { read: 18, lun });
        assert.deepEqual([sense.data[2], sense.data[12]], expectOurs ? [0, 0] : [5, 0x25]);
      }
      yield* bench.stop(initiator);
    })(),
  );
});

testWorlds("a ping is answered with its data, and a silent initiator is asked and then given up", (io) => {
  const bench = new Bench(io, { timing: { pingMs: 300 } });
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator();
      const data = pattern(333);
      initiator.pdu(Opcode.NOP_OUT | IMMEDIATE, FINAL, {
        8: 1 << 16,
        16: 77,
        20: NO_TAG,
        24: initiator.cmdSN,
      }, data);
      let pong = yield* initiator.next();
      while (pong.u32(Field.TASK_TAG) === NO_TAG) pong = yield* initiator.next(); // their pings may come first
      assert.equal(pong.opcode, Opcode.NOP_IN);
      assert.deepEqual(pong.data, data);
      const asked = yield* initiator.next();
      assert.deepEqual([asked.opcode, asked.u32(Field.TASK_TAG)], [Opcode.NOP_IN, NO_TAG]);
      assert.notEqual(asked.u32(Field.TRANSFER_TAG), NO_TAG);
      yield () => initiator.closed;
      assert.deepEqual(bench.closings, ["timeout"]);
      yield* bench.stop();
    })(),
  );
});

testWorlds("who does not log in in time is given up", (io) => {
  const bench = new Bench(io, { timing: { loginMs: 30 } });
  play(
    io,
    (function* () {
      const initiator = yield* Initiator.connect(io, bench.frontend.port);
      yield () => initiator.closed;
      assert.deepEqual(bench.closings, ["timeout"]);
      yield* bench.stop();
    })(),
  );
});

testWorlds("who is not let in is told nothing, and the reason is in the log", (io) => {
  let answer = "a stranger";
  const bench = new Bench(io, { admit: () => answer });
  play(
    io,
    (function* () {
      const stranger = yield* Initiator.connect(io, bench.frontend.port);
      yield () => stranger.closed;
      assert.equal(bench.events.at(-1)?.kind, "refused");
      assert.equal(bench.events.at(-1)?.message, "a stranger");
      answer = "";
      const friend = yield* bench.initiator();
      assert.equal((yield* friend.scsi(rw10(0x28, 0, 1), { read: 512 })).status, 0);
      yield* bench.stop();
    })(),
  );
});

testWorlds("more connections than allowed are refused, the others go on", (io) => {
  const bench = new Bench(io, { maxConnections: 2 });
  play(
    io,
    (function* () {
      const a = yield* bench.initiator({}, "iqn.2001-04.com.example:a");
      const b = yield* bench.initiator({}, "iqn.2001-04.com.example:b");
      const c = yield* Initiator.connect(io, bench.frontend.port);
      yield () => c.closed;
      assert.equal(bench.events.at(-1)?.kind, "refused");
      assert.equal((yield* a.scsi([0])).status, 0);
      b.stream.close();
      yield () => b.closed && bench.frontend.sessions.length === 1;
      const d = yield* bench.initiator({}, "iqn.2001-04.com.example:d");
      assert.equal((yield* d.scsi([0])).status, 0);
      yield* bench.stop(a, d);
    })(),
  );
});

testWorlds("stopping asks to log out, waits for that, and tells when it is done", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator();
      let stopped = false;
      bench.frontend.stop(() => void (stopped = true));
      const request = yield* initiator.expect(Opcode.ASYNC);
      assert.deepEqual([request.header[36], request.u16(42)], [1, 3]);
      assert.equal((yield* initiator.scsi([0])).status, 0, "it is served until it logs out");
      initiator.pdu(Opcode.LOGOUT | IMMEDIATE, FINAL, { 16: 5, 20: 5 << 16, 24: initiator.cmdSN });
      assert.equal((yield* initiator.expect(Opcode.LOGOUT_RESPONSE)).header[2], 0);
      yield () => initiator.closed && stopped;
      assert.deepEqual(bench.closings, ["logout"]);
    })(),
  );
});

testWorlds("stopping does not wait for ever", (io) => {
  const bench = new Bench(io, { timing: { farewellMs: 30 } });
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator();
      const waiting = yield* Initiator.connect(io, bench.frontend.port);
      let stopped = false;
      bench.frontend.stop(() => void (stopped = true));
      yield () => stopped && initiator.closed && waiting.closed;
      assert.deepEqual(bench.closings, ["stopping", "stopping"]);
    })(),
  );
});

testWorlds("logging out of another connection or for recovery is answered, and the session goes on", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiator = yield* bench.initiator();
      const logout = (reason: number, cid: number): void =>
        initiator.pdu(Opcode.LOGOUT | IMMEDIATE, FINAL | reason, {
          16: 5,
          20: cid << 16,
          24: initiator.cmdSN,
        });
      logout(1, 6);
      assert.equal((yield* initiator.expect(Opcode.LOGOUT_RESPONSE)).header[2], 1, "no such CID");
      logout(2, 5);
      assert.equal((yield* initiator.expect(Opcode.LOGOUT_RESPONSE)).header[2], 2, "no recovery");
      logout(9, 5);
      assert.equal((yield* initiator.expect(Opcode.REJECT)).header[2], RejectReason.PROTOCOL_ERROR);
      initiator.pdu(Opcode.SNACK, FINAL, { 16: 5 });
      assert.equal((yield* initiator.expect(Opcode.REJECT)).header[2], RejectReason.SNACK);
      initiator.pdu(0x1c, FINAL, { 16: 5 });
      const reject = yield* initiator.expect(Opcode.REJECT);
      assert.deepEqual([reject.header[2], reject.data[0]], [RejectReason.NOT_SUPPORTED, 0x1c]);
      assert.equal((yield* initiator.scsi([0])).status, 0);
      yield* bench.stop(initiator);
    })(),
  );
});

testWorlds("settings that cannot work and a taken port are refused, and nothing is lost by it", (io) => {
  const bench = new Bench(io);
  const free = bench.pool.free;
  const make = (options: Partial<IscsiOptions>): IscsiFrontend =>
    new IscsiFrontend(io, bench.pool, bench.memory, {
      address: { kind: "tcp", host: "127.0.0.1", port: bench.frontend.port },
      targetName: TARGET,
      ...options,
    });
  assert.throws(() => make({}), IoError);
  assert.throws(() => make({ lun: 16_384 }), SettingError);
  assert.throws(() => make({ targetName: "disk 1" }), SettingError);
  assert.throws(() => make({ chap: { user: "u", secret: "" } }), SettingError);
  assert.equal(bench.pool.free, free);
  assert.equal(targetNameOf("my_vol-1"), "iqn.2019-10.io.longhorn:my:vol-1");
  play(io, bench.stop());
});
