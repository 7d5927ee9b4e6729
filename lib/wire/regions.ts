/**
 * Dirty regions: the parts of a volume in which copies may differ after an unclean stop. Engine and replicas cut
 * the volume alike, so that both speak of regions by number; a map of all regions is one block of bits.
 *
 * @module
 */

/** Bytes of a map of regions: one block, written as a whole. Region r is bit r % 8 of byte r / 8. */
export const REGION_MAP_BYTES = 4096;

/** Most regions of a volume: the bits of a map. */
export const MAX_REGIONS: number = REGION_MAP_BYTES * 8;

/** Smallest region, bytes. */
const LEAST_REGION_BYTES = 1024 * 1024;

/** Size of a region of a volume of so many bytes: a power of two, so that all regions fit into one map. */
export function regionBytes(volumeBytes: number): number {
  let bytes = LEAST_REGION_BYTES;
  while (Math.ceil(volumeBytes / bytes) > MAX_REGIONS) bytes *= 2;
  return bytes;
}

/** Sets the bits of all regions that a range touches. @returns true when some were not set */
export function setRegions(map: Uint8Array, region: number, offset: number, length: number): boolean {
  let fresh = false;
  const last = Math.floor((offset + Math.max(length, 1) - 1) / region);
  for (let r = Math.floor(offset / region); r <= last; r++) {
    const bit = 1 << (r & 7);
    if ((map[r >> 3] & bit) === 0) {
      map[r >> 3] |= bit;
      fresh = true;
    }
  }
  return fresh;
}

/** True when the bits of all regions that a range touches are set. */
export function coversRegions(map: Uint8Array, region: number, offset: number, length: number): boolean {
  const last = Math.floor((offset + Math.max(length, 1) - 1) / region);
  for (let r = Math.floor(offset / region); r <= last; r++) {
    if ((map[r >> 3] & (1 << (r & 7))) === 0) return false;
  }
  return true;
}

/** Clears the bits of the regions that lie wholly within a range (the last one may be cut short by the volume's end). */
export function clearRegions(map: Uint8Array, region: number, offset: number, length: number): void {
  for (let r = Math.ceil(offset / region); r * region < offset + length; r++) map[r >> 3] &= ~(1 << (r & 7));
}

/** True when no bit is set. */
export function isClean(map: Uint8Array): boolean {
  return map.every((byte) => byte === 0);
}

/** The next run of set bits from a region on. @returns [first, count], count 0 when there is none */
export function nextRun(map: Uint8Array, from: number): [first: number, count: number] {
  let first = from;
  while (first < MAX_REGIONS && (map[first >> 3] & (1 << (first & 7))) === 0) first++;
  let end = first;
  while (end < MAX_REGIONS && (map[end >> 3] & (1 << (end & 7))) !== 0) end++;
  return [first, end - first];
}
