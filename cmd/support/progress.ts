/**
 * How far something is, on standard error: a bar on a terminal, nothing elsewhere, so that logs and scripts see only
 * what came out in the end.
 *
 * @module
 */

/** Characters of a bar. */
const BAR = 30;

/** `[#####.........] 17 %` */
export function bar(percent: number): string {
  const bounded = Math.min(100, Math.max(0, percent)), full = Math.floor(bounded / 100 * BAR);
  return `[${"#".repeat(full)}${".".repeat(BAR - full)}] ${String(Math.floor(bounded)).padStart(3)} %`;
}

/** One line that is always current. Dispose of it before other output. */
export class ProgressBar implements Disposable {
  readonly #terminal = Deno.stderr.isTerminal();
  #shown = false;

  /** Shows nothing yet. @param what is under way, such as `purge of data` */
  constructor(readonly what: string) {}

  /** Shows how far it is. @param detail what else is of interest */
  show(percent: number, detail = ""): void {
    if (!this.#terminal) return;
    this.#write(`\r\x1b[K${this.what} ${bar(percent)}${detail === "" ? "" : `  ${detail}`}`);
    this.#shown = true;
  }

  /** Takes the line away. */
  [Symbol.dispose](): void {
    if (this.#shown) this.#write("\r\x1b[K");
    this.#shown = false;
  }

  #write(text: string): void {
    try {
      Deno.stderr.writeSync(new TextEncoder().encode(text));
    } catch {
      // Nobody looks any more; the work goes on.
    }
  }
}

/** Between two looks at something that is under way, milliseconds. */
export const LOOK_EVERY_MS = 300;

/** Waits a moment. */
export function moment(ms = LOOK_EVERY_MS): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
