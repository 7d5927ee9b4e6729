/**
 * Memory for blocks, used again. A block's memory is gone a moment after it came; left to the collector, clearing and
 * collecting it costs as much as decompressing the block.
 *
 * @module
 */
import type { Bytes } from "./codec.ts";

/** A few pieces of memory of one size. */
export class Spares {
  readonly #bytes: number;
  readonly #most: number;
  readonly #free: ArrayBuffer[] = [];

  /**
   * None yet.
   *
   * @param bytes size of each
   * @param most so many are kept
   */
  constructor(bytes: number, most: number) {
    this.#bytes = bytes;
    this.#most = most;
  }

  /** Memory with any content. */
  take(): Bytes {
    const memory = this.#free.pop();
    return memory === undefined ? new Uint8Array(this.#bytes) : new Uint8Array(memory);
  }

  /** Takes memory back, whatever part of it is shown; what is not of this size is left to the collector. */
  give({ buffer }: Bytes): void {
    if (buffer.byteLength === this.#bytes && this.#free.length < this.#most) this.#free.push(buffer);
  }
}
