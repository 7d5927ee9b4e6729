/**
 * Where a volume may hold anything but zeros, in pieces: what need not be read to know what it holds.
 *
 * It is asked of the file system, file by file, without touching the block map: who compares copies comes by once,
 * and a map would remember all of it. Space that is allocated but unwritten reads as zeros past the page cache;
 * through it, it may not: there everything counts as data.
 *
 * @module
 */
import type { DiskCore } from "./core.ts";

/**
 * Sets the marks of the pieces of a range that may hold data, and clears the others'.
 *
 * @param offset first byte of the range, within the volume
 * @param length its bytes
 * @param piece bytes of a piece; the first begins at `offset`
 * @param marks one per piece
 * @throws {IoError} when a file system refuses to tell
 */
export function markData(
  core: DiskCore,
  offset: number,
  length: number,
  piece: number,
  marks: Uint8Array,
): void {
  const { layers } = core, pieces = Math.ceil(length / piece);
  // A file below the disks may be an image, and may lie where no extents are told.
  if (!core.direct || layers.at(0).backing) {
    marks.fill(1, 0, pieces);
    return;
  }
  marks.fill(0, 0, pieces);
  for (let position = 0; position < layers.count; position++) {
    for (const extent of core.io.files.extents(layers.at(position).fd, offset, length)) {
      if (extent.unwritten) continue;
      const end = extent.offset + extent.length - offset;
      marks.fill(1, Math.floor((extent.offset - offset) / piece), Math.ceil(end / piece));
    }
  }
}
