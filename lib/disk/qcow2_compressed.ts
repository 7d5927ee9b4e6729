/**
 * Compressed clusters of a qcow2 image. They are read and unpacked synchronously: such images are templates, of
 * which each cluster is read about once. The last few are kept, because a reader that walks through an image in
 * small steps comes back to the same cluster at once.
 *
 * @module
 */
import zlib from "node:zlib";
import type { Files } from "../io/files.ts";
import type { Compression } from "./qcow2_header.ts";

/** Unpacked clusters that are kept, bytes; at least two clusters. */
const KEPT_BYTES = 4 * 1024 * 1024;
/** And so many at most: they are searched one by one. */
const MAX_KEPT = 32;

/** zstd's frame (RFC 8878): magic number, and bytes of the fields whose length the descriptor tells. */
const ZSTD_MAGIC = 0xfd2fb528, DICTIONARY_BYTES = [0, 1, 2, 4], CONTENT_SIZE_BYTES = [0, 2, 4, 8];
const ZSTD_BLOCK_HEADER = 3, ZSTD_RLE = 1, ZSTD_RESERVED = 3;

/**
 * Length of the first zstd frame, which may be followed by anything: where a compressed cluster ends is only known
 * in units of 512 bytes.
 *
 * @returns bytes, or -1 when it is no whole frame
 */
export function zstdFrameBytes(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 6 || view.getUint32(0, true) !== ZSTD_MAGIC) return -1;
  const descriptor = bytes[4], single = (descriptor & 0x20) !== 0, sizeFlag = descriptor >>> 6;
  let at = 5 + (single ? 0 : 1) + DICTIONARY_BYTES[descriptor & 3] +
    (sizeFlag === 0 && single ? 1 : CONTENT_SIZE_BYTES[sizeFlag]);
  for (let last = false; !last;) {
    if (at + ZSTD_BLOCK_HEADER > bytes.length) return -1;
    const header = bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16, type = (header >>> 1) & 3;
    if (type === ZSTD_RESERVED) return -1;
    last = (header & 1) !== 0;
    at += ZSTD_BLOCK_HEADER + (type === ZSTD_RLE ? 1 : header >>> 3);
  }
  if (descriptor & 4) at += 4;
  return at <= bytes.length ? at : -1;
}

/** Unpacks one cluster. @throws {Error} of any kind when it cannot be */
export function unpackCluster(
  packed: Uint8Array,
  compression: Compression,
  clusterBytes: number,
): Uint8Array {
  const options = { maxOutputLength: clusterBytes };
  if (compression === "deflate") return zlib.inflateRawSync(packed, options);
  const length = zstdFrameBytes(packed);
  if (length < 0) throw new Error("no whole zstd frame");
  return zlib.zstdDecompressSync(packed.subarray(0, length), options);
}

/** Reads compressed clusters of one image. */
export class CompressedClusters {
  readonly #kept: (Uint8Array | undefined)[];
  /** Where in the file each kept cluster is. */
  readonly #keys: Float64Array<ArrayBuffer>;
  #next = 0;

  /** Reads through a descriptor. */
  constructor(
    readonly files: Files,
    readonly fd: number,
    readonly compression: Compression,
    readonly clusterBytes: number,
  ) {
    const count = Math.min(MAX_KEPT, Math.max(2, KEPT_BYTES / clusterBytes));
    this.#kept = new Array(count).fill(undefined);
    this.#keys = new Float64Array(count).fill(-1);
  }

  /**
   * The content of a cluster; valid until the next call.
   *
   * @param at where its compressed form begins in the file
   * @param bytes at most so long is that; the file may end earlier
   * @throws {IoError} @throws {Error} when it cannot be unpacked to a whole cluster
   */
  read(at: number, bytes: number): Uint8Array {
    const found = this.#keys.indexOf(at), kept = found < 0 ? undefined : this.#kept[found];
    if (kept) return kept;
    const packed = new Uint8Array(bytes);
    const length = this.files.readAt(this.fd, packed, at);
    const content = unpackCluster(packed.subarray(0, length), this.compression, this.clusterBytes);
    if (content.length !== this.clusterBytes) {
      throw new Error(`${content.length} bytes instead of ${this.clusterBytes}`);
    }
    this.#keys[this.#next] = at;
    this.#kept[this.#next] = content;
    this.#next = (this.#next + 1) % this.#kept.length;
    return content;
  }
}
