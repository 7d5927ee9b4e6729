/**
 * A pool that several share who may be strangers to each other: half of it is kept for the first buffer of each, so
 * that nobody who holds a lot, and does not give it back, can stop the others. They go on with a request at a time.
 *
 * @module
 */
import { type BufferPool, NO_BUFFER } from "./pool.ts";

/** See the module text. */
export class PoolShares {
  readonly #pool: BufferPool;
  readonly #ownBytes: number;
  readonly #keptBytes: number;

  /**
   * Shares what is free in a pool now.
   *
   * @param owners how many share it, at most
   * @param most largest first buffer that is kept for each, bytes; it is less where the pool is small
   */
  constructor(pool: BufferPool, owners: number, most: number) {
    this.#pool = pool;
    const own = Math.min(most, Math.floor(pool.free / 2 / owners), pool.largest);
    this.#ownBytes = own < pool.sizeOf(1) ? 0 : own;
    // The largest buffer must fit beside what is kept, or who wants it would wait for ever.
    this.#keptBytes = Math.min(this.#ownBytes * owners, pool.free - pool.largest);
  }

  /** Takes a buffer. @param first who asks holds none. @returns NO_BUFFER when there is none for it now */
  take(bytes: number, first: boolean): number {
    const { free } = this.#pool;
    if (free - this.#pool.sizeOf(bytes) >= this.#keptBytes) return this.#pool.allocate(bytes);
    return this.takeOwn(bytes, first);
  }

  /** As {@linkcode take}, but only of what is kept: without going before others who wait. */
  takeOwn(bytes: number, first: boolean): number {
    return first && bytes <= this.#ownBytes ? this.#pool.allocate(bytes) : NO_BUFFER;
  }
}
