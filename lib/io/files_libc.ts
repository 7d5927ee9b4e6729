/**
 * Names and metadata of files through glibc, see {@linkcode Files}.
 *
 * @module
 */
import { readdirSync, statfsSync } from "node:fs";
import { PAGE_BYTES } from "./arena.ts";
import { Errno, IoError } from "./errno.ts";
import type { Extent, Files, FileStat, OpenOptions } from "./files.ts";
import { check, cString, errno, FALLOC_PUNCH_HOLE, libc, mapMemory, type Mapping, OpenFlag } from "./libc.ts";

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
/** STATX_BASIC_STATS */
const STATX_MASK = 0x7ff;
const STATX_BYTES = 256;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;

const LOCK_EX_NB = 2 | 4;
const F_GETFL = 3;

/** FS_IOC_FIEMAP = _IOWR('f', 11, struct fiemap) (linux/fs.h). */
const FS_IOC_FIEMAP = 0xc020660b;
const FIEMAP_FLAG_SYNC = 1;
const FIEMAP_EXTENT_LAST = 0x1;
const FIEMAP_EXTENT_UNWRITTEN = 0x800;
const FIEMAP_HEADER_BYTES = 32;
const FIEMAP_EXTENT_BYTES = 56;
/** Extents asked for at once. */
const FIEMAP_BATCH = 512;
/** What the kernel fills in; calls are synchronous, so one per thread is enough. */
const fiemap = new Uint8Array(FIEMAP_HEADER_BYTES + FIEMAP_BATCH * FIEMAP_EXTENT_BYTES);

/** Largest file that `readWhole` takes without being told, bytes. */
const READ_WHOLE_MAX_BYTES = 1024 * 1024;
/** Bytes moved at once through the aligned buffer, for descriptors that bypass the page cache. */
const BOUNCE_BYTES = 1024 * 1024;
/** A bigint for each of the many extents of a file would cost more than the call. */
const TWO_32 = 2 ** 32;
/** Largest single pread or pwrite; the kernel itself stops at 2 GiB. */
const MAX_CALL_BYTES = 1024 * 1024 * 1024;

/** The aligned buffer of this thread, mapped when first needed; calls are synchronous, so one is enough. */
let bounce: Mapping | undefined;

function fileError(error: unknown, operation: string, subject: string): IoError {
  const number = (error as { errno?: number } | null)?.errno;
  return new IoError(operation, subject, typeof number === "number" ? number : Errno.EIO, { cause: error });
}

/** `Files` over the system calls. Stateless; one per thread is plenty. */
export class FilesLibc implements Files {
  /** See {@linkcode Files.open}. */
  open(path: string, options: OpenOptions = {}): number {
    let flags: number = OpenFlag.CLOEXEC;
    if (options.write) flags |= OpenFlag.RDWR;
    if (options.create !== undefined) flags |= OpenFlag.CREAT;
    if (options.exclusive) flags |= OpenFlag.EXCL;
    if (options.truncate) flags |= OpenFlag.TRUNC;
    if (options.direct) flags |= OpenFlag.DIRECT;
    return this.#open(path, flags, options.create ?? 0);
  }

  /** See {@linkcode Files.close}. */
  close(fd: number): void {
    // Never repeated: after EINTR the descriptor is gone all the same (close(2)).
    libc.close(fd);
  }

  /** See {@linkcode Files.stat}. */
  stat(path: string): FileStat {
    return statx(AT_FDCWD, cString(path, "stat"), 0, path);
  }

  /** See {@linkcode Files.fstat}. */
  fstat(fd: number): FileStat {
    return statx(fd, cString("", "stat"), AT_EMPTY_PATH, `descriptor ${fd}`);
  }

  /** See {@linkcode Files.exists}. */
  exists(path: string): boolean {
    try {
      this.stat(path);
      return true;
    } catch (error) {
      if (error instanceof IoError && (error.errno === Errno.ENOENT || error.errno === Errno.ENOTDIR)) {
        return false;
      }
      throw error;
    }
  }

  /** See {@linkcode Files.list}. */
  list(path: string): string[] {
    try {
      return readdirSync(path).sort();
    } catch (error) {
      throw fileError(error, "list", path);
    }
  }

