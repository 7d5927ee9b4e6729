/**
 * A qcow2 image, read only: finds out where in its file the data of a place in the image is.
 *
 * Two levels of tables lead there. The first is in memory as a whole; of the second, pieces of up to 4 KiB are kept,
 * each of which covers 32 MiB of an image with the usual clusters of 64 KiB. A piece that is not there is read
 * synchronously, once, as the extents of files are. The data itself is read by whoever asks, like that of any file.
 *
 * | bits of an L1 entry | meaning                                                        |
 * |---------------------|----------------------------------------------------------------|
 * | 9 to 55             | offset of an L2 table, at a cluster; 0: none                    |
 * | 63                  | nobody else uses that table: of no interest                     |
 *
 * | bits of an L2 entry | meaning                                                        |
 * |---------------------|----------------------------------------------------------------|
 * | 0                   | (version 3) reads as zeros, whatever the offset says            |
 * | 9 to 55             | offset of the data, at a cluster; 0: none, reads as zeros       |
 * | 62                  | compressed: the bits below are an offset and a number of 512-byte sectors |
 * | 63                  | nobody else uses that cluster: of no interest                   |
 *
 * All others must be 0. Every offset is checked against the file: a broken image gives EIO and a line in the log,
 * never somebody else's bytes.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import { getLogger } from "../log/log.ts";
import { BackingFileError } from "./errors.ts";
import { CompressedClusters } from "./qcow2_compressed.ts";
import { ENTRY_BYTES, type Qcow2Header } from "./qcow2_header.ts";

/** Nothing is stored: zeros. */
export const ZEROS = 0;
/** Stored as it is, at {@linkcode Qcow2Image.at} in the file. */
export const STORED = 1;
/** Compressed: {@linkcode Qcow2Image.unpack} gives it. */
export const COMPRESSED = 2;

/** Pieces of L2 tables that are kept, and the longest, bytes. */
const PIECES = 1024, MAX_PIECE_BYTES = 4096;
const SECTOR_BYTES = 512;
/** Reserved bits of the upper and the lower half of an entry, and the bits of the upper half of an offset. */
const HIGH_RESERVED = 0x7f000000, HIGH_RESERVED_L2 = 0x3f000000, LOW_RESERVED = 0x1ff, HIGH_OFFSET = 0xffffff;
const IS_COMPRESSED = 0x40000000, IS_ZERO = 1;
const HALF = 2 ** 32;

/** An open image. */
export class Qcow2Image {
  /** What a guest sees, bytes. */
  readonly size: number;
  /** After {@linkcode locate}: bytes that are stored in the same way. */
  run = 0;
  /** After {@linkcode locate}: where in the file the data is. */
  at = 0;
  readonly #clusterBytes: number;
  readonly #bits: number;
  /** Entries of an L2 table, and of a piece. */
  readonly #l2Entries: number;
  readonly #pieceEntries: number;
  readonly #l1: DataView;
  readonly #pieces: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #pieceKeys = new Float64Array(PIECES).fill(-1);
  readonly #compressed: CompressedClusters;
  /** After a compressed cluster was found: how long it is at most. */
  #packedBytes = 0;
  #reported = false;

  /**
   * Reads the first table.
   *
   * @param fd a descriptor without O_DIRECT: clusters may be smaller than what direct I/O can read
   * @throws {BackingFileError} when that table leads out of the file @throws {IoError}
   */
  constructor(
    readonly files: Files,
    readonly path: string,
    readonly fd: number,
    readonly fileBytes: number,
    readonly header: Qcow2Header,
  ) {
    this.size = header.size;
    this.#bits = header.clusterBits;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#l2Entries = this.#clusterBytes / ENTRY_BYTES;
    const pieceBytes = Math.min(this.#clusterBytes, MAX_PIECE_BYTES);
    this.#pieceEntries = pieceBytes / ENTRY_BYTES;
    const l1 = new Uint8Array(header.l1Entries * ENTRY_BYTES);
    if (files.readAt(fd, l1, header.l1Offset) !== l1.length) throw this.#broken("its first table is cut off");
    this.#l1 = new DataView(l1.buffer);
    // Pages that are never touched cost nothing.
    this.#pieces = new Uint8Array(PIECES * pieceBytes);
    this.#view = new DataView(this.#pieces.buffer);
    this.#compressed = new CompressedClusters(files, fd, header.compression, this.#clusterBytes);
    for (let i = 0; i < header.l1Entries; i++) this.#checkL1(i);
  }

  #broken(problem: string): BackingFileError {
    return new BackingFileError(
      this.path,
      `${problem}: check it with \`qemu-img check\`, or take another copy`,
    );
  }

