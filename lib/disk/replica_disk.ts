/**
 * A replica directory: one copy of a volume, on a file system, in Longhorn's layout.
 *
 * The volume thread owns it. Opening, closing and everything about names is synchronous (see files.ts); reads,
 * writes, unmaps and flushes are completion based and cost no allocation. A request that was accepted completes
 * exactly once, from the loop. Requests wait where they must (for blocks, for bounce buffers) and never fail for
 * lack of memory; how many there may be is bounded by {@linkcode ReplicaDisk.room}.
 *
 * @module
 */
import type { Completer, Io } from "../io/io.ts";
import { BLOCK_BYTES } from "./block_map.ts";
import { ChainChanges } from "./chain_changes.ts";
import { type Directory, DiskCore } from "./core.ts";
import { recordTime } from "./disk_record.ts";
import type { DiskSet } from "./disk_set.ts";
import {
  type CreateOptions,
  createReplica,
  inspect,
  type Inspection,
  makeReplicaDirectory,
  readVolumeMeta,
  writeVolumeMeta,
} from "./directory.ts";
import { ReplicaStateError } from "./errors.ts";
import { Folds } from "./folds.ts";
import { FlushPath } from "./flush_path.ts";
import { loadDirectory } from "./load.ts";
import { lockDirectory } from "./lock.ts";
import { DiskMemory } from "./memory.ts";
import { markData } from "./data_pieces.ts";
import { closeAll, openChain } from "./open_chain.ts";
import { snapshotDiskName } from "./names.ts";
import { acceptedMeta, newMap, startCounter } from "./opening.ts";
import type { OpenReplicaOptions } from "./open_options.ts";
import { ReadPath } from "./read_path.ts";
import {
  describeReplica,
  MAX_SNAPSHOTS,
  type OpenState,
  openState,
  type ReplicaInfo,
} from "./replica_info.ts";
import { NO_COUNTER, type RevisionCounter } from "./revision_counter.ts";
import { UnmapPath } from "./unmap_path.ts";
import { closedMeta, type DroverRecord, type VolumeMeta } from "./volume_meta.ts";
import { WritePath } from "./write_path.ts";

/** An open replica directory; see the module text. */
export class ReplicaDisk implements Directory {
  readonly #io: Io;
  readonly #lock: number;
  readonly #set: DiskSet;
  readonly #backingFile: string;
  readonly #core: DiskCore;
  readonly #counter: RevisionCounter;
  readonly #reads: ReadPath;
  readonly #writes: WritePath;
  readonly #unmaps: UnmapPath;
  readonly #flushes: FlushPath;
  #meta: VolumeMeta;
  #open = true;
  /** An unmap marks the snapshots below the head as removed. */
  unmapMarkChainRemoved: boolean;
  /** Limit for snapshots. */
  snapshotMaxCount: number;
  /** Limit for the allocated bytes of all snapshots together; 0 = none. */
  snapshotMaxSize = 0;
  /** Snapshots, reverts, removals, growth. Only while no request is under way. */
  readonly changes: ChainChanges;
  /** Merging and pruning of removed snapshots beside user I/O. */
  readonly folds: Folds;
  /** What was out of order at opening and was put right or ignored; for the log. */
  readonly notes: readonly string[];

  /** Tells state and size of a directory without opening it. */
  static inspect(io: Io, directory: string): Inspection {
    return inspect(io.files, directory);
  }

  /**
   * Creates a replica, closed. Does nothing when there is one already.
   *
   * @throws {ReplicaStateError} for a size that no volume can have, or data in the directory nobody knows of
   * @throws {UnsupportedFileSystemError} {@linkcode ReplicaLockedError} {@linkcode IoError}
   */
  static create(io: Io, directory: string, options: CreateOptions): void {
    // One that is open elsewhere is not to be created: a process may start on it before the other one has gone.
    if (io.files.exists(directory) && readVolumeMeta(io.files, directory)) return;
    makeReplicaDirectory(io.files, directory);
    const lock = lockDirectory(io.files, directory);
    try {
      if (readVolumeMeta(io.files, directory)) return;
      createReplica(io.files, directory, options, recordTime(io.wallClock()));
    } finally {
      io.files.close(lock);
    }
  }

