import assert from "node:assert/strict";
import fc from "fast-check";
import { crc32c, CRC_START, crcFinish, crcUpdate } from "./digest.ts";

/** The definition, a bit at a time. */
function bitwise(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

Deno.test("CRC32C gives the values of RFC 3720 appendix B.4", () => {
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c);
  assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
});

Deno.test("CRC32C is the bitwise definition, at any alignment and in any pieces", () => {
  fc.assert(fc.property(
    fc.uint8Array({ maxLength: 300 }),
    fc.nat(20),
    fc.array(fc.nat(300), { maxLength: 4 }),
    (bytes, shift, cuts) => {
      const shifted = new Uint8Array(bytes.length + shift + 5);
      shifted.set(bytes, shift);
      const expected = bitwise(bytes);
      assert.equal(crc32c(shifted, shift, bytes.length), expected);
      let state = CRC_START, at = 0;
      for (const cut of [...cuts, bytes.length].map((c) => Math.min(c, bytes.length)).sort((a, b) => a - b)) {
        state = crcUpdate(state, bytes, at, cut - at);
        at = cut;
      }
      assert.equal(crcFinish(state), expected);
    },
  ));
});
