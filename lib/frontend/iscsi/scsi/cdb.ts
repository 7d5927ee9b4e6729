/**
 * Fields that command descriptor blocks have in common. The length group of an opcode (its upper three bits)
 * says where they are: SPC-4 section 4.2.5.
 *
 * | group | CDB bytes | logical block address | length |
 * |---|---|---|---|
 * | 0 | 6 | 21 bits at 1 | 1 byte at 4, 0 = 256 |
 * | 1, 2 | 10 | 4 bytes at 2 | 2 bytes at 7 |
 * | 4 | 16 | 8 bytes at 2 | 4 bytes at 10 |
 * | 5 | 12 | 4 bytes at 2 | 4 bytes at 6 |
 *
 * @module
 */

const TWO_32 = 4294967296;

/** A 64-bit big-endian number; exact up to 2^53, far above any size here. */
export function uint64(view: DataView, at: number): number {
  return view.getUint32(at) * TWO_32 + view.getUint32(at + 4);
}

/** Writes a 64-bit big-endian number of at most 2^53. */
export function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_32));
  view.setUint32(at + 4, value % TWO_32);
}

/** The length group of an opcode. */
export function group(opcode: number): number {
  return opcode >> 5;
}

/** The logical block address of a media command. */
export function cdbLba(view: DataView, cdb: number): number {
  switch (group(view.getUint8(cdb))) {
    case 0:
      return ((view.getUint8(cdb + 1) & 0x1f) << 16) | view.getUint16(cdb + 2);
    case 4:
      return uint64(view, cdb + 2);
    default:
      return view.getUint32(cdb + 2);
  }
}

/** The number of blocks of a media command. */
export function cdbBlocks(view: DataView, cdb: number): number {
  switch (group(view.getUint8(cdb))) {
    case 0:
      return view.getUint8(cdb + 4) || 256;
    case 4:
      return view.getUint32(cdb + 10);
    case 5:
      return view.getUint32(cdb + 6);
    default:
      return view.getUint16(cdb + 7);
  }
}

/** Byte of the CDB where the number of blocks starts, for field pointers. */
export function blocksField(opcode: number): number {
  const g = group(opcode);
  return g === 0 ? 4 : g === 4 ? 10 : g === 5 ? 6 : 7;
}