  /**
   * Opens a replica. Puts right what a crash left (see leftovers.ts and open_chain.ts).
   *
   * @throws {ReplicaLockedError} when it is open elsewhere
   * @throws {MetadataError} {@linkcode ChainError} {@linkcode BackingFileError} when its content is not usable
   * @throws {UnsupportedFileSystemError} {@linkcode IoError}
   */
  static open(io: Io, directory: string, options: OpenReplicaOptions = {}): ReplicaDisk {
    if (!io.files.exists(directory)) {
      throw new ReplicaStateError(`there is no replica in ${directory}: create it first`);
    }
    const lock = lockDirectory(io.files, directory);
    try {
      return new ReplicaDisk(io, directory, lock, options);
    } catch (error) {
      io.files.close(lock);
      throw error;
    }
  }

  private constructor(io: Io, directory: string, lock: number, options: OpenReplicaOptions) {
    this.#io = io;
    this.#lock = lock;
    this.unmapMarkChainRemoved = options.unmapMarkChainRemoved ?? false;
    this.snapshotMaxCount = options.snapshotMaxCount ?? MAX_SNAPSHOTS;
    const loaded = loadDirectory(io.files, directory, options);
    const { set, chain } = loaded;
    const meta = acceptedMeta(directory, loaded.meta, options.acceptFault ?? false);
    this.#set = set;
    this.notes = loaded.notes;
    // The last block of such a volume cannot be written directly without making the file longer.
    const direct = (options.ioMode ?? "direct") === "direct" && meta.size % BLOCK_BYTES === 0;
    const memory = options.memory ?? new DiskMemory(io);
    const opened = openChain(io.files, {
      directory,
      chain,
      size: meta.size,
      direct,
      backingFile: meta.backingFilePath,
      unclean: meta.dirty,
    });
    this.#backingFile = opened.backing?.path ?? "";
    const map = newMap(meta.size, opened);
    this.#core = new DiskCore(io, this, opened.layers, map, memory, meta.size, direct);
    this.#core.dirty = meta.dirty;
    this.#meta = meta;
    try {
      if (loaded.rewrite || meta !== loaded.meta) writeVolumeMeta(io.files, directory, meta);
      this.#counter = startCounter(this.#core, directory, options.revisionCounter ?? true);
    } catch (error) {
      closeAll(io.files, opened.layers);
      throw error;
    }
    this.#reads = new ReadPath(this.#core);
    this.#writes = new WritePath(this.#core, this.#counter);
    this.#unmaps = new UnmapPath(this.#core, this.#counter);
    this.#flushes = new FlushPath(this.#core, this.#counter, !meta.dirty);
    this.folds = new Folds(this.#core, set);
    this.changes = new ChainChanges({
      folds: this.folds,
      io,
      set,
      core: this.#core,
      backingFile: meta.backingFilePath,
      meta: () => this.#meta,
      info: () => this.info(),
      limits: () => ({ count: this.snapshotMaxCount, bytes: this.snapshotMaxSize }),
      writeMeta: (changed) => this.#writeMeta(changed),
      settle: (what) => this.#settle(what),
    });
  }

  /** The replica directory. */
  get directory(): string {
    return this.#set.directory;
  }

  /** Size of the volume, bytes. */
  get bytes(): number {
    return this.#core.size;
  }

  /** State of the replica. */
  get state(): OpenState {
    return openState({ meta: this.#meta, dirty: this.#core.dirty, fault: this.#core.fault });
  }

  /** Why the replica must not be used any more, or "". */
  get fault(): string {
    return this.#core.fault;
  }

  /** How many more requests may be submitted now. */
  get room(): number {
    return this.#core.requests.room;
  }

  /** Requests under way. */
  get underWay(): number {
    return this.#core.requests.underWay;
  }

  /** Bytes of memory that the block map takes. */
  get mapBytes(): number {
    return this.#core.map.memoryBytes;
  }

  /**
   * Reads. Result: `length`, or `-errno` (EINVAL beyond the volume's end, EIO).
   *
   * @param offset bytes; any value, but multiples of 4096 (and such a length and buffer) go straight to the file
   * @param length bytes
   * @param at arena offset to read into
   */
  read(offset: number, length: number, at: number, who: Completer, tag: number): void {
    this.#reads.read(offset, length, at, who, tag);
  }

  /**
   * Writes. Result: `length`, or `-errno` (EINVAL beyond the volume's end, ENOSPC, EIO). One call counts as one
   * write in the revision counter, so a request must not be split by the caller.
   *
   * @param offset bytes; any value, as for {@linkcode ReplicaDisk.read}
   * @param length bytes
   * @param at arena offset of the data, to be left alone until completion
   * @param durable on stable storage before it completes
   */
  write(offset: number, length: number, at: number, durable: boolean, who: Completer, tag: number): void {
    this.#writes.write(offset, length, at, durable, who, tag);
  }

  /**
   * Gives space back; the whole blocks within the range read as zeros afterwards, the rest is left as it is.
   * Result: bytes of disk space freed (an estimate; 0 where zeros had to be stored), or `-errno`.
   */
  unmap(offset: number, length: number, who: Completer, tag: number): void {
    this.#unmaps.unmap(offset, length, who, tag);
  }

  /** Makes everything that completed before durable. Result: 0, or `-errno`; after a failure the replica is bad. */
  flush(who: Completer, tag: number): void {
    this.#flushes.flush(who, tag);
  }

  /** Marks the pieces of a range that may hold more than zeros; see data_pieces.ts. @throws {IoError} */
  markData(offset: number, length: number, piece: number, marks: Uint8Array): void {
    markData(this.#core, offset, length, piece, marks);
  }

  /** A report of everything. @throws {IoError} */
  info(): ReplicaInfo {
    return describeReplica(this.#io.files, {
      meta: this.#meta,
      set: this.#set,
      backingFile: this.#backingFile,
      dirty: this.#core.dirty,
      fault: this.#core.fault,
      counter: this.#counter.fd === NO_COUNTER ? undefined : this.#counter.value,
      unmapMarkChainRemoved: this.unmapMarkChainRemoved,
      snapshotMaxCount: this.snapshotMaxCount,
    });
  }

  /** Drover's own part of `volume.meta`. */
  get drover(): DroverRecord | undefined {
    return this.#meta.drover;
  }

  /** Replaces Drover's own part of `volume.meta`, durably; undefined removes it. @throws {IoError} */
  setDrover(record: DroverRecord | undefined): void {
    this.#writeMeta({ ...this.#meta, drover: record });
  }

  /** Notes durably that a rebuild was begun or ended. @throws {ReplicaStateError} @throws {IoError} */
  setRebuilding(rebuilding: boolean): void {
    const state = this.state;
    // Whoever drives a rebuild may find that the engine has noted its begin, or its end, already.
    if (this.#meta.rebuilding === rebuilding && state !== "error") return;
    if (rebuilding ? state !== "open" && state !== "dirty" : state !== "rebuilding") {
      throw new ReplicaStateError(`cannot set rebuilding=${rebuilding} from state ${state}`);
    }
    this.#writeMeta({ ...this.#meta, rebuilding });
  }

  /** Sets the revision counter. Only while no request is under way. @throws {ReplicaStateError} @throws {IoError} */
  setRevisionCounter(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new ReplicaStateError(
        `cannot set the revision counter to ${value}: not an integer from 0 to 2^53 - 1`,
      );
    }
    this.#requireIdle("set the revision counter");
    this.#counter.set(value);
  }

  /**
   * Marks a disk for deletion. An unknown one is ignored: it may be gone already.
   *
   * @param name file name of the disk, or name of a snapshot
   * @throws {ReplicaStateError} for the head
   * @throws {IoError}
   */
  markRemoved(name: string): void {
    const record = this.#set.get(name) ?? this.#set.get(snapshotDiskName(name));
    if (record?.name === this.#meta.head) {
      throw new ReplicaStateError("cannot mark the active differencing disk as removed");
    }
    if (record && !record.removed) this.#set.write(this.#io.files, { ...record, removed: true });
  }

  /** See {@linkcode Directory}. */
  markDirty(): void {
    this.#writeMeta({ ...this.#meta, dirty: true });
  }

  /**
   * See {@linkcode Directory}. The kernel forgets a failed write-back: the next sync of the same file succeeds
   * without having written it. Only a note on disk keeps the replica from being trusted after it was reopened.
   */
  noteFault(reason: string): void {
    try {
      this.#writeMeta({ ...this.#meta, dirty: true, error: reason });
    } catch {
      // The disk takes nothing any more. It stays dirty, and bad for as long as it is open.
    }
  }

  /** See {@linkcode Directory}. */
  unmapDepth(): number {
    const { layers } = this.#core;
    let depth = 0;
    if (this.folds.busy) return 0;
    for (let position = layers.count - 2; position >= 0; position--) {
      const layer = layers.at(position);
      if (layer.backing || this.#set.children(layer.name).length > 1) break;
      if (this.unmapMarkChainRemoved) this.markRemoved(layer.name);
      if (!this.#set.get(layer.name)?.removed) break;
      depth++;
    }
    return depth;
  }

  #writeMeta(meta: VolumeMeta): void {
    writeVolumeMeta(this.#io.files, this.directory, meta);
    this.#meta = meta;
  }

  #requireIdle(what: string): void {
    if (this.underWay > 0) {
      throw new ReplicaStateError(
        `cannot ${what}: ${this.underWay} requests are under way in ${this.directory}`,
      );
    }
  }

  /** Makes sure that a change of the chain may begin: nothing is under way, everything is on stable storage. */
  #settle(what: string): void {
    this.#requireIdle(what);
    if (this.#core.fault !== "") throw new ReplicaStateError(`cannot ${what}: ${this.#core.fault}`);
    this.#syncAll();
  }

  #syncAll(): void {
    const { files } = this.#io;
    if (this.#flushes.clean) return;
    try {
      files.sync(this.#core.headFd);
      if (this.#counter.fd !== NO_COUNTER) files.sync(this.#counter.fd);
      this.#flushes.noteSynced();
    } catch (error) {
      this.#core.fail("the last sync failed: what was written before may be lost");
      throw error;
    }
  }

  /**
   * Closes the replica: syncs everything and notes in `volume.meta` that it is clean. A bad replica stays dirty.
   * Only while no request is under way. The files are closed and the lock is released in any case.
   * @param clean false leaves it dirty, noted as synced in this `boot`: copies may differ, for the engine vanished
   * @throws {ReplicaStateError} @throws {IoError}
   */
  close(clean = true, boot = ""): void {
    if (!this.#open) return;
    this.#requireIdle("close");
    if (this.folds.busy) throw new ReplicaStateError("cannot close: disks are being merged");
    this.#open = false;
    const { files } = this.#io, { layers } = this.#core;
    try {
      if (this.#core.fault === "") {
        this.#syncAll();
        const meta = closedMeta(this.#meta, clean, boot);
        if (meta !== this.#meta) this.#writeMeta(meta);
      }
    } finally {
      closeAll(files, layers);
      if (this.#counter.fd !== NO_COUNTER) files.close(this.#counter.fd);
      files.close(this.#lock);
    }
  }
}
