/**
 * The fixed pool of operations of an Io: who is told, and what is left to do. A slot is a number, its fields
 * lie in typed arrays, so an operation costs no object.
 *
 * Also the queue of operations that have ended already but whose completer must not be called from inside the
 * submitting call.
 *
 * @module
 */
import { type Completer, MAX_OPERATIONS } from "./io.ts";

/** What an operation does; decides how its end is treated. */
export const Kind = {
  READ: 0,
  WRITE: 1,
  WRITE_DURABLE: 2,
  SYNC_DATA: 3,
  FALLOCATE: 4,
  ACCEPT: 5,
  CONNECT: 6,
  RECEIVE: 7,
  SEND: 8,
  WRITE_VECTOR: 9,
} as const;

/** One of {@linkcode Kind}. */
export type Kind = typeof Kind[keyof typeof Kind];

/** Descriptor of a slot that is not in use. */
const NO_DESCRIPTOR = -1;

const nobody: Completer = { complete() {} };

/** The pool. All arrays are indexed by slot. */
export class Operations {
  /** One of {@linkcode Kind}. */
  readonly kind: Uint8Array<ArrayBuffer> = new Uint8Array(MAX_OPERATIONS);
  /** The descriptor. */
  readonly fd: Int32Array<ArrayBuffer> = new Int32Array(MAX_OPERATIONS);
  /** Arena offset of the buffer or of the vector. Moves on when a part is done. */
  readonly at: Float64Array<ArrayBuffer> = new Float64Array(MAX_OPERATIONS);
  /** Bytes left, or segments left of a vector. */
  readonly length: Float64Array<ArrayBuffer> = new Float64Array(MAX_OPERATIONS);
  /** Offset in the file; of a send, the bytes in total; moves on like `at` for files. */
  readonly offset: Float64Array<ArrayBuffer> = new Float64Array(MAX_OPERATIONS);
  /** Bytes done so far. */
  readonly done: Float64Array<ArrayBuffer> = new Float64Array(MAX_OPERATIONS);
  /** Mode of a fallocate. */
  readonly mode: Int32Array<ArrayBuffer> = new Int32Array(MAX_OPERATIONS);
  /** 1 when the operation is to wait no longer, see `Io.interrupt`. */
  readonly interrupted: Uint8Array<ArrayBuffer> = new Uint8Array(MAX_OPERATIONS);

  readonly #who: Completer[] = new Array<Completer>(MAX_OPERATIONS).fill(nobody);
  readonly #tag = new Float64Array(MAX_OPERATIONS);
  readonly #free = new Int32Array(MAX_OPERATIONS);
  #freeCount = MAX_OPERATIONS;

  readonly #ended = new Int32Array(MAX_OPERATIONS);
  readonly #result = new Float64Array(MAX_OPERATIONS);
  #endedHead = 0;
  #endedCount = 0;

  constructor() {
    // Low slots first, again and again: few pages are ever touched by a quiet process.
    for (let i = 0; i < MAX_OPERATIONS; i++) this.#free[i] = MAX_OPERATIONS - 1 - i;
    this.fd.fill(NO_DESCRIPTOR);
  }

  /** Slots of receives, accepts and stream reads under way on a descriptor. For rare occasions: looks at all slots. */
  waitingOn(fd: number): number[] {
    const found: number[] = [];
    for (let slot = 0; slot < MAX_OPERATIONS; slot++) {
      if (this.fd[slot] !== fd) continue;
      const kind = this.kind[slot];
      const stream = kind === Kind.READ && (this.offset[slot] as number) < 0;
      if (stream || kind === Kind.RECEIVE || kind === Kind.ACCEPT) found.push(slot);
    }
    return found;
  }

  /** Operations under way, ended ones that were not delivered included. */
  get underWay(): number {
    return MAX_OPERATIONS - this.#freeCount;
  }

  /** Operations that ended and wait for {@linkcode deliver}. */
  get ended(): number {
    return this.#endedCount;
  }

  /**
   * Takes a slot.
   *
   * @throws {RangeError} when all are taken: some user of the Io exceeds its bound, which is a defect
   */
  take(
    kind: Kind,
    fd: number,
    at: number,
    length: number,
    offset: number,
    who: Completer,
    tag: number,
  ): number {
    if (this.#freeCount === 0) {
      throw new RangeError(`more than ${MAX_OPERATIONS} operations under way in one Io`);
    }
    const slot = this.#free[--this.#freeCount] as number;
    this.kind[slot] = kind;
    this.fd[slot] = fd;
    this.at[slot] = at;
    this.length[slot] = length;
    this.offset[slot] = offset;
    this.done[slot] = 0;
    this.mode[slot] = 0;
    this.interrupted[slot] = 0;
    this.#who[slot] = who;
    this.#tag[slot] = tag;
    return slot;
  }

  /** Frees the slot and tells its owner, now. Only from the loop. */
  finish(slot: number, result: number): void {
    const who = this.#who[slot] as Completer;
    const tag = this.#tag[slot] as number;
    this.fd[slot] = NO_DESCRIPTOR;
    this.#free[this.#freeCount++] = slot;
    who.complete(tag, result);
  }

  /** Notes the end of an operation; {@linkcode deliver} tells the owner. */
  post(slot: number, result: number): void {
    // Cannot overflow: a slot is posted once between take and finish, and there are as many places as slots.
    this.#ended[(this.#endedHead + this.#endedCount) % MAX_OPERATIONS] = slot;
    this.#result[slot] = result;
    this.#endedCount++;
  }

  /** Tells the owners of the operations posted so far, not of those posted meanwhile. */
  deliver(): void {
    for (let n = this.#endedCount; n > 0; n--) {
      const slot = this.#ended[this.#endedHead] as number;
      this.#endedHead = (this.#endedHead + 1) % MAX_OPERATIONS;
      this.#endedCount--;
      this.finish(slot, this.#result[slot] as number);
    }
  }
}
