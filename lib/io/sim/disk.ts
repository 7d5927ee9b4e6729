/**
 * A simulated disk with its file system: what a host keeps when its processes die, and what it keeps of that
 * when its power goes.
 *
 * @module
 */
import { PAGE_BYTES } from "../arena.ts";
import { DirectoryInode, FileInode, type Inode, SocketInode, type Space } from "./inode.ts";
import { Names } from "./names.ts";
import { type DiskOptions, drawLatency } from "./options.ts";
import type { Random } from "./random.ts";
import { type Trace, Verb } from "./trace.ts";

/** The groups of operations that faults and latencies are given for. */
export type DiskWork = "read" | "write" | "sync";

/** An error to be injected. */
export interface DiskFault {
  /** Which operations; `write` includes punching and allocation. */
  readonly on: DiskWork;
  /** Only of files whose path (as they were opened) contains this. */
  readonly path?: string;
  /** Probability per operation; default 1. */
  readonly chance?: number;
  /** Positive error number, such as EIO. */
  readonly errno: number;
  /** How often at most; default no limit. */
  readonly times?: number;
}

interface ArmedFault {
  readonly fault: DiskFault;
  left: number;
}

/** What a disk needs of its host. */
export interface DiskHost {
  /** Where the disk's events go. */
  readonly trace: Trace;
  /** The subject of the disk's trace events. */
  readonly traceId: number;
  /** Virtual time, ms. */
  readonly time: number;
  /** Wall-clock time of the host, ms since 1970. */
  wallClock(): number;
}

/** One file system. Its state in memory is the page cache and journal; what is durable is known apart. */
export class SimDisk implements Space {
  /** The names on it. */
  readonly names: Names;
  /** See {@linkcode DiskOptions}. */
  readonly options: DiskOptions;
  /** Every draw that concerns this disk. */
  readonly random: Random;
  /** Latencies are multiplied by this: a slow disk. */
  slowdown = 1;
  /** Nothing completes before this virtual time, ms: a disk that hangs. */
  stalledUntil = 0;
  readonly #host: DiskHost;
  #faults: ArmedFault[] = [];
  #nextInode = 2;
  #allocated = 0;
  #limit: number;

  /** An empty file system with a root directory. */
  constructor(host: DiskHost, options: DiskOptions, random: Random) {
    this.options = options;
    this.random = random;
    this.#host = host;
    this.#limit = Math.floor(options.capacityBytes / PAGE_BYTES);
    this.names = new Names(new DirectoryInode(1), random, options);
    this.names.onCommit = (committed, left) =>
      host.trace.record(host.time, Verb.COMMIT, host.traceId, committed, left);
  }

  /** Free bytes, as processes see them. */
  get freeBytes(): number {
    return Math.max(0, this.#limit - this.#allocated) * PAGE_BYTES;
  }

  /** Allocated bytes, as processes see them. */
  get usedBytes(): number {
    return this.#allocated * PAGE_BYTES;
  }

  /** Fills the disk from outside, or gives space back: from now on this much is free. */
  setFree(bytes: number): void {
    this.#limit = this.#allocated + Math.floor(bytes / PAGE_BYTES);
  }

  /** See {@linkcode Space.take}. */
  take(): boolean {
    if (this.#allocated >= this.#limit) return false;
    this.#allocated++;
    return true;
  }

  /** See {@linkcode Space.give}. */
  give(pages: number): void {
    this.#allocated -= pages;
  }

  /** Arms a fault. @returns a function that disarms it */
  inject(fault: DiskFault): () => void {
    const armed = { fault, left: fault.times ?? Infinity };
    this.#faults.push(armed);
    return () => void (this.#faults = this.#faults.filter((other) => other !== armed));
  }

  /** Whether an operation is to fail. @returns a positive error number, or 0 */
  drawFault(on: DiskWork, path: string): number {
    for (const armed of this.#faults) {
      const { fault } = armed;
      if (fault.on !== on || armed.left <= 0) continue;
      if (fault.path !== undefined && !path.includes(fault.path)) continue;
      if (!this.random.chance(fault.chance ?? 1)) continue;
      armed.left--;
      this.#host.trace.record(this.#host.time, Verb.FAULT, this.#host.traceId, fault.errno, 0);
      return fault.errno;
    }
    return 0;
  }

  /** When an operation that starts now ends, virtual ms. */
  drawEnd(on: DiskWork): number {
    const { read, write, sync } = this.options;
    const latency = on === "read" ? read : on === "write" ? write : sync;
    const end = this.#host.time + drawLatency(this.random, latency) * this.slowdown;
    return end < this.stalledUntil ? this.stalledUntil + this.random.unit() : end;
  }

  /** A new inode without a name. */
  newFile(): FileInode {
    const file = new FileInode(this.#nextInode++, this, this.random, this.options.writeback);
    this.stamp(file, true);
    return file;
  }

  /** A new directory without a name. */
  newDirectory(): DirectoryInode {
    const directory = new DirectoryInode(this.#nextInode++);
    this.stamp(directory, true);
    return directory;
  }

  /** A new socket without a name. */
  newSocket(): SocketInode {
    const socket = new SocketInode(this.#nextInode++);
    this.stamp(socket, true);
    return socket;
  }

  /** Notes a change in the inode's times. */
  stamp(inode: Inode, contents: boolean): void {
    inode.changedMs = this.#host.wallClock();
    if (contents) inode.modifiedMs = inode.changedMs;
  }

  /** Writes into a file. @returns bytes written, fewer when the disk is full */
  write(file: FileInode, from: Uint8Array, at: number, length: number, offset: number): number {
    this.#host.trace.record(this.#host.time, Verb.WRITE, this.#host.traceId, file.id, offset);
    const done = file.write(from, at, length, offset);
    if (done > 0) this.stamp(file, true);
    return done;
  }

  /** A successful sync of a file. */
  sync(file: FileInode): void {
    this.#host.trace.record(this.#host.time, Verb.SYNC, this.#host.traceId, file.id, file.size);
    file.sync();
    this.names.syncFile(file);
  }

  /** A failed sync of a file. */
  failSync(file: FileInode): void {
    if (this.options.syncErrorLosesData) file.loseDirty();
  }

  /** To be called when a name or an open description of an inode is gone. */
  release(inode: Inode): void {
    if (inode.links > 0 || inode.opens > 0 || !(inode instanceof FileInode)) return;
    // A power cut may bring the name back, therefore only the accounting forgets the pages.
    this.give(inode.allocated);
    inode.allocated = 0;
  }

  /** The power goes: un-synced contents and names are drawn, and what processes see becomes what is durable. */
  powerCut(): void {
    this.#allocated = 0;
    for (const file of this.names.cut()) {
      file.cut(this.options.unwritten);
      this.#allocated += file.allocated;
      this.#host.trace.record(this.#host.time, Verb.SURVIVOR, this.#host.traceId, file.id, file.size);
    }
  }
}
