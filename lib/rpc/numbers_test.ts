import assert from "node:assert/strict";
import fc from "fast-check";
import protobuf from "protobufjs/minimal.js";
import "protobufjs"; // the full library, loaded afterwards, must not undo the change
import { ptypes, UnsafeIntegerError } from "./mod.ts";

const { Volume, Metrics, Replica } = ptypes;

/** Field 2 of Volume (`size`, int64) as on the wire. */
function volumeWithSize(varint: bigint): Uint8Array {
  const bytes = [2 << 3];
  let rest = BigInt.asUintN(64, varint);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return new Uint8Array(bytes);
}

Deno.test("64-bit fields are numbers and exact up to 2^53 - 1, negative ones too", () => {
  fc.assert(fc.property(fc.maxSafeInteger(), fc.maxSafeNat(), (size, readIOPS) => {
    const volume = Volume.decode(Volume.encode({ size }).finish());
    assert.equal(typeof volume.size, "number");
    assert.equal(volume.size, size);
    assert.equal(Metrics.decode(Metrics.encode({ readIOPS }).finish()).readIOPS, readIOPS);
    const wire = size === 0 ? [] : [...volumeWithSize(BigInt(size))];
    assert.deepEqual([...Volume.encode({ size }).finish()], wire);
  }));
  for (const size of [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]) {
    assert.equal(Volume.decode(volumeWithSize(BigInt(size))).size, size);
  }
});

Deno.test("a 64-bit value that a number cannot hold is an error and not rounded", () => {
  for (const value of [2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 53n), -(2n ** 63n)]) {
    assert.throws(() => Volume.decode(volumeWithSize(value)), UnsafeIntegerError);
  }
  const unsigned = new Uint8Array([...volumeWithSize(2n ** 64n - 1n)].with(0, 1 << 3));
  assert.throws(() => Metrics.decode(unsigned), UnsafeIntegerError);
});

Deno.test("a number that is no integer for the field is refused when it is written", () => {
  for (const size of [1.5, NaN, Infinity, 2 ** 53, -(2 ** 53)]) {
    assert.throws(() => Volume.encode({ size }), UnsafeIntegerError);
  }
  assert.throws(() => Volume.encode({ size: 5n as unknown as number }), UnsafeIntegerError);
  assert.throws(() => Metrics.encode({ readIOPS: -1 }), UnsafeIntegerError);
});

Deno.test("a time in nanoseconds is the nearest number, both ways", () => {
  const exact = 1_763_771_234_567_891_234n;
  const bytes = new Uint8Array([...volumeWithSize(exact)].with(0, 13 << 3));
  const { lastModifyTime } = Replica.decode(bytes);
  assert.equal(lastModifyTime, Number(exact));
  assert.equal(Replica.decode(Replica.encode({ lastModifyTime }).finish()).lastModifyTime, lastModifyTime);
  assert.throws(() => Replica.encode({ lastModifyTime: 2 ** 63 }), UnsafeIntegerError);
  assert.throws(() => Replica.encode({ lastModifyTime: 0.5 }), UnsafeIntegerError);
});

Deno.test("every kind of 64-bit value is checked", () => {
  const readers = protobuf.Reader as unknown as { create(b: Uint8Array): Record<string, () => unknown> };
  for (const kind of ["fixed64", "sfixed64"]) {
    const reader = readers.create(new Uint8Array([1, 0, 0, 0, 0, 0, 32, 0])); // 2^53 + 1
    assert.throws(() => reader[kind]?.(), UnsafeIntegerError);
  }
  const zigzag = readers.create(new Uint8Array([255, 255, 255, 255, 255, 255, 255, 255, 255, 1]));
  assert.throws(() => zigzag["sint64"]?.(), UnsafeIntegerError);
});
