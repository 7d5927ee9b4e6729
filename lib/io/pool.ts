/**
 * The buffer pool: page-aligned buffers of 4 KiB times a power of two, out of one part of the arena.
 *
 * A buddy allocator: allocation and release touch only typed arrays, neighbours merge again, and nothing ever
 * grows. Who finds it empty stops reading from its peer and asks to be called when memory came back.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Arena, PAGE_BYTES } from "./arena.ts";
import type { Deferred, Io } from "./io.ts";

/** What {@linkcode BufferPool.allocate} returns when there is no room now. */
export const NO_BUFFER = -1 as number;

/** Most waiters at once: one per connection or queue that can be out of memory. */
const MAX_WAITERS = 1024;

/** Page states in `#order`: the order of a free block or a used block that starts here, or neither. */
const INSIDE = -1;
/** Buffers of at least so many bytes are for data that goes to a disk as a large piece. */
const LARGE_BYTES = 128 * 1024;
/** As HUGE_PAGE_BYTES of libc.ts. */
const HUGE_PAGE_BYTES = 2 * 1024 * 1024;

/** Added to the order of a block in use, so that free and used blocks cannot be mistaken for each other. */
const USED = 64;

/** Page-aligned buffers with reference counts; see the module text. */
export class BufferPool {
  /** Size of the largest buffer, bytes. */
  readonly largest: number;
  readonly #base: number;
  readonly #orders: number;
  readonly #order: Int8Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #heads: Int32Array;
  readonly #references: Uint16Array;
  readonly #waiters: Deferred[] = [];
  /** Order of the first buffer that makes the pool want huge pages; infinite once it does. */
  #largeOrder: number;
  #free: number;

  /**
   * Reserves the memory.
   *
   * @param io whose arena to take from, and whose loop calls waiters back
   * @param bytes size of the pool; rounded up to a multiple of the largest buffer
   * @param largest size of the largest buffer, a power of two of at least one page
   */
  constructor(readonly io: Io, bytes: number, largest: number) {
    assert(largest >= PAGE_BYTES && (largest & (largest - 1)) === 0, `not a power of two: ${largest}`);
    const blocks = Math.max(1, Math.ceil(bytes / largest));
    const pages = blocks * (largest / PAGE_BYTES);
    this.largest = largest;
    const huge = largest >= HUGE_PAGE_BYTES;
    this.#largeOrder = huge ? orderOf(LARGE_BYTES) : Infinity;
    this.#base = io.arena.reserve(pages * PAGE_BYTES, huge ? HUGE_PAGE_BYTES : PAGE_BYTES);
    this.#orders = Math.log2(largest / PAGE_BYTES) + 1;
    this.#order = new Int8Array(pages).fill(INSIDE);
    this.#next = new Int32Array(pages);
    this.#previous = new Int32Array(pages);
    this.#heads = new Int32Array(this.#orders).fill(-1);
    this.#references = new Uint16Array(pages);
    this.#free = pages * PAGE_BYTES;
    // Pushed from the end, so that low addresses are used first and the high ones stay untouched memory.
    for (let b = blocks - 1; b >= 0; b--) this.#push(b * (largest / PAGE_BYTES), this.#orders - 1);
  }

  /** Bytes not handed out. */
  get free(): number {
    return this.#free;
  }

  /** Bytes that a buffer of `bytes` bytes takes. */
  sizeOf(bytes: number): number {
    return PAGE_BYTES << orderOf(bytes);
  }

  /** The arena the buffers lie in. */
  get arena(): Arena {
    return this.io.arena;
  }

  #push(page: number, order: number): void {
    const head = this.#heads[order];
    this.#order[page] = order;
    this.#next[page] = head;
    this.#previous[page] = -1;
    if (head >= 0) this.#previous[head] = page;
    this.#heads[order] = page;
  }

  #unlink(page: number, order: number): void {
    const next = this.#next[page], previous = this.#previous[page];
    if (previous >= 0) this.#next[previous] = next;
    else this.#heads[order] = next;
    if (next >= 0) this.#previous[next] = previous;
    this.#order[page] = INSIDE;
  }

  /**
   * Hands out a buffer of at least `bytes` bytes with one reference.
   *
   * @returns its arena offset, or {@linkcode NO_BUFFER} when there is no room now
   * @throws {AssertionError} for more than {@linkcode BufferPool.largest}: the caller checks its peer's claims
   */
  allocate(bytes: number): number {
    // Plain checks here and below: `assert()` would make its text and an array of arguments on every call.
    if (!(bytes <= this.largest)) this.#tooLarge(bytes);
    const order = orderOf(bytes);
    if (order >= this.#largeOrder) this.#wantHugePages();
    let from = order;
    while (from < this.#orders && this.#heads[from] < 0) from++;
    if (from === this.#orders) return NO_BUFFER;
    const page = this.#heads[from];
    this.#unlink(page, from);
    while (from > order) {
      from--;
      this.#push(page + (1 << from), from);
    }
    this.#order[page] = order + USED;
    this.#references[page] = 1;
    this.#free -= PAGE_BYTES << order;
    return this.#base + page * PAGE_BYTES;
  }

  /** Adds a reference to a buffer handed out. */
  retain(at: number): void {
    const page = (at - this.#base) / PAGE_BYTES;
    if (!(this.#order[page] >= USED)) this.#noBuffer(at);
    this.#references[page]++;
  }

  /** Takes a reference back; with the last one the buffer is free again. */
  release(at: number): void {
    let page = (at - this.#base) / PAGE_BYTES;
    if (!(this.#order[page] >= USED)) this.#noBuffer(at);
    if (--this.#references[page] > 0) return;
    let order = this.#order[page] - USED;
    this.#free += PAGE_BYTES << order;
    this.#order[page] = INSIDE;
    while (order < this.#orders - 1) {
      const buddy = page ^ (1 << order);
      if (this.#order[buddy] !== order) break;
      this.#unlink(buddy, order);
      page &= ~(1 << order);
      order++;
    }
    this.#push(page, order);
    if (this.#waiters.length > 0) this.#wake();
  }

  /** Calls `task` from the loop, once, after some buffer came back. */
  wait(task: Deferred): void {
    assert(this.#waiters.length < MAX_WAITERS, "too many waiters for buffers");
    this.#waiters.push(task);
  }

  /** Not before there are large pieces: one page touched would cost a huge one. */
  #wantHugePages(): void {
    this.#largeOrder = Infinity;
    this.io.hugePages(this.#base, this.#order.length * PAGE_BYTES);
  }

  #tooLarge(bytes: number): never {
    assert.fail(`buffer of ${bytes} bytes asked, ${this.largest} is the largest`);
  }

  #noBuffer(at: number): never {
    assert.fail(`no buffer at ${at}`);
  }

  #wake(): void {
    for (const task of this.#waiters) this.io.defer(task);
    this.#waiters.length = 0;
  }
}

/** ceil(log2(pages)), by counting leading zeros. */
function orderOf(bytes: number): number {
  const pages = (bytes + PAGE_BYTES - 1) >>> 12;
  return pages <= 1 ? 0 : 32 - Math.clz32(pages - 1);
}
