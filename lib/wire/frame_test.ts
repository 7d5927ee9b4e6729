import assert from "node:assert/strict";
import fc from "fast-check";
import {
  FRAME_BYTES,
  FRAME_MAGIC,
  frameDataLength,
  frameMagic,
  frameOffset,
  frameSequence,
  frameSize,
  FrameType,
  frameType,
  frameTypeName,
  putFrame,
} from "./frame.ts";

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const HIGHEST = Number.MAX_SAFE_INTEGER;

Deno.test("a read of 4096 bytes at 8192 with sequence 1 is these 26 bytes", () => {
  const bytes = new Uint8Array(FRAME_BYTES);
  putFrame(new DataView(bytes.buffer), 0, 1, FrameType.READ, 8192, 4096, 0);
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  assert.equal(
    hex,
    "01 1b 01 00 00 00 00 00 00 00 00 20 00 00 00 00 00 00 00 10 00 00 00 00 00 00",
  );
});

Deno.test("the types that both projects know have their numbers", () => {
  const { READ, WRITE, RESPONSE, ERROR, EOF, CLOSE, PING, UNMAP, ENOSPC, FLUSH, WRITE_DURABLE, ADOPT } =
    FrameType;
  assert.deepEqual([READ, WRITE, RESPONSE, ERROR, EOF, CLOSE, PING, UNMAP, ENOSPC], [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
  ]);
  assert.deepEqual([FLUSH, WRITE_DURABLE, ADOPT], [0x44560001, 0x44560002, 0x44560003]);
});

Deno.test("what is put into a header comes out of it, at any place and with offsets up to 2^53 - 1", () => {
  const offset = fc.oneof(
    fc.maxSafeNat(),
    fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 52, HIGHEST),
  );
  fc.assert(fc.property(
    u32,
    u32,
    offset,
    u32,
    u32,
    fc.nat(9),
    (sequence, type, offset, size, length, at) => {
      const bytes = new Uint8Array(FRAME_BYTES + 10).fill(0xaa), view = new DataView(bytes.buffer);
      putFrame(view, at, sequence, type, offset, size, length);
      assert.equal(frameMagic(view, at), FRAME_MAGIC);
      assert.equal(frameSequence(view, at), sequence);
      assert.equal(frameType(view, at), type);
      assert.equal(frameOffset(view, at), offset);
      assert.equal(frameSize(view, at), size);
      assert.equal(frameDataLength(view, at), length);
      assert.equal(view.getBigInt64(at + 10, true), BigInt(offset));
      const around = [...bytes.subarray(0, at), ...bytes.subarray(at + FRAME_BYTES)];
      assert.ok(around.every((byte) => byte === 0xaa), "bytes beside the header were touched");
    },
  ));
});

Deno.test("negative offsets stay negative, and those too large for a number never become small", () => {
  fc.assert(fc.property(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), (value) => {
    const view = new DataView(new ArrayBuffer(FRAME_BYTES));
    view.setBigInt64(10, value, true);
    const read = frameOffset(view, 0);
    if (value >= -BigInt(HIGHEST) && value <= BigInt(HIGHEST)) assert.equal(BigInt(read), value);
    else assert.ok(value < 0n ? read < -HIGHEST : read > HIGHEST, `${value} was read as ${read}`);
  }));
  const view = new DataView(new ArrayBuffer(FRAME_BYTES));
  view.setBigInt64(10, -1n, true);
  assert.equal(frameOffset(view, 0), -1);
});

Deno.test("types have names for people", () => {
  assert.equal(frameTypeName(FrameType.WRITE_DURABLE), "write_durable");
  assert.equal(frameTypeName(77), "type 77");
});
