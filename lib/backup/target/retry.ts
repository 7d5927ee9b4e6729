/**
 * Trying again what may well succeed later: with growing pauses of random length, so that many workers that were
 * turned away together do not come back together.
 *
 * @module
 */
import { TargetError } from "./target.ts";

/** How calls are repeated. */
export interface RetryOptions {
  /** Tries after the first one. */
  readonly retries: number;
  /** Upper bound of the first pause, milliseconds; it doubles with each try. */
  readonly firstPauseMs: number;
  /** Upper bound of every pause, milliseconds. */
  readonly maxPauseMs: number;
}

/** What the targets use: up to about 15 seconds of pauses. */
export const DEFAULT_RETRY: RetryOptions = { retries: 5, firstPauseMs: 500, maxPauseMs: 20_000 };

/** Waits. @throws the signal's reason when it is given meanwhile */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** An error that knows how long the other side wants to be left alone. */
interface Patient {
  /** Milliseconds. */
  readonly afterMs: number;
}

function wished(error: unknown): number {
  if (error instanceof Error && "afterMs" in error) return (error as Error & Patient).afterMs;
  return error instanceof Error && error.cause !== undefined ? wished(error.cause) : 0;
}

/**
 * Length of a pause after so many failed tries, milliseconds.
 *
 * @param wishedMs what the other side asked for
 * @param random from 0 to 1
 */
export function pauseMs(failed: number, wishedMs: number, options: RetryOptions, random: number): number {
  const bound = Math.min(options.maxPauseMs, options.firstPauseMs * 2 ** failed);
  // At least half of the bound: a pause of nothing would not relieve anybody.
  const length = bound / 2 + random * bound / 2;
  return Math.max(length, Math.min(wishedMs, options.maxPauseMs));
}

/**
 * Does something until it succeeds, fails for good, or has failed too often. Only a {@linkcode TargetError} that
 * says it is retryable is tried again.
 */
export async function withRetries<T>(
  attempt: () => Promise<T>,
  signal?: AbortSignal,
  options: RetryOptions = DEFAULT_RETRY,
): Promise<T> {
  for (let failed = 0;; failed++) {
    signal?.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof TargetError) || !error.retryable || failed >= options.retries) throw error;
      await pause(pauseMs(failed, wished(error), options, Math.random()), signal);
    }
  }
}

/** Lets a bounded number of calls run at once; the others wait in the order they came. */
export class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /**
   * Makes a gate.
   *
   * @param width calls at once
   */
  constructor(width: number) {
    this.#free = width;
  }

  /** Runs a call when it is its turn. */
  async run<T>(call: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await call();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}

/** Does something with each item, a bounded number at once. The first error ends it, after what runs has ended. */
export async function forEachOf<T>(
  items: AsyncIterable<T> | Iterable<T>,
  width: number,
  act: (item: T) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failed = false, reason: unknown;
  try {
    for await (const item of items) {
      if (failed) break;
      const one: Promise<void> = act(item).catch((error) => {
        if (!failed) reason = error;
        failed = true;
      }).finally(() => running.delete(one));
      running.add(one);
      if (running.size >= width) await Promise.race(running);
    }
  } finally {
    await Promise.all(running);
  }
  if (failed) throw reason;
}
