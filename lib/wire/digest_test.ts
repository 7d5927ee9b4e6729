import assert from "node:assert/strict";
import fc from "fast-check";
import {
  DIGEST_PIECE_BYTES,
  DIGEST_SUM_BYTES,
  digestBytes,
  isDigestRange,
  isZero,
  MAX_DIGEST_BYTES,
  Murmur128,
} from "./digest.ts";

function murmur(...parts: readonly Uint8Array[]): string {
  const sum = new Murmur128(), into = new Uint8Array(16);
  for (const part of parts) sum.bytes(part);
  sum.finish(into);
  return into.toHex();
}

Deno.test("the hash is MurmurHash3 x86_128", () => {
  // From mmh3, a binding of the reference in C++: hash_bytes(data, 0, x64arch=False).
  assert.equal(murmur(new Uint8Array(0)), "00000000000000000000000000000000");
  assert.equal(murmur(new TextEncoder().encode("0123456789abcdef")), "09447dfb0ad3ae369b1dad48fd3b2b57");
  assert.equal(murmur(Uint8Array.from({ length: 1024 }, (_, i) => i)), "3670dc8cf26c900dc8a1a7aeb7224338");
  assert.equal(murmur(new Uint8Array(64)), "0ea9ab5d417839995e3a09ad63dd77a0");
});

Deno.test("what is added piece by piece has the sum of the whole", () => {
  const part = fc.uint8Array({ minLength: 0, maxLength: 80 }).map((bytes) =>
    bytes.slice(0, bytes.length - bytes.length % 16)
  );
  fc.assert(fc.property(fc.array(part), (parts) => {
    const whole = new Uint8Array(parts.flatMap((bytes) => [...bytes]));
    assert.equal(murmur(...parts), murmur(whole));
  }));
});

Deno.test("a change of any one bit changes every word of the sum", () => {
  fc.assert(fc.property(fc.nat(4096 * 8 - 1), (bit) => {
    const bytes = new Uint8Array(4096).fill(7), before = murmur(bytes);
    bytes[bit >> 3] ^= 1 << (bit & 7);
    const after = murmur(bytes);
    for (let word = 0; word < 32; word += 8) {
      assert.notEqual(after.slice(word, word + 8), before.slice(word, word + 8));
    }
  }));
});

Deno.test("zeros are zeros wherever a single other byte is not", () => {
  assert.ok(isZero(new Uint8Array(4096)));
  fc.assert(fc.property(fc.nat(4095), fc.integer({ min: 1, max: 255 }), (at, value) => {
    const bytes = new Uint8Array(4096);
    bytes[at] = value;
    assert.equal(isZero(bytes), false);
  }));
});

Deno.test("a range begins at a piece, has whole sectors, and is no longer than a replica reads at once", () => {
  assert.ok(isDigestRange(0, 512));
  assert.ok(isDigestRange(DIGEST_PIECE_BYTES, MAX_DIGEST_BYTES));
  for (
    const [offset, length] of [[512, 512], [0, 0], [0, 513], [0, MAX_DIGEST_BYTES + 512], [0, 2 ** 32 - 512]]
  ) {
    assert.equal(isDigestRange(offset, length), false, `${length} at ${offset}`);
  }
  assert.equal(digestBytes(512), DIGEST_SUM_BYTES);
  assert.equal(digestBytes(DIGEST_PIECE_BYTES + 512), 2 * DIGEST_SUM_BYTES);
});
