/**
 * The buffer pool: page-aligned buffers of 4 KiB times a power of two, out of one part of the arena.
 *
 * A buddy allocator: allocation and release touch only typed arrays, neighbours merge again, and nothing ever
 * grows. Who finds it empty stops reading from its peer and asks to be called when memory came back.
 *
 * Memory that many or large requests have touched goes back to the system some seconds after them: a volume that was
 * busy once is as small as one that was not. A timer runs only after more than a little was touched.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Arena, HUGE_PAGE_BYTES, LARGE_BUFFER_BYTES, PAGE_BYTES } from "./arena.ts";
import { type Completer, type Deferred, type Io, NO_TIMER } from "./io.ts";

/** What {@linkcode BufferPool.allocate} returns when there is no room now. */
export const NO_BUFFER = -1 as number;

/** Most waiters at once: one per connection or queue that can be out of memory. */
const MAX_WAITERS = 1024;

/** So much may stay touched: what a volume at rest with a request now and then uses. */
const KEPT_BYTES = 4 * 1024 * 1024;
/** How often it is looked whether memory can go back to the system, milliseconds. */
const GIVE_BACK_MS = 10_000;

/** Page states in `#order`: the order of a free block or a used block that starts here, or neither. */
const INSIDE = -1;
/** Added to the order of a block in use, so that free and used blocks cannot be mistaken for each other. */
const USED = 64;

/** Page-aligned buffers with reference counts; see the module text. */
export class BufferPool implements Completer {
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
  /** Order of the first buffer that makes the pool want huge pages; none has it once it does. */
  #largeOrder: number;
  #free: number;
  /** Pages that were touched lie below this one. */
  #touched = 0;
  /** A buffer that ends above this page is noticed: it touches more, or the timer must run again. */
  #noticed = 0;
  #timer: number = NO_TIMER;
  /** Buffers handed out so far, as far as the look at the last one goes; wraps. */
  #handedOut = 0;
  #handedOutThen = 0;

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
    this.#base = io.arena.reserve(pages * PAGE_BYTES, huge ? HUGE_PAGE_BYTES : PAGE_BYTES);
    this.#orders = Math.log2(largest / PAGE_BYTES) + 1;
    this.#largeOrder = huge ? orderOf(LARGE_BUFFER_BYTES) : this.#orders;
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
    if (page + (1 << order) > this.#noticed) this.#notice(page + (1 << order));
    this.#handedOut = (this.#handedOut + 1) | 0;
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
    this.#largeOrder = this.#orders;
    this.io.hugePages(this.#base, this.#order.length * PAGE_BYTES);
  }

  /** More memory is touched, or is used again after a time of rest. */
  #notice(end: number): void {
    this.#touched = Math.max(this.#touched, end);
    this.#noticed = this.#touched;
    if (this.#touched * PAGE_BYTES > KEPT_BYTES && this.#timer === NO_TIMER) this.#lookLater();
  }

  #lookLater(): void {
    this.#handedOutThen = this.#handedOut;
    this.#timer = this.io.timer(GIVE_BACK_MS, this, 0);
  }

  /** Gives back what lies free in blocks of the largest buffer. */
  complete(): void {
    this.#timer = NO_TIMER;
    const block = this.largest / PAGE_BYTES, whole = this.#orders - 1;
    let touched = 0;
    for (let page = 0; page < this.#touched; page += block) {
      if (this.#order[page] === whole) this.io.giveBack(this.#base + page * PAGE_BYTES, this.largest);
      else touched = Math.min(page + block, this.#touched);
    }
    this.#touched = this.#noticed = touched;
    if (touched * PAGE_BYTES <= KEPT_BYTES) return;
    // While it is used there is another look; what somebody keeps in peace wakes nobody, until the next request.
    if (this.#handedOut === this.#handedOutThen) this.#noticed = 0;
    else this.#lookLater();
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
