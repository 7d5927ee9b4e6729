/**
 * What a frontend sees of a volume: a disk with reads, writes, unmaps and flushes. The engine's volume
 * implements it; so does a memory disk for tests of the frontends.
 *
 * @module
 */
import type { Completer } from "../io/io.ts";

/** Operations on a block device. Values are internal; they never reach a wire. */
export const Op = {
  /** Fill the buffer from the device. */
  READ: 0,
  /** Store the buffer. */
  WRITE: 1,
  /** Give space back; the range reads as zeros afterwards. */
  UNMAP: 2,
  /** Everything completed before this is on stable storage when it completes. */
  FLUSH: 3,
  /** As WRITE, on stable storage when it completes (FUA). */
  WRITE_DURABLE: 4,
} as const;

/** One of {@linkcode Op}. */
export type Op = typeof Op[keyof typeof Op];

/** Bytes of a logical block as hosts see it. */
export const SECTOR_BYTES = 512;

/** Largest transfer of one READ or WRITE, bytes. Frontends announce it and split nothing larger. */
export const MAX_TRANSFER_BYTES = 4 * 1024 * 1024;

/** Operations a frontend may have under way at once; a frontend out of them stops reading its sockets. */
export const FRONTEND_DEPTH = 256;

/** A disk. Lives in the volume thread; never blocks; completes from the loop. */
export interface BlockDevice {
  /** Volume name, as the user gave it. */
  readonly name: string;
  /** Size in bytes; grows on expansion, see {@linkcode BlockDevice.onResize}. */
  readonly bytes: number;
  /**
   * Starts an operation. `who.complete(tag, result)` follows from the loop: result 0 or more is success, below
   * 0 is `-errno` (EIO, ENOSPC, EINVAL beyond the end). Never completes inside the call.
   *
   * Overlapping operations under way at once are applied in an unspecified order, but in the same order on
   * every replica. A READ may see a concurrent WRITE in part.
   *
   * @param op what to do
   * @param offset bytes, a multiple of 512; 0 for FLUSH
   * @param length bytes, a multiple of 512; 0 for FLUSH; READ and WRITE at most {@linkcode MAX_TRANSFER_BYTES}
   * @param at arena offset of the data (READ: filled; WRITE: read until completion); 0 for UNMAP and FLUSH.
   *   Page-aligned buffers save a copy later on, others work
   */
  submit(op: Op, offset: number, length: number, at: number, who: Completer, tag: number): void;
  /** Calls back (from the loop) after the size changed. */
  onResize(listener: () => void): void;
}
