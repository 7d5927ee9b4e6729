/**
 * Which requests change which blocks at the moment, and who has to wait.
 *
 * Writes of whole blocks are **shared**: any number may touch the same blocks, in no particular order, as on any
 * disk. A read-modify-write of an edge block and taking back a failed write are **exclusive**: between
 * their reading and their writing nobody else may change the block. So a shared request waits only for exclusive
 * ones, an exclusive one waits for everybody; who waits is served in order, and nobody overtakes a waiter whose
 * blocks overlap.
 *
 * Without an exclusive request under way, taking and releasing a lock is a few stores.
 *
 * @module
 */
import { NO_SLOT, REQUEST_SLOTS, type Requests, SlotList } from "./requests.ts";

/** Locks on ranges of blocks; each slot holds or waits for at most one. */
export class BlockLocks {
  readonly #requests: Requests;
  readonly #first = new Float64Array(REQUEST_SLOTS);
  readonly #end = new Float64Array(REQUEST_SLOTS);
  readonly #exclusive = new Uint8Array(REQUEST_SLOTS);
  /** Slots that hold a lock, in no order, and where in that list each one is. */
  readonly #holders = new Uint16Array(REQUEST_SLOTS);
  readonly #place = new Uint16Array(REQUEST_SLOTS);
  #held = 0;
  #exclusivesHeld = 0;
  #waiting: SlotList;
  #spare: SlotList;
  readonly #granted: SlotList;
  #telling = false;

  /** No locks. */
  constructor(requests: Requests) {
    this.#requests = requests;
    this.#waiting = new SlotList(requests);
    this.#spare = new SlotList(requests);
    this.#granted = new SlotList(requests);
  }

  /**
   * Asks for blocks `first` to `end` (exclusive).
   *
   * @returns true when the slot has them now; else its owner's `lockGranted` is called later, from the loop
   */
  acquire(slot: number, first: number, end: number, exclusive: boolean): boolean {
    this.#first[slot] = first;
    this.#end[slot] = end;
    this.#exclusive[slot] = exclusive ? 1 : 0;
    if (
      (exclusive || this.#exclusivesHeld > 0) && this.#conflictsWithHolder(slot) ||
      this.#conflictsWithWaiter(slot)
    ) {
      this.#waiting.push(slot);
      return false;
    }
    this.#hold(slot);
    return true;
  }

  #hold(slot: number): void {
    this.#holders[this.#held] = slot;
    this.#place[slot] = this.#held++;
    this.#exclusivesHeld += this.#exclusive[slot];
  }

  #overlaps(a: number, b: number): boolean {
    return (this.#exclusive[a] | this.#exclusive[b]) !== 0 &&
      this.#first[a] < this.#end[b] && this.#first[b] < this.#end[a];
  }

  #conflictsWithHolder(slot: number): boolean {
    for (let i = 0; i < this.#held; i++) {
      if (this.#overlaps(slot, this.#holders[i])) return true;
    }
    return false;
  }

  #conflictsWithWaiter(slot: number): boolean {
    for (let other = this.#waiting.first; other !== NO_SLOT; other = this.#requests.next[other]) {
      if (this.#overlaps(slot, other)) return true;
    }
    return false;
  }

  /** Gives a slot's blocks back and lets those in who waited for them. */
  release(slot: number): void {
    const place = this.#place[slot], last = this.#holders[--this.#held];
    this.#holders[place] = last;
    this.#place[last] = place;
    this.#exclusivesHeld -= this.#exclusive[slot];
    if (this.#waiting.count > 0) this.#admit();
  }

  /** Grants in order what can be granted; waiters that stay keep their order. */
  #admit(): void {
    const candidates = this.#waiting;
    this.#waiting = this.#spare;
    this.#spare = candidates;
    for (let slot = candidates.shift(); slot !== NO_SLOT; slot = candidates.shift()) {
      if (this.#conflictsWithHolder(slot) || this.#conflictsWithWaiter(slot)) {
        this.#waiting.push(slot);
      } else {
        this.#hold(slot);
        this.#granted.push(slot);
      }
    }
    // An owner may release at once, which comes back here: the outermost call tells everybody.
    if (this.#telling) return;
    this.#telling = true;
    for (let slot = this.#granted.shift(); slot !== NO_SLOT; slot = this.#granted.shift()) {
      this.#requests.owner(slot).lockGranted(slot);
    }
    this.#telling = false;
  }
}
