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

/** One line of a terminal that changes, on standard error. Dispose of it before other output. */
export class StatusLine implements Disposable {
  /** False: standard error is a file or a pipe, where lines cannot change. */
  readonly terminal: boolean = Deno.stderr.isTerminal();
  #shown = false;

  /** Shows a text in place of the one before; elsewhere than on a terminal, below it. */
  show(text: string): void {
    this.#write(this.terminal ? `\r\x1b[K${text}` : `${text}\n`);
    this.#shown = this.terminal;
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

/** One line that is always current. Dispose of it before other output. */
export class ProgressBar implements Disposable {
  readonly #line = new StatusLine();

  /** Shows nothing yet. @param what is under way, such as `purge of data` */
  constructor(readonly what: string) {}

  /** Shows how far it is. @param detail what else is of interest */
  show(percent: number, detail = ""): void {
    if (!this.#line.terminal) return;
    this.#line.show(`${this.what} ${bar(percent)}${detail === "" ? "" : `  ${detail}`}`);
  }

  /** Takes the line away. */
  [Symbol.dispose](): void {
    this.#line[Symbol.dispose]();
  }
}

/** Between two looks at something that is under way, milliseconds. */
export const LOOK_EVERY_MS = 300;

/** Waits a moment. */
export function moment(ms = LOOK_EVERY_MS): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
