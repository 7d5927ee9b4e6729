/**
 * Trying again what a host may refuse for a moment: every attempt that failed is told with its reason, and the
 * error at the end has the last one.
 *
 * @module
 */
import type { Logger } from "../log/log.ts";

/** How often, how far apart. */
export interface RetryRule {
  /** Attempts in all. */
  readonly attempts: number;
  /** Between two of them, milliseconds. */
  readonly pauseMs: number;
  /** It is waited for something that takes its time: an attempt that fails is no news. */
  readonly waiting?: true;
}

/** What retrying needs of its surroundings. */
export interface Patience {
  /** Where failed attempts are told. */
  readonly log: Logger;
  /** Waits. */
  readonly sleep: (milliseconds: number) => Promise<void>;
}

/** Something on the host that was asked for did not happen. The message says what to do where that is known. */
export class HostError extends Error {
  /** For checks across threads. */
  override readonly name: string = "HostError";
}

/** An error that a further attempt cannot cure. */
export class FinalError extends HostError {
  /** For checks across threads. */
  override readonly name = "FinalError";
}

/** Waits by a timer. */
export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** The reason of a failure, in words. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Does something until it succeeds.
 *
 * @param what named in the log and in the error
 * @throws {FinalError} at once, from `attempt`
 * @throws {HostError} with the last reason, when no attempt succeeded
 */
export async function retry<T>(
  what: string,
  rule: RetryRule,
  { log, sleep }: Patience,
  attempt: (number: number) => Promise<T>,
): Promise<T> {
  for (let number = 1;; number++) {
    try {
      return await attempt(number);
    } catch (cause) {
      if (cause instanceof FinalError) throw cause;
      if (number >= rule.attempts) {
        const times = rule.attempts === 1 ? "" : ` after ${rule.attempts} attempts`;
        throw new HostError(`${what} failed${times}: ${reasonOf(cause)}`, { cause });
      }
      const fields = { what, attempt: number, of: rule.attempts, reason: reasonOf(cause) };
      if (rule.waiting) log.debug("not yet", fields);
      else log.warn("trying again", fields);
    }
    await sleep(rule.pauseMs);
  }
}
