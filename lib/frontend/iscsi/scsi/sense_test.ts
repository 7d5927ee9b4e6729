import assert from "node:assert/strict";
import fc from "fast-check";
import { Identity } from "./identity.ts";
import { Nexus } from "./nexus.ts";
import { Asc, Key, MAX_SENSE_BYTES, NOTHING, writeSense } from "./sense.ts";

const sense = fc.record({
  senseKey: fc.nat(15),
  asc: fc.nat(0xffff),
  information: fc.oneof(fc.constant(NOTHING), fc.maxSafeNat()),
  field: fc.oneof(fc.constant(NOTHING), fc.nat(0xffff)),
});

Deno.test("sense data says the same in both formats, and its length is right", () => {
  fc.assert(fc.property(sense, (s) => {
    const u8 = new Uint8Array(64).fill(0xaa), view = new DataView(u8.buffer);
    assert.equal(writeSense(u8, 4, s, false), 18);
    assert.deepEqual([u8[4] & 0x7f, u8[6], u8[16] << 8 | u8[17], u8[11]], [0x70, s.senseKey, s.asc, 10]);
    assert.equal((u8[4] & 0x80) !== 0, s.information >= 0 && s.information <= 0xffffffff);
    if (u8[4] & 0x80) assert.equal(view.getUint32(7), s.information);
    const length = writeSense(u8, 4, s, true);
    assert.ok(length <= MAX_SENSE_BYTES && u8[11] === length - 8);
    assert.deepEqual([u8[4], u8[5], u8[6] << 8 | u8[7]], [0x72, s.senseKey, s.asc]);
    if (s.information >= 0) assert.equal(Number(view.getBigUint64(16)), s.information);
    assert.ok(
      u8.subarray(0, 4).every((x) => x === 0xaa) && u8.subarray(4 + MAX_SENSE_BYTES).every((x) => x === 0xaa),
    );
  }));
});

Deno.test("the field pointer says whether the CDB or the parameter list is meant", () => {
  const u8 = new Uint8Array(64);
  const write = (asc: number): number => {
    writeSense(u8, 0, { senseKey: Key.ILLEGAL_REQUEST, asc, information: NOTHING, field: 2 }, false);
    return u8[15];
  };
  assert.deepEqual([write(Asc.INVALID_FIELD_IN_CDB), write(Asc.INVALID_FIELD_IN_PARAMETERS)], [0xc0, 0x80]);
});

Deno.test("unit attentions are reported once, resets first, and one for all of them", () => {
  const nexus = new Nexus("iqn.x:A", "0123456789ab");
  assert.equal(nexus.port, "iqn.x:a,i,0x0123456789ab");
  for (const asc of [Asc.CAPACITY_CHANGED, Asc.MODE_PARAMETERS_CHANGED, Asc.CAPACITY_CHANGED]) {
    nexus.attend(asc);
  }
  assert.deepEqual([nexus.take(), nexus.take(), nexus.take()], [
    Asc.CAPACITY_CHANGED,
    Asc.MODE_PARAMETERS_CHANGED,
    Asc.NONE,
  ]);
  for (const asc of [Asc.RESERVATIONS_PREEMPTED, Asc.NEXUS_LOSS, Asc.POWER_ON]) nexus.attend(asc);
  assert.deepEqual([nexus.take(), nexus.take(), nexus.take()], [
    Asc.POWER_ON,
    Asc.RESERVATIONS_PREEMPTED,
    Asc.NONE,
  ]);
});

Deno.test("a disk's names come of the volume's name alone, and are well formed", () => {
  const one = new Identity("vol-1", "iqn.x:vol-1", 1, "0001"),
    same = new Identity("vol-1", "iqn.y:t", 2, "0002");
  assert.deepEqual([one.serial, one.naa], [same.serial, same.naa]);
  const other = new Identity("vol-2", "iqn.x:vol-2", 1, "0001");
  assert.notEqual(one.serial, other.serial);
  assert.notDeepEqual(one.naa, other.naa);
  assert.match(one.serial, /^[0-9a-f]{16}$/);
  assert.deepEqual([one.naa.length, one.naa[0] >> 4, one.naa[0] & 15, one.naa[1], one.naa[2]], [
    16,
    6,
    0,
    0x24,
    0x45,
  ]);
});
