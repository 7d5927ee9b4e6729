/**
 * A limit in bytes per second that can change at any time, as arithmetic: who is limited waits by itself.
 *
 * @module
 */

/** How much of a second may be used at once after a pause: little, so that hosts notice no bursts. */
const BURST_MS = 100;
/** Longest single pause, milliseconds: a new limit counts after that at the latest. */
const MAX_PAUSE_MS = 200;

/** See the module text. */
export class Allowance {
  #limit = 0;
  /** Bytes that may be taken; below 0: what was taken in advance. */
  #credit = 0;
  #creditedAt: number;

  /** Without a limit. @param now a clock that only goes forward, milliseconds */
  constructor(readonly now: () => number) {
    this.#creditedAt = now();
  }

  /** Bytes per second; 0 = no limit. */
  get limit(): number {
    return this.#limit;
  }

  set limit(bytesPerSecond: number) {
    this.#limit = Math.max(0, bytesPerSecond);
    this.#credit = 0;
    this.#creditedAt = this.now();
  }

  /** Takes so many bytes, perhaps in advance. */
  take(bytes: number): void {
    if (this.#limit === 0) return;
    this.#refill();
    this.#credit -= bytes;
  }

  /** Milliseconds until it is to be asked again whether what was taken is earned; 0: it is. */
  pause(): number {
    if (this.#limit === 0) return 0;
    this.#refill();
    if (this.#credit >= 0) return 0;
    return Math.min(MAX_PAUSE_MS, Math.ceil(-this.#credit / this.#limit * 1000));
  }

  #refill(): void {
    const now = this.now(), earned = (now - this.#creditedAt) / 1000 * this.#limit;
    this.#credit = Math.min(this.#limit * BURST_MS / 1000, this.#credit + earned);
    this.#creditedAt = now;
  }
}
