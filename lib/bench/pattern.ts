/**
 * Data that tells where it belongs: every word depends on its place on the disk and on a seed, so a block that
 * was misplaced, torn, stale or lost shows as itself and no two sectors are alike.
 *
 * @module
 */

/** Bytes that share one derivation; all offsets and lengths are multiples. */
const SECTOR_BYTES = 512;
const SECTOR_WORDS = SECTOR_BYTES / 4;
const TWO_32 = 2 ** 32;

// Odd constants with well mixed bits: 2^32 divided by the golden section, and those of MurmurHash3.
const MIX_A = 0x9e3779b1;
const MIX_B = 0x85ebca6b;
const MIX_C = 0xc2b2ae35;

/** The first of the words of a sector. */
function sectorStart(sector: number, seed: number): number {
  let h = Math.imul(sector | 0, MIX_A) ^ Math.imul((sector / TWO_32) | 0, MIX_B) ^ seed;
  h = Math.imul(h ^ (h >>> 16), MIX_C);
  return h ^ (h >>> 13);
}

/**
 * Writes the pattern of a range of the disk.
 *
 * @param words the memory as 32-bit words
 * @param at byte offset in the memory, a multiple of 4
 * @param offset of the range on the disk, a multiple of 512
 */
export function fillPattern(
  words: Uint32Array,
  at: number,
  offset: number,
  length: number,
  seed: number,
): void {
  let w = at >>> 2;
  for (let done = 0; done < length; done += SECTOR_BYTES) {
    let word = sectorStart((offset + done) / SECTOR_BYTES, seed);
    for (let i = 0; i < SECTOR_WORDS; i++) {
      words[w++] = word;
      word = (word + MIX_A) | 0;
    }
  }
}

/**
 * Compares memory with the pattern; parameters as {@linkcode fillPattern}'s.
 * @returns the offset on the disk of the first wrong word, or -1 when all is as it should be
 */
export function checkPattern(
  words: Uint32Array,
  at: number,
  offset: number,
  length: number,
  seed: number,
): number {
  let w = at >>> 2;
  for (let done = 0; done < length; done += SECTOR_BYTES) {
    let word = sectorStart((offset + done) / SECTOR_BYTES, seed);
    for (let i = 0; i < SECTOR_WORDS; i++) {
      if (words[w++] !== word >>> 0) return offset + done + 4 * i;
      word = (word + MIX_A) | 0;
    }
  }
  return -1;
}
