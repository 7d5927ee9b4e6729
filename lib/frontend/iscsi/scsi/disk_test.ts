import assert from "node:assert/strict";
import { Errno } from "../../../io/errno.ts";
import { testWorlds } from "../../../io/test_kit.ts";
import { Opcode, OVERFLOW, TaskFunction, UNDERFLOW } from "../pdu.ts";
import {
  Bench,
  DISK_BYTES,
  type Initiator,
  pattern,
  play,
  type Result,
  rw10,
  type Script,
} from "../test_kit.ts";
import { Asc, Key, Status } from "./sense.ts";

const A = "iqn.2001-04.com.example:a", B = "iqn.2001-04.com.example:b";
const LAST = DISK_BYTES / 512 - 1;

function bytes32(n: number): number[] {
  return [n >>> 24, n >>> 16 & 255, n >>> 8 & 255, n & 255];
}
function cdb16(opcode: number, flags: number, lba: number, blocks: number): number[] {
  return [opcode, flags, 0, 0, 0, 0, ...bytes32(lba), ...bytes32(blocks), 0, 0];
}
function failure(result: Result): [number, number, number] {
  return [result.status, result.key, result.asc];
}
const illegal = (asc: number): [number, number, number] => [2, Key.ILLEGAL_REQUEST, asc];

/** One initiator, one script, everything back afterwards. */
function diskTest(name: string, script: (i: Initiator, bench: Bench) => Script): void {
  testWorlds(name, (io) => {
    const bench = new Bench(io);
    play(
      io,
      (function* () {
        const initiator = yield* bench.initiator();
        yield* script(initiator, bench);
        yield* bench.settled();
        yield* bench.stop(initiator);
      })(),
    );
  });
}

diskTest("READ and WRITE of all lengths of CDB mean the same blocks", function* (i) {
  const cdbs = {
    6: (
      opcode: number,
      lba: number,
      n: number,
    ): number[] => [opcode, lba >> 16, lba >> 8 & 255, lba & 255, n, 0],
    10: (opcode: number, lba: number, n: number): number[] => [opcode, 0, ...bytes32(lba), 0, 0, n, 0],
    12: (
      opcode: number,
      lba: number,
      n: number,
    ): number[] => [opcode, 0, ...bytes32(lba), ...bytes32(n), 0, 0],
    16: (opcode: number, lba: number, n: number): number[] => cdb16(opcode, 0, lba, n),
  };
  const writes = [
    cdbs[6](0x0a, 100, 3),
    cdbs[10](0x2a, 200, 3),
    cdbs[12](0xaa, 300, 3),
    cdbs[16](0x8a, 400, 3),
  ];
  for (const [n, cdb] of writes.entries()) {
    assert.equal((yield* i.scsi(cdb, { out: pattern(1536, n) })).status, 0);
  }
  const reads = [
    cdbs[16](0x88, 100, 3),
    cdbs[6](0x08, 200, 3),
    cdbs[10](0x28, 300, 3),
    cdbs[12](0xa8, 400, 3),
  ];
  for (const [n, cdb] of reads.entries()) {
    assert.deepEqual((yield* i.scsi(cdb, { read: 1536 })).data, pattern(1536, n));
  }
});

