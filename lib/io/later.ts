/**
 * Things to be done once the present call has returned: a request is never answered inside its submission.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Completer, Deferred, Io } from "./io.ts";

/** A bounded queue of (tag, result) pairs, handed to one completer by the loop. Allocates nothing. */
export class Later implements Deferred {
  readonly #tags: Float64Array;
  readonly #results: Float64Array;
  #first = 0;
  #count = 0;

  /**
   * An empty queue.
   *
   * @param capacity most pairs queued at once
   * @param who gets every pair, from the loop
   */
  constructor(readonly io: Io, readonly capacity: number, readonly who: Completer) {
    this.#tags = new Float64Array(capacity);
    this.#results = new Float64Array(capacity);
  }

  /** Queues a pair. */
  push(tag: number, result: number): void {
    if (this.#count === this.capacity) assert.fail("too many answers queued");
    const i = (this.#first + this.#count++) % this.capacity;
    this.#tags[i] = tag;
    this.#results[i] = result;
    if (this.#count === 1) this.io.defer(this);
  }

  /** Called by the loop. */
  runDeferred(): void {
    for (let n = this.#count; n > 0; n--) {
      const i = this.#first;
      this.#first = (i + 1) % this.capacity;
      this.#count--;
      this.who.complete(this.#tags[i], this.#results[i]);
    }
    if (this.#count > 0) this.io.defer(this);
  }
}
