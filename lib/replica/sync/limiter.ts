/**
 * Waits until bytes may be taken under a limit that can change at any time.
 *
 * @module
 */
import { Allowance } from "../../io/allowance.ts";

/** See the module text. */
export class Limiter {
  readonly #allowance = new Allowance(() => performance.now());

  /** Bytes per second; 0 = no limit. */
  get rate(): number {
    return this.#allowance.limit;
  }

  set rate(bytesPerSecond: number) {
    this.#allowance.limit = bytesPerSecond;
  }

  /** Waits until so many bytes may be taken, and takes them. */
  async take(bytes: number): Promise<void> {
    this.#allowance.take(bytes);
    for (let pause = this.#allowance.pause(); pause > 0; pause = this.#allowance.pause()) {
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}