diskTest("addresses and lengths are checked", function* (i) {
  assert.equal((yield* i.scsi(rw10(0x28, LAST, 1), { read: 512 })).status, 0);
  for (const [lba, n] of [[LAST, 2], [LAST + 1, 1], [LAST + 2, 0], [0xffffffff, 1]]) {
    const read = yield* i.scsi(rw10(0x28, lba, n), { read: 1024 });
    assert.deepEqual(failure(read), illegal(Asc.LBA_OUT_OF_RANGE), `${lba} ${n}`);
    assert.deepEqual([read.flags & UNDERFLOW, read.residual], [UNDERFLOW, 1024]);
  }
  const far = [0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0];
  assert.deepEqual(failure(yield* i.scsi(far, { read: 512 })), illegal(Asc.LBA_OUT_OF_RANGE));
  const long = yield* i.scsi(cdb16(0x88, 0, 0, 8193), { read: 512 });
  assert.deepEqual(failure(long), illegal(Asc.INVALID_FIELD_IN_CDB));
  assert.deepEqual([...long.sense.subarray(15, 18)], [0xc0, 0, 10], "the field pointer names the length");
  assert.deepEqual(
    failure(yield* i.scsi(cdb16(0x88, 0xe0, 0, 1), { read: 512 })),
    illegal(Asc.INVALID_FIELD_IN_CDB),
  );
  assert.deepEqual(failure(yield* i.scsi([0x00, 0, 0, 0, 0, 4])), illegal(Asc.INVALID_FIELD_IN_CDB), "NACA");
  assert.deepEqual(failure(yield* i.scsi([0x04, 0, 0, 0, 0, 0])), illegal(Asc.INVALID_OPCODE), "FORMAT UNIT");
  assert.deepEqual(failure(yield* i.scsi([0x9e, 0x1f])), illegal(Asc.INVALID_FIELD_IN_CDB), "service action");
});

diskTest(
  "residuals tell what was more or less than expected, and writes stop at what was sent",
  function* (i, bench) {
    const short = yield* i.scsi(rw10(0x28, 0, 2), { read: 512 });
    assert.deepEqual([short.status, short.data.length, short.flags & OVERFLOW, short.residual], [
      0,
      512,
      OVERFLOW,
      512,
    ]);
    const roomy = yield* i.scsi(rw10(0x28, 0, 1), { read: 2048 });
    assert.deepEqual([roomy.data.length, roomy.flags & UNDERFLOW, roomy.residual], [512, UNDERFLOW, 1536]);
    const write = yield* i.scsi(rw10(0x2a, 0, 4), { out: pattern(1024) });
    assert.deepEqual([write.status, write.flags & OVERFLOW, write.residual], [0, OVERFLOW, 1024]);
    const read = yield* i.scsi(rw10(0x28, 0, 4), { read: 2048 });
    assert.deepEqual(read.data, new Uint8Array([...pattern(1024), ...new Uint8Array(1024)]));
    const part = yield* i.scsi(rw10(0x2a, 0, 1), { out: pattern(100) });
    assert.deepEqual(failure(part), illegal(Asc.INVALID_FIELD_IN_INFORMATION_UNIT));
    assert.equal((yield* i.scsi(rw10(0x28, 0, 1))).residual, 512, "nothing is read for nobody");
    assert.equal(bench.pool.free, bench.free);
  },
);

diskTest("errors of the disk become sense data", function* (i, bench) {
  const out = pattern(512);
  const cases: [number, boolean, number, number][] = [
    [Errno.EIO, false, Key.MEDIUM_ERROR, Asc.UNRECOVERED_READ_ERROR],
    [Errno.EIO, true, Key.MEDIUM_ERROR, Asc.WRITE_ERROR],
    [Errno.ENOSPC, true, Key.DATA_PROTECT, Asc.SPACE_ALLOCATION_FAILED],
    [Errno.EROFS, true, Key.DATA_PROTECT, Asc.WRITE_PROTECTED],
    [Errno.ENODEV, true, Key.HARDWARE_ERROR, Asc.INTERNAL_TARGET_FAILURE],
  ];
  for (const [errno, write, senseKey, asc] of cases) {
    bench.memory.failAt = { offset: 7 * 512, result: -errno };
    const result = yield* i.scsi(rw10(write ? 0x2a : 0x28, 7, 1), write ? { out } : { read: 512 });
    assert.deepEqual(failure(result), [2, senseKey, asc]);
    if (errno === Errno.EIO) {
      assert.deepEqual([result.sense[0] & 0x80, result.sense[6]], [0x80, 7], "the block");
    }
  }
  bench.memory.failAt = undefined;
});

