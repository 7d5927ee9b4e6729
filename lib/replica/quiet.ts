/**
 * Short work on an open replica directory while no request is under way: new requests are put aside, those under
 * way end, the work is done, and everything goes on.
 *
 * @module
 */
import type { Completer, Io } from "../io/io.ts";

/** How often it is looked whether the last requests have ended, milliseconds. */
export const IDLE_POLL_MS = 1;

/** What is stopped for the work. */
export interface Stoppable {
  /** Puts new requests aside. */
  hold(): void;
  /** Serves them. */
  release(): void;
}

interface Work {
  readonly run: () => void;
  readonly done: (error?: unknown) => void;
}

/** See the module text. */
export class Quiet implements Completer {
  #waiting: Work[] = [];

  /**
   * Work on what `service` serves.
   *
   * @param idle tells whether nothing is under way
   */
  constructor(readonly io: Io, readonly service: Stoppable, readonly idle: () => boolean) {}

  /** Does something as soon as nothing is under way. @param done gets what `run` threw */
  run(run: () => void, done: (error?: unknown) => void): void {
    this.#waiting.push({ run, done });
    if (this.#waiting.length > 1) return;
    this.service.hold();
    this.complete();
  }

  /** Looks whether the work can be done. */
  complete(): void {
    if (!this.idle()) {
      this.io.timer(IDLE_POLL_MS, this, 0);
      return;
    }
    const works = this.#waiting, ends: (() => void)[] = [];
    this.#waiting = [];
    for (const { run, done } of works) {
      try {
        run();
        ends.push(() => done());
      } catch (error) {
        ends.push(() => done(error));
      }
    }
    this.service.release();
    for (const end of ends) end();
  }
}
