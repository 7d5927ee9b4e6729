/**
 * Changes for those who watch. Each watcher has a queue with a bound; one that does not keep up is cut off, and
 * lists again: a queue without a bound would grow for ever, and one that drops changes would lie.
 *
 * @module
 */
import { Code, RpcError } from "../rpc/errors.ts";
import { MAX_WATCHERS, WATCH_QUEUE } from "./limits.ts";

interface Watcher<T> {
  readonly queue: T[];
  lagged: boolean;
  wake: () => void;
}

/** See the module text. */
export class Broadcast<T> {
  readonly #watchers = new Set<Watcher<T>>();
  #closed = false;

  /** Watchers at present. */
  get watchers(): number {
    return this.#watchers.size;
  }

  /** Tells everybody. */
  send(change: T): void {
    for (const watcher of this.#watchers) {
      if (watcher.queue.length >= WATCH_QUEUE) watcher.lagged = true;
      else watcher.queue.push(change);
      watcher.wake();
    }
  }

  /** Ends all watches in order. */
  close(): void {
    this.#closed = true;
    for (const watcher of this.#watchers) watcher.wake();
  }

  /**
   * Changes from the moment of this call (not of the first `next()`) until the signal is aborted.
   *
   * @throws RpcError with RESOURCE_EXHAUSTED when there are too many watchers; while iterating ABORTED when this
   *   one was too slow
   */
  watch(signal: AbortSignal): AsyncGenerator<T, void> {
    if (this.#watchers.size >= MAX_WATCHERS) {
      throw new RpcError(Code.RESOURCE_EXHAUSTED, `${MAX_WATCHERS} watchers are there already`);
    }
    const watcher: Watcher<T> = { queue: [], lagged: false, wake: () => {} };
    this.#watchers.add(watcher);
    // A generator that was never asked for anything runs no `finally`.
    signal.addEventListener("abort", () => {
      this.#watchers.delete(watcher);
      watcher.wake();
    }, { once: true });
    return this.#changes(watcher, signal);
  }

  async *#changes(watcher: Watcher<T>, signal: AbortSignal): AsyncGenerator<T, void> {
    try {
      while (!signal.aborted) {
        const change = watcher.queue.shift();
        if (change !== undefined) yield change;
        else if (watcher.lagged) {
          throw new RpcError(Code.ABORTED, "the watcher was too slow and missed changes; list again");
        } else if (this.#closed) return;
        else await new Promise<void>((resolve) => watcher.wake = resolve);
      }
    } finally {
      this.#watchers.delete(watcher);
    }
  }
}