diskTest("FUA, a switched off cache and SYNCHRONIZE CACHE reach the disk", function* (i, bench) {
  const out = pattern(512), count = (): number => bench.memory.flushes;
  yield* i.scsi(rw10(0x2a, 0, 1), { out });
  assert.equal(count(), 0);
  yield* i.scsi(rw10(0x2a, 0, 1, 0x08), { out });
  assert.equal(count(), 1);
  yield* i.scsi([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(count(), 2);
  const page = [0, 0, 0, 0, 0x08, 0x12, 0, ...new Array(17).fill(0)];
  assert.equal((yield* i.scsi([0x15, 0x10, 0, 0, page.length, 0], { out: Uint8Array.from(page) })).status, 0);
  yield* i.scsi(rw10(0x2a, 0, 1), { out });
  assert.equal(count(), 3);
  const sense = yield* i.scsi([0x1a, 8, 8, 0, 255, 0], { read: 255 });
  assert.equal(sense.data[6] & 4, 0, "WCE");
  yield* i.manage(TaskFunction.LOGICAL_UNIT_RESET);
  yield* i.clearAttentions();
  assert.equal((yield* i.scsi([0x1a, 8, 8, 0, 255, 0], { read: 255 })).data[6] & 4, 4, "the default is back");
});

diskTest("the disk says what it is", function* (i) {
  const standard = (yield* i.scsi([0x12, 0, 0, 0, 255, 0], { read: 255 })).data;
  assert.equal(String.fromCharCode(...standard.subarray(8, 32)), "DROVER  VIRTUAL-DISK    ");
  assert.equal(standard.length, standard[4] + 5);
  const page = function* (code: number): Script<Uint8Array> {
    const { data } = yield* i.scsi([0x12, 1, code, 2, 0, 0], { read: 512 });
    assert.deepEqual([data[1], (data[2] << 8 | data[3]) + 4], [code, data.length]);
    return data;
  };
  for (const code of (yield* page(0)).subarray(4)) yield* page(code);
  const ids = yield* page(0x83);
  assert.deepEqual([ids[4] & 15, ids[5], ids[7], ids[8] >> 4], [1, 3, 16, 6], "NAA 6 comes first");
  const limits = yield* page(0xb0), view = new DataView(limits.buffer, limits.byteOffset);
  assert.deepEqual([limits[5], view.getUint16(6), view.getUint32(8)], [128, 8, 8192]);
  const capacity = (yield* i.scsi(cdb16(0x9e, 0x10, 0, 32), { read: 32 })).data;
  assert.deepEqual([...capacity.subarray(4, 15)], [...bytes32(LAST), 0, 0, 2, 0, 0, 3, 0xc0]);
  assert.deepEqual([...(yield* i.scsi([0x25], { read: 8 })).data], [...bytes32(LAST), 0, 0, 2, 0]);
  assert.deepEqual(
    failure(yield* i.scsi([0x12, 1, 0x99, 0, 255, 0], { read: 255 })),
    illegal(Asc.INVALID_FIELD_IN_CDB),
  );
  assert.deepEqual(
    failure(yield* i.scsi([0x12, 0, 0x80, 0, 255, 0], { read: 255 })),
    illegal(Asc.INVALID_FIELD_IN_CDB),
  );
});

diskTest("every command is reported, and each alone as in the list", function* (i) {
  const all = (yield* i.scsi([0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 0x20, 0, 0, 0], { read: 8192 })).data;
  const view = new DataView(all.buffer, all.byteOffset, all.length);
  assert.equal(view.getUint32(0) + 4, all.length);
  let count = 0;
  for (let at = 4; at < all.length; at += 20, count++) {
    const hasAction = (all[at + 5] & 1) === 1, bytes = view.getUint16(at + 6);
    const cdb = [0xa3, 0x0c, hasAction ? 2 : 1, all[at], all[at + 2], all[at + 3], 0, 0, 1, 0, 0, 0];
    const one = (yield* i.scsi(cdb, { read: 256 })).data;
    assert.deepEqual([one[1] & 7, one[2] << 8 | one[3], one[4]], [3, bytes, all[at]]);
    assert.equal(one.length, 4 + bytes);
  }
  assert.ok(count > 50);
  const none = (yield* i.scsi([0xa3, 0x0c, 1, 0x04, 0, 0, 0, 0, 1, 0, 0, 0], { read: 256 })).data;
  assert.equal(none[1] & 7, 1);
  const functions = (yield* i.scsi([0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0], { read: 4 })).data;
  assert.equal(functions[0], 0xda);
});

diskTest("unmapped blocks read as zeros and their memory is free", function* (i, bench) {
  yield* i.scsi(rw10(0x2a, 0, 256), { out: pattern(131_072) });
  assert.equal(bench.memory.chunks, 2);
  const list = new Uint8Array(8 + 32);
  list.set([0, 38, 0, 32], 0);
  list.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128], 8);
  list.set([0, 0, 0, 0, 0, 0, 0, 130, 0, 0, 0, 2], 24);
  const unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, list.length, 0];
  assert.equal((yield* i.scsi(unmap, { out: list })).status, 0);
  assert.equal(bench.memory.chunks, 1);
  const expected = pattern(131_072);
  expected.fill(0, 0, 65_536).fill(0, 130 * 512, 132 * 512);
  assert.deepEqual((yield* i.scsi(rw10(0x28, 0, 256), { read: 131_072 })).data, expected);
  list.set(bytes32(LAST + 1), 28);
  assert.deepEqual(failure(yield* i.scsi(unmap, { out: list })), illegal(Asc.LBA_OUT_OF_RANGE));
  assert.deepEqual(
    failure(yield* i.scsi(unmap, { out: list.subarray(0, 20) })),
    illegal(Asc.PARAMETER_LIST_LENGTH),
  );
  const status = (yield* i.scsi(cdb16(0x9e, 0x12, 5, 24), { read: 24 })).data;
  assert.deepEqual([...status.subarray(8, 20)], [0, 0, 0, 0, 0, 0, 0, 5, ...bytes32(LAST + 1 - 5)]);
});

