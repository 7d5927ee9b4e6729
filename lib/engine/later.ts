/**
 * Slots to be looked at once the present call has returned: a request is never answered inside its submission.
 *
 * @module
 */
import type { Deferred, Io } from "../io/io.ts";
import { SLOTS } from "./limits.ts";

/** A queue of at most SLOTS slots, drained by the loop. */
export class Later implements Deferred {
  readonly #queue = new Int32Array(SLOTS);
  #first = 0;
  #count = 0;

  /** @param handle called from the loop for every slot pushed */
  constructor(readonly io: Io, readonly handle: (slot: number) => void) {}

  /** Adds a slot. A slot is in the queue at most once. */
  push(slot: number): void {
    this.#queue[(this.#first + this.#count++) % SLOTS] = slot;
    if (this.#count === 1) this.io.defer(this);
  }

  /** Called by the loop. */
  runDeferred(): void {
    for (let n = this.#count; n > 0; n--) {
      const slot = this.#queue[this.#first];
      this.#first = (this.#first + 1) % SLOTS;
      this.#count--;
      this.handle(slot);
    }
    if (this.#count > 0) this.io.defer(this);
  }
}
