/**
 * Writing past the page cache from memory that is aligned for it: nothing is copied, and nothing is left to be written
 * back.
 *
 * @module
 */
import { PAGE_BYTES } from "./arena.ts";
import { Errno, IoError } from "./errno.ts";
import { errno, libc, mapMemory } from "./libc.ts";

/** Buffers that were given back, by size: mappings are never taken away, because somebody might still read into one. */
const free = new Map<number, Uint8Array<ArrayBuffer>[]>();

/** A page-aligned buffer, to be given back with {@linkcode giveAligned}. @throws {IoError} without memory */
export function takeAligned(bytes: number): Uint8Array<ArrayBuffer> {
  return free.get(bytes)?.pop() ?? new Uint8Array(mapMemory(bytes).buffer);
}

/** Gives a buffer back, for others. */
export function giveAligned(buffer: Uint8Array<ArrayBuffer>): void {
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
 * @param fd opened with O_DIRECT
 * @param piece of an aligned buffer, see {@linkcode isAligned}
 * @throws {IoError}
 */
export function writeDirect(fd: number, piece: Uint8Array<ArrayBuffer>, offset: number): void {
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
