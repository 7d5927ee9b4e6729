/**
 * A set of 4 KiB blocks of a volume, small while few or long ranges are in it: what a copy missed, or what was
 * trimmed behind its back.
 *
 * Blocks are kept in chunks of 128 MiB. An empty or a full chunk costs a byte, any other a page of bits. The
 * pages are bounded: when more are needed than there may be, the set counts as overflown and is good for nothing.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** Bytes of a block: the unit in which replicas know what was written. */
export const SET_BLOCK_BYTES = 4096;

const CHUNK_PAGE_BYTES = 4096;
const CHUNK_BLOCKS = CHUNK_PAGE_BYTES * 8;

/** Most pages of a set: 8 MiB of memory, enough for scattered writes all over 256 GiB. */
export const MAX_PAGES = 2048;

/** States of a chunk. */
const EMPTY = 0, FULL = 1, MIXED = 2;

/** A set as plain data, for another process. */
export interface PackedSet {
  /** Runs of chunks in the same state, in order: state (0 empty, 1 full, 2 some blocks) and count. */
  readonly chunks: readonly (readonly [state: number, count: number])[];
  /** The pages of the chunks of state 2, in order, base64. */
  readonly pages: string;
}

/** See the module text. */
export class BlockSet {
  #states: Uint8Array;
  readonly #pages = new Map<number, Uint8Array>();
  #overflown = false;
  #count = 0;

  /** An empty set. @param bytes of the volume */
  constructor(bytes: number, readonly maxPages: number = MAX_PAGES) {
    this.#states = new Uint8Array(Math.ceil(bytes / SET_BLOCK_BYTES / CHUNK_BLOCKS));
  }

  /** More would have been needed than may be kept: what the set holds is not complete. */
  get overflown(): boolean {
    return this.#overflown;
  }

  /** Blocks in the set. */
  get count(): number {
    return this.#count;
  }

