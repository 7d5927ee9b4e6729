/**
 * The messages of the kernel's FUSE protocol that a file system with one file meets. Source: linux/fuse.h,
 * protocol 7; read from there, with the oldest kernel that is served (7.23, Linux 3.15) in mind.
 *
 * Numbers are in the byte order of the machine, which is little-endian on all machines Drover runs on.
 *
 * A request is one message of one read from /dev/fuse:
 *
 * | at | bytes | field | |
 * | --- | --- | --- | --- |
 * | 0 | 4 | len | of the whole message; must be what the read returned |
 * | 4 | 4 | opcode | {@linkcode Opcode} |
 * | 8 | 8 | unique | names the request in the reply |
 * | 16 | 8 | nodeid | {@linkcode ROOT_NODE} or {@linkcode FILE_NODE}; 0 where none is meant |
 * | 24 | 12 | uid, gid, pid | of who asks; the kernel lets only root in, nothing is left to decide |
 * | 36 | 4 | total_extlen, padding | not used |
 * | 40 | | arguments | by opcode |
 *
 * Arguments (offsets within the message):
 *
 * | opcode | fields |
 * | --- | --- |
 * | INIT | 40 major u32, 44 minor u32, 48 max_readahead u32, 52 flags u32 |
 * | LOOKUP | 40 name, ended by NUL |
 * | SETATTR | 40 valid u32, 56 size u64 |
 * | READ | 48 offset u64, 56 size u32 |
 * | WRITE | 48 offset u64, 56 size u32, 80 data |
 * | FALLOCATE | 48 offset u64, 56 length u64, 64 mode u32 |
 *
 * A reply is one gathered write: len u32, error i32 (0 or -errno), unique u64, then the result. FORGET,
 * BATCH_FORGET and INTERRUPT have no reply.
 *
 * @module
 */
import { PAGE_BYTES } from "../../io/arena.ts";
import { SECTOR_BYTES } from "../../block/device.ts";

/** Request codes: enum fuse_opcode. What is not here is answered with ENOSYS. */
export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  FLUSH: 25,
  INIT: 26,
  INTERRUPT: 36,
  DESTROY: 38,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
} as const;

/** Node id of the root directory, given by the protocol. */
export const ROOT_NODE = 1;
/** Node id of the one file, our choice. */
export const FILE_NODE = 2;
/** Name of the one file. */
export const FILE_NAME = "volume";

/** Bytes of a request's header. */
export const IN_HEADER_BYTES = 40;
/** Bytes of a WRITE request before its data. */
export const WRITE_HEADER_BYTES = 80;
/** Bytes of a reply's header. */
export const OUT_HEADER_BYTES = 16;
/** Largest data of one READ or WRITE, bytes: the kernel's limit of 256 pages (FUSE_MAX_MAX_PAGES). */
export const MAX_DATA_BYTES = 256 * PAGE_BYTES;
/** Largest data of one READ or WRITE before protocol 7.28 (Linux 4.20), bytes. */
const OLD_MAX_DATA_BYTES = 32 * PAGE_BYTES;
/** Smallest minor version of protocol 7 that is served: its replies have the sizes that are built here. */
export const OLDEST_MINOR = 23;
/** Largest error number that a reply may carry; the kernel takes others for a malformed reply. */
const MAX_ERRNO = 511;

/** fallocate modes (linux/falloc.h) that make a range read as zeros. */
const FALLOC_KEEP_SIZE = 0x01, FALLOC_PUNCH_HOLE = 0x02, FALLOC_ZERO_RANGE = 0x10;

/** FUSE_* flags of INIT. */
const Init = { ASYNC_READ: 1, BIG_WRITES: 1 << 5, ASYNC_DIO: 1 << 15, MAX_PAGES: 1 << 22 } as const;
/** What is asked for, if the kernel offers it. Everything that would make the kernel cache is left out. */
const WANTED = Init.ASYNC_READ | Init.BIG_WRITES | Init.ASYNC_DIO | Init.MAX_PAGES;
/** FATTR_SIZE of SETATTR. */
const FATTR_SIZE = 1 << 3;

/** FOPEN_DIRECT_IO: no page cache for the file. */
export const FOPEN_DIRECT_IO = 1;
/** FOPEN_NOFLUSH (7.35): no FLUSH request at every close. Older kernels ignore it. */
export const FOPEN_NOFLUSH = 1 << 5;
/** FOPEN_PARALLEL_DIRECT_WRITES (7.38): writes need no exclusive lock. Older kernels ignore it. */
export const FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6;

/** Seconds for which the kernel may remember the name of the file and that other names are not there. */
const NAME_VALID_SECONDS = 3600;

