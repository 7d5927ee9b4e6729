/**
 * Timers in a binary heap over typed arrays: arming, firing and cancelling allocate nothing, and the next
 * deadline is known at once, which is what lets the loop sleep exactly as long as it may.
 *
 * @module
 */
import { type Completer, MAX_TIMERS } from "./io.ts";

const nobody: Completer = { complete() {} };

/** Generations per place: handles stay below 2^41, exact as numbers. */
const GENERATIONS = 2 ** 31;

/** The armed timers of one Io. */
export class Timers {
  // By place (the part of a handle that is an index).
  readonly #deadline = new Float64Array(MAX_TIMERS);
  readonly #order = new Float64Array(MAX_TIMERS);
  readonly #generation = new Float64Array(MAX_TIMERS);
  readonly #tag = new Float64Array(MAX_TIMERS);
  readonly #who: Completer[] = new Array<Completer>(MAX_TIMERS).fill(nobody);
  /** Index in the heap, -1 when the place is free. */
  readonly #position = new Int32Array(MAX_TIMERS).fill(-1);

  readonly #heap = new Int32Array(MAX_TIMERS);
  #size = 0;
  readonly #free = new Int32Array(MAX_TIMERS);
  #armed = 0;

  constructor() {
    for (let i = 0; i < MAX_TIMERS; i++) this.#free[i] = MAX_TIMERS - 1 - i;
  }

  /** How many are armed. */
  get size(): number {
    return this.#size;
  }

  /** The earliest deadline, Infinity without timers. Same clock as given to {@linkcode arm}. */
  get next(): number {
    return this.#size === 0 ? Infinity : this.#deadline[this.#heap[0] as number] as number;
  }

  /**
   * Arms a timer.
   *
   * @param deadline in milliseconds of the caller's clock
   * @returns a handle, 0 or more; never the same for two timers that could be confused
   * @throws {RangeError} when {@linkcode MAX_TIMERS} are armed: some user exceeds its bound, which is a defect
   */
  arm(deadline: number, who: Completer, tag: number): number {
    if (this.#size === MAX_TIMERS) throw new RangeError(`more than ${MAX_TIMERS} timers armed in one Io`);
    const place = this.#free[MAX_TIMERS - 1 - this.#size] as number;
    this.#deadline[place] = deadline;
    this.#order[place] = this.#armed++;
    this.#tag[place] = tag;
    this.#who[place] = who;
    const at = this.#size++;
    this.#set(at, place);
    this.#up(at);
    return (this.#generation[place] as number) * MAX_TIMERS + place;
  }

  /** Forgets a timer. Fired, cancelled and unknown handles are ignored. */
  cancel(handle: number): void {
    const place = handle % MAX_TIMERS;
    if (!(handle >= 0) || !Number.isInteger(handle) || (this.#position[place] as number) < 0) return;
    if ((handle - place) / MAX_TIMERS !== this.#generation[place]) return;
    this.#remove(place);
  }

  /** Fires what is due at `now`: earlier deadlines first, equal ones as armed; not those armed meanwhile. */
  fire(now: number): void {
    const before = this.#armed;
    while (this.#size > 0) {
      const place = this.#heap[0] as number;
      if ((this.#deadline[place] as number) > now || (this.#order[place] as number) >= before) return;
      const who = this.#who[place] as Completer;
      const tag = this.#tag[place] as number;
      this.#remove(place);
      who.complete(tag, 0);
    }
  }

  #remove(place: number): void {
    const at = this.#position[place] as number;
    this.#position[place] = -1;
    this.#generation[place] = ((this.#generation[place] as number) + 1) % GENERATIONS;
    this.#who[place] = nobody;
    const last = this.#heap[--this.#size] as number;
    this.#free[MAX_TIMERS - 1 - this.#size] = place;
    if (last === place) return;
    this.#set(at, last);
    this.#up(at);
    this.#down(this.#position[last] as number);
  }

  #set(at: number, place: number): void {
    this.#heap[at] = place;
    this.#position[place] = at;
  }

  #before(a: number, b: number): boolean {
    const x = this.#deadline[a] as number, y = this.#deadline[b] as number;
    return x < y || (x === y && (this.#order[a] as number) < (this.#order[b] as number));
  }

  #up(at: number): void {
    const place = this.#heap[at] as number;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const other = this.#heap[parent] as number;
      if (!this.#before(place, other)) break;
      this.#set(at, other);
      at = parent;
    }
    this.#set(at, place);
  }

  #down(at: number): void {
    const place = this.#heap[at] as number;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#size) break;
      if (
        child + 1 < this.#size && this.#before(this.#heap[child + 1] as number, this.#heap[child] as number)
      ) {
        child++;
      }
      const other = this.#heap[child] as number;
      if (!this.#before(other, place)) break;
      this.#set(at, other);
      at = child;
    }
    this.#set(at, place);
  }
}
