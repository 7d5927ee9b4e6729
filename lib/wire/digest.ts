/**
 * Digests: what a replica tells of a range instead of its data, so that copies can be compared without moving them.
 * The range is cut into pieces of 16 blocks; the answer is one sum per piece, in order:
 *
 * | sum | what the piece holds | guards against |
 * |---|---|---|
 * | 16 bytes, 0 | zeros only, whether they are stored or a hole | a copy of zeros over a hole |
 * | 16 bytes | anything else: MurmurHash3 x86_128, seed 0, over each block that is not all zero: its number in the piece, as 16 bytes little endian, and its bytes | pieces taken for equal that differ |
 *
 * Blocks of zeros are left out, stored or not: the sum speaks of the content, and holes need not be looked at.
 * A sum of 128 bits errs for one pair of pieces in 3 * 10^38. It does not guard against malice: who makes two pieces
 * with the same sum in a volume of his own only harms himself.
 *
 * @module
 */

/** Bytes of a piece; the last one of a range may be shorter. A range begins at a multiple of it. */
export const DIGEST_PIECE_BYTES: number = 64 * 1024;

/** Bytes of a block; the last one of a volume may be shorter. */
export const DIGEST_BLOCK_BYTES = 4096;

/** Bytes of a sum. */
export const DIGEST_SUM_BYTES = 16;

/** Longest range, bytes: a replica has read it within a fraction of any time-out. */
export const MAX_DIGEST_BYTES: number = 4 * 1024 * 1024;

/** Pieces of a range. */
export function digestPieces(length: number): number {
  return Math.ceil(length / DIGEST_PIECE_BYTES);
}

/** Bytes of the answer for a range. */
export function digestBytes(length: number): number {
  return digestPieces(length) * DIGEST_SUM_BYTES;
}

/** True for a range that a replica answers, if it lies within its volume: whole sectors, not too many. */
export function isDigestRange(offset: number, length: number): boolean {
  return offset % DIGEST_PIECE_BYTES === 0 && length > 0 && length <= MAX_DIGEST_BYTES && length % 512 === 0;
}

/** True when all bytes are zero. @param bytes a multiple of 4 of them, at a multiple of 4 */
export function isZero(bytes: Uint8Array): boolean {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  return true;
}

const C1 = 0x239b961b, C2 = 0xab0e9789 | 0, C3 = 0x38b34ae5, C4 = 0xa1e38b93 | 0;

/**
 * MurmurHash3 x86_128 with seed 0, bit by bit. Public domain, by Austin Appleby; it needs products of 32 bits only,
 * which the language has, and no module that must be loaded first. 64 KiB take about 40 us.
 */
export class Murmur128 {
  #h1 = 0;
  #h2 = 0;
  #h3 = 0;
  #h4 = 0;
  #length = 0;

  /** Begins anew. */
  reset(): void {
    this.#h1 =
      this.#h2 =
      this.#h3 =
      this.#h4 =
      this.#length =
        0;
  }

  /** Adds bytes: a multiple of 16 of them, at a multiple of 4. */
  bytes(bytes: Uint8Array): void {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    let h1 = this.#h1, h2 = this.#h2, h3 = this.#h3, h4 = this.#h4;
    for (let i = 0; i + 3 < words.length; i += 4) {
      let k = Math.imul(words[i], C1);
      h1 ^= Math.imul((k << 15) | (k >>> 17), C2);
      h1 = (Math.imul(((h1 << 19) | (h1 >>> 13)) + h2, 5) + 0x561ccd1b) | 0;
      k = Math.imul(words[i + 1], C2);
      h2 ^= Math.imul((k << 16) | (k >>> 16), C3);
      h2 = (Math.imul(((h2 << 17) | (h2 >>> 15)) + h3, 5) + 0x0bcaa747) | 0;
      k = Math.imul(words[i + 2], C3);
      h3 ^= Math.imul((k << 17) | (k >>> 15), C4);
      h3 = (Math.imul(((h3 << 15) | (h3 >>> 17)) + h4, 5) + 0x96cd1c35) | 0;
      k = Math.imul(words[i + 3], C4);
      h4 ^= Math.imul((k << 18) | (k >>> 14), C1);
      h4 = (Math.imul(((h4 << 13) | (h4 >>> 19)) + h1, 5) + 0x32ac3b17) | 0;
    }
    this.#h1 = h1;
    this.#h2 = h2;
    this.#h3 = h3;
    this.#h4 = h4;
    this.#length += bytes.length;
  }

  /** Puts the sum of all that was added into 16 bytes at a multiple of 4. */
  finish(into: Uint8Array): void {
    const length = this.#length;
    let h1 = this.#h1 ^ length, h2 = this.#h2 ^ length, h3 = this.#h3 ^ length, h4 = this.#h4 ^ length;
    h1 = (h1 + h2 + h3 + h4) | 0;
    h2 = mixed(h2 + h1);
    h3 = mixed(h3 + h1);
    h4 = mixed(h4 + h1);
    h1 = (mixed(h1) + h2 + h3 + h4) | 0;
    const out = new Int32Array(into.buffer, into.byteOffset, 4);
    out[0] = h1;
    out[1] = h2 + h1;
    out[2] = h3 + h1;
    out[3] = h4 + h1;
  }
}

function mixed(h: number): number {
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}