/** struct fuse_attr of the file (S_IFREG 0600) and of the root (S_IFDIR 0500). */
const FILE_MODE = 0o100600, DIRECTORY_MODE = 0o040500;

const TWO_32 = 2 ** 32;

/**
 * A 64-bit number.
 *
 * @returns it, or -1 when it is too large to be exact: then it is far beyond the end of any volume
 */
export function readU64(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  return high > 0x1f_ffff ? -1 : high * TWO_32 + view.getUint32(at, true);
}

function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % TWO_32, true);
  view.setUint32(at + 4, Math.floor(value / TWO_32), true);
}

function zero(view: DataView, at: number, bytes: number): void {
  for (let i = 0; i < bytes; i += 4) view.setUint32(at + i, 0, true);
}

/**
 * Whether a message is as long as it says and has room for what its opcode needs.
 *
 * @param at where it begins
 * @param received bytes that the read returned, at least {@linkcode IN_HEADER_BYTES}
 */
export function isWellFormed(view: DataView, at: number, received: number): boolean {
  if (view.getUint32(at, true) !== received) return false;
  switch (view.getUint32(at + 4, true)) {
    case Opcode.INIT:
      return received >= 56;
    case Opcode.LOOKUP:
      return received > IN_HEADER_BYTES && view.getUint8(at + received - 1) === 0;
    case Opcode.SETATTR:
      return received >= 64;
    case Opcode.READ:
      return received >= 80;
    case Opcode.WRITE:
      // The data is exactly what the size says: no byte outside of it may reach the volume.
      return received >= WRITE_HEADER_BYTES &&
        received === WRITE_HEADER_BYTES + view.getUint32(at + 56, true);
    case Opcode.FALLOCATE:
      return received >= 68;
    default:
      return true;
  }
}

/** Whether a LOOKUP asks for the one file in the root. The message is well formed. */
export function isFileName(view: DataView, at: number, received: number): boolean {
  if (received !== IN_HEADER_BYTES + FILE_NAME.length + 1) return false;
  for (let i = 0; i < FILE_NAME.length; i++) {
    if (view.getUint8(at + IN_HEADER_BYTES + i) !== FILE_NAME.charCodeAt(i)) return false;
  }
  return true;
}

/** Whether a SETATTR would change the size to something else than `bytes`. */
export function changesSize(view: DataView, at: number, bytes: number): boolean {
  return (view.getUint32(at + 40, true) & FATTR_SIZE) !== 0 && readU64(view, at + 56) !== bytes;
}

/** Whether a FALLOCATE makes its range read as zeros; the other modes reserve or move space. */
export function clearsRange(view: DataView, at: number): boolean {
  const mode = view.getUint32(at + 64, true);
  return mode === (FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE) || mode === (FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE) ||
    mode === FALLOC_ZERO_RANGE;
}

/**
 * Writes the header of a reply.
 *
 * @param at where
 * @param request where the request begins that is answered
 * @param bytes of the result, in all segments
 * @param error 0 or `-errno`
 */
export function writeOutHeader(
  view: DataView,
  at: number,
  request: number,
  bytes: number,
  error: number,
): void {
  view.setUint32(at, OUT_HEADER_BYTES + bytes, true);
  view.setInt32(at + 4, error >= -MAX_ERRNO ? error : -5, /* EIO */ true);
  view.setUint32(at + 8, view.getUint32(request + 8, true), true);
  view.setUint32(at + 12, view.getUint32(request + 12, true), true);
}

/** What INIT agreed on. */
export const Agreement = {
  /** The kernel speaks an older protocol than {@linkcode OLDEST_MINOR}. */
  REFUSED: 0,
  /** The kernel speaks a newer major version: it was told ours and asks again. */
  RETRY: 1,
  AGREED: 2,
} as const;

/** One of {@linkcode Agreement}. */
export type Agreement = typeof Agreement[keyof typeof Agreement];

/**
 * Answers INIT: struct fuse_init_out, 64 bytes at `at`.
 *
 * | at | field | |
 * | --- | --- | --- |
 * | 0, 4 | major, minor | 7 and the kernel's own minor: only old structures are used, all kernels know them |
 * | 8 | max_readahead u32 | as offered, at most {@linkcode MAX_DATA_BYTES} |
 * | 12 | flags u32 | the wanted ones of the offered ones |
 * | 16 | max_background u16 | READs and WRITEs of direct I/O under way; more would only wait here |
 * | 18 | congestion_threshold u16 | three quarters of that |
 * | 20 | max_write u32 | |
 * | 24 | time_gran u32 | 1 ns |
 * | 28 | max_pages u16 | from 7.28 on; 32 pages before |
 *
 * @param depth requests that can be under way
 */
