import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import {
  type Bytes,
  type Codec,
  decodeBlock,
  encodeBlock,
  ENCODED_SPARE_BYTES,
  InlineCodec,
} from "./codec.ts";
import { CodecPool } from "./codec_pool.ts";
import { CodecError } from "./errors.ts";
import { loadLz4 } from "./lz4_frame.ts";
import { checksumOf } from "./names.ts";
import { COMPRESSIONS } from "./records.ts";

await loadLz4();

const text: Bytes = new TextEncoder().encode("all work and no play ".repeat(500));
const checksum = checksumOf(text);

Deno.test("the checksum is the first half of SHA-512", () => {
  assert.equal(
    checksumOf(new TextEncoder().encode("abc")),
    "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a",
  );
});

Deno.test("every method's blocks are read back, also under the name of another method", () => {
  for (const method of COMPRESSIONS) {
    const stored = encodeBlock(text, method);
    for (const named of [...COMPRESSIONS, "", "brotli"]) {
      assert.deepEqual(
        new Uint8Array(decodeBlock(stored, named, checksum, new Uint8Array(text.length))),
        text,
        `${method} ${named}`,
      );
    }
  }
});

Deno.test("a block that is itself a compressed file, stored as it is, is not decompressed", () => {
  const inner = new Uint8Array(gzipSync(text));
  const into = new Uint8Array(65536);
  assert.deepEqual(decodeBlock(inner, "none", checksumOf(inner), into), inner);
  assert.deepEqual(decodeBlock(inner, "gzip", checksumOf(inner), into), inner);
});

Deno.test("wrong content, wrong length and bombs are errors that say what is wrong", () => {
  for (const method of COMPRESSIONS) {
    const into = new Uint8Array(text.length), less = new Uint8Array(text.length - 1);
    const other = encodeBlock(new Uint8Array(text.length), method);
    assert.throws(() => decodeBlock(other, method, checksum, into), CodecError, method);
    const stored = encodeBlock(text, method);
    assert.throws(() => decodeBlock(stored.subarray(0, -1), method, checksum, into), CodecError, method);
    assert.throws(() => decodeBlock(stored, method, checksum, less), CodecError, method);
  }
  assert.throws(() => decodeBlock(new Uint8Array(), "lz4", checksum, new Uint8Array(10)), /empty/);
});

async function exercise(codec: Codec): Promise<void> {
  const rounds = Array.from({ length: 9 }, async (_, i) => {
    const data: Bytes = new Uint8Array(100_000).fill(i);
    const hashed = await codec.hash(data.slice());
    assert.equal(hashed.checksum, checksumOf(data));
    assert.deepEqual(hashed.data, data);
    const room = new Uint8Array(data.length + ENCODED_SPARE_BYTES).fill(99);
    const encoded = await codec.encode(hashed.data, "lz4", room);
    assert.ok(encoded.stored.length < 2000);
    assert.equal(
      encoded.stored.buffer.byteLength,
      data.length + ENCODED_SPARE_BYTES,
      "the memory that was given",
    );
    assert.equal(encoded.spare.buffer.byteLength, data.length);
    // Memory that was used before holds other things.
    const into = encoded.spare.fill(77);
    const decoded = await codec.decode(encoded.stored, "lz4", hashed.checksum, into);
    assert.deepEqual(decoded.data, data);
    assert.equal(decoded.spare.buffer.byteLength, data.length + ENCODED_SPARE_BYTES);
    const plain = await codec.encode(decoded.data, "none");
    assert.ok(plain.stored.buffer === plain.spare.buffer, "what is stored as it is has one memory");
  });
  await Promise.all(rounds);
  await assert.rejects(codec.decode(new Uint8Array(5), "lz4", checksum, new Uint8Array(100)), CodecError);
}

Deno.test("the pool of threads and the inline codec do the same", async () => {
  using inline = new InlineCodec();
  await exercise(inline);
  using pool = new CodecPool(2);
  await exercise(pool);
});

Deno.test("what is under way when a pool is stopped is rejected, as is what comes later", async () => {
  const pool = new CodecPool(1);
  const pending = assert.rejects(pool.hash(new Uint8Array(1 << 20)), /stopped/);
  pool[Symbol.dispose]();
  await pending;
  await assert.rejects(pool.hash(new Uint8Array(1)), /stopped/);
});
