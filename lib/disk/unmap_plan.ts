/**
 * What an unmap has to do, block by block, in a chain with something below the head.
 *
 * A trimmed block must read as zeros for ever, also after the map was forgotten. Punching the head is enough only
 * where nothing below has data for the block. Where a snapshot or the backing file has some that must stay, the
 * head gets a block of zeros instead. Files right below the head that are marked as removed have no reader but
 * the head, so their data goes, too; a file that is not removed ends that run, because its content is a
 * snapshot's, together with everything below it.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import { BLOCK_BYTES } from "./block_map.ts";
import { firstBlock, lastBlock } from "./chunk_loader.ts";
import type { Layers } from "./layers.ts";
import { type Qcow2Image, ZEROS } from "./qcow2.ts";

/** Blocks that are planned at once: 64 MiB. */
export const PLAN_BLOCKS = 16384;

/** A plan for up to {@linkcode PLAN_BLOCKS} blocks; reused. */
export class UnmapPlan {
  /** 1 where a file that must stay as it is has data. */
  readonly #kept = new Uint8Array(PLAN_BLOCKS);
  /** Blocks in the plan. */
  #blocks = 0;
  /** Positions of removed files that have data in the range, the oldest first. */
  readonly punch: number[] = [];

  /**
   * Looks at the files below the head.
   *
   * @param first first block
   * @param blocks number of blocks
   * @param depth how many files right below the head are removed
   * @throws {IoError}
   */
  make(files: Files, layers: Layers, first: number, blocks: number, depth: number): void {
    this.#blocks = blocks;
    this.#kept.fill(0, 0, blocks);
    this.punch.length = 0;
    const start = first * BLOCK_BYTES, bytes = blocks * BLOCK_BYTES, oldestRemoved = layers.count - 1 - depth;
    for (let position = 0; position < layers.count - 1; position++) {
      const layer = layers.at(position);
      if (position >= oldestRemoved) {
        if (files.extents(layer.fd, start, bytes).length > 0) this.punch.push(position);
      } else if (layer.backing) {
        if (layers.image) this.#keepImage(layers.image, start, bytes);
        else this.#keepBacking(files, layer.fd, start, bytes);
      } else {
        this.#keep(files, layer.fd, start, bytes);
      }
    }
  }

  #keep(files: Files, fd: number, start: number, bytes: number): void {
    for (const extent of files.extents(fd, start, bytes)) {
      if (extent.unwritten) continue;
      const from = firstBlock(extent, start);
      this.#kept.fill(1, from, Math.max(from, lastBlock(extent, start, this.#blocks)));
    }
  }

  /** What cannot be looked up counts as data: zeros over it are right in any case. */
  #keepImage(image: Qcow2Image, start: number, bytes: number): void {
    for (let done = 0; done < bytes;) {
      const kind = image.locate(start + done, bytes - done), length = kind < 0 ? bytes - done : image.run;
      if (kind !== ZEROS) {
        this.#kept.fill(1, Math.floor(done / BLOCK_BYTES), Math.ceil((done + length) / BLOCK_BYTES));
      }
      done += length;
    }
  }

  /** A backing file may lie on a file system that does not tell: then all of it counts as data. */
  #keepBacking(files: Files, fd: number, start: number, bytes: number): void {
    try {
      this.#keep(files, fd, start, bytes);
    } catch (error) {
      if (!(error instanceof IoError) || error.errno !== Errno.EOPNOTSUPP) throw error;
      const size = files.fstat(fd).size;
      this.#kept.fill(1, 0, Math.max(0, Math.min(this.#blocks, Math.ceil((size - start) / BLOCK_BYTES))));
    }
  }

  /** The first block from `from` on that is kept below (1) or not (0); the number of blocks when there is none. */
  find(kept: 0 | 1, from: number): number {
    const found = this.#kept.indexOf(kept, from);
    return found < 0 || found > this.#blocks ? this.#blocks : found;
  }
}
