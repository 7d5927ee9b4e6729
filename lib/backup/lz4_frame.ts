/**
 * LZ4 frames, the format of the `lz4` program and of Longhorn's blocks.
 *
 * | field             | bytes   | meaning, and what it guards against                                            |
 * | ----------------- | ------- | ------------------------------------------------------------------------------ |
 * | magic             | 4       | 0x184D2204: not a frame at all                                                  |
 * | FLG               | 1       | version 01, independent blocks, block checksums, content size, content checksum |
 * | BD                | 1       | largest block: 64 KiB, 256 KiB, 1 MiB, 4 MiB                                    |
 * | content size      | 0 or 8  | a frame cut at a block's end                                                    |
 * | dictionary id     | 0 or 4  | not supported                                                                   |
 * | HC                | 1       | second byte of the xxHash-32 of FLG and what follows: a damaged header          |
 * | blocks            |         | length (top bit: stored as is), data, xxHash-32 of the data when FLG says so    |
 * | end               | 4       | zero: a frame cut at a block's end                                              |
 * | content checksum  | 0 or 4  | xxHash-32 of the content: anything else                                         |
 *
 * Frames may follow each other, and skippable frames may stand between them. What is written here has independent
 * blocks of 4 MiB, the content size, and no content checksum: a block of a backup has SHA-512 for that.
 *
 * @module
 */
import xxhash, { type XXHashAPI } from "xxhash-wasm";
import { CodecError } from "./errors.ts";
import { compressBlock, decompressBlock } from "./lz4_block.ts";

const MAGIC = 0x184d2204;
const SKIPPABLE = 0x184d2a50;
const STORED = 0x80000000;
/** Largest block of the frames written, in bytes, and its code in BD. */
const BLOCK = 4 * 1024 * 1024;
const BLOCK_CODE = 7;
/** FLG of the frames written: version 01, independent blocks, content size. */
const FLAGS = 0b0110_1000;
/** Magic, FLG, BD, content size, HC. */
const HEADER = 4 + 2 + 8 + 1;

let hashes: XXHashAPI | undefined;

/** Loads what is needed for checksums; must have ended before the other functions are called. */
export async function loadLz4(): Promise<void> {
  hashes ??= await xxhash();
}

function xxh32(data: Uint8Array): number {
  if (hashes === undefined) throw new CodecError("loadLz4 was not awaited");
  return hashes.h32Raw(data) >>> 0;
}

/** True when the bytes begin like a frame. */
export function isLz4(data: Uint8Array): boolean {
  return data.length >= 4 && view(data).getUint32(0, true) === MAGIC;
}

