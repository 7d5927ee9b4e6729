/**
 * A sparse file cut into batches: ranges with some data in them, small enough to be compared, sent and written as
 * one. Both sides of a transfer cut their own files; a batch's sum says whether data and holes are the same.
 *
 * What travels of a batch is its table, little endian, and the data of all its runs without the holes between:
 *
 * | field | bytes | guards against |
 * |---|---|---|
 * | runs | 4 | a table that ends early |
 * | offset, length of each run | 8, 8 | data in the wrong place: ascending, apart, in blocks, within the batch |
 *
 * Two batches are taken for equal when their sums are: XXH64 over the data with the XXH64 over the table as its seed.
 * What travels has a CRC-32 over the table and the data beside TCP's own checksum: it costs next to nothing. Neither
 * guards against malice: whoever can send a batch can send any.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import xxhash, { type XXHashAPI } from "xxhash-wasm";
import type { FileOperation } from "../../io/file_queue.ts";
import type { Files } from "../../io/files.ts";

/** Unit of runs, bytes. */
export const BLOCK_BYTES = 4096;
/** Most data of a batch, bytes. */
export const BATCH_DATA_BYTES = 1024 * 1024;
/** Most runs of a batch: the largest table has 64 KiB. */
export const BATCH_RUNS = 4095;
/** Range that is planned at once, bytes. */
export const WINDOW_BYTES = 64 * 1024 * 1024;

const RUN_BYTES = 16, COUNT_BYTES = 4;
/** Bytes of the largest table. */
export const TABLE_BYTES: number = COUNT_BYTES + BATCH_RUNS * RUN_BYTES;

let hash: XXHashAPI | undefined;

/** Loads what sums are made with; to be awaited once before the first one in a thread. */
export async function loadSums(): Promise<void> {
  // Not at the top level: a Worker whose module waits there loses the messages that come meanwhile.
  hash ??= await xxhash();
}

/** Data in a file: whole blocks, except at the end of the file. */
export interface Run {
  /** First byte. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/** A range of a file and the data in it. */
export interface Batch {
  /** First byte. */
  readonly begin: number;
  /** The byte after the last. */
  readonly end: number;
  /** The data, ascending and apart. */
  readonly runs: readonly Run[];
  /** Bytes of data. */
  readonly bytes: number;
}

/** Something with data and holes. */
export interface SparseSource {
  /** Apparent size, bytes. */
  readonly size: number;
  /** The data between two offsets, both multiples of a block or the end: ascending and apart. */
  runs(begin: number, end: number): Run[];
  /** Fills `into` from an offset. */
  read(into: Uint8Array, offset: number): void;
  /**
   * Begins to fill the start of an aligned buffer with the data of a batch, without its holes.
   *
   * @returns what must be waited for before the data is there
   */
  begin?(batch: Batch, into: Uint8Array<ArrayBuffer>): FileOperation[];
  /** The data of a batch will be read soon. */
  announce?(batch: Batch): void;
}

/** Data of a file, in blocks. Space that was never written is a hole. @throws {IoError} */
export function fileRuns(files: Files, fd: number, begin: number, end: number): Run[] {
  const runs: { offset: number; length: number }[] = [];
  let until = begin;
  for (const extent of files.extents(fd, begin, end - begin)) {
    if (extent.unwritten) continue;
    const from = Math.max(until, Math.floor(extent.offset / BLOCK_BYTES) * BLOCK_BYTES);
    const to = Math.min(end, Math.ceil((extent.offset + extent.length) / BLOCK_BYTES) * BLOCK_BYTES);
    if (to <= from) continue;
    const last = runs.at(-1);
    if (last && last.offset + last.length === from) last.length += to - from;
    else runs.push({ offset: from, length: to - from });
    until = to;
  }
  return runs;
}

/**
 * Cuts a range into batches that cover it without gaps.
 *
 * @param begin a multiple of a block
 */
export function* batchesOf(source: SparseSource, begin: number, end: number): Generator<Batch> {
  let start = begin, runs: Run[] = [], bytes = 0;
  for (let window = begin; window < end; window += WINDOW_BYTES) {
    const until = Math.min(end, window + WINDOW_BYTES);
    for (const run of source.runs(window, until)) {
      for (let { offset, length } = run; length > 0;) {
        const piece = Math.min(length, BATCH_DATA_BYTES - bytes);
        runs.push({ offset, length: piece });
        bytes += piece;
        offset += piece;
        length -= piece;
        if (bytes < BATCH_DATA_BYTES && runs.length < BATCH_RUNS) continue;
        yield { begin: start, end: offset, runs, bytes };
        start = offset;
        runs = [];
        bytes = 0;
      }
    }
    // A window is also the most that a batch covers, so that comparing one never takes long.
    if (until > start) yield { begin: start, end: until, runs, bytes };
    start = until;
    runs = [];
    bytes = 0;
  }
}

/** Reads the data of a batch, without its holes. @returns the part of `into` that it fills */
export function readBatch(source: SparseSource, batch: Batch, into: Uint8Array): Uint8Array {
  let at = 0;
  for (const { offset, length } of batch.runs) {
    source.read(into.subarray(at, at + length), offset);
    at += length;
  }
  return into.subarray(0, at);
}

/** The table of a batch. */
export function encodeTable(batch: Batch): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(COUNT_BYTES + batch.runs.length * RUN_BYTES),
    view = new DataView(bytes.buffer);
  view.setUint32(0, batch.runs.length, true);
  batch.runs.forEach(({ offset, length }, index) => {
    // Offsets stay below 2^53: two halves cost less than a bigint.
    const at = COUNT_BYTES + index * RUN_BYTES;
    view.setUint32(at, offset % 2 ** 32, true);
    view.setUint32(at + 4, Math.floor(offset / 2 ** 32), true);
    view.setUint32(at + 8, length, true);
  });
  return bytes;
}

