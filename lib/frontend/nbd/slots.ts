/**
 * The request slots of one NBD frontend, shared by its connections.
 *
 * A slot is a row across typed arrays, named by its index; the index is also the tag of the operation on the
 * device and of the payload in the send queue. Every connection has a few slots that nobody else can take: a
 * client that does not read its replies keeps its own slots, not everybody's.
 *
 * @module
 */
import { NO_BUFFER } from "../../io/pool.ts";

/** What a slot is used for, and therefore what its completion means. */
export const Use = {
  FREE: 0,
  /** A whole READ. */
  READ: 1,
  /** A whole WRITE. */
  WRITE: 2,
  FLUSH: 3,
  /** WRITE_ZEROES, done in steps. */
  ZERO: 4,
  /** One part of a long READ. */
  READ_PART: 5,
  /** One part of a long WRITE. */
  WRITE_PART: 6,
  /** A long READ, waiting for its parts. */
  WHOLE_READ: 7,
  /** A long WRITE, waiting for its parts. */
  WHOLE_WRITE: 8,
  /** TRIM: a step, and a flush for FUA. */
  TRIM: 9,
} as const;

/** One of {@linkcode Use}. */
export type Use = typeof Use[keyof typeof Use];

/** No slot. */
export const NO_SLOT = -1 as number;

/** Fewest slots that are kept for each connection: a long request and one part of it. */
const MIN_KEPT = 2;
/** Most slots that are kept for each connection. */
const MAX_KEPT = 8;

/** The table; see the module text. */
export class Slots {
  /** Number of slots. */
  readonly depth: number;
  /** {@linkcode Use} of each slot. */
  readonly use: Uint8Array;
  /** First half of the client's cookie. */
  readonly cookieHigh: Uint32Array;
  /** Second half of the client's cookie. */
  readonly cookieLow: Uint32Array;
  /** Flags of the request. */
  readonly flags: Uint16Array;
  /** Bytes: where the request (or the part) begins. */
  readonly offset: Float64Array;
  /** Bytes: how long it is. */
  readonly length: Float64Array;
  /** Arena offset of the buffer, or `NO_BUFFER`. */
  readonly buffer: Float64Array;
  /** ZERO and TRIM: how far they got. */
  readonly cursor: Float64Array;
  /** ZERO and TRIM: bytes of the step under way; 0 for the last flush. */
  readonly step: Float64Array;
  /** Parts: the slot of the whole. */
  readonly whole: Int32Array;
  /** Wholes: parts under way, and one more while parts are still being made. */
  readonly pending: Int32Array;
  /** Wholes: the first failed result of a part. */
  readonly failure: Int32Array;
  readonly #free: Int32Array;
  readonly #kept: number;
  readonly #shared: number;
  #sharedUsed = 0;
  #freeCount: number;

  /**
   * Makes the table.
   *
   * @param depth number of slots
   * @param connections most connections that take slots
   */
  constructor(depth: number, connections: number) {
    this.depth = depth;
    this.#kept = Math.max(MIN_KEPT, Math.min(MAX_KEPT, Math.floor(depth / 2 / connections)));
    this.#shared = depth - this.#kept * connections;
    if (this.#shared < 0) {
      throw new RangeError(`${depth} request slots are too few for ${connections} connections`);
    }
    this.use = new Uint8Array(depth);
    this.cookieHigh = new Uint32Array(depth);
    this.cookieLow = new Uint32Array(depth);
    this.flags = new Uint16Array(depth);
    this.offset = new Float64Array(depth);
    this.length = new Float64Array(depth);
    this.buffer = new Float64Array(depth).fill(NO_BUFFER);
    this.cursor = new Float64Array(depth);
    this.step = new Float64Array(depth);
    this.whole = new Int32Array(depth).fill(NO_SLOT);
    this.pending = new Int32Array(depth);
    this.failure = new Int32Array(depth);
    this.#free = new Int32Array(depth);
    for (let i = 0; i < depth; i++) this.#free[i] = depth - 1 - i;
    this.#freeCount = depth;
  }

  /** Slots nobody uses. */
  get free(): number {
    return this.#freeCount;
  }

  /** Whether a connection that holds `held` slots may take another one now. */
  available(held: number): boolean {
    return held < this.#kept || this.#sharedUsed < this.#shared;
  }

  /**
   * Takes a slot for a connection that holds `held`; ask {@linkcode available} first.
   * @throws {RangeError} when there is none, which is a mistake in the accounting
   */
  take(held: number, use: Use): number {
    if (this.#freeCount === 0) throw new RangeError("no free request slot");
    if (held >= this.#kept) this.#sharedUsed++;
    const slot = this.#free[--this.#freeCount];
    this.use[slot] = use;
    return slot;
  }

  /** Gives a slot back; `held` counts it still. The buffer is the caller's matter. */
  give(held: number, slot: number): void {
    if (held > this.#kept) this.#sharedUsed--;
    this.use[slot] = Use.FREE;
    this.buffer[slot] = NO_BUFFER;
    this.whole[slot] = NO_SLOT;
    this.pending[slot] = 0;
    this.failure[slot] = 0;
    this.#free[this.#freeCount++] = slot;
  }
}
