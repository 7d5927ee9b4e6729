/**
 * {@linkcode Files} of one simulated process: synchronous operations on its host's disk.
 *
 * @module
 */
import { Errno, IoError } from "../errno.ts";
import type { Extent, Files, FileStat, OpenOptions } from "../files.ts";
import { OpenFile } from "./descriptors.ts";
import type { DiskWork } from "./disk.ts";
import { wholeSectors } from "./file_operations.ts";
import { DirectoryInode, FileInode, type Inode } from "./inode.ts";
import type { NameChange } from "./names.ts";
import { PAGE_BYTES } from "../arena.ts";
import { PageState, SECTOR_BYTES } from "./page.ts";
import type { SimProcess } from "./process.ts";
import { Verb } from "./trace.ts";

/** Largest file {@linkcode Files.readWhole} reads unless told otherwise, bytes. */
const WHOLE_BYTES = 1024 * 1024;
/** EXDEV and friends that only the simulation of names needs. */
const EMLINK_DIRECTORY = Errno.EPERM;

/** See the module. */
export class SimFiles implements Files {
  readonly #process: SimProcess;

  /** Files of one process. @param process whose descriptors these are, and whose host's disk */
  constructor(process: SimProcess) {
    this.#process = process;
  }

  /** See {@linkcode Files.open}. */
  open(path: string, options: OpenOptions = {}): number {
    this.#process.assertAlive();
    const names = this.#process.host.disk.names;
    let inode = names.find("open", path);
    if (inode !== null && options.create !== undefined && options.exclusive) {
      throw new IoError("open", path, Errno.EEXIST);
    }
    if (inode === null) {
      if (options.create === undefined) throw new IoError("open", path, Errno.ENOENT);
      inode = this.#create(path);
    }
    if (inode.kind === "other") throw new IoError("open", path, 6 /* ENXIO */);
    if (inode.kind === "directory" && options.write) throw new IoError("open", path, Errno.EISDIR);
    if (inode instanceof FileInode && options.truncate && inode.size > 0) {
      this.#process.mutate("truncate", path);
      inode.truncate(0);
      this.#process.host.disk.stamp(inode, true);
    }
    const disk = this.#process.host.disk;
    const file = new OpenFile(
      inode,
      path,
      options.write ?? false,
      options.direct ?? false,
      (closed) => disk.release(closed.inode),
    );
    try {
      return this.#process.descriptors.install(file);
    } catch (error) {
      file.released();
      throw error;
    }
  }

