/**
 * What the demonstration prints: numbered steps, what came out of them, and a progress line on a terminal.
 *
 * @module
 */
import { formatSize } from "../../cmd/support/sizes.ts";

/** See the module text. */
export class Story {
  #step = 0;
  #shown = false;
  readonly #terminal = Deno.stdout.isTerminal();
  readonly #encoder = new TextEncoder();

  /** A heading with a number. */
  step(text: string): void {
    this.#clear();
    console.log(`${this.#style("1", `${String(++this.#step).padStart(2)}  ${text}`)}`);
  }

  /** A fact below the last heading. */
  tell(text: string): void {
    this.#clear();
    console.log(`      ${text}`);
  }

  /** A line outside the steps. */
  line(text: string): void {
    this.#clear();
    console.log(text);
  }

  /** Something that is not as it should be. */
  problem(text: string): void {
    this.#clear();
    console.error(this.#style("31", text));
  }

  /** Shows what is going on; replaced by whatever comes next. Only on a terminal. */
  progress(text: string): void {
    if (!this.#terminal) return;
    this.#clear();
    Deno.stdout.writeSync(this.#encoder.encode(`      ${text}`));
    this.#shown = true;
  }

  #clear(): void {
    if (this.#shown) Deno.stdout.writeSync(this.#encoder.encode("\r\x1b[K"));
    this.#shown = false;
  }

  #style(code: string, text: string): string {
    return this.#terminal && !Deno.noColor ? `\x1b[${code}m${text}\x1b[0m` : text;
  }
}

/** `1.2 s` */
export function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}

/** Bytes per second, `41 MiB/s`. */
export function rate(bytes: number, forSeconds: number): string {
  return `${formatSize(Math.round(bytes / Math.max(forSeconds, 1e-3)))}/s`;
}

/** With separators: `12,345`. */
export function count(n: number): string {
  return Math.round(n).toLocaleString("en-US");
}
