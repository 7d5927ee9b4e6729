/**
 * A limit for bytes per second that can change at any time.
 *
 * @module
 */

/** How much of a second may be used at once after a pause. */
const BURST_S = 0.1;
/** Longest single pause, milliseconds: a new limit counts after that at the latest. */
const MAX_PAUSE_MS = 200;

/** See the module text. */
export class Limiter {
  #rate = 0;
  /** Bytes that may be taken; below 0: what was taken in advance. */
  #credit = 0;
  #last = performance.now();

  /** Bytes per second; 0 = no limit. */
  get rate(): number {
    return this.#rate;
  }

  set rate(bytesPerSecond: number) {
    this.#rate = Math.max(0, bytesPerSecond);
    this.#credit = 0;
    this.#last = performance.now();
  }

  /** Waits until so many bytes may be taken, and takes them. */
  async take(bytes: number): Promise<void> {
    if (this.#rate === 0) return;
    this.#refill();
    this.#credit -= bytes;
    while (this.#rate > 0 && this.#credit < 0) {
      const wait = Math.min(MAX_PAUSE_MS, 1 + -this.#credit / this.#rate * 1000);
      await new Promise((resolve) => setTimeout(resolve, wait));
      this.#refill();
    }
  }

  #refill(): void {
    const now = performance.now();
    this.#credit = Math.min(
      this.#rate * BURST_S,
      this.#credit + (now - this.#last) / 1000 * this.#rate,
    );
    this.#last = now;
  }
}
