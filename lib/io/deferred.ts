/**
 * The queue of work put off to the end of a pass of the loop; see `Io.defer`.
 *
 * @module
 */
import type { Deferred } from "./io.ts";

/** Most tasks queued at once. Users defer at most once per connection or queue they own, and guard that. */
export const MAX_DEFERRED = 16384;

const nothing: Deferred = { runDeferred() {} };

/** A ring of tasks. */
export class DeferredQueue {
  readonly #ring: Deferred[] = new Array<Deferred>(MAX_DEFERRED).fill(nothing);
  #head = 0;
  #count = 0;

  /** Queues a task. @throws {RangeError} when the queue is full, which is a defect of some user */
  push(task: Deferred): void {
    if (this.#count === MAX_DEFERRED) {
      throw new RangeError(`more than ${MAX_DEFERRED} tasks deferred in one Io`);
    }
    this.#ring[(this.#head + this.#count++) % MAX_DEFERRED] = task;
  }

  /** Runs tasks until none is left, those deferred meanwhile included. */
  run(): void {
    while (this.#count > 0) {
      const at = this.#head;
      const task = this.#ring[at] as Deferred;
      this.#ring[at] = nothing;
      this.#head = (at + 1) % MAX_DEFERRED;
      this.#count--;
      task.runDeferred();
    }
  }
}
