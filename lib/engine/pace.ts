/**
 * How fast a copy is filled by the engine itself: a limit in bytes per second that can change at any time, and the
 * rate of late.
 *
 * @module
 */
import type { Io } from "../io/io.ts";

/** How much of a second may be used at once after a pause: little, so that hosts notice no bursts. */
const BURST_MS = 100;
/** Longest single pause, milliseconds: a new limit counts after that at the latest. */
const MAX_PAUSE_MS = 200;
/** The rate of late is that of one to two of these, milliseconds. */
const WINDOW_MS = 2000;

/** See the module text. Times are those of the loop. */
export class Pace {
  #limit = 0;
  /** Bytes that may be taken; below 0: what was taken in advance. */
  #credit = 0;
  #creditedAt: number;
  /** Bytes since {@linkcode Pace.begin}, and as they were at the starts of the last two windows. */
  #taken = 0;
  #windows: readonly [older: Mark, newer: Mark];

  /** Without a limit. */
  constructor(readonly io: Io) {
    this.#creditedAt = io.now();
    this.#windows = this.#freshWindows();
  }

  /** Bytes per second; 0 = no limit. */
  get limit(): number {
    return this.#limit;
  }

  set limit(bytesPerSecond: number) {
    this.#limit = Math.max(0, bytesPerSecond);
    this.#credit = 0;
    this.#creditedAt = this.io.now();
  }

  /** Something new begins: its rate is its own. */
  begin(): void {
    this.#taken = 0;
    this.#windows = this.#freshWindows();
  }

  /** Milliseconds until more may be taken; 0: now. Asked before each {@linkcode Pace.take}. */
  pause(): number {
    if (this.#limit === 0) return 0;
    const now = this.io.now(), earned = (now - this.#creditedAt) / 1000 * this.#limit;
    this.#credit = Math.min(this.#limit * BURST_MS / 1000, this.#credit + earned);
    this.#creditedAt = now;
    if (this.#credit >= 0) return 0;
    return Math.min(MAX_PAUSE_MS, Math.ceil(-this.#credit / this.#limit * 1000));
  }

  /** So many bytes are taken. */
  take(bytes: number): void {
    if (this.#limit > 0) this.#credit -= bytes;
    this.#taken += bytes;
    const now = this.io.now(), [, newer] = this.#windows;
    if (now - newer.at >= WINDOW_MS) this.#windows = [newer, { at: now, taken: this.#taken }];
  }

  /** Bytes per second of late; 0 = not known yet. */
  get perSecond(): number {
    const [{ at, taken }] = this.#windows, passed = this.io.now() - at;
    return passed > 0 ? Math.round((this.#taken - taken) / passed * 1000) : 0;
  }

  #freshWindows(): readonly [Mark, Mark] {
    const mark = { at: this.io.now(), taken: 0 };
    return [mark, mark];
  }
}

/** How much had been taken at a time. */
interface Mark {
  readonly at: number;
  readonly taken: number;
}
