/**
 * Reads and writes of files that are under way while their thread does something else: for threads that have an event
 * loop of their own, and so no `Io`, but should not wait for each piece that a disk moves.
 *
 * They are submitted to an io_uring; where that is forbidden each is done at once, and waiting for it costs nothing.
 * Waiting blocks the thread: it is for the moment when a buffer is needed again, and the disk has usually finished
 * long before.
 *
 * @module
 */
import { writeFully } from "./direct_write.ts";
import { Errno, IoError } from "./errno.ts";
import type { Files } from "./files.ts";
import { worldFromEnvironment } from "./open.ts";
import { startWriteback, SYNC_FILE_RANGE_WRITE } from "./page_cache.ts";
import { Ring } from "./uring_ring.ts";

// IORING_OP_* of linux/io_uring.h.
const OP_SYNC_FILE_RANGE = 8, OP_READ = 22, OP_WRITE = 23;
/** Longest range of one entry, bytes: its length is an i32 for some kernels. */
const MAX_RANGE_BYTES = 2 ** 31 - 1;
/** As the length of a range to be written back. */
const TO_THE_END = 0;
const NOTHING = new Uint8Array(0);

/** Operations of one thread that may be under way; a power of two. */
export const FILE_QUEUE_DEPTH = 64;

/** A read or a write. */
export interface FileOperation {
  /** The descriptor. */
  readonly fd: number;
  /** What is read into or written: must stay as it is until the operation was waited for. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where in the file. */
  readonly offset: number;
  /** It writes. */
  readonly writes: boolean;
  /** The kernel has ended it. */
  done: boolean;
  /** Bytes that it moved, or below 0 an error number; meaningful once `done`. */
  result: number;
}

/** See the module text. Belongs to one thread. */
export class FileQueue {
  readonly #ring: Ring | undefined;
  /** What is under way, by its `user_data`. */
  readonly #slots: (FileOperation | undefined)[] = new Array(FILE_QUEUE_DEPTH).fill(undefined);
  #underWay = 0;

  /** Sets up a ring, where that is allowed. @param files does what a ring left over */
  constructor(readonly files: Files) {
    this.#ring = openRing();
  }

  /** Whether operations really go on beside their thread. */
  get concurrent(): boolean {
    return this.#ring !== undefined;
  }

  /**
   * Begins to read. With a descriptor that bypasses the page cache, buffer (`takeAligned`) and offset are aligned.
   *
   * @throws {IoError} when it was done at once
   */
  read(fd: number, bytes: Uint8Array<ArrayBuffer>, offset: number): FileOperation {
    return this.#begin({ fd, bytes, offset, writes: false, done: false, result: 0 });
  }

  /** Begins to write, likewise. @throws {IoError} when it was done at once */
  write(fd: number, bytes: Uint8Array<ArrayBuffer>, offset: number): FileOperation {
    return this.#begin({ fd, bytes, offset, writes: true, done: false, result: 0 });
  }

  /**
   * Begins to bring a range from the page cache to the disk, as {@linkcode startWriteback} does: that may take long
   * where there are many small pieces. Nobody need wait for it, and failures do not count: a sync tells.
   */
  writeback(fd: number, offset: number, length: number): void {
    const ring = this.#ring;
    if (ring === undefined) return startWriteback(fd, offset, length);
    const operation = { fd, bytes: NOTHING, offset, writes: true, done: false, result: 0 };
    const range = length > MAX_RANGE_BYTES ? TO_THE_END : length;
    this.#submit(ring, operation, OP_SYNC_FILE_RANGE, 0, range, SYNC_FILE_RANGE_WRITE);
  }

  #begin(operation: FileOperation): FileOperation {
    const ring = this.#ring, { bytes, writes } = operation;
    if (ring === undefined) {
      this.#goOn(operation, 0);
      operation.done = true;
      operation.result = bytes.length;
      return operation;
    }
    const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
    this.#submit(ring, operation, writes ? OP_WRITE : OP_READ, Number(address), bytes.length, 0);
    return operation;
  }

  #submit(
    ring: Ring,
    operation: FileOperation,
    opcode: number,
    address: number,
    length: number,
    flags: number,
  ): void {
    while (this.#underWay === FILE_QUEUE_DEPTH) this.#reap(ring);
    const index = this.#slots.indexOf(undefined);
    this.#slots[index] = operation;
    this.#underWay++;
    ring.push(opcode, operation.fd, operation.offset, address, length, flags, index);
    ring.submit();
  }

  /** Waits for the end of at least one operation. */
  #reap(ring: Ring): void {
    if (ring.ready === 0) ring.wait(-1);
    for (; ring.ready > 0; ring.take()) {
      const index = ring.userData, operation = this.#slots[index];
      this.#slots[index] = undefined;
      this.#underWay--;
      if (operation !== undefined) this.#finish(operation, ring.result);
    }
  }

  /** What the kernel left of it is done at once: its descriptor may be closed before anybody waits for it. */
  #finish(operation: FileOperation, result: number): void {
    const { bytes } = operation, retry = result === -Errno.EINTR || result === -Errno.EAGAIN;
    operation.result = result;
    operation.done = true;
    if (result === bytes.length || (result < 0 && !retry)) return;
    try {
      this.#goOn(operation, Math.max(0, result));
      operation.result = bytes.length;
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      operation.result = -error.errno;
    }
  }

  /**
   * Waits until an operation has ended, all of it.
   *
   * @throws {IoError} as it failed; a read behind the end of the file leaves zeros
   */
  wait(operation: FileOperation): void {
    const { bytes, offset, writes, fd } = operation;
    while (this.#ring !== undefined && !operation.done) this.#reap(this.#ring);
    if (operation.result >= 0) return;
    const what = `${bytes.length} bytes at ${offset} of descriptor ${fd}`;
    throw new IoError(writes ? "pwrite" : "pread", what, -operation.result);
  }

  /** Waits until all of them have ended, also when some fail. @throws {IoError} the first failure */
  waitAll(operations: readonly FileOperation[]): void {
    let failure: unknown;
    for (const operation of operations) {
      try {
        this.wait(operation);
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** What is left of an operation, at once. */
  #goOn({ fd, bytes, offset, writes }: FileOperation, done: number): void {
    if (writes) return writeFully(fd, bytes.subarray(done), offset + done);
    const got = this.files.readAt(fd, bytes.subarray(done), offset + done);
    if (done + got < bytes.length) bytes.fill(0, done + got);
  }

  /** Waits for everything that is under way on a descriptor, so that it can be closed. Failures do not count. */
  forget(fd: number): void {
    while (this.#ring !== undefined && this.#slots.some((one) => one?.fd === fd)) this.#reap(this.#ring);
  }

  /** Ends it; nothing may be under way any more. */
  close(): void {
    this.#ring?.close();
  }
}

function openRing(): Ring | undefined {
  if (worldFromEnvironment() === "poll") return undefined;
  try {
    return new Ring(FILE_QUEUE_DEPTH, 2 * FILE_QUEUE_DEPTH);
  } catch (error) {
    if (error instanceof IoError) return undefined;
    throw error;
  }
}
