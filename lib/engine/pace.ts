/**
 * How fast a copy is filled by the engine itself: a limit in bytes per second that can change at any time, and the
 * rate of late.
 *
 * @module
 */
import { Allowance } from "../io/allowance.ts";
import type { Io } from "../io/io.ts";

/** The rate of late is that of one to two of these, milliseconds. */
const WINDOW_MS = 2000;

/** How much had been taken at a time. */
interface Mark {
  readonly at: number;
  readonly taken: number;
}

/** See the module text. Times are those of the loop. */
export class Pace extends Allowance {
  #taken = 0;
  /** The starts of the last two windows. */
  #windows: readonly [older: Mark, newer: Mark];

  /** Without a limit. */
  constructor(io: Io) {
    super(() => io.now());
    this.#windows = this.#freshWindows();
  }

  /** Something new begins: its rate is its own. */
  begin(): void {
    this.#taken = 0;
    this.#windows = this.#freshWindows();
  }

  /** See {@linkcode Allowance.take}. */
  override take(bytes: number): void {
    super.take(bytes);
    this.#taken += bytes;
    const now = this.now(), [, newer] = this.#windows;
    if (now - newer.at >= WINDOW_MS) this.#windows = [newer, { at: now, taken: this.#taken }];
  }

  /** Bytes per second of late; 0 = not known yet. */
  get perSecond(): number {
    const [{ at, taken }] = this.#windows, passed = this.now() - at;
    return passed > 0 ? Math.round((this.#taken - taken) / passed * 1000) : 0;
  }

  #freshWindows(): readonly [Mark, Mark] {
    const mark = { at: this.now(), taken: 0 };
    return [mark, mark];
  }
}
