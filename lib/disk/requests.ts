/**
 * Requests under way: fixed slots in typed arrays, so that a request costs no allocation. A slot is a small
 * number; every operation of the Io carries it as its tag and finds its way back.
 *
 * @module
 */
import type { Completer, Deferred, Io } from "../io/io.ts";

/** Requests under way at once in one replica. Whoever feeds a replica keeps below it: {@linkcode Requests.room}. */
export const REQUEST_SLOTS = 1024;
/** No slot: the end of a list. */
export const NO_SLOT = -1 as number;

/** Who works on a slot: told when something it waited for is there. */
export interface SlotOwner {
  /** The blocks asked for are locked. */
  lockGranted(slot: number): void;
  /** A bounce buffer asked for is there. */
  bufferGranted(slot: number, at: number): void;
}

const NOBODY: Completer = { complete: () => {} };
const NO_OWNER: SlotOwner = { lockGranted: () => {}, bufferGranted: () => {} };

/** The table of slots. */
export class Requests implements Deferred {
  /** Byte offset in the volume. */
  readonly offset: Float64Array<ArrayBuffer> = new Float64Array(REQUEST_SLOTS);
  /** Bytes. */
  readonly length: Float64Array<ArrayBuffer> = new Float64Array(REQUEST_SLOTS);
  /** Arena offset of the caller's data. */
  readonly at: Float64Array<ArrayBuffer> = new Float64Array(REQUEST_SLOTS);
  /** Bytes done so far, of requests that go in pieces. */
  readonly done: Float64Array<ArrayBuffer> = new Float64Array(REQUEST_SLOTS);
  /** Arena offset of the bounce buffer, for requests that have one. */
  readonly bounce: Float64Array<ArrayBuffer> = new Float64Array(REQUEST_SLOTS);
  /** What the request will complete with. */
  readonly result: Float64Array<ArrayBuffer> = new Float64Array(REQUEST_SLOTS);
  /** Where the request is; a number of its owner's. */
  readonly phase: Uint8Array<ArrayBuffer> = new Uint8Array(REQUEST_SLOTS);
  /** 1 = on stable storage before it completes. */
  readonly durable: Uint8Array<ArrayBuffer> = new Uint8Array(REQUEST_SLOTS);
  /** Next slot of the list a slot is in; a slot is in one list at a time. */
  readonly next: Int32Array<ArrayBuffer> = new Int32Array(REQUEST_SLOTS);
  readonly #who: Completer[] = new Array<Completer>(REQUEST_SLOTS).fill(NOBODY);
  readonly #tag = new Float64Array(REQUEST_SLOTS);
  readonly #owner: SlotOwner[] = new Array<SlotOwner>(REQUEST_SLOTS).fill(NO_OWNER);
  /** Free slots, the last one used on top: its memory is still in the caches. */
  readonly #free = new Uint16Array(REQUEST_SLOTS);
  #room = REQUEST_SLOTS;
  /** Which of two counts a slot is in, and the counts: see {@linkcode Requests.mark}. */
  readonly #side = new Uint8Array(REQUEST_SLOTS);
  readonly #counts = new Uint32Array(2);
  #present = 0;
  readonly #ready: SlotList;
  #deferred = false;

  /** Completes requests through the loop of `io`. */
  constructor(readonly io: Io) {
    this.#ready = new SlotList(this);
    for (let i = 0; i < REQUEST_SLOTS; i++) this.#free[i] = REQUEST_SLOTS - 1 - i;
  }

  /** Slots that are free. */
  get room(): number {
    return this.#room;
  }

  /** Requests under way. */
  get underWay(): number {
    return REQUEST_SLOTS - this.#room;
  }

  /**
   * Draws a line between the requests under way and those to come: {@linkcode Requests.beforeMark} tells how many of
   * the former are left. When it is 0, nobody works any more with what was changed before the line was drawn.
   *
   * @returns false when the requests before the last line have not ended yet: try again
   */
  mark(): boolean {
    if (this.beforeMark > 0) return false;
    this.#present ^= 1;
    return true;
  }

  /** Requests under way that began before the last {@linkcode Requests.mark}. */
  get beforeMark(): number {
    return this.#counts[this.#present ^ 1];
  }

  /**
   * Takes a slot.
   * @throws {RangeError} when there is none: the caller must keep within {@linkcode Requests.room}
   */
  acquire(
    owner: SlotOwner,
    offset: number,
    length: number,
    at: number,
    who: Completer,
    tag: number,
  ): number {
    if (this.#room === 0) {
      throw new RangeError(`more than ${REQUEST_SLOTS} requests under way in one replica`);
    }
    const slot = this.#free[--this.#room];
    this.offset[slot] = offset;
    this.length[slot] = length;
    this.at[slot] = at;
    this.done[slot] = 0;
    this.durable[slot] = 0;
    this.#side[slot] = this.#present;
    this.#counts[this.#present]++;
    this.#owner[slot] = owner;
    this.#who[slot] = who;
    this.#tag[slot] = tag;
    return slot;
  }

  /** Who works on a slot. */
  owner(slot: number): SlotOwner {
    return this.#owner[slot];
  }

  /** Ends a request. Only from the loop, never from inside a submitting call. */
  finish(slot: number, result: number): void {
    const who = this.#who[slot], tag = this.#tag[slot];
    this.#who[slot] = NOBODY;
    this.#owner[slot] = NO_OWNER;
    this.#free[this.#room++] = slot;
    this.#counts[this.#side[slot]]--;
    who.complete(tag, result);
  }

  /** Ends a request from inside a submitting call: completes from the loop. */
  finishLater(slot: number, result: number): void {
    this.result[slot] = result;
    this.#ready.push(slot);
    if (this.#deferred) return;
    this.#deferred = true;
    this.io.defer(this);
  }

  /** Completes what {@linkcode Requests.finishLater} put aside. */
  runDeferred(): void {
    this.#deferred = false;
    // Only those that are here now: a completion may submit again, and the loop must get its turn.
    for (let n = this.#ready.count; n > 0; n--) {
      const slot = this.#ready.shift();
      this.finish(slot, this.result[slot]);
    }
  }
}

/** A first-in first-out list of slots, linked through {@linkcode Requests.next}. */
export class SlotList {
  #first = NO_SLOT;
  #last = NO_SLOT;
  #count = 0;
  readonly #requests: Requests;

  /** An empty list. */
  constructor(requests: Requests) {
    this.#requests = requests;
  }

  /** Number of slots in the list. */
  get count(): number {
    return this.#count;
  }

  /** The first slot, or {@linkcode NO_SLOT}. */
  get first(): number {
    return this.#first;
  }

  /** Adds a slot at the end. */
  push(slot: number): void {
    const next = this.#requests.next;
    next[slot] = NO_SLOT;
    if (this.#last === NO_SLOT) this.#first = slot;
    else next[this.#last] = slot;
    this.#last = slot;
    this.#count++;
  }

  /** Removes the first slot and returns it, or {@linkcode NO_SLOT}. */
  shift(): number {
    const slot = this.#first;
    if (slot === NO_SLOT) return NO_SLOT;
    this.#first = this.#requests.next[slot];
    if (this.#first === NO_SLOT) this.#last = NO_SLOT;
    this.#count--;
    return slot;
  }

  /** Moves all slots of another list to the end of this one. */
  take(other: SlotList): void {
    for (let slot = other.shift(); slot !== NO_SLOT; slot = other.shift()) this.push(slot);
  }
}
