/**
 * Waiting for something to become true, for things that cannot tell.
 *
 * @module
 */

/** How long and how often to look. */
export interface WaitOptions {
  /** What is waited for, for the error. */
  readonly what?: string;
  /** Give up after this many milliseconds. Generous: it costs only where the test fails. Default 60,000. */
  readonly timeoutMs?: number;
  /** Milliseconds between two looks. Default 20. */
  readonly everyMs?: number;
}

/** A promise that resolves after `ms` milliseconds. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Looks until `look` returns something that is not false, null or undefined, and returns that. An error thrown by
 * `look` means "not yet".
 *
 * @throws Error after the timeout, with the last error of `look` as its cause
 */
export async function waitFor<T>(
  look: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, false | null | undefined>> {
  const { what = "a condition", timeoutMs = 60_000, everyMs = 20 } = options;
  const deadline = performance.now() + timeoutMs;
  let cause: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found !== false && found !== null && found !== undefined) {
        return found as Exclude<T, false | null | undefined>;
      }
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`, { cause });
    await sleep(everyMs);
  }
}
