/**
 * Blocks as they are stored: compressed by the method that their record names. A reader does not have to believe the
 * record: methods were mixed within one volume in the past, and the checksum says what is right. So the named method
 * is tried, then the one that the first bytes look like, then the bytes as they are.
 *
 * @module
 */
import { constants, gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { CodecError } from "./errors.ts";
import { decodeLz4, encodeLz4, isLz4, loadLz4 } from "./lz4_frame.ts";
import { checksumOf } from "./names.ts";
import { type Compression, COMPRESSIONS } from "./records.ts";

/** Levels: fast ones, because the network is usually not faster. */
const GZIP_LEVEL = 1;
const ZSTD_LEVEL = 1;

/** Bytes that own their memory, so that they can be handed to another thread. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** A checksum, and the memory that it was made of. */
export interface Hashed {
  /** 64 hex digits. */
  readonly checksum: string;
  /** The same content; the one handed in may be gone. */
  readonly data: Bytes;
}

/** A compressed block. */
export interface Encoded {
  /** As it is stored. */
  readonly stored: Bytes;
  /** The memory of the content, to be used again. */
  readonly spare: Bytes;
}

/** A decompressed block. */
export interface Decoded {
  /** The content, in the memory that was given for it. */
  readonly data: Bytes;
  /** The memory of what was stored, to be used again. */
  readonly spare: Bytes;
}

/**
 * The work on blocks that costs a processor: here or on other threads. Memory that is handed in is handed over, the
 * whole of it where a part is shown, and comes back with the result; after a failure it is gone.
 */
export interface Codec extends Disposable {
  /** The name of a block with this content. */
  hash(data: Bytes): Promise<Hashed>;
  /** Compresses. @param into memory that is used for the result when it fits */
  encode(data: Bytes, method: Compression, into?: Bytes): Promise<Encoded>;
  /** Decompresses and compares with the checksum. @param into as long as the longest content @throws {CodecError} */
  decode(stored: Bytes, method: string, checksum: string, into: Bytes): Promise<Decoded>;
}

/** Room that a compressed block may need beyond its content, in bytes: see {@linkcode encodeLz4}. */
export const ENCODED_SPARE_BYTES = 1024;

/** A copy that owns its memory, or the bytes themselves where they do already. */
export function owned(data: Uint8Array): Bytes {
  const whole = data.byteOffset === 0 && data.byteLength === data.buffer.byteLength;
  return whole && data.buffer instanceof ArrayBuffer ? data as Bytes : data.slice() as Bytes;
}

/** Compresses one block. {@linkcode loadLz4} must have ended. @param into used for the result when it fits */
export function encodeBlock(data: Uint8Array, method: Compression, into?: Bytes): Bytes {
  switch (method) {
    case "lz4":
      return encodeLz4(data, into);
    case "gzip":
      return owned(gzipSync(data, { level: GZIP_LEVEL }));
    case "zstd":
      return owned(zstdCompressSync(data, { params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL } }));
    case "none":
      return owned(data);
  }
}

/** The content, in `into`; undefined when it is longer than that. */
function decompress(stored: Uint8Array, method: Compression, into: Bytes): Bytes | undefined {
  if (method === "lz4") return decodeLz4(stored, into);
  try {
    const options = { maxOutputLength: into.length };
    const data = method === "none"
      ? stored
      : method === "gzip"
      ? gunzipSync(stored, options)
      : zstdDecompressSync(stored, options);
    if (data.length > into.length) return undefined;
    into.set(data);
    return into.subarray(0, data.length);
  } catch (cause) {
    throw new CodecError(`not ${method}: ${(cause as Error).message}`, { cause });
  }
}

function looksLike(stored: Uint8Array): Compression {
  if (isLz4(stored)) return "lz4";
  if (stored[0] === 0x1f && stored[1] === 0x8b) return "gzip";
  if (stored[0] === 0x28 && stored[1] === 0xb5 && stored[2] === 0x2f && stored[3] === 0xfd) return "zstd";
  return "none";
}

/** The method that a record names; records without one are older than the choice, and gzip. */
export function methodOf(named: string): Compression | undefined {
  if (named === "") return "gzip";
  return COMPRESSIONS.find((method) => method === named);
}

/**
 * Decompresses one block and compares it with its checksum. {@linkcode loadLz4} must have ended.
 *
 * @param named what the record says; may be wrong
 * @param into takes the content; as long as the backup's blocks are: more than this is refused
 * @throws {CodecError} when no method leads to that content
 */
export function decodeBlock(
  stored: Uint8Array,
  named: string,
  checksum: string,
  into: Bytes,
): Bytes {
  if (stored.length === 0) throw new CodecError("it is empty");
  const method = methodOf(named);
  const methods = new Set<Compression>([
    ...(method === undefined ? [] : [method]),
    looksLike(stored),
    "none",
  ]);
  let problem: CodecError | undefined;
  for (const candidate of methods) {
    try {
      const data = decompress(stored, candidate, into);
      if (data !== undefined && checksumOf(data) === checksum) return data;
      problem ??= new CodecError(`its content does not match its checksum (${stored.length} bytes stored)`);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      problem ??= error;
    }
  }
  throw problem ?? new CodecError("it cannot be read");
}

/** Does the work where it is asked for: for tests, and for a few blocks. */
export class InlineCodec implements Codec {
  /** See {@linkcode Codec.hash}. */
  hash(data: Bytes): Promise<Hashed> {
    return Promise.resolve({ checksum: checksumOf(data), data });
  }

  /** See {@linkcode Codec.encode}. */
  async encode(data: Bytes, method: Compression, into?: Bytes): Promise<Encoded> {
    await loadLz4();
    return { stored: encodeBlock(data, method, into), spare: data };
  }

  /** See {@linkcode Codec.decode}. */
  async decode(stored: Bytes, method: string, checksum: string, into: Bytes): Promise<Decoded> {
    await loadLz4();
    return { data: decodeBlock(stored, method, checksum, into), spare: stored };
  }

  /** Nothing to end. */
  [Symbol.dispose](): void {}
}
