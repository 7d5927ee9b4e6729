/**
 * Where a volume may hold anything but zeros, in pieces: what need not be read to know what it holds.
 *
 * It is asked of the file system, file by file, without touching the block map: who compares copies comes by once,
 * and a map would remember all of it. Space that is allocated but unwritten reads as zeros past the page cache;
 * through it, it may hold what is still to be written back, and counts as data. Nothing is synced for that: a sync
 * of a large file that hosts write to would stop everybody.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import type { Extent } from "../io/files.ts";
import type { DiskCore } from "./core.ts";
import type { Layer } from "./layers.ts";

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
  const { layers, direct } = core, pieces = Math.ceil(length / piece);
  marks.fill(0, 0, pieces);
  for (let position = 0; position < layers.count; position++) {
    const layer = layers.at(position);
    // An image has its data elsewhere, and what lies below the disks may lie where no extents are told.
    const extents = layer.id === layers.imageId ? undefined : told(core, layer, offset, length);
    if (extents === undefined) {
      marks.fill(1, 0, pieces);
      return;
    }
    for (const extent of extents) {
      if (extent.unwritten && direct) continue;
      const end = extent.offset + extent.length - offset;
      marks.fill(1, Math.floor((extent.offset - offset) / piece), Math.ceil(end / piece));
    }
  }
}

/** The extents of a range; undefined for a file below the disks whose file system tells none. @throws {IoError} */
function told(core: DiskCore, { fd, backing }: Layer, offset: number, length: number): Extent[] | undefined {
  try {
    return core.io.files.extents(fd, offset, length, core.direct);
  } catch (error) {
    if (backing && error instanceof IoError && error.errno === Errno.EOPNOTSUPP) return undefined;
    throw error;
  }
}
