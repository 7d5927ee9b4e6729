import assert from "node:assert/strict";
import fc from "fast-check";
import { Crc64 } from "./crc64.ts";

function of(bytes: Uint8Array): string {
  const crc = new Crc64();
  crc.update(bytes);
  return crc.digest();
}

/** The definition, bit by bit. */
function slow(bytes: Uint8Array): string {
  let crc = (1n << 64n) - 1n;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0xd800000000000000n : crc >> 1n;
  }
  return (crc ^ ((1n << 64n) - 1n)).toString(16).padStart(16, "0");
}

Deno.test("the checksum is CRC-64 ISO: the catalogue's check value, and the definition for any bytes", () => {
  assert.equal(of(new TextEncoder().encode("123456789")), "b90956c775a41001");
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => of(bytes) === slow(bytes)));
});

Deno.test("bytes in any pieces, and zeros by count, give the same checksum", () => {
  fc.assert(fc.property(
    fc.array(fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.nat({ max: 5000 })), { maxLength: 8 }),
    (pieces) => {
      const crc = new Crc64(), whole: number[] = [];
      for (const piece of pieces) {
        if (typeof piece === "number") {
          crc.zeros(piece);
          whole.push(...new Uint8Array(piece));
        } else {
          crc.update(piece);
          whole.push(...piece);
        }
      }
      assert.equal(crc.digest(), of(Uint8Array.from(whole)));
    },
  ));
  const crc = new Crc64();
  crc.zeros(2 ** 48);
  crc.zeros(2 ** 48);
  const twice = new Crc64();
  twice.zeros(2 ** 49);
  assert.equal(crc.digest(), twice.digest());
});
