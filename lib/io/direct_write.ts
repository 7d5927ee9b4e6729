/**
 * Writing past the page cache from memory that is aligned for it: nothing is copied, and nothing is left to be written
 * back.
 *
 * @module
 */
import { PAGE_BYTES } from "./arena.ts";
import { Errno, IoError } from "./errno.ts";
import { errno, libc, mapMemory } from "./libc.ts";

/** MADV_DONTNEED (asm-generic/mman-common.h). */
const MADV_DONTNEED = 4;

/** Buffers that were given back, by size: mappings are never taken away, because somebody might still read into one. */
const free = new Map<number, Uint8Array<ArrayBuffer>[]>();

/** A page-aligned buffer, to be given back with {@linkcode giveAligned}. @throws {IoError} without memory */
export function takeAligned(bytes: number): Uint8Array<ArrayBuffer> {
  return free.get(bytes)?.pop() ?? new Uint8Array(mapMemory(bytes).buffer);
}

/** Gives a buffer back, for others. Its memory goes back to the system until somebody uses it again. */
export function giveAligned(buffer: Uint8Array<ArrayBuffer>): void {
  libc.madvise(Deno.UnsafePointer.of(buffer), BigInt(buffer.length), MADV_DONTNEED);
  const list = free.get(buffer.length);
  if (list) list.push(buffer);
  else free.set(buffer.length, [buffer]);
}

/** Whether a piece of an aligned buffer can be written directly at an offset. */
export function isAligned(piece: Uint8Array, offset: number): boolean {
  return piece.byteOffset % PAGE_BYTES === 0 && piece.length % PAGE_BYTES === 0 && offset % PAGE_BYTES === 0;
}

/**
 * Writes all bytes.
 *
 * @param fd with O_DIRECT, piece and offset must be aligned, see {@linkcode isAligned}
 * @throws {IoError}
 */
export function writeFully(fd: number, piece: Uint8Array<ArrayBuffer>, offset: number): void {
  for (let done = 0; done < piece.length;) {
    const put = libc.pwrite(fd, piece.subarray(done), piece.length - done, BigInt(offset + done));
    const number = put < 0 ? errno() : put === 0 ? Errno.EIO : 0;
    if (number === Errno.EINTR) continue;
    if (number !== 0) {
      throw new IoError(
        "pwrite",
        `${piece.length - done} bytes at ${offset + done} of descriptor ${fd}`,
        number,
      );
    }
    done += put;
  }
}
