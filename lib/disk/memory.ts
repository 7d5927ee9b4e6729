/**
 * Memory that a replica directory needs in the arena, reserved once per volume thread and used by every
 * directory opened there: bounce buffers for what direct I/O cannot take as it is, a block of zeros, and the
 * block of the revision counter.
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import { PAGE_BYTES } from "../io/arena.ts";
import { BufferPool, NO_BUFFER } from "../io/pool.ts";
import { type Requests, SlotList } from "./requests.ts";

/** Largest bounce buffer, bytes: longer requests go through it piece by piece. */
export const BOUNCE_BYTES = 128 * 1024;
/** All bounce buffers together, bytes. When they are in use, requests wait for them. */
const BOUNCE_POOL_BYTES = 4 * 1024 * 1024;
/** Zeros that are written at once, bytes. */
export const ZERO_BYTES = 256 * 1024;

/** The memory; reserve it once per arena. */
export class DiskMemory {
  /** Bounce buffers. */
  readonly pool: BufferPool;
  /** Arena offset of {@linkcode ZERO_BYTES} zeros that nobody writes to. A new arena is all zeros, at no cost. */
  readonly zeros: number;
  /** Arena offset of the revision counter's block. */
  readonly counterBlock: number;

  /** Reserves about 4.3 MiB. @throws {RangeError} when the arena is too small */
  constructor(io: Io) {
    this.pool = new BufferPool(io, BOUNCE_POOL_BYTES, BOUNCE_BYTES);
    this.zeros = io.arena.reserve(ZERO_BYTES, PAGE_BYTES);
    this.counterBlock = io.arena.reserve(PAGE_BYTES, PAGE_BYTES);
  }
}

/** Hands bounce buffers to requests, in order of arrival. */
export class Bounce {
  readonly #waiting: SlotList;

  /** Buffers out of `memory` for the slots of `requests`. */
  constructor(readonly memory: DiskMemory, readonly requests: Requests) {
    this.#waiting = new SlotList(requests);
  }

  /**
   * Asks for a buffer of up to {@linkcode BOUNCE_BYTES} for a slot's whole life.
   *
   * @returns its arena offset, or NO_BUFFER: then the owner's `bufferGranted` is called later, from the loop
   */
  acquire(slot: number, bytes: number): number {
    if (this.#waiting.count === 0) {
      const at = this.memory.pool.allocate(bytes);
      if (at !== NO_BUFFER) return at;
    }
    this.requests.result[slot] = bytes;
    this.#waiting.push(slot);
    return NO_BUFFER;
  }

  /** Gives a buffer back and serves those who wait. */
  release(at: number): void {
    this.memory.pool.release(at);
    while (this.#waiting.count > 0) {
      const slot = this.#waiting.first;
      const granted = this.memory.pool.allocate(this.requests.result[slot]);
      if (granted === NO_BUFFER) return;
      this.#waiting.shift();
      this.requests.owner(slot).bufferGranted(slot, granted);
    }
  }
}
