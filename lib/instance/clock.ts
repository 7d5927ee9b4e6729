/**
 * Time, as an interface: what waits for minutes is tested in milliseconds.
 *
 * @module
 */

/** Time. */
export interface Clock {
  /** Milliseconds since some moment; never steps. */
  now(): number;
  /** Resolves after a time, or earlier when the signal is aborted. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The real time. */
export const systemClock: Clock = {
  now: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      signal?.addEventListener("abort", end, { once: true });
    }),
};

/** Resolves with the value of a promise, or with undefined after a time. */
export async function within<T>(clock: Clock, ms: number, promise: Promise<T>): Promise<T | undefined> {
  const enough = new AbortController();
  try {
    return await Promise.race([promise, clock.sleep(ms, enough.signal).then(() => undefined)]);
  } finally {
    enough.abort();
  }
}
