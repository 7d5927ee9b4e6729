/**
 * Writing past the page cache from memory that is aligned for it: nothing is copied, and nothing is left to be written
 * back.
 *
 * @module
 */
import { HUGE_PAGE_BYTES, LARGE_BUFFER_BYTES, PAGE_BYTES } from "./arena.ts";
import { Errno, IoError } from "./errno.ts";
import { discard, errno, libc, mapHuge, mapMemory, type Mapping } from "./libc.ts";

/** Memory that buffers of one size are cut from. It is never taken away: somebody might still read into it. */
interface Slab {
  readonly mapping: Mapping;
  /** Buffers of it that somebody has. */
  taken: number;
}

const slabs = new WeakMap<ArrayBuffer, Slab>();
/** Buffers that nobody has, by size. */
const free = new Map<number, Uint8Array<ArrayBuffer>[]>();

/** A page-aligned buffer, to be given back with {@linkcode giveAligned}. @throws {IoError} without memory */
export function takeAligned(bytes: number): Uint8Array<ArrayBuffer> {
  let list = free.get(bytes);
  if (list === undefined) free.set(bytes, list = []);
  if (list.length === 0) list.push(...cut(bytes));
  const buffer = list.pop() as Uint8Array<ArrayBuffer>, slab = slabs.get(buffer.buffer);
  if (slab) slab.taken++;
  return buffer;
}

/** Buffers of one size, of huge pages if they fill them. */
function cut(bytes: number): Uint8Array<ArrayBuffer>[] {
  const huge = HUGE_PAGE_BYTES % bytes === 0 && bytes >= LARGE_BUFFER_BYTES;
  const mapping = huge ? mapHuge(HUGE_PAGE_BYTES) : mapMemory(bytes), { buffer } = mapping;
  slabs.set(buffer, { mapping, taken: 0 });
  return Array.from(
    { length: buffer.byteLength / bytes },
    (_, i) => new Uint8Array(buffer, i * bytes, bytes),
  );
}

/** Gives a buffer back, for others. The memory of a slab goes back to the system when nobody has any of it. */
export function giveAligned(buffer: Uint8Array<ArrayBuffer>): void {
  const slab = slabs.get(buffer.buffer);
  if (slab === undefined) throw new TypeError("this buffer was not taken here");
  free.get(buffer.length)?.push(buffer);
  if (--slab.taken === 0) discard(slab.mapping);
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