  #create(path: string): Inode {
    this.#process.mutate("create", path);
    const disk = this.#process.host.disk;
    // A directory has room for a name in its last block more often than not.
    if (disk.freeBytes < PAGE_BYTES && disk.random.chance(0.5)) throw new IoError("open", path, Errno.ENOSPC);
    const { directory, name } = disk.names.place("open", path);
    const file = disk.newFile();
    this.#apply(file, [{ directory, name, to: file }]);
    return file;
  }

  #apply(subject: Inode, changes: readonly NameChange[]): void {
    const { disk } = this.#process.host;
    disk.names.apply(subject, changes);
    disk.stamp(subject, false);
    for (const change of changes) disk.stamp(change.directory, true);
    this.#process.record(Verb.NAME, subject.id, disk.names.pending);
  }

  /** See {@linkcode Files.close}. */
  close(fd: number): void {
    this.#process.assertAlive();
    this.#process.descriptors.close(fd);
  }

  /** See {@linkcode Files.stat}. */
  stat(path: string): FileStat {
    this.#process.assertAlive();
    return statOf(this.#process.host.disk.names.need("stat", path));
  }

  /** See {@linkcode Files.fstat}. */
  fstat(fd: number): FileStat {
    this.#process.assertAlive();
    return statOf(this.#process.descriptors.file("fstat", fd).inode);
  }

  /** See {@linkcode Files.exists}. */
  exists(path: string): boolean {
    this.#process.assertAlive();
    try {
      return this.#process.host.disk.names.find("stat", path) !== null;
    } catch (error) {
      if (error instanceof IoError && (error.errno === Errno.ENOENT || error.errno === Errno.ENOTDIR)) {
        return false;
      }
      throw error;
    }
  }

  /** See {@linkcode Files.list}. */
  list(path: string): string[] {
    this.#process.assertAlive();
    return [...this.#process.host.disk.names.needDirectory("list", path).entries.keys()].sort();
  }

  /** See {@linkcode Files.makeDirectory}. */
  makeDirectory(path: string, _mode?: number): void {
    this.#process.assertAlive();
    const { disk } = this.#process.host;
    const parts = path.split("/").filter((part) => part !== "" && part !== ".");
    let made = "";
    for (const part of parts) {
      made += `/${part}`;
      const found = disk.names.find("mkdir", made);
      if (found !== null) {
        if (found.kind !== "directory") throw new IoError("mkdir", made, Errno.EEXIST);
        continue;
      }
      this.#process.mutate("makeDirectory", made);
      const { directory, name } = disk.names.place("mkdir", made);
      const fresh = disk.newDirectory();
      this.#apply(fresh, [{ directory, name, to: fresh }]);
    }
  }

  /** See {@linkcode Files.rename}. */
  rename(from: string, to: string): void {
    this.#process.assertAlive();
    const { names } = this.#process.host.disk;
    const inode = names.need("rename", from);
    const source = names.place("rename", from), target = names.place("rename", to);
    const replaced = target.directory.entries.get(target.name) ?? null;
    if (replaced === inode) return;
    if (replaced !== null) checkReplace(inode, replaced, to);
    if (inode instanceof DirectoryInode && `${to}/`.startsWith(`${from}/`)) {
      throw new IoError("rename", to, Errno.EINVAL);
    }
    this.#process.mutate("rename", to);
    this.#apply(inode, [{ ...source, to: null }, { ...target, to: inode }]);
    if (replaced !== null) this.#process.host.disk.release(replaced);
  }

  /** See {@linkcode Files.link}. */
  link(from: string, to: string): void {
    this.#process.assertAlive();
    const { names } = this.#process.host.disk;
    const inode = names.need("link", from);
    if (inode.kind === "directory") throw new IoError("link", from, EMLINK_DIRECTORY);
    const target = names.place("link", to);
    if (target.directory.entries.has(target.name)) throw new IoError("link", to, Errno.EEXIST);
    this.#process.mutate("link", to);
    this.#apply(inode, [{ ...target, to: inode }]);
  }

  /** See {@linkcode Files.unlink}. */
  unlink(path: string): void {
    this.#process.assertAlive();
    const { names } = this.#process.host.disk;
    const inode = names.need("unlink", path);
    if (inode.kind === "directory") throw new IoError("unlink", path, Errno.EISDIR);
    this.#process.mutate("unlink", path);
    this.#apply(inode, [{ ...names.place("unlink", path), to: null }]);
    this.#process.host.disk.release(inode);
  }

  /** See {@linkcode Files.removeDirectory}. */
  removeDirectory(path: string): void {
    this.#process.assertAlive();
    const { names } = this.#process.host.disk;
    const directory = names.needDirectory("rmdir", path);
    if (directory.entries.size > 0) throw new IoError("rmdir", path, Errno.ENOTEMPTY);
    this.#process.mutate("removeDirectory", path);
    this.#apply(directory, [{ ...names.place("rmdir", path), to: null }]);
  }

  /** See {@linkcode Files.truncate}. */
  truncate(fd: number, size: number): void {
    const [file, inode] = this.#writable("truncate", fd);
    this.#process.mutate("truncate", file.path);
    this.#fault("write", "truncate", file.path);
    inode.truncate(size);
    this.#process.host.disk.stamp(inode, true);
  }

  /** See {@linkcode Files.sync}. */
  sync(fd: number): void {
    const file = this.#process.descriptors.file("fsync", fd);
    this.#process.assertAlive();
    if (file.inode instanceof FileInode) this.#sync(file.inode, file.path);
    else this.syncDirectory(file.path);
  }

  #sync(inode: FileInode, path: string): void {
    this.#process.mutate("sync", path);
    const { disk } = this.#process.host;
    this.#block();
    const errno = disk.drawFault("sync", path);
    if (errno !== 0) {
      disk.failSync(inode);
      throw new IoError("fsync", path, errno);
    }
    disk.sync(inode);
  }

  /** See {@linkcode Files.syncDirectory}. */
  syncDirectory(path: string): void {
    this.#process.assertAlive();
    const { names } = this.#process.host.disk;
    const directory = names.needDirectory("fsync", path);
    this.#process.mutate("syncDirectory", path);
    this.#block();
    this.#fault("sync", "fsync", path);
    names.syncDirectory(directory);
  }

  /** See {@linkcode Files.readWhole}. */
  readWhole(path: string, maxBytes = WHOLE_BYTES): Uint8Array<ArrayBuffer> {
    this.#process.assertAlive();
    const inode = this.#process.host.disk.names.need("open", path);
    if (!(inode instanceof FileInode)) throw new IoError("read", path, Errno.EISDIR);
    if (inode.size > maxBytes) throw new IoError("read", path, Errno.EFBIG);
    this.#fault("read", "read", path);
    const bytes = new Uint8Array(inode.size);
    inode.read(bytes, 0, bytes.length, 0);
    return bytes;
  }

  /** See {@linkcode Files.readAt}. */
  readAt(fd: number, into: Uint8Array, offset: number): number {
    this.#process.assertAlive();
    const file = this.#process.descriptors.file("read", fd);
    if (!(file.inode instanceof FileInode)) throw new IoError("read", file.path, Errno.EISDIR);
    this.#fault("read", "read", file.path);
    return file.inode.read(into, 0, into.length, offset);
  }

  /** See {@linkcode Files.writeAt}. */
  writeAt(fd: number, bytes: Uint8Array, offset: number): void {
    const [file, inode] = this.#writable("write", fd);
    this.#process.mutate("writeAt", file.path);
    const { disk } = this.#process.host;
    const errno = disk.drawFault("write", file.path);
    const wanted = errno === 0 ? bytes.length : wholeSectors(offset, disk.random.below(bytes.length));
    const done = disk.write(inode, bytes, 0, wanted, offset);
    if (errno !== 0) throw new IoError("write", file.path, errno);
    if (done < bytes.length) throw new IoError("write", file.path, Errno.ENOSPC);
  }

  /** See {@linkcode Files.punchHole}. */
  punchHole(fd: number, offset: number, length: number): void {
    const [file, inode] = this.#writable("fallocate", fd);
    if (length <= 0) throw new IoError("fallocate", file.path, Errno.EINVAL);
    this.#process.mutate("punchHole", file.path);
    this.#fault("write", "fallocate", file.path);
    inode.zero(offset, length, PageState.HOLE);
    this.#process.host.disk.stamp(inode, true);
  }

  /** See {@linkcode Files.extents}. */
  extents(fd: number, offset: number, length: number): Extent[] {
    this.#process.assertAlive();
    const file = this.#process.descriptors.file("fiemap", fd);
    if (!(file.inode instanceof FileInode)) throw new IoError("fiemap", file.path, Errno.EISDIR);
    return file.inode.extents(offset, length, this.#process.host.disk.options.splitExtents);
  }

  /** See {@linkcode Files.tryLock}. */
  tryLock(fd: number): boolean {
    this.#process.assertAlive();
    const file = this.#process.descriptors.file("flock", fd);
    if (file.inode.lock !== null && file.inode.lock !== file) return false;
    file.inode.lock = file;
    return true;
  }

  /** See {@linkcode Files.space}. */
  space(path: string): { readonly free: number; readonly total: number } {
    this.#process.assertAlive();
    const { disk } = this.#process.host;
    disk.names.need("statfs", path);
    return { free: disk.freeBytes, total: disk.freeBytes + disk.usedBytes };
  }

  /** A synchronous sync keeps the loop from running for as long as the disk takes. */
  #block(): void {
    const { disk, time } = this.#process.host;
    this.#process.pause(disk.drawEnd("sync") - time);
  }

  #writable(operation: string, fd: number): [OpenFile, FileInode] {
    this.#process.assertAlive();
    const file = this.#process.descriptors.file(operation, fd);
    if (!file.writable) throw new IoError(operation, file.path, Errno.EBADF);
    if (!(file.inode instanceof FileInode)) throw new IoError(operation, file.path, Errno.EINVAL);
    return [file, file.inode];
  }

  #fault(on: DiskWork, operation: string, path: string): void {
    const errno = this.#process.host.disk.drawFault(on, path);
    if (errno !== 0) throw new IoError(operation, path, errno);
  }
}

/** rename(2): what may replace what. */
function checkReplace(inode: Inode, replaced: Inode, to: string): void {
  if (replaced instanceof DirectoryInode) {
    if (inode.kind !== "directory") throw new IoError("rename", to, Errno.EISDIR);
    if (replaced.entries.size > 0) throw new IoError("rename", to, Errno.ENOTEMPTY);
  } else if (inode.kind === "directory") throw new IoError("rename", to, Errno.ENOTDIR);
}

function nanoseconds(ms: number): bigint {
  const whole = Math.floor(ms);
  return BigInt(whole) * 1_000_000n + BigInt(Math.floor((ms - whole) * 1e6));
}

function statOf(inode: Inode): FileStat {
  const file = inode instanceof FileInode;
  return {
    kind: inode.kind,
    size: file ? inode.size : PAGE_BYTES,
    allocated: Math.ceil((file ? inode.allocated : 1) * PAGE_BYTES / SECTOR_BYTES) * SECTOR_BYTES,
    modifiedNs: nanoseconds(inode.modifiedMs),
    changedNs: nanoseconds(inode.changedMs),
    inode: BigInt(inode.id),
    links: inode.kind === "directory" ? 2 : inode.links,
  };
}
