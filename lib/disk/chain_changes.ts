/**
 * Changes of the chain of an open replica: snapshots, growth, reverts, and taking disks out.
 *
 * All of them are synchronous, short, and only made while no request is under way: the data is on stable storage
 * before (see `settle`), so what is written here is metadata. Each is safe against a crash at any step; the order
 * of the steps is explained in new_head.ts and at the methods here.
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import { removeIfThere } from "./atomic.ts";
import { BLOCK_BYTES } from "./block_map.ts";
import { type DiskCore, failure } from "./core.ts";
import { dropDisk } from "./disk_files.ts";
import { type DiskRecord, encodeDiskRecord, recordTime } from "./disk_record.ts";
import { type DiskSet, MAX_RECORD_BYTES, readDiskSet } from "./disk_set.ts";
import { ReplicaStateError } from "./errors.ts";
import type { Folds } from "./folds.ts";
import { type Layers, MAX_CHAIN, NO_FILE } from "./layers.ts";
import {
  CHECKSUM_SUFFIX,
  diskNameProblem,
  META_SUFFIX,
  snapshotDiskName,
  TEMPORARY_SUFFIX,
} from "./names.ts";
import { dropOldHead, switchHead } from "./new_head.ts";
import { closeAll, openChain, openDisk } from "./open_chain.ts";
import { type PrepareRemoveAction, removalActions } from "./removal.ts";
import type { ReplicaInfo } from "./replica_info.ts";
import { type VolumeMeta, volumeSizeProblem } from "./volume_meta.ts";

/** Label of the snapshot that an expansion makes; its value is the new size. */
export const EXPANSION_LABEL = "replica-expansion";

/** What the changes need of an open replica. */
export interface ChangeSubject {
  /** The volume thread's world. */
  readonly io: Io;
  /** The disks. */
  readonly set: DiskSet;
  /** What the data paths work with. */
  readonly core: DiskCore;
  /** Merging and pruning. */
  readonly folds: Folds;
  /** Path of the backing file, or "". */
  readonly backingFile: string;
  /** Present state. */
  meta(): VolumeMeta;
  /** A report of everything. @throws {IoError} */
  info(): ReplicaInfo;
  /** Limits for snapshots: their number, and their allocated bytes (0 = none). */
  limits(): { readonly count: number; readonly bytes: number };
  /** Replaces `volume.meta`, durably. @throws {IoError} */
  writeMeta(meta: VolumeMeta): void;
  /**
   * Makes sure that nothing is under way, that the replica is good, and that everything is on stable storage.
   * @throws {ReplicaStateError} @throws {IoError}
   */
  settle(what: string): void;
}

/** What is noted about a snapshot. */
export interface SnapshotOptions {
  /** False for snapshots made by the system. */
  readonly userCreated: boolean;
  /** RFC 3339, UTC, whole seconds. */
  readonly created: string;
  /** What the user attached. */
  readonly labels?: ReadonlyMap<string, string> | undefined;
}

/** See the module text. */
export class ChainChanges {
  readonly #replica: ChangeSubject;

  /** Changes of one open replica. */
  constructor(replica: ChangeSubject) {
    this.#replica = replica;
  }

  /**
   * Makes the head's content a snapshot, durably, and goes on with an empty head.
   *
   * @param name the user's name of the snapshot
   * @throws {ReplicaStateError} when it may not be made: nothing has changed
   * @throws {ChangeFailedError} {@linkcode IoError}
   */
  snapshot(name: string, options: SnapshotOptions): void {
    this.#takeSnapshot("take a snapshot", name, options, this.#replica.meta().size);
  }

