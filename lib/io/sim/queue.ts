/**
 * The events to come, ordered by time and, at the same time, by insertion.
 *
 * An event is a target and two numbers, not a closure: a campaign fires millions of them.
 *
 * @module
 */

/** Something that events are addressed to. */
export interface Target {
  /**
   * The event's time has come.
   *
   * @param code which event, in the target's own numbering
   * @param value its argument
   */
  fire(code: number, value: number): void;
}

const FIRST_CAPACITY = 256;

/** A binary heap of events in typed arrays. */
export class EventQueue {
  #times = new Float64Array(FIRST_CAPACITY);
  #orders = new Float64Array(FIRST_CAPACITY);
  #slots = new Int32Array(FIRST_CAPACITY);
  #targets: (Target | null)[] = [];
  #codes = new Int32Array(FIRST_CAPACITY);
  #values = new Float64Array(FIRST_CAPACITY);
  #free: number[] = [];
  #size = 0;
  #order = 0;

  /** Of the event taken by {@linkcode pop}: when it was due, ms. */
  time = 0;
  /** Of the event taken by {@linkcode pop}: whom to tell. */
  target: Target | null = null;
  /** Of the event taken by {@linkcode pop}. */
  code = 0;
  /** Of the event taken by {@linkcode pop}. */
  value = 0;

  /** Events waiting. */
  get size(): number {
    return this.#size;
  }

  /** When the next event is due, ms; Infinity when there is none. */
  get nextTime(): number {
    return this.#size === 0 ? Infinity : this.#times[0] ?? Infinity;
  }

  /** Adds an event. */
  push(time: number, target: Target, code: number, value: number): void {
    const slot = this.#free.pop() ?? this.#size;
    if (this.#size === this.#times.length) this.#grow();
    this.#targets[slot] = target;
    this.#codes[slot] = code;
    this.#values[slot] = value;
    const times = this.#times, orders = this.#orders, slots = this.#slots;
    let at = this.#size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      // The new event is the youngest: at equal times it stays behind.
      const parentTime = times[parent] ?? 0;
      if (parentTime <= time) break;
      times[at] = parentTime;
      orders[at] = orders[parent] ?? 0;
      slots[at] = slots[parent] ?? 0;
      at = parent;
    }
    times[at] = time;
    orders[at] = this.#order++;
    slots[at] = slot;
  }

  /** Takes the next event into the fields. @returns false when there is none */
  pop(): boolean {
    if (this.#size === 0) return false;
    const slot = this.#slots[0] ?? 0;
    this.time = this.#times[0] ?? 0;
    this.target = this.#targets[slot] ?? null;
    this.code = this.#codes[slot] ?? 0;
    this.value = this.#values[slot] ?? 0;
    this.#targets[slot] = null;
    this.#free.push(slot);
    this.#size--;
    if (this.#size > 0) this.#sinkLast();
    return true;
  }

  /** Puts the last element of the heap in the place of the first one, and in order. */
  #sinkLast(): void {
    const times = this.#times, orders = this.#orders, slots = this.#slots;
    const size = this.#size;
    const time = times[size] ?? 0, order = orders[size] ?? 0, slot = slots[size] ?? 0;
    let at = 0;
    while (true) {
      let child = 2 * at + 1;
      if (child >= size) break;
      let childTime = times[child] ?? 0;
      if (child + 1 < size) {
        const right = times[child + 1] ?? 0;
        if (right < childTime || (right === childTime && (orders[child + 1] ?? 0) < (orders[child] ?? 0))) {
          child++;
          childTime = right;
        }
      }
      if (childTime > time || (childTime === time && (orders[child] ?? 0) > order)) break;
      times[at] = childTime;
      orders[at] = orders[child] ?? 0;
      slots[at] = slots[child] ?? 0;
      at = child;
    }
    times[at] = time;
    orders[at] = order;
    slots[at] = slot;
  }

  #grow(): void {
    const capacity = this.#times.length * 2;
    const grown = <T extends Float64Array | Int32Array>(into: T, from: T): T => {
      into.set(from);
      return into;
    };
    this.#times = grown(new Float64Array(capacity), this.#times);
    this.#orders = grown(new Float64Array(capacity), this.#orders);
    this.#slots = grown(new Int32Array(capacity), this.#slots);
    this.#codes = grown(new Int32Array(capacity), this.#codes);
    this.#values = grown(new Float64Array(capacity), this.#values);
  }
}
