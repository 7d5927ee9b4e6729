/**
 * What the paths of an open replica share: the files, the map, the slots, the locks, and whether the replica
 * may still be trusted.
 *
 * @module
 */
import { Errno, errnoText, IoError } from "../io/errno.ts";
import type { Io } from "../io/io.ts";
import { BLOCK_BYTES, type BlockMap } from "./block_map.ts";
import { BlockLocks } from "./block_locks.ts";
import { ChunkLoader } from "./chunk_loader.ts";
import type { Layers } from "./layers.ts";
import { Bounce, type DiskMemory } from "./memory.ts";
import { Requests } from "./requests.ts";

/** What the data path asks of the directory it works in. */
export interface Directory {
  /** Notes durably, as well as it can, why the replica must not be used any more. Does not throw. */
  noteFault(reason: string): void;
  /** Makes sure that `volume.meta` says Dirty, durably. @throws {IoError} */
  markDirty(): void;
  /**
   * How many files right below the head may have their data punched out by an unmap, after marking them as
   * removed if that is set. @throws {IoError}
   */
  unmapDepth(): number;
}

/** Shared state of an open replica. */
export class DiskCore {
  /** Slots of the requests under way. */
  readonly requests: Requests;
  /** Who changes which blocks. */
  readonly locks: BlockLocks;
  /** Bounce buffers. */
  readonly bounce: Bounce;
  /** Fills the map in. */
  readonly loader: ChunkLoader;
  /** Descriptor of the head. */
  headFd: number;
  /** Id of the head in the map. */
  headId: number;
  /** True when there is anything below the head. */
  layered: boolean;
  /** `volume.meta` says Dirty on stable storage. */
  dirty = false;
  /** Changes of the head that completed but were not made durable on their own. Counts up. */
  changes = 0;
  #fault = "";

  /** Joins the parts. */
  constructor(
    readonly io: Io,
    readonly directory: Directory,
    readonly layers: Layers,
    readonly map: BlockMap,
    readonly memory: DiskMemory,
    /** Size of the volume, bytes. */
    public size: number,
    /** Files are opened with O_DIRECT. */
    readonly direct: boolean,
  ) {
    this.requests = new Requests(io);
    this.locks = new BlockLocks(this.requests);
    this.bounce = new Bounce(memory, this.requests);
    this.loader = new ChunkLoader(io.files, layers, map);
    this.headFd = layers.head.fd;
    this.headId = layers.head.id;
    this.layered = layers.count > 1;
  }

  /** To be called after the layers changed. Only while no request is under way. */
  chainChanged(): void {
    this.headFd = this.layers.head.fd;
    this.headId = this.layers.head.id;
    this.layered = this.layers.count > 1;
  }

  /** Why the replica must not be used any more, or "". */
  get fault(): string {
    return this.#fault;
  }

  /** Declares the replica bad for good: from now on every request fails with EIO. The first reason stays. */
  fail(reason: string): void {
    if (this.#fault !== "") return;
    this.#fault = reason;
    this.directory.noteFault(reason);
  }

  /** 0, or the `-errno` that a request for a range gets at once. */
  refusal(offset: number, length: number): number {
    if (this.#fault !== "") return -Errno.EIO;
    return offset >= 0 && length >= 0 && offset + length <= this.size ? 0 : -Errno.EINVAL;
  }

  /** To be called before anything changes. @returns 0 or `-errno` */
  beforeChange(): number {
    if (this.dirty) return 0;
    try {
      this.directory.markDirty();
    } catch (error) {
      return failure(error);
    }
    this.dirty = true;
    return 0;
  }

  /** Makes the map know a range of bytes. @returns 0 or `-errno` */
  know(offset: number, length: number): number {
    try {
      this.loader.ensure(Math.floor(offset / BLOCK_BYTES), Math.ceil((offset + length) / BLOCK_BYTES));
    } catch (error) {
      return failure(error);
    }
    return 0;
  }

  /**
   * After a write to the head failed, which may have reached some of its blocks: takes what is there of blocks
   * that were not in the head before out of it again, so that the data below shows as before. Half a block, or
   * one that is allocated but unwritten, would hide it. Nobody else may be writing to these blocks. Declares the
   * replica bad when it cannot be done.
   *
   * @param first first block
   * @param end the block after the last one
   */
  takeBack(first: number, end: number): void {
    try {
      for (let block = first; block < end;) {
        const run = this.map.run(block, end - block);
        if (this.map.get(block) !== this.headId) {
          const start = block * BLOCK_BYTES;
          this.io.files.punchHole(this.headFd, start, Math.min(run * BLOCK_BYTES, this.size - start));
        }
        block += run;
      }
    } catch (error) {
      this.fail(`a write failed and could not be taken back: ${errnoText(failure(error))}`);
    }
  }
}

/** The `-errno` for what a synchronous call threw. Anything but an {@linkcode IoError} is a mistake and goes on. */
export function failure(error: unknown): number {
  if (error instanceof IoError) return -error.errno;
  throw error;
}