  /**
   * Grows the volume: a system snapshot of what was there, and a head of the new size. The new part reads as
   * zeros. Nothing happens when it has that size already.
   *
   * @param bytes the new size, a multiple of 4096
   * @throws {ReplicaStateError} when it cannot grow to that: nothing has changed
   * @throws {ChangeFailedError} {@linkcode IoError}
   */
  expand(bytes: number): void {
    const { size } = this.#replica.meta(), { core, io } = this.#replica;
    const problem = volumeSizeProblem(bytes) ??
      (bytes % BLOCK_BYTES === 0 ? undefined : `size ${bytes} is not a multiple of ${BLOCK_BYTES}`) ??
      (bytes >= size ? undefined : `size ${bytes} is smaller than the present size ${size}`);
    if (problem) {
      throw new ReplicaStateError(`cannot expand replica ${this.#replica.set.directory}: ${problem}`);
    }
    if (bytes === size) return;
    this.#takeSnapshot("expand", `expand-${bytes}`, {
      userCreated: false,
      created: recordTime(io.wallClock()),
      labels: new Map([[EXPANSION_LABEL, String(bytes)]]),
    }, bytes);
    core.size = bytes;
    // In the new part of a chunk that is known already the map names some old file: that ends before it.
    core.map.grow(Math.ceil(bytes / BLOCK_BYTES));
  }

  #takeSnapshot(what: string, name: string, options: SnapshotOptions, size: number): void {
    const { io: { files }, set, core } = this.#replica;
    const disk = snapshotDiskName(name), before = this.#replica.meta();
    const snapshot: DiskRecord = {
      name: disk,
      parent: set.get(before.head)?.parent ?? before.parent,
      removed: false,
      userCreated: options.userCreated,
      created: options.created,
      labels: options.labels ?? null,
      unknown: set.get(before.head)?.unknown ?? {},
    };
    this.#admitSnapshot(name, snapshot);
    this.#replica.settle(what);
    this.#replica.folds.headChanges();
    let fd = NO_FILE;
    const head = switchHead(files, set, {
      before,
      parent: disk,
      snapshot,
      size,
      created: options.created,
      open: (name) => fd = openDisk(files, { directory: set.directory, direct: core.direct }, name),
      close: () => files.close(fd),
      writeMeta: (meta) => this.#replica.writeMeta(meta),
      unknown: (reason) => core.fail(reason),
    });
    core.layers.renameHead(disk);
    core.layers.push(head, fd);
    core.chainChanged();
    dropOldHead(files, set, before.head);
  }

  /** @throws {ReplicaStateError} when the snapshot may not be made; the texts are matched by peers */
  #admitSnapshot(name: string, snapshot: DiskRecord): void {
    const { set, core } = this.#replica, { count, bytes } = this.#replica.limits(), disk = snapshot.name;
    const problem = name === "" ? "a snapshot needs a name" : diskNameProblem(disk);
    if (problem) throw new ReplicaStateError(problem);
    if (encodeDiskRecord(snapshot).length > MAX_RECORD_BYTES) {
      throw new ReplicaStateError(
        `the record of ${disk} is larger than ${MAX_RECORD_BYTES} bytes: shorten its labels`,
      );
    }
    // A record that cannot be read, or children that wait for such a parent: the name is taken all the same.
    if (set.get(disk) || set.broken.has(disk) || set.children(disk).length > 0) {
      throw new ReplicaStateError(`snapshot ${disk} is already existing`);
    }
    const usage = [...set.records.values()].filter((record) => !record.removed).length - 1;
    const open = core.layers.count - (this.#replica.backingFile === "" ? 0 : 1);
    if (usage >= count || open >= MAX_CHAIN) throw new ReplicaStateError(`too many active disks: ${open}`);
    if (bytes === 0) return;
    const { headAllocated, snapshotSizeUsage } = this.#replica.info();
    if (headAllocated > bytes - snapshotSizeUsage) {
      throw new ReplicaStateError(
        `snapshots would take too much space: ${snapshotSizeUsage} bytes are in use, the head has ` +
          `${headAllocated}, the limit is ${bytes}; purge snapshots first`,
      );
    }
  }

  /**
   * Goes back to a snapshot: an empty head above it, and the present head is given up. Snapshots made since stay
   * as a branch. See new_head.ts for the steps.
   *
   * @param name file name of the disk, or name of a snapshot
   * @param created time of the new head, as records hold it
   * @throws {ReplicaStateError} when there is no such snapshot: nothing has changed
   * @throws {ChainError} {@linkcode ChangeFailedError} {@linkcode IoError}
   */
  revert(name: string, created: string): void {
    const { io: { files }, set, core } = this.#replica, before = this.#replica.meta();
    const disk = this.#find(name);
    if (!disk) throw new ReplicaStateError(`cannot find disk ${name} in ${set.directory}`);
    if (disk.name === before.head) throw new ReplicaStateError(`cannot revert to the head ${disk.name}`);
    if (disk.removed) throw new ReplicaStateError(`cannot revert to ${disk.name}: it is marked as removed`);
    const below = set.chain(disk.name);
    if (below.length >= MAX_CHAIN) throw new ReplicaStateError(`too many active disks: ${below.length}`);
    this.#replica.settle("revert");
    this.#replica.folds.headChanges();
    let layers = core.layers;
    switchHead(files, set, {
      before,
      parent: disk.name,
      size: before.size,
      created,
      open: (head) => layers = this.#openLayers([head, ...below]),
      close: () => closeAll(files, layers),
      writeMeta: (meta) => this.#replica.writeMeta(meta),
      unknown: (reason) => core.fail(reason),
    });
    this.#adopt(layers);
    dropOldHead(files, set, before.head);
  }

  /**
   * What has to be done to get rid of a disk that is marked as removed.
   *
   * @param name file name of the disk, or name of a snapshot; nothing is done about an unknown one
   * @throws {ReplicaStateError} for the head, or a disk that is not marked
   */
  prepareRemove(name: string): PrepareRemoveAction[] {
    const disk = this.#find(name);
    return disk ? removalActions(this.#replica.set, this.#replica.meta().head, disk) : [];
  }

  /**
   * Removes a disk and its data. An unknown one is gone already.
   *
   * The disk is marked as removed, its children get its parent, its files go (see disk_files.ts). Every step
   * leaves a directory that opens; before the children are changed nothing is lost.
   *
   * @param name file name of the disk
   * @param force also when it has children: what they show changes, as wanted at the start of a rebuild
   * @throws {ReplicaStateError} for the head, and for a disk with children without `force`
   * @throws {ChainError} {@linkcode IoError}
   */
  remove(name: string, force: boolean): void {
    const { io: { files }, set, core } = this.#replica, meta = this.#replica.meta();
    const record = set.get(name);
    if (!record) return;
    if (name === meta.head) throw new ReplicaStateError("cannot delete the active differencing disk");
    const children = set.children(name), chain = set.chain(meta.head);
    if (children.length > 0 && !force) {
      throw new ReplicaStateError(`cannot remove disk ${name} with ${children.length} children`);
    }
    this.#replica.folds.refuse("remove a disk", name, ...children);
    this.#replica.settle("remove a disk");
    if (!record.removed) set.write(files, { ...record, removed: true });
    const live = chain.includes(name);
    const layers = live ? this.#openLayers(chain.filter((disk) => disk !== name)) : core.layers;
    if (live) this.#adopt(layers);
    try {
      for (const child of children) this.#reparent(child, record.parent);
    } catch (error) {
      // What is served and what the next open would serve differ now.
      if (live) core.fail(`disk ${name} could not be taken out of the chain`);
      throw error;
    }
    dropDisk(files, set.directory, name);
    set.delete(name);
  }

  /**
   * Ends a coalesce: the parent (`source`) holds the child's data (`target`) too and takes its place.
   *
   * | Step | After a crash here |
   * |---|---|
   * | sync the parent's file | as before: the child still hides what was copied |
   * | second name for the parent's file, durable; rename it over the child's | both disks are the same file: same content |
   * | the child's record names its grandparent, durable | the same content; the parent is a childless second name |
   * | the parent's files go | |
   *
   * @param target file name of the child
   * @param source file name of its parent
   * @throws {ReplicaStateError} when they are not parent and only child, or one is the head
   * @throws {ChainError} {@linkcode IoError}
   */
  replace(target: string, source: string): void {
    const { io: { files }, set, core } = this.#replica, { directory } = set;
    const { head } = this.#replica.meta(), child = set.get(target), parent = set.get(source);
    if (target === head || source === head) {
      throw new ReplicaStateError("cannot replace the active differencing disk");
    }
    if (!child || !parent) throw new ReplicaStateError(`cannot find disk ${child ? source : target}`);
    if (child.parent !== source || set.children(source).length !== 1) {
      throw new ReplicaStateError(
        `cannot replace ${target} by ${source}: it is not the only child of ${source}`,
      );
    }
    this.#replica.folds.refuse("replace a disk", source, target);
    this.#replica.settle("replace a disk");
    this.#sync(source);
    // The checksum is that of the file that goes.
    removeIfThere(files, `${directory}/${target}${CHECKSUM_SUFFIX}`);
    if (!parent.removed) set.write(files, { ...parent, removed: true });
    const live = set.chain(head).includes(target);
    if (files.stat(`${directory}/${target}`).inode !== files.stat(`${directory}/${source}`).inode) {
      this.#linkOver(source, target);
    }
    try {
      this.#reparent(target, parent.parent);
      dropDisk(files, directory, source);
      set.delete(source);
    } finally {
      // Whatever failed: the child's old file has no name any more and must not be used.
      if (live && core.fault === "") this.#reload();
    }
  }

  /** Gives a disk's file the name of another disk, in one step. A name with this suffix is removed at the next open. */
  #linkOver(source: string, target: string): void {
    const { io: { files }, set: { directory } } = this.#replica;
    const temporary = `${directory}/${target}${META_SUFFIX}${TEMPORARY_SUFFIX}`;
    removeIfThere(files, temporary);
    files.link(`${directory}/${source}`, temporary);
    files.rename(temporary, `${directory}/${target}`);
    files.syncDirectory(directory);
  }

  #sync(disk: string): void {
    const { io: { files }, set: { directory } } = this.#replica;
    const fd = files.open(`${directory}/${disk}`, { write: true });
    try {
      files.sync(fd);
    } finally {
      files.close(fd);
    }
  }

  /** Changes a disk's parent, durably. @throws {IoError} */
  #reparent(disk: string, parent: string): void {
    const { io: { files }, set } = this.#replica, record = set.get(disk), meta = this.#replica.meta();
    if (!record) return;
    set.write(files, { ...record, parent });
    // The record counts: a crash in between is put right at the next open.
    if (disk === meta.head) this.#replica.writeMeta({ ...meta, parent });
  }

  #find(name: string): DiskRecord | undefined {
    const { set } = this.#replica;
    return set.get(name) ?? set.get(snapshotDiskName(name));
  }

  #openLayers(chain: readonly string[]): Layers {
    const { io: { files }, set: { directory }, core, backingFile } = this.#replica;
    const { size } = this.#replica.meta();
    return openChain(files, { directory, chain, size, direct: core.direct, backingFile, unclean: false })
      .layers;
  }

  /**
   * Goes on with the files and records as they are on the disk now: others have changed them, as in a rebuild.
   * @throws {ChainError} {@linkcode IoError} everything is as before then
   */
  reload(): void {
    const { io: { files }, set } = this.#replica, { head, parent } = this.#replica.meta();
    this.#replica.folds.refuse("reload", ...set.records.keys());
    this.#replica.settle("reload");
    const found = readDiskSet(files, set.directory, files.list(set.directory));
    const layers = this.#openLayers(found.chain(head));
    set.become(found);
    this.#adopt(layers);
    const now = set.get(head)?.parent ?? "";
    if (now !== parent) this.#replica.writeMeta({ ...this.#replica.meta(), parent: now });
  }

  /** Goes on with other files. */
  #adopt(layers: Layers): void {
    const { io: { files }, core } = this.#replica;
    closeAll(files, core.layers);
    core.layers.become(layers);
    core.map.reset();
    core.chainChanged();
  }

  #reload(): void {
    const { set, core } = this.#replica;
    try {
      this.#adopt(this.#openLayers(set.chain(this.#replica.meta().head)));
    } catch (error) {
      core.fail("the files of the chain could not be opened again");
      failure(error);
    }
  }
}
