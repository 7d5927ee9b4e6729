/**
 * Work on many things, a few at a time: bounds memory and the load on a target.
 *
 * @module
 */
import { BackupInputError } from "./errors.ts";
import { DEFAULT_CONCURRENCY, MAX_CONCURRENCY } from "./types.ts";

/** The number of lanes asked for, or the default. @throws {BackupInputError} when it is none */
export function laneCount(asked: number | undefined): number {
  const lanes = asked ?? DEFAULT_CONCURRENCY;
  if (Number.isInteger(lanes) && lanes >= 1 && lanes <= MAX_CONCURRENCY) return lanes;
  throw new BackupInputError(`a concurrency of ${lanes} is not possible: use 1 to ${MAX_CONCURRENCY}`);
}

/**
 * Calls `work` for every item, up to `lanes` at a time, in order of their start. The first failure stops the others
 * before their next item; when this returns or throws, nothing is under way any more.
 *
 * @param work takes an item, its index and the signal that says that another one failed
 */
export async function inLanes<T>(
  items: Iterable<T> | AsyncIterable<T>,
  lanes: number,
  signal: AbortSignal | undefined,
  work: (item: T, index: number, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  let index = 0, failed = false, failure: unknown;
  const lane = async (): Promise<void> => {
    try {
      for (;;) {
        either.throwIfAborted();
        const next = await iterator.next();
        if (next.done === true) return;
        either.throwIfAborted();
        await work(next.value, index++, either);
      }
    } catch (error) {
      if (failed) return;
      failed = true;
      failure = error;
      stop.abort(error);
    }
  };
  try {
    await Promise.all(Array.from({ length: lanes }, lane));
  } finally {
    if (failed) await iterator.return?.();
  }
  if (failed) throw failure;
}

/** Calls `work` for every item, up to `lanes` at a time, and returns the results in the order of the items. */
export async function mapInLanes<T, R>(
  items: readonly T[],
  lanes: number,
  signal: AbortSignal | undefined,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results = new Map<number, R>();
  await inLanes(items, lanes, signal, async (item, index) => {
    results.set(index, await work(item));
  });
  return items.map((_, index) => results.get(index) as R);
}

/** Waits. Rejects with the signal's reason when that comes first. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
