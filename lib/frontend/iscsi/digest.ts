/**
 * CRC32C (Castagnoli), the digest of iSCSI headers and data: RFC 7143 section 13.1, RFC 3720 appendix B.4.
 *
 * Slicing by eight: eight tables turn eight bytes at a time into one look-up each, which is what a just-in-time
 * compiler can do without the machine's CRC instruction.
 *
 * @module
 */

/** The Castagnoli polynomial 0x1EDC6F41, bits reversed. */
const POLYNOMIAL = 0x82f63b78;

/** Table k, entry b: the effect of byte b followed by k zero bytes. */
const TABLE = makeTables();

function makeTables(): Int32Array {
  const table = new Int32Array(8 * 256);
  for (let b = 0; b < 256; b++) {
    let crc = b;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    table[b] = crc;
  }
  for (let k = 1; k < 8; k++) {
    for (let b = 0; b < 256; b++) {
      const before = table[(k - 1) * 256 + b];
      table[k * 256 + b] = (before >>> 8) ^ table[before & 255];
    }
  }
  return table;
}

/** The state before the first byte. */
export const CRC_START = -1 as number;

/**
 * Goes on over more bytes.
 * @param state {@linkcode CRC_START} or the result of an earlier call
 * @returns the new state; {@linkcode crcFinish} makes the digest of it
 */
export function crcUpdate(state: number, bytes: Uint8Array, at: number, length: number): number {
  const t = TABLE;
  let crc = state | 0;
  const end = at + length;
  let i = at;
  for (const stop = end - 7; i < stop; i += 8) {
    crc ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    crc = t[1792 + (crc & 255)] ^ t[1536 + ((crc >>> 8) & 255)] ^ t[1280 + ((crc >>> 16) & 255)] ^
      t[1024 + (crc >>> 24)] ^ t[768 + bytes[i + 4]] ^ t[512 + bytes[i + 5]] ^ t[256 + bytes[i + 6]] ^
      t[bytes[i + 7]];
  }
  for (; i < end; i++) crc = (crc >>> 8) ^ t[(crc ^ bytes[i]) & 255];
  return crc;
}

/** The digest of everything a state has seen, as an unsigned number; on the wire it is little endian. */
export function crcFinish(state: number): number {
  return ~state >>> 0;
}

/** CRC32C of `length` bytes at `at`. */
export function crc32c(bytes: Uint8Array, at = 0, length: number = bytes.length - at): number {
  return crcFinish(crcUpdate(CRC_START, bytes, at, length));
}
