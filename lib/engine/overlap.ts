/**
 * Order among overlapping changes. Replicas apply requests in any order, so two overlapping writes under way
 * at once could end up in different orders on different replicas: copies that are not copies any more. A change
 * that overlaps one under way therefore waits for it; everything else passes.
 *
 * @module
 */
import { SLOTS } from "./limits.ts";

/** Set of ranges under way and queue of those that wait; see the module text. */
export class Overlaps {
  readonly #active = new Int32Array(SLOTS);
  #activeCount = 0;
  readonly #place = new Int32Array(SLOTS).fill(-1);
  readonly #queue = new Int32Array(SLOTS);
  #queueCount = 0;
  readonly #from = new Float64Array(SLOTS);
  readonly #to = new Float64Array(SLOTS);
  /** Ranges count as whole blocks of this many bytes; see `Volume.layered`. */
  grain = 1;
  /** Nothing starts: everything that comes waits. */
  held = false;

  /**
   * Begins with nothing under way.
   *
   * @param offset,length columns of the slots' ranges in bytes
   */
  constructor(readonly offset: Float64Array, readonly length: Float64Array) {}

  /** Changes under way. */
  get active(): number {
    return this.#activeCount;
  }

  /** Changes that wait. */
  get blocked(): number {
    return this.#queueCount;
  }

  #clashes(slot: number, with_: Int32Array, count: number): boolean {
    // A linear scan: 32 changes under way cost about 30 ns, less than any index would to maintain.
    const from = this.#from[slot], to = this.#to[slot];
    for (let i = 0; i < count; i++) {
      const other = with_[i];
      if (this.#from[other] < to && from < this.#to[other]) return true;
    }
    return false;
  }

  /** Adds a change. @returns true when it may start now, false when it was queued */
  enter(slot: number): boolean {
    const grain = this.grain, from = this.offset[slot], to = from + this.length[slot];
    this.#from[slot] = grain === 1 ? from : Math.floor(from / grain) * grain;
    this.#to[slot] = grain === 1 ? to : Math.ceil(to / grain) * grain;
    if (
      this.held ||
      this.#clashes(slot, this.#active, this.#activeCount) ||
      (this.#queueCount > 0 && this.#clashes(slot, this.#queue, this.#queueCount))
    ) {
      this.#queue[this.#queueCount++] = slot;
      return false;
    }
    this.#add(slot);
    return true;
  }

  #add(slot: number): void {
    this.#place[slot] = this.#activeCount;
    this.#active[this.#activeCount++] = slot;
  }

  /** True for a change that was added and did not leave. */
  has(slot: number): boolean {
    return this.#place[slot] >= 0;
  }

  /** True when no change under way or waiting touches a range. */
  quiet(offset: number, length: number): boolean {
    const meets = (slot: number) => this.#from[slot] < offset + length && offset < this.#to[slot];
    for (let i = 0; i < this.#activeCount; i++) if (meets(this.#active[i])) return false;
    for (let i = 0; i < this.#queueCount; i++) if (meets(this.#queue[i])) return false;
    return true;
  }

  /** Removes a change that ended. */
  leave(slot: number): void {
    const place = this.#place[slot], last = this.#active[--this.#activeCount];
    this.#active[place] = last;
    this.#place[last] = place;
    this.#place[slot] = -1;
  }

  /** Takes the next queued change that may start now, or -1. Call until -1 after each {@linkcode leave}. */
  next(): number {
    if (this.held) return -1;
    for (let i = 0; i < this.#queueCount; i++) {
      const slot = this.#queue[i];
      if (this.#clashes(slot, this.#active, this.#activeCount) || this.#clashes(slot, this.#queue, i)) {
        continue;
      }
      this.#queue.copyWithin(i, i + 1, this.#queueCount--);
      this.#add(slot);
      return slot;
    }
    return -1;
  }
}
