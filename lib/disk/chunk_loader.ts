/**
 * Finds out from the files' extents which file holds which block: a block belongs to the newest file that has
 * data for it. Asked of the file system once per chunk of 2 MiB, on first touch.
 *
 * A block counts as held when any part of it is in a written extent. Space that is allocated but unwritten is
 * what a crash leaves of a write that was never acknowledged; it is not data. The oldest file is never asked:
 * what no other file holds is there, or in its holes, which read as zeros.
 *
 * @module
 */
import type { Extent, Files } from "../io/files.ts";
import { BLOCK_BYTES, type BlockMap, CHUNK_BLOCKS, CHUNK_BYTES } from "./block_map.ts";
import type { Layers } from "./layers.ts";

/** Loads chunks of a block map. */
export class ChunkLoader {
  readonly #ids = new Uint8Array(CHUNK_BLOCKS);

  /** Uses the map, the chain and the file system given. */
  constructor(readonly files: Files, readonly layers: Layers, readonly map: BlockMap) {}

  /**
   * Makes every chunk that a range of blocks touches known.
   *
   * @param first first block
   * @param end the block after the last one
   * @throws {IoError} when a file system refuses to tell
   */
  ensure(first: number, end: number): void {
    const last = Math.floor((end - 1) / CHUNK_BLOCKS);
    for (let chunk = Math.floor(first / CHUNK_BLOCKS); chunk <= last; chunk++) {
      if (!this.map.isKnown(chunk)) this.#load(chunk);
    }
  }

  #load(chunk: number): void {
    const ids = this.#ids.fill(0), start = chunk * CHUNK_BYTES;
    let missing = CHUNK_BLOCKS;
    for (let position = this.layers.count - 1; position > 0 && missing > 0; position--) {
      const layer = this.layers.at(position);
      for (const extent of this.files.extents(layer.fd, start, CHUNK_BYTES)) {
        if (extent.unwritten) continue;
        const end = lastBlock(extent, start, CHUNK_BLOCKS);
        for (let i = firstBlock(extent, start); i < end; i++) {
          if (ids[i] !== 0) continue;
          ids[i] = layer.id;
          missing--;
        }
      }
    }
    const oldest = this.layers.at(0).id;
    if (missing > 0) {
      for (let i = 0; i < CHUNK_BLOCKS; i++) {
        if (ids[i] === 0) ids[i] = oldest;
      }
    }
    this.map.load(chunk, ids);
  }
}

/** The first block an extent touches, counted from `start` (bytes), not below 0. */
export function firstBlock(extent: Extent, start: number): number {
  return Math.max(0, Math.floor((extent.offset - start) / BLOCK_BYTES));
}

/** The block after the last one an extent touches, counted from `start` (bytes), not above `limit`. */
export function lastBlock(extent: Extent, start: number, limit: number): number {
  return Math.min(limit, Math.ceil((extent.offset + extent.length - start) / BLOCK_BYTES));
}