function view(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * Compresses into one frame: at most as long as the content, 19 bytes, and 4 for each 4 MiB.
 *
 * @param into memory for the frame, used when it is that long
 */
export function encodeLz4(data: Uint8Array, into?: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const longest = HEADER + data.length + 4 * Math.ceil(data.length / BLOCK) + 4;
  const frame = into !== undefined && into.length >= longest ? into : new Uint8Array(longest);
  const fields = view(frame);
  fields.setUint32(0, MAGIC, true);
  frame[4] = FLAGS;
  frame[5] = BLOCK_CODE << 4;
  fields.setBigUint64(6, BigInt(data.length), true);
  frame[14] = xxh32(frame.subarray(4, 14)) >>> 8 & 0xff;
  let at = HEADER;
  for (let from = 0; from < data.length; from += BLOCK) {
    const raw = data.subarray(from, from + BLOCK);
    const small = compressBlock(raw, frame.subarray(at + 4, at + 4 + raw.length - 1));
    if (small === undefined) frame.set(raw, at + 4);
    fields.setUint32(at, small ?? (raw.length | STORED), true);
    at += 4 + (small ?? raw.length);
  }
  fields.setUint32(at, 0, true);
  return frame.subarray(0, at + 4);
}

interface Header {
  readonly flags: number;
  readonly maxBlock: number;
  readonly contentSize: number | undefined;
  readonly end: number;
}

function need(data: Uint8Array, at: number, bytes: number): void {
  if (data.length - at < bytes) throw new CodecError("the LZ4 frame is cut short");
}

function readHeader(data: Uint8Array, at: number): Header {
  need(data, at, 7);
  const flags = data[at + 4] as number, code = (data[at + 5] as number) >> 4 & 7;
  if (flags >> 6 !== 1) throw new CodecError(`LZ4 frames of version ${flags >> 6} are not supported`);
  if ((flags & 1) !== 0) throw new CodecError("LZ4 frames with a dictionary are not supported");
  if (code < 4) throw new CodecError("the LZ4 frame's largest block is out of range");
  const sized = (flags & 8) !== 0;
  const end = at + (sized ? 14 : 6);
  need(data, at, end + 1 - at);
  if ((xxh32(data.subarray(at + 4, end)) >>> 8 & 0xff) !== data[end]) {
    throw new CodecError("the header of the LZ4 frame is damaged");
  }
  const contentSize = sized ? Number(view(data).getBigUint64(at + 6, true)) : undefined;
  return { flags, maxBlock: 1 << (8 + 2 * code), contentSize, end: end + 1 };
}

/** Decompresses the frame at `at`; returns where the next begins and where the output ends. */
function readFrame(data: Uint8Array, at: number, output: Uint8Array, to: number): [number, number] {
  const { flags, maxBlock, contentSize, end } = readHeader(data, at);
  const fields = view(data), start = to;
  const independent = (flags & 32) !== 0, checked = (flags & 16) !== 0;
  let from = end;
  for (;;) {
    need(data, from, 4);
    const word = fields.getUint32(from, true);
    from += 4;
    if (word === 0) break;
    const stored = word >= STORED, length = stored ? word - STORED : word;
    if (length > maxBlock) throw new CodecError("a block of the LZ4 frame is longer than it may be");
    need(data, from, length + (checked ? 4 : 0));
    const block = data.subarray(from, from + length);
    from += length;
    if (checked) {
      if (xxh32(block) !== fields.getUint32(from, true)) {
        throw new CodecError("a block of the LZ4 frame is damaged");
      }
      from += 4;
    }
    if (stored && length > output.length - to) {
      throw new CodecError("the LZ4 frame holds more than it should");
    }
    // A block that depends on those before may reach back over all of this frame, but not over another one.
    const base = independent ? to : start;
    if (stored) output.set(block, to);
    to = stored ? to + length : base + decompressBlock(block, output.subarray(base), to - base);
  }
  if ((flags & 4) !== 0) {
    need(data, from, 4);
    if (xxh32(output.subarray(start, to)) !== fields.getUint32(from, true)) {
      throw new CodecError("the content of the LZ4 frame is damaged");
    }
    from += 4;
  }
  if (contentSize !== undefined && contentSize !== to - start) {
    throw new CodecError(`the LZ4 frame holds ${to - start} bytes, its header says ${contentSize}`);
  }
  return [from, to];
}

/**
 * Decompresses all frames in `data`.
 *
 * @param output takes the content; more than fits is refused, so that a small hostile input cannot fill the memory
 * @returns the part of `output` that holds the content
 * @throws {CodecError}
 */
export function decodeLz4(data: Uint8Array, output: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  let from = 0, to = 0;
  do {
    need(data, from, 8);
    const magic = view(data).getUint32(from, true);
    if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE) {
      from += 8 + view(data).getUint32(from + 4, true);
      if (from > data.length) throw new CodecError("the LZ4 frame is cut short");
    } else if (magic === MAGIC) {
      [from, to] = readFrame(data, from, output, to);
    } else {
      throw new CodecError("not an LZ4 frame");
    }
  } while (from < data.length);
  return output.subarray(0, to);
}
