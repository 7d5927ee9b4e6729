/**
 * The arena: one region of memory per volume thread in which every buffer of the data path lives.
 *
 * A buffer is named by its offset in the arena, a plain number. That keeps the hot path free of objects (no
 * `subarray`, nothing to collect) and lets the kernel be given absolute addresses without a lookup.
 * Pages that were never touched cost no memory, so the arena may be generous.
 *
 * @module
 */

/** Bytes of a memory page and of a block of the volume: alignment of direct I/O. */
export const PAGE_BYTES = 4096;

/** Bytes of a huge page with pages of 4 KiB, on x86-64 and on arm64. */
export const HUGE_PAGE_BYTES: number = 2 * 1024 * 1024;

/** Buffers of at least so many bytes hold what goes to a disk as a large piece: they are worth huge pages. */
export const LARGE_BUFFER_BYTES: number = 128 * 1024;

/** A region of memory with views for bytes and for unaligned integers. */
export class Arena {
  /** All bytes. Index with arena offsets. */
  readonly u8: Uint8Array<ArrayBuffer>;
  /** The same bytes for integers of any alignment and endianness. */
  readonly view: DataView<ArrayBuffer>;
  /** Size in bytes. */
  readonly bytes: number;
  #next = 0;

  /**
   * Takes the memory over.
   *
   * @param buffer the memory; page aligned when the kernel is to use it
   * @param base absolute address of its first byte; 0 where no kernel is involved (simulation)
   */
  constructor(buffer: ArrayBuffer, readonly base: bigint) {
    this.u8 = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.bytes = buffer.byteLength;
  }

  /** Bytes not yet reserved. */
  get free(): number {
    return this.bytes - this.#next;
  }

  /**
   * Sets a part of the arena aside for good: pools and windows take theirs once, at start.
   *
   * @param bytes how many
   * @param align a power of two
   * @returns the offset of the reserved part
   * @throws {RangeError} when the arena is too small, which is a mistake in the sizing at start
   */
  reserve(bytes: number, align = 64): number {
    const at = Math.ceil(this.#next / align) * align;
    if (at + bytes > this.bytes) {
      throw new RangeError(`arena of ${this.bytes} bytes cannot reserve ${bytes} more at ${at}`);
    }
    this.#next = at + bytes;
    return at;
  }
}