diskTest("WRITE SAME repeats a block, zeroes and unmaps", function* (i, bench) {
  const block = pattern(512);
  assert.equal((yield* i.scsi(cdb16(0x93, 0, 8, 1000), { out: block })).status, 0);
  const read = (yield* i.scsi(rw10(0x28, 7, 1002), { read: 1002 * 512 })).data;
  for (let b = 1; b <= 1000; b++) assert.deepEqual(read.subarray(b * 512, b * 512 + 512), block);
  assert.ok(read.subarray(0, 512).every((x) => x === 0) && read.subarray(1001 * 512).every((x) => x === 0));
  assert.equal((yield* i.scsi(cdb16(0x93, 0x08, 0, 1024), { out: new Uint8Array(512) })).status, 0);
  assert.equal(bench.memory.chunks, 0);
  assert.equal(
    (yield* i.scsi(cdb16(0x93, 0x08, 0, 8), { out: block })).status,
    0,
    "a pattern cannot be unmapped",
  );
  assert.deepEqual((yield* i.scsi(rw10(0x28, 0, 1), { read: 512 })).data, block);
  assert.equal((yield* i.scsi(cdb16(0x93, 0x09, 0, 128))).status, 0, "NDOB");
  assert.equal(bench.memory.chunks, 0);
  for (const cdb of [cdb16(0x93, 0x18, 0, 8), cdb16(0x93, 0, 0, 0), cdb16(0x93, 0, 0, 32_769)]) {
    assert.deepEqual(failure(yield* i.scsi(cdb, { out: block })), illegal(Asc.INVALID_FIELD_IN_CDB));
  }
});

