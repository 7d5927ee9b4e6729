/**
 * How far a long operation is, on standard error: one line that changes on a terminal, a line now and then elsewhere.
 * And Ctrl-C, which ends it in order.
 *
 * @module
 */
import type { Progress } from "../../lib/backup/mod.ts";
import { StatusLine } from "../support/progress.ts";
import { formatSize } from "../support/sizes.ts";

/** Milliseconds between two lines, on a terminal and elsewhere. */
const EVERY_MS = { terminal: 200, plain: 10_000 } as const;

/** The line for a state. @param elapsedMs since the beginning */
export function progressText(what: string, progress: Progress, elapsedMs: number): string {
  const { percent, doneBlocks, totalBlocks, transferredBytes } = progress;
  const rate = elapsedMs < 1000 ? "" : `, ${formatSize(Math.round(transferredBytes / elapsedMs * 1000))}/s`;
  return `${what}: ${Math.floor(percent)} %, ${doneBlocks} of ${totalBlocks} blocks, ` +
    `${formatSize(transferredBytes)} moved${rate}`;
}

/** Shows progress while something runs. Dispose it before other output. */
export class ProgressLine implements Disposable {
  readonly #what: string;
  readonly #status = new StatusLine();
  readonly #begin = performance.now();
  #last = this.#begin;

  /**
   * Shows nothing yet.
   *
   * @param what is under way, such as `backup of data`
   */
  constructor(what: string) {
    this.#what = what;
  }

  /** For `onProgress`. */
  readonly show = (progress: Progress): void =>
    this.#line((now) => progressText(this.#what, progress, now - this.#begin));

  /** Where only the share is known. @param percent 0 to 100 */
  showPercent(percent: number): void {
    this.#line(() => `${this.#what}: ${Math.floor(percent)} %`);
  }

  #line(text: (now: number) => string): void {
    const now = performance.now();
    if (now - this.#last < (this.#status.terminal ? EVERY_MS.terminal : EVERY_MS.plain)) return;
    this.#last = now;
    this.#status.show(text(now));
  }

  /** Takes the line away. */
  [Symbol.dispose](): void {
    this.#status[Symbol.dispose]();
  }
}

/** The user ended an operation. */
export class InterruptedError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "InterruptedError";
  /** 128 and the number of SIGINT, as shells have it. */
  readonly exitCode = 130;
}

/**
 * Runs something that Ctrl-C and SIGTERM end in order.
 *
 * @param hint what becomes of what was done so far
 */
export async function interruptible<T>(hint: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = (): void => controller.abort(new InterruptedError(`interrupted; ${hint}`));
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) Deno.addSignalListener(signal, stop);
  try {
    return await work(controller.signal);
  } finally {
    for (const signal of signals) Deno.removeSignalListener(signal, stop);
  }
}