  #checkL1(index: number): void {
    const high = this.#l1.getUint32(index * ENTRY_BYTES), low = this.#l1.getUint32(index * ENTRY_BYTES + 4);
    const offset = (high & HIGH_OFFSET) * HALF + low;
    if ((high & HIGH_RESERVED) !== 0 || offset % this.#clusterBytes !== 0) {
      throw this.#broken(`entry ${index} of its first table is none`);
    }
    if (offset !== 0 && offset + this.#clusterBytes > this.fileBytes) {
      throw this.#broken(`entry ${index} of its first table leads out of the file`);
    }
  }

  /**
   * Where the data of a place is; sets {@linkcode run} and, when it is stored, {@linkcode at}.
   *
   * @param offset in the image, bytes; beyond its end there are zeros
   * @param length bytes of interest, at least 1
   * @returns {@linkcode ZEROS}, {@linkcode STORED}, {@linkcode COMPRESSED}, or `-errno`
   */
  locate(offset: number, length: number): number {
    if (offset >= this.size) {
      this.run = length;
      return ZEROS;
    }
    const end = Math.min(offset + length, this.size), within = offset % this.#clusterBytes;
    try {
      const kind = this.#look(Math.floor(offset / this.#clusterBytes));
      const at = this.at + within;
      let known = offset - within + this.#clusterBytes;
      while (known < end && kind !== COMPRESSED) {
        if (this.#look(known / this.#clusterBytes) !== kind) break;
        if (kind === STORED && this.at !== at + known - offset) break;
        known += this.#clusterBytes;
      }
      // The look at a cluster that does not continue the run overwrote it.
      if (kind !== COMPRESSED) this.at = at;
      this.run = Math.min(known, end) - offset;
      return kind;
    } catch (error) {
      return this.#failed(error);
    }
  }

  /**
   * Copies of a compressed cluster, right after {@linkcode locate} found it.
   *
   * @param offset the place that was asked for
   * @param into gets {@linkcode run} bytes
   * @returns 0 or `-errno`
   */
  unpack(offset: number, into: Uint8Array): number {
    try {
      const within = offset % this.#clusterBytes;
      into.set(this.#unpacked().subarray(within, within + into.length));
      return 0;
    } catch (error) {
      return this.#failed(error);
    }
  }

  /**
   * Reads a place synchronously, for whoever has no loop.
   *
   * @param offset in the image, bytes; beyond its end there are zeros
   * @throws {IoError}
   */
  read(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length;) {
      const kind = this.locate(offset + done, into.length - done);
      if (kind < 0) throw new IoError("read", this.path, kind);
      const part = into.subarray(done, done + this.run);
      if (kind === STORED) part.fill(0, this.files.readAt(this.fd, part, this.at));
      else if (kind === ZEROS) part.fill(0);
      else {
        const result = this.unpack(offset + done, part);
        if (result < 0) throw new IoError("read", this.path, result);
      }
      done += part.length;
    }
  }

  #unpacked(): Uint8Array {
    try {
      return this.#compressed.read(this.at, this.#packedBytes);
    } catch (cause) {
      if (cause instanceof IoError) throw cause;
      const why = cause instanceof Error ? cause.message : String(cause);
      throw this.#broken(`the compressed cluster at ${this.at} cannot be unpacked (${why})`);
    }
  }

  /** What a cluster is; sets `at` to its place in the file. @throws {BackingFileError} @throws {IoError} */
  #look(cluster: number): number {
    const l1 = Math.floor(cluster / this.#l2Entries) * ENTRY_BYTES;
    const table = (this.#l1.getUint32(l1) & HIGH_OFFSET) * HALF + this.#l1.getUint32(l1 + 4);
    this.at = 0;
    if (table === 0) return ZEROS;
    const piece = Math.floor(cluster / this.#pieceEntries), slot = piece % PIECES;
    const pieceBytes = this.#pieceEntries * ENTRY_BYTES;
    if (this.#pieceKeys[slot] !== piece) {
      const first = (piece * this.#pieceEntries) % this.#l2Entries;
      this.#load(slot, piece, table + first * ENTRY_BYTES, pieceBytes);
    }
    const entry = slot * pieceBytes + (cluster % this.#pieceEntries) * ENTRY_BYTES;
    const high = this.#view.getUint32(entry), low = this.#view.getUint32(entry + 4);
    return (high & IS_COMPRESSED) !== 0
      ? this.#compressedAt(cluster, high, low)
      : this.#storedAt(cluster, high, low);
  }

  #load(slot: number, piece: number, at: number, bytes: number): void {
    this.#pieceKeys[slot] = -1;
    const into = this.#pieces.subarray(slot * bytes, (slot + 1) * bytes);
    if (this.files.readAt(this.fd, into, at) !== bytes) throw this.#broken(`its table at ${at} is cut off`);
    this.#pieceKeys[slot] = piece;
  }

  #storedAt(cluster: number, high: number, low: number): number {
    const zero = (low & IS_ZERO) !== 0, offset = (high & HIGH_OFFSET) * HALF + (low - (low & LOW_RESERVED));
    const reserved = low & LOW_RESERVED & (this.header.version === 3 ? ~IS_ZERO : LOW_RESERVED);
    if ((high & HIGH_RESERVED_L2) !== 0 || reserved !== 0 || offset % this.#clusterBytes !== 0) {
      throw this.#broken(`its entry for cluster ${cluster} is none`);
    }
    if (zero || offset === 0) return ZEROS;
    // The last cluster may be cut off: what is missing are zeros.
    if (offset >= this.fileBytes) throw this.#broken(`cluster ${cluster} lies beyond the end of the file`);
    this.at = offset;
    return STORED;
  }

  #compressedAt(cluster: number, high: number, low: number): number {
    // Bits 0 to x - 1 are the offset, x to 61 the number of further sectors; x is 62 - (cluster bits - 8).
    const countBits = this.#bits - 8, highBits = 30 - countBits, all = high & 0x3fffffff;
    const offset = (all & (2 ** highBits - 1)) * HALF + low, sectors = (all >>> highBits) + 1;
    if (offset >= this.fileBytes) throw this.#broken(`cluster ${cluster} lies beyond the end of the file`);
    this.at = offset;
    this.#packedBytes = Math.min(sectors * SECTOR_BYTES - offset % SECTOR_BYTES, this.fileBytes - offset);
    return COMPRESSED;
  }

  #failed(error: unknown): number {
    if (error instanceof IoError) return -error.errno;
    if (!(error instanceof BackingFileError)) throw error;
    // One line is enough: the image does not get better.
    if (!this.#reported) getLogger().error("the backing image is broken", { reason: error.message });
    this.#reported = true;
    return -Errno.EIO;
  }
}
