/**
 * Advice to the kernel about a file's pages: nothing depends on whether it is followed, so failures are ignored.
 *
 * @module
 */
import { libc } from "./libc.ts";

/** SYNC_FILE_RANGE_WRITE (linux/fs.h). */
export const SYNC_FILE_RANGE_WRITE = 2;
/** POSIX_FADV_SEQUENTIAL (asm-generic/fadvise.h, the same on x86-64 and arm64). */
const POSIX_FADV_SEQUENTIAL = 2;
/** POSIX_FADV_WILLNEED (likewise). */
const POSIX_FADV_WILLNEED = 3;
/** POSIX_FADV_DONTNEED (likewise). */
const POSIX_FADV_DONTNEED = 4;

/** Begins to write a range to the disk, so that little is left for a sync at the end. Waits for nothing. */
export function startWriteback(fd: number, offset: number, length: number): void {
  libc.sync_file_range(fd, BigInt(offset), BigInt(length), SYNC_FILE_RANGE_WRITE);
}

/** A range will be read soon: begins to read it into memory. Waits for nothing. */
export function fetchAhead(fd: number, offset: number, length: number): void {
  libc.posix_fadvise(fd, BigInt(offset), BigInt(length), POSIX_FADV_WILLNEED);
}

/** Takes a file's pages that are on the disk already out of memory. */
export function dropCached(fd: number): void {
  libc.posix_fadvise(fd, 0n, 0n, POSIX_FADV_DONTNEED);
}

/** The file will be read from front to back: read ahead further. */
export function readAhead(fd: number): void {
  libc.posix_fadvise(fd, 0n, 0n, POSIX_FADV_SEQUENTIAL);
}