  /** See {@linkcode Files.makeDirectory}. */
  makeDirectory(path: string, mode = 0o755): void {
    if (libc.mkdir(cString(path, "mkdir"), mode) === 0) return;
    const number = errno();
    if (number === Errno.EEXIST && this.stat(path).kind === "directory") return;
    const parent = path.replace(/\/+[^/]+\/*$/, "");
    if (number !== Errno.ENOENT || parent === "" || parent === path) throw new IoError("mkdir", path, number);
    this.makeDirectory(parent, mode);
    check(libc.mkdir(cString(path, "mkdir"), mode), "mkdir", path);
  }

  /** See {@linkcode Files.rename}. */
  rename(from: string, to: string): void {
    check(libc.rename(cString(from, "rename"), cString(to, "rename")), "rename", `${from} to ${to}`);
  }

  /** See {@linkcode Files.link}. */
  link(from: string, to: string): void {
    check(libc.link(cString(from, "link"), cString(to, "link")), "link", `${from} to ${to}`);
  }

  /** See {@linkcode Files.unlink}. */
  unlink(path: string): void {
    check(libc.unlink(cString(path, "unlink")), "unlink", path);
  }

  /** See {@linkcode Files.removeDirectory}. */
  removeDirectory(path: string): void {
    check(libc.rmdir(cString(path, "rmdir")), "rmdir", path);
  }

  /** See {@linkcode Files.truncate}. */
  truncate(fd: number, size: number): void {
    retry(() => libc.ftruncate(fd, BigInt(size)), "ftruncate", `descriptor ${fd} to ${size}`);
  }

  /** See {@linkcode Files.sync}. */
  sync(fd: number): void {
    retry(() => libc.fsync(fd), "fsync", `descriptor ${fd}`);
  }

  /** See {@linkcode Files.syncDirectory}. */
  syncDirectory(path: string): void {
    const fd = this.#open(path, OpenFlag.CLOEXEC | OpenFlag.DIRECTORY, 0);
    try {
      retry(() => libc.fsync(fd), "fsync", path);
    } finally {
      libc.close(fd);
    }
  }

  /** See {@linkcode Files.readWhole}. */
  readWhole(path: string, maxBytes = READ_WHOLE_MAX_BYTES): Uint8Array<ArrayBuffer> {
    const fd = this.open(path);
    try {
      // The size is a hint only: files of /proc and /sys say 0 or a page.
      const size = this.fstat(fd).size;
      if (size > maxBytes) throw new IoError("read", `${path} (more than ${maxBytes} bytes)`, Errno.EFBIG);
      let bytes = new Uint8Array(Math.min(maxBytes, Math.max(size, PAGE_BYTES)) + 1);
      for (let count = 0;;) {
        const got = this.readAt(fd, bytes.subarray(count), count);
        count += got;
        if (count > maxBytes) throw new IoError("read", `${path} (more than ${maxBytes} bytes)`, Errno.EFBIG);
        if (count < bytes.length) return bytes.slice(0, count);
        const more = new Uint8Array(Math.min(maxBytes + 1, 2 * bytes.length));
        more.set(bytes);
        bytes = more;
      }
    } finally {
      libc.close(fd);
    }
  }

  /** See {@linkcode Files.readAt}. */
  readAt(fd: number, into: Uint8Array, offset: number): number {
    const direct = isDirect(fd);
    const step = direct ? BOUNCE_BYTES : MAX_CALL_BYTES;
    for (let done = 0;;) {
      const part = into.subarray(done, done + step) as Uint8Array<ArrayBuffer>;
      if (part.length === 0) return done;
      const buffer = direct ? aligned(part.length) : part;
      const got = retry(
        () => libc.pread(fd, buffer, part.length, BigInt(offset + done)),
        "pread",
        () => `${part.length} bytes at ${offset + done} of descriptor ${fd}`,
      );
      if (direct) part.set(buffer.subarray(0, got));
      done += got;
      // Cut short inside a block is the end of the file, and direct I/O could not go on from there anyway.
      if (got === 0 || (direct && got % PAGE_BYTES !== 0)) return done;
    }
  }

  /** See {@linkcode Files.writeAt}. */
  writeAt(fd: number, bytes: Uint8Array, offset: number): void {
    const direct = isDirect(fd);
    const step = direct ? BOUNCE_BYTES : MAX_CALL_BYTES;
    for (let done = 0; done < bytes.length;) {
      const part = bytes.subarray(done, done + step) as Uint8Array<ArrayBuffer>;
      const buffer = direct ? aligned(part.length) : part;
      if (direct) buffer.set(part);
      const subject = () => `${part.length} bytes at ${offset + done} of descriptor ${fd}`;
      const put = retry(
        () => libc.pwrite(fd, buffer, part.length, BigInt(offset + done)),
        "pwrite",
        subject,
      );
      if (put === 0) throw new IoError("pwrite", subject(), Errno.EIO);
      done += put;
    }
  }

  /** See {@linkcode Files.punchHole}. */
  punchHole(fd: number, offset: number, length: number): void {
    retry(
      () => libc.fallocate(fd, FALLOC_PUNCH_HOLE, BigInt(offset), BigInt(length)),
      "punch hole",
      `of ${length} bytes at ${offset} in descriptor ${fd}`,
    );
  }

  /** See {@linkcode Files.extents}. */
  extents(fd: number, offset: number, length: number, synced = true): Extent[] {
    const found: Extent[] = [], bytes = fiemap, view = new DataView(bytes.buffer);
    const end = offset + length;
    let flags = synced ? FIEMAP_FLAG_SYNC : 0;
    for (let from = offset; from < end;) {
      bytes.fill(0, 0, FIEMAP_HEADER_BYTES);
      view.setBigUint64(0, BigInt(from), true);
      view.setBigUint64(8, BigInt(end - from), true);
      view.setUint32(16, flags, true);
      view.setUint32(24, FIEMAP_BATCH, true);
      retry(() => libc.ioctl(fd, FS_IOC_FIEMAP, bytes), "FIEMAP", `of descriptor ${fd}`);
      // Synced once; the later batches see the same file.
      flags = 0;
      const mapped = view.getUint32(20, true);
      let last = mapped === 0;
      for (let i = 0; i < mapped; i++) {
        const at = FIEMAP_HEADER_BYTES + i * FIEMAP_EXTENT_BYTES;
        const start = view.getUint32(at, true) + view.getUint32(at + 4, true) * TWO_32;
        const stop = start + view.getUint32(at + 16, true) + view.getUint32(at + 20, true) * TWO_32;
        const extentFlags = view.getUint32(at + 40, true);
        const first = Math.max(start, from), until = Math.min(stop, end);
        if (until > first) {
          const unwritten = (extentFlags & FIEMAP_EXTENT_UNWRITTEN) !== 0;
          found.push({ offset: first, length: until - first, unwritten });
        }
        if ((extentFlags & FIEMAP_EXTENT_LAST) !== 0 || i === mapped - 1) {
          last ||= (extentFlags & FIEMAP_EXTENT_LAST) !== 0 || stop <= from;
          from = Math.max(from, stop);
        }
      }
      if (last) break;
    }
    return found;
  }

  /** See {@linkcode Files.tryLock}. */
  tryLock(fd: number): boolean {
    while (libc.flock(fd, LOCK_EX_NB) < 0) {
      if (errno() === Errno.EAGAIN) return false;
      if (errno() !== Errno.EINTR) throw new IoError("flock", `descriptor ${fd}`, errno());
    }
    return true;
  }

  /** See {@linkcode Files.space}. */
  space(path: string): { readonly free: number; readonly total: number } {
    try {
      const { bavail, blocks, bsize } = statfsSync(path);
      return { free: bavail * bsize, total: blocks * bsize };
    } catch (error) {
      throw fileError(error, "statfs", path);
    }
  }

  #open(path: string, flags: number, mode: number): number {
    const name = cString(path, "open");
    return retry(() => libc.open(name, flags, mode), "open", path);
  }
}

/** Repeats a call that a signal interrupted. @throws {IoError} */
/** @param subject a function where the text would be made for every small piece of a file */
function retry(call: () => number, operation: string, subject: string | (() => string)): number {
  for (;;) {
    const result = call();
    if (result >= 0) return result;
    const number = errno();
    if (number !== Errno.EINTR) {
      throw new IoError(operation, typeof subject === "string" ? subject : subject(), number);
    }
  }
}

/**
 * struct statx (linux/stat.h): mask 0, blksize 4, nlink 16, mode 28 (u16), ino 32, size 40, blocks 48,
 * ctime 96 and mtime 112 (seconds s64, nanoseconds u32). The same on every machine, unlike struct stat.
 */
function statx(directory: number, path: Uint8Array<ArrayBuffer>, flags: number, subject: string): FileStat {
  const bytes = new Uint8Array(STATX_BYTES);
  retry(() => libc.statx(directory, path, flags, STATX_MASK, bytes), "stat", subject);
  const view = new DataView(bytes.buffer);
  const type = view.getUint16(28, true) & S_IFMT;
  const time = (at: number) =>
    view.getBigInt64(at, true) * 1_000_000_000n + BigInt(view.getUint32(at + 8, true));
  return {
    kind: type === S_IFREG ? "file" : type === S_IFDIR ? "directory" : "other",
    size: Number(view.getBigUint64(40, true)),
    allocated: Number(view.getBigUint64(48, true)) * 512,
    modifiedNs: time(112),
    changedNs: time(96),
    inode: view.getBigUint64(32, true),
    links: view.getUint32(16, true),
  };
}

function isDirect(fd: number): boolean {
  const flags = libc.fcntl(fd, F_GETFL, 0);
  if (flags < 0) throw new IoError("fcntl", `descriptor ${fd}`, errno());
  return (flags & OpenFlag.DIRECT) !== 0;
}

function aligned(bytes: number): Uint8Array<ArrayBuffer> {
  bounce ??= mapMemory(BOUNCE_BYTES);
  return new Uint8Array(bounce.buffer, 0, bytes);
}
