/**
 * The only source of chance in a simulation: a small generator whose every draw follows from its seed.
 *
 * @module
 */

/** xoshiro128** 1.1 (Blackman and Vigna), seeded through splitmix32. Not for secrets. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** Starts a sequence. @param seed any integer up to 2^53; equal seeds give equal sequences */
  constructor(seed: number) {
    let state = (seed ^ Math.imul(Math.floor(seed / 0x1_0000_0000), 0x85eb_ca6b)) | 0;
    const split = (): number => {
      state = (state + 0x9e37_79b9) | 0;
      let z = Math.imul(state ^ (state >>> 16), 0x21f0_aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a_2d97);
      return z ^ (z >>> 15);
    };
    this.#a = split();
    this.#b = split();
    this.#c = split();
    // The one state the generator must not be in is all zeros.
    this.#d = split() | 1;
  }

  /** An integer in [0, 2^32). */
  next32(): number {
    const m = Math.imul(this.#b, 5);
    const result = Math.imul((m << 7) | (m >>> 25), 9) >>> 0;
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** A number in [0, 1). */
  unit(): number {
    return this.next32() / 0x1_0000_0000;
  }

  /** An integer in [0, bound); 0 for a bound of 0 or 1. */
  below(bound: number): number {
    return Math.floor(this.unit() * bound);
  }

  /** An integer in [low, high]. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True with the given probability. 0 and 1 are certain and draw nothing. */
  chance(probability: number): boolean {
    if (probability <= 0) return false;
    if (probability >= 1) return true;
    return this.unit() < probability;
  }

  /** One element of a list that is not empty. */
  pick<T>(from: readonly [T, ...T[]]): T {
    return from[this.below(from.length)] ?? from[0];
  }

  /** A generator of its own, so that one part's number of draws does not move another part's. */
  fork(): Random {
    return new Random(this.next32() * 0x20_0000 + (this.next32() >>> 11));
  }
}
