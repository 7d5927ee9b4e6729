/**
 * Names and metadata of files: what a replica directory is made with. Synchronous on purpose: these calls are
 * rare, their order is the crash-safety argument, and a reader can follow it from top to bottom.
 *
 * @module
 */

/** How to open a file. */
export interface OpenOptions {
  /** Default: read only. */
  readonly write?: boolean;
  /** Create it when missing, with this mode (such as 0o600). */
  readonly create?: number;
  /** Fail with EEXIST when it is there (with `create`). */
  readonly exclusive?: boolean;
  /** Cut it to nothing. */
  readonly truncate?: boolean;
  /** Bypass the page cache (O_DIRECT): buffers, offsets and lengths are then multiples of 4096. */
  readonly direct?: boolean;
}

/** What `stat` tells. Times are nanoseconds since 1970. */
export interface FileStat {
  /** Devices and sockets are `other`. */
  readonly kind: "file" | "directory" | "other";
  /** Apparent size in bytes. */
  readonly size: number;
  /** Allocated bytes: st_blocks times 512. */
  readonly allocated: number;
  /** When the contents changed last. */
  readonly modifiedNs: bigint;
  /** When the contents or the metadata changed last; nobody can set it back. */
  readonly changedNs: bigint;
  /** Number of the inode. */
  readonly inode: bigint;
  /** Names the inode has. */
  readonly links: number;
}

/** One extent of a file, as FIEMAP (linux/fiemap.h) reports it, cut down to what a replica needs. */
export interface Extent {
  /** Logical offset in the file, bytes. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** FIEMAP_EXTENT_UNWRITTEN: space is allocated but was never written; it reads as zeros. */
  readonly unwritten: boolean;
}

/** Synchronous operations on names and metadata. All throw {@linkcode IoError}. */
export interface Files {
  /** Opens a file. @returns a descriptor, to be closed with {@linkcode close} */
  open(path: string, options?: OpenOptions): number;
  /** Closes a descriptor. */
  close(fd: number): void;
  /** Metadata of what a name leads to. */
  stat(path: string): FileStat;
  /** Metadata of an open file. */
  fstat(fd: number): FileStat;
  /** True when the name exists. */
  exists(path: string): boolean;
  /** Names in a directory, sorted, without `.` and `..`. */
  list(path: string): string[];
  /** Creates a directory and its parents; an existing one is fine. */
  makeDirectory(path: string, mode?: number): void;
  /** Gives a file another name, replacing what had it, in one step. */
  rename(from: string, to: string): void;
  /** Hard link. */
  link(from: string, to: string): void;
  /** Removes a name. */
  unlink(path: string): void;
  /** Removes an empty directory. */
  removeDirectory(path: string): void;
  /** Sets the size; what is added reads as zeros and takes no space. */
  truncate(fd: number, size: number): void;
  /** fsync of a file. */
  sync(fd: number): void;
  /** Opens a directory, fsyncs it and closes it: makes creates, renames and unlinks in it durable. */
  syncDirectory(path: string): void;
  /** A whole small file. @throws IoError EFBIG above `maxBytes` (default 1 MiB) */
  readWhole(path: string, maxBytes?: number): Uint8Array<ArrayBuffer>;
  /** Reads at an offset into the caller's bytes; @returns the count, short at the end of the file. */
  readAt(fd: number, into: Uint8Array, offset: number): number;
  /** Writes all bytes at an offset. */
  writeAt(fd: number, bytes: Uint8Array, offset: number): void;
  /** Punches a hole, keeping the size. */
  punchHole(fd: number, offset: number, length: number): void;
  /**
   * Extents of a file within [offset, offset + length), in order.
   *
   * @param synced the file is synced first (FIEMAP_FLAG_SYNC). Else what is only in the page cache is told too, but also as
   *   unwritten
   * @throws IoError EOPNOTSUPP where the file system has no FIEMAP (tmpfs, NFS)
   */
  extents(fd: number, offset: number, length: number, synced?: boolean): Extent[];
  /**
   * Takes an exclusive advisory lock (flock) without waiting.
   * @returns false when another open file description holds it
   */
  tryLock(fd: number): boolean;
  /** Free and total bytes of the file system a path is on. */
  space(path: string): { readonly free: number; readonly total: number };
}
