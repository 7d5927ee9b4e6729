/**
 * Whose turn it is to be read from.
 *
 * @module
 */
import { READS_PER_TURN } from "./limits.ts";

/** Round robin, a few reads per turn. */
export class Turns {
  /** Always the first: the copies may differ where requests failed, and a host must not see both versions. */
  single = false;
  /** Reads per turn. */
  perTurn: number = READS_PER_TURN;
  #turn = 0;
  #left = READS_PER_TURN;

  /** The position in a list of `count` copies to read from next. */
  next(count: number): number {
    if (this.single) return 0;
    if (--this.#left <= 0) {
      this.#left = this.perTurn;
      this.#turn++;
    }
    if (this.#turn >= count) this.#turn = 0;
    return this.#turn;
  }
}
