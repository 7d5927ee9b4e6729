/**
 * CRC-64 with the ISO 3309 polynomial x^64 + x^4 + x^3 + x + 1, as the Go library's `crc64.ISO` computes it: bits
 * reflected (0xD800000000000000), register and result inverted. It is the checksum of snapshots.
 *
 * The register is kept as two 32-bit halves, because 64-bit integers allocate. Eight tables take eight bytes per
 * step. Zeros are skipped: appending a zero byte is a linear map of the register's 64 bits, and the map for 2^k
 * bytes is the square of that for 2^(k-1), so a hole of any length costs a few hundred operations.
 *
 * @module
 */

const POLYNOMIAL_HIGH = 0xd8000000;
/** Tables: entry `256 * i + b` is the register after byte b and i zero bytes, low and high half. */
const LOW = new Int32Array(8 * 256), HIGH = new Int32Array(8 * 256);

for (let byte = 0; byte < 256; byte++) {
  let low = byte, high = 0;
  for (let bit = 0; bit < 8; bit++) {
    const out = low & 1;
    low = (low >>> 1) | (high << 31);
    high >>>= 1;
    if (out) high ^= POLYNOMIAL_HIGH;
  }
  LOW[byte] = low;
  HIGH[byte] = high;
}
for (let i = 256; i < LOW.length; i++) {
  const low = LOW[i - 256], high = HIGH[i - 256], index = low & 0xff;
  LOW[i] = ((low >>> 8) | (high << 24)) ^ LOW[index];
  HIGH[i] = (high >>> 8) ^ HIGH[index];
}

/** A linear map of the register: the images of its 64 bits, low and high halves by turns. */
type BitMap = Int32Array;

/** Maps for 2^k zero bytes; made when first needed. */
const ZEROS: BitMap[] = [];

function apply(map: BitMap, low: number, high: number): [number, number] {
  let toLow = 0, toHigh = 0;
  for (let bit = 0; bit < 32; bit++) {
    const one = -((low >>> bit) & 1), two = -((high >>> bit) & 1);
    toLow ^= (map[2 * bit] & one) ^ (map[2 * bit + 64] & two);
    toHigh ^= (map[2 * bit + 1] & one) ^ (map[2 * bit + 65] & two);
  }
  return [toLow, toHigh];
}

function zeros(power: number): BitMap {
  for (let k = ZEROS.length; k <= power; k++) {
    const map = new Int32Array(128), half = ZEROS[k - 1];
    for (let bit = 0; bit < 64; bit++) {
      let low = bit < 32 ? 1 << bit : 0, high = bit < 32 ? 0 : 1 << (bit - 32);
      if (half) [low, high] = apply(half, ...apply(half, low, high));
      else {
        const index = low & 0xff;
        [low, high] = [((low >>> 8) | (high << 24)) ^ LOW[index], (high >>> 8) ^ HIGH[index]];
      }
      map[2 * bit] = low;
      map[2 * bit + 1] = high;
    }
    ZEROS.push(map);
  }
  return ZEROS[power];
}

/** A checksum in the making. */
export class Crc64 {
  #low = -1;
  #high = -1;

  /** Takes bytes. */
  update(bytes: Uint8Array): void {
    let low = this.#low, high = this.#high, at = 0;
    const whole = bytes.length & ~7;
    for (; at < whole; at += 8) {
      low ^= bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
      high ^= bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24);
      const a = 1792 + (low & 0xff), b = 1536 + ((low >>> 8) & 0xff), c = 1280 + ((low >>> 16) & 0xff);
      const d = 1024 + (low >>> 24), e = 768 + (high & 0xff), f = 512 + ((high >>> 8) & 0xff);
      const g = 256 + ((high >>> 16) & 0xff), h = high >>> 24;
      low = LOW[a] ^ LOW[b] ^ LOW[c] ^ LOW[d] ^ LOW[e] ^ LOW[f] ^ LOW[g] ^ LOW[h];
      high = HIGH[a] ^ HIGH[b] ^ HIGH[c] ^ HIGH[d] ^ HIGH[e] ^ HIGH[f] ^ HIGH[g] ^ HIGH[h];
    }
    for (; at < bytes.length; at++) {
      const index = (low ^ bytes[at]) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ LOW[index];
      high = (high >>> 8) ^ HIGH[index];
    }
    this.#low = low;
    this.#high = high;
  }

  /** Takes zeros. @param count up to 2^53 - 1 */
  zeros(count: number): void {
    let low = this.#low, high = this.#high;
    for (let power = 0, rest = count; rest > 0; power++, rest = Math.floor(rest / 2)) {
      if (rest % 2 === 1) [low, high] = apply(zeros(power), low, high);
    }
    this.#low = low;
    this.#high = high;
  }

  /** The checksum of everything so far: 16 lower-case hexadecimal digits. */
  digest(): string {
    const hex = (half: number) => (~half >>> 0).toString(16).padStart(8, "0");
    return hex(this.#high) + hex(this.#low);
  }
}
