/**
 * The requests under way in a volume: a fixed number of slots whose fields are columns of typed arrays, so that
 * a request costs no object.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import type { Completer } from "../io/io.ts";
import { digestBytes } from "../wire/digest.ts";
import { SLOT_BITS, SLOTS } from "./limits.ts";

/** Where a slot is in its life. */
export const SlotState = {
  FREE: 0,
  /** Waits for an overlapping write, or for the volume to be released from a hold. */
  BLOCKED: 1,
  /** Sent to replicas. */
  ACTIVE: 2,
  /** A read that failed and waits for its buffer before it is sent to another replica. */
  RETRYING: 3,
  /** The result is known; its buffer is still lent to a connection. */
  ENDING: 4,
  /** The result is known and waits for the members to be recorded. */
  HELD: 5,
  /** Written to the complete copies; the edges are being copied to one that has no blocks of its own there. */
  MENDING: 6,
} as const;

const MASK = (1 << SLOT_BITS) - 1;

/** The columns; see the module text. `slot` is an index below SLOTS everywhere. */
export class Slots {
  /** One of {@linkcode SlotState}. */
  readonly state: Uint8Array = new Uint8Array(SLOTS);
  /** One of `Op`. */
  readonly op: Uint8Array = new Uint8Array(SLOTS);
  /** Byte offset in the volume. */
  readonly offset: Float64Array = new Float64Array(SLOTS);
  /** Bytes. */
  readonly length: Float64Array = new Float64Array(SLOTS);
  /** Arena offset of the data. */
  readonly at: Float64Array = new Float64Array(SLOTS);
  /** The frontend's own number. */
  readonly tag: Float64Array = new Float64Array(SLOTS);
  /** Whom to answer. */
  readonly who: (Completer | undefined)[] = new Array(SLOTS).fill(undefined);
  /** Bits of links that have not answered. */
  readonly waiting: Uint32Array = new Uint32Array(SLOTS);
  /** Bits of links that answered well / with an error. */
  readonly good: Uint32Array = new Uint32Array(SLOTS);
  /** Bits of links that answered with an error. */
  readonly bad: Uint32Array = new Uint32Array(SLOTS);
  /** Bits of links whose error was lack of space. */
  readonly full: Uint32Array = new Uint32Array(SLOTS);
  /** COPY: bits of the links that get the data. */
  readonly to: Uint32Array = new Uint32Array(SLOTS);
  /** Edges of a write that a layered copy did not get; see mend.ts. */
  readonly mend: Uint8Array = new Uint8Array(SLOTS);
  /** Links that still use the slot's buffer. */
  readonly holds: Uint8Array = new Uint8Array(SLOTS);
  /** What the request will be answered with, once it is known. */
  readonly result: Float64Array = new Float64Array(SLOTS);
  /** `io.now()` when it was sent. */
  readonly sentAt: Float64Array = new Float64Array(SLOTS);
  /** `io.now()` when the frontend submitted it. */
  readonly startedAt: Float64Array = new Float64Array(SLOTS);
  readonly #uses = new Uint32Array(SLOTS);
  readonly #free = new Int32Array(SLOTS).map((_, i) => SLOTS - 1 - i);
  #freeCount = SLOTS;

  /** Slots in use. */
  get used(): number {
    return SLOTS - this.#freeCount;
  }

  /** Takes a slot. Frontends together never ask for more than there are. */
  take(): number {
    if (this.#freeCount === 0) assert.fail("more requests under way than the volume has slots");
    const slot = this.#free[--this.#freeCount];
    this.waiting[slot] =
      this.good[slot] =
      this.bad[slot] =
      this.full[slot] =
      this.mend[slot] =
        0;
    this.holds[slot] = 0;
    this.#uses[slot]++;
    return slot;
  }

  /** Gives a slot back. */
  give(slot: number): void {
    this.state[slot] = SlotState.FREE;
    this.who[slot] = undefined;
    this.#free[this.#freeCount++] = slot;
  }

  /** Sequence number of a slot's present use. */
  sequence(slot: number): number {
    return ((this.#uses[slot] << SLOT_BITS) | slot) >>> 0;
  }

  /** The slot a sequence number belongs to now, or -1 when it is not in use any more. */
  find(sequence: number): number {
    const slot = sequence & MASK;
    return slot < SLOTS && this.state[slot] !== SlotState.FREE && this.sequence(slot) === sequence
      ? slot
      : -1;
  }
}

/** Operations of the engine's own, beside those of {@linkcode Op}. */
export const InnerOp = {
  /** Makes a range equal on all complete copies: read from the first, write to the others. */
  COPY: 8,
  /** Tells all replicas that the regions of a range are clean. */
  CLEAN: 9,
  /** Asks one replica for its map of dirty regions. */
  REGIONS: 10,
  /** As COPY, within a change that has the range to itself already. */
  MEND: 11,
  /** An unmap for some copies only, while changes are held. */
  TRIM: 12,
  /** Asks one replica for the digest of a range; the answer has `digestBytes(length)` bytes. */
  DIGEST: 13,
} as const;

/** One of {@linkcode InnerOp}. */
export type InnerOp = typeof InnerOp[keyof typeof InnerOp];

/** Who takes operations of the engine's own: the volume. */
export interface Submitter {
  /**
   * As `BlockDevice.submit`, also for {@linkcode InnerOp}.
   *
   * @param to COPY and MEND: bits of the links that get the data. REGIONS, TRIM and DIGEST: the bit of the one link meant
   */
  submitInner(
    op: Op | InnerOp,
    offset: number,
    length: number,
    at: number,
    who: Completer,
    tag: number,
    to?: number,
  ): void;
}

/** Operations that other changes of the same range must wait for, and that wait for them. */
export function changes(op: number): boolean {
  return op === InnerOp.COPY || op === InnerOp.CLEAN || op === Op.WRITE || op === Op.UNMAP ||
    op === Op.WRITE_DURABLE;
}

/** True for the operations that read from one copy and write to others. */
export function copies(op: number): boolean {
  return op === InnerOp.COPY || op === InnerOp.MEND;
}

/** True while an operation waits for data from a replica. A copying one does until its source has answered. */
export function reads(op: number, good: number): boolean {
  return op === Op.READ || op === InnerOp.REGIONS || op === InnerOp.DIGEST || (copies(op) && good === 0);
}

/** How many bytes an operation that {@linkcode reads} gets from its replica. */
export function readBytes(op: number, length: number): number {
  return op === InnerOp.DIGEST ? digestBytes(length) : length;
}