  /** Adds every block that a range touches. */
  addTouched(offset: number, length: number): void {
    this.#change(
      Math.floor(offset / SET_BLOCK_BYTES),
      Math.ceil((offset + length) / SET_BLOCK_BYTES),
      true,
    );
  }

  /** Adds every block that lies wholly in a range, as an unmap treats it. */
  addWhole(offset: number, length: number): void {
    this.#change(
      Math.ceil(offset / SET_BLOCK_BYTES),
      Math.floor((offset + length) / SET_BLOCK_BYTES),
      true,
    );
  }

  /** Takes every block out that a range touches. */
  removeTouched(offset: number, length: number): void {
    this.#change(
      Math.floor(offset / SET_BLOCK_BYTES),
      Math.ceil((offset + length) / SET_BLOCK_BYTES),
      false,
    );
  }

  /** True when a block is in the set. */
  has(block: number): boolean {
    const chunk = Math.floor(block / CHUNK_BLOCKS), bit = block % CHUNK_BLOCKS;
    const state = this.#states[chunk] ?? EMPTY;
    if (state !== MIXED) return state === FULL;
    const page = this.#pages.get(chunk);
    return page !== undefined && (page[bit >> 3] & (1 << (bit & 7))) !== 0;
  }

  /**
   * The next run of blocks from a block on.
   * @param most longest run told at once, blocks
   * @returns [first, count], count 0 when there is none
   */
  next(from: number, most: number): [first: number, count: number] {
    const end = this.#states.length * CHUNK_BLOCKS;
    let first = from;
    while (first < end && !this.has(first)) {
      const chunk = Math.floor(first / CHUNK_BLOCKS);
      first = this.#states[chunk] === EMPTY ? (chunk + 1) * CHUNK_BLOCKS : first + 1;
    }
    let last = first;
    while (last < end && last - first < most && this.has(last)) last++;
    return [Math.min(first, end), last - first];
  }

  /** A set of its own with the same blocks. */
  copy(): BlockSet {
    const set = new BlockSet(0, this.maxPages);
    set.#states = this.#states.slice();
    for (const [chunk, page] of this.#pages) set.#pages.set(chunk, page.slice());
    set.#overflown = this.#overflown;
    set.#count = this.#count;
    return set;
  }

  /** Pages of memory it takes. */
  get pages(): number {
    return this.#pages.size;
  }

  /** The set as plain data. */
  pack(): PackedSet {
    const chunks: [number, number][] = [], pages: Uint8Array[] = [];
    this.#states.forEach((state, chunk) => {
      const last = chunks.at(-1), page = this.#pages.get(chunk);
      if (last?.[0] === state) last[1]++;
      else chunks.push([state, 1]);
      if (state === MIXED && page) pages.push(page);
    });
    return { chunks, pages: Buffer.concat(pages).toString("base64") };
  }

  /**
   * A set that another process packed.
   * @param bytes of the volume
   * @throws {RangeError} when it is none of a volume of this size
   */
  static unpack(bytes: number, packed: PackedSet): BlockSet {
    const set = new BlockSet(bytes), pages = new Uint8Array(Buffer.from(packed.pages, "base64"));
    let chunk = 0, at = 0;
    for (const [state, count] of packed.chunks) {
      const good = Number.isSafeInteger(count) && count > 0 && count <= set.#states.length - chunk;
      if (!good || (state !== EMPTY && state !== FULL && state !== MIXED)) {
        throw new RangeError(`a set of blocks with ${count} chunks of state ${state} at ${chunk}`);
      }
      set.#states.fill(state, chunk, chunk + count);
      for (const end = chunk + count; chunk < end; chunk++) {
        if (state === MIXED) set.#pages.set(chunk, pages.slice(at, at += CHUNK_PAGE_BYTES));
        set.#count += set.#chunkCount(chunk);
      }
    }
    if (chunk !== set.#states.length || at !== pages.length || set.#pages.size > set.maxPages) {
      throw new RangeError(`a set of blocks with ${chunk} chunks and ${pages.length} bytes of pages`);
    }
    return set;
  }

  #change(from: number, to: number, add: boolean): void {
    const end = Math.min(to, this.#states.length * CHUNK_BLOCKS);
    for (let block = from; block < end;) {
      const chunk = Math.floor(block / CHUNK_BLOCKS), start = chunk * CHUNK_BLOCKS;
      const until = Math.min(end, start + CHUNK_BLOCKS);
      this.#changeChunk(chunk, block - start, until - start, add);
      block = until;
    }
  }

  #changeChunk(chunk: number, from: number, to: number, add: boolean): void {
    const state = this.#states[chunk];
    if (state === (add ? FULL : EMPTY)) return;
    if (from === 0 && to === CHUNK_BLOCKS) {
      this.#count += (add ? CHUNK_BLOCKS : 0) - this.#chunkCount(chunk);
      this.#pages.delete(chunk);
      this.#states[chunk] = add ? FULL : EMPTY;
      return;
    }
    const page = this.#page(chunk);
    if (!page) return;
    for (let bit = from; bit < to; bit++) {
      const mask = 1 << (bit & 7), was = (page[bit >> 3] & mask) !== 0;
      if (was === add) continue;
      page[bit >> 3] ^= mask;
      this.#count += add ? 1 : -1;
    }
  }

  #page(chunk: number): Uint8Array | undefined {
    const found = this.#pages.get(chunk);
    if (found) return found;
    if (this.#pages.size >= this.maxPages) {
      this.#overflown = true;
      return undefined;
    }
    const page = new Uint8Array(CHUNK_PAGE_BYTES).fill(this.#states[chunk] === FULL ? 0xff : 0);
    this.#pages.set(chunk, page);
    this.#states[chunk] = MIXED;
    return page;
  }

  #chunkCount(chunk: number): number {
    if (this.#states[chunk] !== MIXED) return this.#states[chunk] === FULL ? CHUNK_BLOCKS : 0;
    let count = 0;
    for (const byte of this.#pages.get(chunk) ?? []) {
      for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
    }
    return count;
  }
}
