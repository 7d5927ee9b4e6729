/**
 * Blocks on their way to a target: read from the source, named by their checksum, and uploaded unless they are there.
 *
 * @module
 */
import { BlockIndex } from "./block_index.ts";
import { type Bytes, type Codec, ENCODED_SPARE_BYTES } from "./codec.ts";
import { BackupInputError } from "./errors.ts";
import { inLanes } from "./lanes.ts";
import { blockPath } from "./names.ts";
import type { BlockRef, Compression } from "./records.ts";
import type { BlockSource } from "./source.ts";
import { Spares } from "./spares.ts";
import type { Target } from "./target/target.ts";

/** What an upload needs. */
export interface UploadContext {
  /** Where to. */
  readonly target: Target;
  /** Where from. */
  readonly source: BlockSource;
  /** Who hashes and compresses. */
  readonly codec: Codec;
  /** What is there. */
  readonly index: BlockIndex;
  /** Folder of the blocks, with `/`. */
  readonly folder: string;
  /** Size of a block in bytes. */
  readonly blockBytes: number;
  /** True: a last block that the source ends within is as long as that; default: it is filled up with zeros. */
  readonly shortEnd?: boolean;
  /** How blocks are compressed. */
  readonly method: Compression;
  /** True: blocks that are there are uploaded again. */
  readonly again: boolean;
  /** Blocks under way at the same time. */
  readonly lanes: number;
  /** Stops. */
  readonly signal: AbortSignal | undefined;
}

/** Uploads blocks and counts. */
export class Uploader {
  readonly #context: UploadContext;
  readonly #contents: Spares;
  readonly #encoded: Spares;
  #index: BlockIndex;
  /** Blocks of this backup that are there. */
  readonly #stored = new Set<string>();
  /** Blocks of this backup on their way, by checksum: an equal one waits instead of going too. */
  readonly #underWay = new Map<string, Promise<void>>();
  /** Bytes uploaded of blocks that were not there, as stored. */
  newBytes = 0;
  /** Bytes uploaded of blocks that were there. */
  againBytes = 0;
  /** Blocks uploaded that were not there. */
  newBlocks = 0;
  /** Blocks uploaded that were there. */
  againBlocks = 0;
  /** Blocks done. */
  done = 0;

  /** An uploader for one backup. */
  constructor(context: UploadContext) {
    this.#context = context;
    this.#contents = new Spares(context.blockBytes, context.lanes);
    this.#encoded = new Spares(context.blockBytes + ENCODED_SPARE_BYTES, context.lanes);
    this.#index = context.index;
  }

  /** Forgets which blocks are there, because some were removed; the counters go on. */
  forget(): void {
    this.#stored.clear();
    this.#index = new BlockIndex(this.#context.target, this.#context.folder, {
      questions: 0,
      trustListings: false,
    });
  }

  /** Backs up the blocks at these offsets; returns what they are, in the same order. */
  async run(offsets: readonly number[], onBlock: () => void): Promise<BlockRef[]> {
    const { lanes, signal } = this.#context;
    const checksums: string[] = Array(offsets.length).fill("");
    await inLanes(offsets, lanes, signal, async (offset, index, stop) => {
      checksums[index] = await this.#block(offset, stop);
      this.done++;
      onBlock();
    });
    return offsets.map((offset, index) => ({ offset, checksum: checksums[index] ?? "" }));
  }

  async #block(offset: number, signal: AbortSignal): Promise<string> {
    const { source, codec, blockBytes, shortEnd = false } = this.#context;
    const data = this.#contents.take(), length = Math.min(blockBytes, source.bytes - offset);
    await source.read(offset, data.subarray(0, length));
    // The volume may end within its last block; the rest of that is zeros.
    data.fill(0, length);
    const hashed = await codec.hash(shortEnd ? data.subarray(0, length) : data);
    const { checksum } = hashed;
    let underWay = this.#underWay.get(checksum);
    if (underWay !== undefined || this.#stored.has(checksum)) this.#contents.give(hashed.data);
    else {
      underWay = this.#store(checksum, hashed.data, signal).finally(() => this.#underWay.delete(checksum));
      this.#underWay.set(checksum, underWay);
    }
    await underWay;
    return checksum;
  }

  async #store(checksum: string, data: Bytes, signal: AbortSignal): Promise<void> {
    const { target, codec, folder, method, again } = this.#context;
    const index = this.#index;
    const there = await index.has(checksum);
    if (there && !again) {
      this.#contents.give(data);
      return void this.#stored.add(checksum);
    }
    const into = method === "lz4" ? this.#encoded.take() : undefined;
    const { stored, spare } = await codec.encode(data, method, into);
    const bytes = stored.length, apart = stored.buffer !== spare.buffer;
    if (apart) this.#contents.give(spare);
    await target.write(blockPath(folder, checksum), stored, signal);
    if (apart) this.#encoded.give(stored);
    else this.#contents.give(spare);
    index.add(checksum);
    this.#stored.add(checksum);
    if (there) {
      this.againBytes += bytes;
      this.againBlocks++;
    } else {
      this.newBytes += bytes;
      this.newBlocks++;
    }
  }
}

/** Offsets of the blocks that the ranges touch, ascending, each once. Ranges beyond the volume's end are cut. */
export function blocksOf(
  ranges: Iterable<{ readonly offset: number; readonly length: number }>,
  blockBytes: number,
  volumeBytes: number,
): number[] {
  const offsets: number[] = [];
  let next = 0, before = 0;
  for (const { offset, length } of ranges) {
    if (offset < before) throw new BackupInputError(`the source's changed ranges do not ascend at ${offset}`);
    before = offset;
    if (length <= 0 || offset >= volumeBytes) continue;
    const first = Math.max(next, Math.floor(offset / blockBytes));
    const end = Math.ceil(Math.min(offset + length, volumeBytes) / blockBytes);
    for (let block = first; block < end; block++) offsets.push(block * blockBytes);
    next = Math.max(next, end);
  }
  return offsets;
}

/** The blocks of a backup and newer ones, which win; by offset. */
export function mergeBlocks(older: readonly BlockRef[], newer: readonly BlockRef[]): BlockRef[] {
  const merged: BlockRef[] = [];
  let o = 0, n = 0;
  for (;;) {
    const old = older[o], young = newer[n];
    if (old === undefined && young === undefined) return merged;
    if (young === undefined || (old !== undefined && old.offset < young.offset)) {
      merged.push(old as BlockRef);
      o++;
      continue;
    }
    merged.push(young);
    n++;
    if (old?.offset === young.offset) o++;
  }
}
