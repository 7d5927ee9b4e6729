/**
 * The buffers of one connection of a receiver: while what came last is being written, more comes into the next one.
 *
 * @module
 */
import { giveAligned, takeAligned } from "../../io/direct_write.ts";
import type { FileOperation, FileQueue } from "../../io/file_queue.ts";
import { BATCH_DATA_BYTES } from "./batches.ts";

/** Buffers of a connection. Three keep the disk busy while one fills; they are made as they are needed. */
export const BUFFERS = 4;

/** One of them. */
export interface WriteBuffer {
  /** A batch's data. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** What is being written of it. */
  readonly underWay: FileOperation[];
}

/** See the module text. */
export class WriteBuffers {
  readonly #buffers: WriteBuffer[] = [];
  #next = 0;

  /** Has none yet. @param queue of this thread */
  constructor(readonly queue: FileQueue) {}

  /** The next buffer. What was being written of it has been written. @throws {IoError} as that failed */
  take(): WriteBuffer {
    const index = this.#next++ % BUFFERS;
    const buffer = this.#buffers[index] ??= { bytes: takeAligned(BATCH_DATA_BYTES), underWay: [] };
    this.#settle(buffer);
    return buffer;
  }

  #settle({ underWay }: WriteBuffer): void {
    this.queue.waitAll(underWay.splice(0));
  }

  /** Waits until everything has been written. @throws {IoError} the first failure */
  settle(): void {
    for (const buffer of this.#buffers) this.#settle(buffer);
  }

  /** Gives the buffers back. @throws {IoError} as what was under way failed */
  release(): void {
    let failure: unknown;
    for (const buffer of this.#buffers.splice(0)) {
      try {
        this.#settle(buffer);
      } catch (error) {
        failure ??= error;
      }
      giveAligned(buffer.bytes);
    }
    if (failure !== undefined) throw failure;
  }
}