diskTest("VERIFY and WRITE AND VERIFY compare, and tell where they differ", function* (i, bench) {
  const data = pattern(1000 * 512);
  assert.equal((yield* i.scsi([0x2e, 0x02, 0, 0, 0, 0, 0, 3, 0xe8, 0], { out: data })).status, 0);
  assert.equal(bench.memory.flushes, 1);
  const verify = (check: number): number[] => [0x2f, check << 1, 0, 0, 0, 0, 0, 3, 0xe8, 0];
  assert.equal((yield* i.scsi(verify(1), { out: data })).status, 0);
  assert.equal((yield* i.scsi(verify(0))).status, 0);
  data[700_00] ^= 1;
  const differs = yield* i.scsi(verify(1), { out: data });
  assert.deepEqual(failure(differs), [2, Key.MISCOMPARE, Asc.MISCOMPARE]);
  assert.equal(new DataView(differs.sense.buffer, differs.sense.byteOffset).getUint32(3), 70_000);
  yield* i.scsi(cdb16(0x93, 0, 0, 1000), { out: data.subarray(0, 512) });
  assert.equal((yield* i.scsi(verify(3), { out: data.subarray(0, 512) })).status, 0);
  assert.equal((yield* i.scsi(verify(3), { out: data.subarray(512, 1024) })).key, Key.MISCOMPARE);
  assert.deepEqual(failure(yield* i.scsi(verify(2), { out: data })), illegal(Asc.INVALID_FIELD_IN_CDB));
});

diskTest("COMPARE AND WRITE and ORWRITE", function* (i) {
  const old = pattern(1024, 1), fresh = pattern(1024, 2);
  yield* i.scsi(rw10(0x2a, 4, 2), { out: old });
  const cas = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0];
  assert.equal((yield* i.scsi(cas, { out: new Uint8Array([...old, ...fresh]) })).status, 0);
  const again = yield* i.scsi(cas, { out: new Uint8Array([...old, ...fresh]) });
  assert.deepEqual(failure(again), [2, Key.MISCOMPARE, Asc.MISCOMPARE]);
  assert.deepEqual((yield* i.scsi(rw10(0x28, 4, 2), { read: 1024 })).data, fresh);
  assert.equal((yield* i.scsi(cdb16(0x8b, 0, 4, 2), { out: old })).status, 0);
  assert.deepEqual((yield* i.scsi(rw10(0x28, 4, 2), { read: 1024 })).data, fresh.map((x, n) => x | old[n]));
});

testWorlds("of many that compare and write the same block at once, each round one wins", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const initiators = [yield* bench.initiator({}, A), yield* bench.initiator({}, B)];
      const value = (n: number): Uint8Array => new Uint8Array(512).fill(n);
      const cas = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0];
      for (let round = 0; round < 5; round++) {
        const open: [Initiator, number][] = [];
        for (let n = 0; n < 20; n++) {
          const initiator = initiators[n % 2] as Initiator;
          const out = new Uint8Array([...value(round), ...value(round + 1)]);
          open.push([initiator, initiator.command(cas, { out }, 1024)]);
          // Others touch the block meanwhile; they must not come between.
          if (n % 5 === 0) open.push([initiator, initiator.command(rw10(0x28, 8, 4), { read: 2048 })]);
        }
        let wins = 0, losses = 0;
        for (const initiator of initiators) {
          for (const _ of open.filter(([i]) => i === initiator)) {
            const pdu = yield* initiator.next();
            if (pdu.opcode === Opcode.DATA_IN) assert.ok([round, round + 1].includes(pdu.data[512]));
            else if (pdu.header[3] === Status.GOOD) wins++;
            else losses++;
          }
        }
        assert.deepEqual([wins, losses], [1, 19]);
      }
      yield* bench.settled();
      yield* bench.stop(...initiators);
    })(),
  );
});

