import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { type Bytes, type Codec, decodeBlock, encodeBlock, InlineCodec } from "./codec.ts";
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
        new Uint8Array(decodeBlock(stored, named, checksum, text.length)),
        text,
        `${method} ${named}`,
      );
    }
  }
});

Deno.test("a block that is itself a compressed file, stored as it is, is not decompressed", () => {
  const inner = new Uint8Array(gzipSync(text));
  assert.deepEqual(decodeBlock(inner, "none", checksumOf(inner), 65536), inner);
  assert.deepEqual(decodeBlock(inner, "gzip", checksumOf(inner), 65536), inner);
});

Deno.test("wrong content, wrong length and bombs are errors that say what is wrong", () => {
  for (const method of COMPRESSIONS) {
    const other = encodeBlock(new Uint8Array(text.length), method);
    assert.throws(() => decodeBlock(other, method, checksum, text.length), CodecError, method);
    const stored = encodeBlock(text, method);
    assert.throws(
      () => decodeBlock(stored.subarray(0, -1), method, checksum, text.length),
      CodecError,
      method,
    );
    assert.throws(() => decodeBlock(stored, method, checksum, text.length - 1), CodecError, method);
  }
  assert.throws(() => decodeBlock(new Uint8Array(), "lz4", checksum, 10), /empty/);
});

async function exercise(codec: Codec): Promise<void> {
  const rounds = Array.from({ length: 9 }, async (_, i) => {
    const data: Bytes = new Uint8Array(100_000).fill(i);
    const hashed = await codec.hash(data.slice());
    assert.equal(hashed.checksum, checksumOf(data));
    assert.deepEqual(hashed.data, data);
    const stored = await codec.encode(hashed.data, "lz4");
    assert.ok(stored.length < 2000);
    assert.deepEqual(await codec.decode(stored, "lz4", hashed.checksum, data.length), data);
  });
  await Promise.all(rounds);
  await assert.rejects(codec.decode(new Uint8Array(5), "lz4", checksum, 100), CodecError);
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