/** A table that cannot be. */
export class BadTableError extends Error {
  /** The class, for logs. */
  override readonly name = "BadTableError";
}

/** Number of runs in a table from its first bytes. @throws {BadTableError} */
export function runCount(first: Uint8Array): number {
  const count = new DataView(first.buffer, first.byteOffset, COUNT_BYTES).getUint32(0, true);
  if (count > BATCH_RUNS) throw new BadTableError(`a table of ${count} runs is too long`);
  return count;
}

/** Bytes of a table of so many runs. */
export function tableBytes(runs: number): number {
  return COUNT_BYTES + runs * RUN_BYTES;
}

/** Reads the table of a batch. @throws {BadTableError} */
export function decodeTable(bytes: Uint8Array, begin: number, end: number): Batch {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), runs: Run[] = [];
  let until = begin, data = 0;
  for (let at = COUNT_BYTES; at < bytes.length; at += RUN_BYTES) {
    const offset = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
    const length = view.getUint32(at + 8, true) + view.getUint32(at + 12, true) * 2 ** 32;
    if (offset < until || length === 0 || offset + length > end) {
      throw new BadTableError(`a run of ${length} bytes at ${offset} is outside of ${until} to ${end}`);
    }
    until = offset + length;
    data += length;
    runs.push({ offset, length });
  }
  if (data > BATCH_DATA_BYTES) throw new BadTableError(`a batch of ${data} bytes is too large`);
  return { begin, end, runs, bytes: data };
}

/** The check of a batch on its way: 8 hexadecimal digits; see the module text. */
export function batchCheck(table: Uint8Array, data: Uint8Array): string {
  return crc32(data, crc32(table)).toString(16).padStart(8, "0");
}

/** The sum of a batch: 16 hexadecimal digits; see the module text. */
export function batchSum(table: Uint8Array, data: Uint8Array): string {
  if (!hash) throw new TypeError("loadSums() comes first");
  return hash.h64Raw(data, hash.h64Raw(table)).toString(16).padStart(16, "0");
}