testWorlds("a grown disk tells every initiator once", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const a = yield* bench.initiator({}, A), b = yield* bench.initiator({}, B);
      bench.memory.resize(2 * DISK_BYTES);
      for (const initiator of [a, b]) {
        const inquiry = yield* initiator.scsi([0x12, 0, 0, 0, 96, 0], { read: 96 });
        assert.equal(inquiry.status, 0, "INQUIRY passes a unit attention");
        assert.deepEqual(yield* initiator.clearAttentions(), [Asc.CAPACITY_CHANGED]);
        assert.deepEqual(
          [...(yield* initiator.scsi([0x25], { read: 8 })).data].slice(0, 4),
          bytes32(2 * LAST + 1),
        );
      }
      bench.memory.resize(3 * DISK_BYTES);
      const sense = (yield* a.scsi([3, 0, 0, 0, 252, 0], { read: 252 })).data;
      assert.deepEqual([sense[2], sense[12] << 8 | sense[13]], [Key.UNIT_ATTENTION, Asc.CAPACITY_CHANGED]);
      assert.deepEqual(yield* a.clearAttentions(), [], "REQUEST SENSE took it");
      yield* bench.stop(a, b);
    })(),
  );
});

testWorlds("mode pages: changes are checked, taken over, and told to the others", (io) => {
  const bench = new Bench(io);
  play(
    io,
    (function* () {
      const a = yield* bench.initiator({}, A), b = yield* bench.initiator({}, B);
      const all = (yield* a.scsi([0x5a, 0x10, 0x3f, 0, 0, 0, 0, 1, 0, 0], { read: 256 })).data;
      assert.equal((all[0] << 8 | all[1]) + 2, all.length);
      assert.deepEqual([all[3] & 0x10, all[4], all[7]], [0x10, 1, 16], "DPOFUA, a long block descriptor");
      const control = (d: number, swp: number): Uint8Array =>
        Uint8Array.from([0, 0, 0, 0, 0x0a, 0x0a, d, 0x10, swp, 0, 0, 0, 0xff, 0xff, 0, 0]);
      const select = [0x15, 0x10, 0, 0, 16, 0];
      assert.equal((yield* a.scsi(select, { out: control(4, 8) })).status, 0);
      assert.deepEqual(yield* b.clearAttentions(), [Asc.MODE_PARAMETERS_CHANGED]);
      const refused = yield* b.scsi(rw10(0x2a, 0, 1), { out: pattern(512) });
      assert.deepEqual(failure(refused), [2, Key.DATA_PROTECT, Asc.WRITE_PROTECTED]);
      assert.equal(refused.sense[0], 0x72, "descriptor format");
      const far = yield* b.scsi(rw10(0x28, 0xfffffff0, 1), { read: 512 });
      assert.deepEqual([far.asc, far.sense[8], far.sense[9]], [Asc.LBA_OUT_OF_RANGE, 0, 0x0a]);
      const wrong = control(0, 0);
      wrong[7] = 0x20;
      assert.deepEqual(
        failure(yield* a.scsi(select, { out: wrong })),
        illegal(Asc.INVALID_FIELD_IN_PARAMETERS),
      );
      assert.deepEqual(
        failure(yield* a.scsi([0x15, 0x11, 0, 0, 16, 0], { out: wrong })),
        illegal(Asc.INVALID_FIELD_IN_CDB),
      );
      assert.deepEqual(
        failure(yield* a.scsi(select, { out: wrong.subarray(0, 9) })),
        illegal(Asc.PARAMETER_LIST_LENGTH),
      );
      assert.deepEqual(
        failure(yield* a.scsi([0x1a, 0, 0xff, 0, 255, 0], { read: 255 })),
        illegal(Asc.SAVING_NOT_SUPPORTED),
      );
      assert.equal((yield* a.scsi(select, { out: control(0, 0) })).status, 0);
      assert.equal((yield* a.scsi(rw10(0x2a, 0, 1), { out: pattern(512) })).status, 0);
      yield* bench.stop(a, b);
    })(),
  );
});