export function answerInit(view: DataView, at: number, request: number, depth: number): Agreement {
  const major = view.getUint32(request + 40, true), minor = view.getUint32(request + 44, true);
  const flags = view.getUint32(request + 52, true) & WANTED;
  if (major < 7 || (major === 7 && minor < OLDEST_MINOR)) return Agreement.REFUSED;
  zero(view, at, 64);
  view.setUint32(at, 7, true);
  if (major > 7) {
    view.setUint32(at + 4, OLDEST_MINOR, true);
    return Agreement.RETRY;
  }
  const largest = flags & Init.MAX_PAGES ? MAX_DATA_BYTES : OLD_MAX_DATA_BYTES;
  view.setUint32(at + 4, minor, true);
  view.setUint32(at + 8, Math.min(view.getUint32(request + 48, true), largest), true);
  view.setUint32(at + 12, flags, true);
  view.setUint16(at + 16, depth, true);
  view.setUint16(at + 18, Math.floor(depth * 3 / 4), true);
  view.setUint32(at + 20, largest, true);
  view.setUint32(at + 24, 1, true);
  view.setUint16(at + 28, flags & Init.MAX_PAGES ? MAX_DATA_BYTES / PAGE_BYTES : 0, true);
  return Agreement.AGREED;
}

/** Bytes of what {@linkcode answerInit} writes. */
export const INIT_OUT_BYTES = 64;

/**
 * struct fuse_attr, 88 bytes: 0 ino, 8 size, 16 blocks u64; 24 to 60 times; 60 mode, 64 nlink, 68 uid, 72 gid,
 * 76 rdev, 80 blksize, 84 flags u32.
 */
function writeAttr(view: DataView, at: number, node: number, bytes: number): void {
  zero(view, at, 88);
  writeU64(view, at, node);
  if (node === FILE_NODE) {
    writeU64(view, at + 8, bytes);
    writeU64(view, at + 16, Math.ceil(bytes / SECTOR_BYTES));
  }
  view.setUint32(at + 60, node === FILE_NODE ? FILE_MODE : DIRECTORY_MODE, true);
  view.setUint32(at + 64, node === FILE_NODE ? 1 : 2, true);
  view.setUint32(at + 80, PAGE_BYTES, true);
}

/**
 * Answers GETATTR and SETATTR: struct fuse_attr_out, attr_valid u64 and u32, padding, fuse_attr. The attributes
 * are not to be remembered, so that whoever looks at the file after a resize sees the new size.
 *
 * @returns bytes written
 */
export function answerAttr(view: DataView, at: number, node: number, bytes: number): number {
  zero(view, at, 16);
  writeAttr(view, at + 16, node, bytes);
  return 104;
}

/**
 * Answers LOOKUP: struct fuse_entry_out, nodeid u64, generation u64, entry_valid u64, attr_valid u64, both
 * nanoseconds u32, fuse_attr. Node id 0 says that the name is not there.
 *
 * @returns bytes written
 */
export function answerEntry(view: DataView, at: number, found: boolean, bytes: number): number {
  zero(view, at, 128);
  writeU64(view, at + 16, NAME_VALID_SECONDS);
  if (found) {
    writeU64(view, at, FILE_NODE);
    writeAttr(view, at + 40, FILE_NODE, bytes);
  }
  return 128;
}

/** Answers OPEN: struct fuse_open_out, fh u64, open_flags u32, padding. @returns bytes written */
export function answerOpen(view: DataView, at: number, flags: number): number {
  zero(view, at, 16);
  view.setUint32(at + 8, flags, true);
  return 16;
}

/** Answers WRITE: struct fuse_write_out, size u32, padding. @returns bytes written */
export function answerWrite(view: DataView, at: number, size: number): number {
  view.setUint32(at, size, true);
  view.setUint32(at + 4, 0, true);
  return 8;
}

/**
 * Answers STATFS: struct fuse_kstatfs, blocks, bfree, bavail, files, ffree u64; 40 bsize, 44 namelen, 48 frsize
 * u32, reserved. The loop driver takes `bsize` as the granularity of discards.
 *
 * @returns bytes written
 */
export function answerStatfs(view: DataView, at: number, bytes: number): number {
  zero(view, at, 80);
  writeU64(view, at, Math.ceil(bytes / PAGE_BYTES));
  writeU64(view, at + 24, 1);
  view.setUint32(at + 40, PAGE_BYTES, true);
  view.setUint32(at + 44, 255, true);
  view.setUint32(at + 48, PAGE_BYTES, true);
  return 80;
}
