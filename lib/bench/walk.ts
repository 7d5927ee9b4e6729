/**
 * The order in which a load touches the blocks of a range.
 *
 * @module
 */

/** How blocks follow each other. */
export type Order =
  /** Each block is drawn from all, again and again, without end. */
  | "random"
  /** One after the other; from the start again after the last, without end. */
  | "sequential"
  /** Each block exactly once, in an order that looks random. */
  | "shuffled"
  /** Each block exactly once, one after the other. */
  | "once";

/** {@linkcode Walk.next}: every block was visited. */
export const NO_BLOCK = -1 as number;

const TWO_32 = 2 ** 32;
/** Part of the range that a shuffled walk jumps by: the golden section spreads visits evenly. */
const STRIDE = 0.6180339887;

function coprime(a: number, b: number): boolean {
  while (b !== 0) [a, b] = [b, a % b];
  return a === 1;
}

/** A walk over blocks 0 to `blocks - 1`. The same seed gives the same walk. Allocates nothing. */
export class Walk {
  readonly #stride: number;
  #state: number;
  #block = 0;
  #visited = 0;

  /**
   * Begins at the first block.
   *
   * @param blocks of the range, 1 to 2^50
   * @param seed any integer
   */
  constructor(readonly order: Order, readonly blocks: number, seed = 1) {
    this.#state = (seed >>> 0) || 1;
    let stride = Math.max(1, Math.floor(blocks * STRIDE));
    while (!coprime(blocks, stride)) stride++;
    this.#stride = order === "shuffled" ? stride : 1;
  }

  /** A random integer in [0, 2^32): xorshift (Marsaglia 2003). */
  random(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  /** The next block, or {@linkcode NO_BLOCK}. */
  next(): number {
    if (this.order === "random") {
      const fine = this.blocks > TWO_32 ? this.random() / TWO_32 : 0;
      return Math.floor((this.random() + fine) / TWO_32 * this.blocks);
    }
    if (this.order !== "sequential" && this.#visited === this.blocks) return NO_BLOCK;
    const block = this.#block;
    this.#visited++;
    this.#block = (block + this.#stride) % this.blocks;
    return block;
  }
}
