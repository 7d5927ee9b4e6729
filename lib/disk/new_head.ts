/**
 * Putting a new, empty head in place of the present one: the common core of snapshot, expansion and revert.
 *
 * The order of the steps is the argument. Everything before step 4 adds files that no chain knows of; step 4, one
 * rename, makes the new head count; everything after it removes names that no chain knows of any more.
 *
 * | Step | After a crash here the next open |
 * |---|---|
 * | 0. sync the old head (done by the caller) | finds the state before |
 * | 1. file of the new head, synced | removes it: a head outside the chain without data |
 * | 2. snapshot: second name for the old head's file | removes it: it has the head's inode |
 * | 3. records of the new head and of the snapshot, each synced with the directory | removes them with their files |
 * | 4. `volume.meta` names the new head (written aside, synced, renamed, directory synced) | finds the state after |
 * | 5. the old head's names go, the file's name first, synced, then its record | removes them: a name of a file in the chain, a head's record without a file |
 *
 * After a revert the old head's file has no other name. A crash between 4 and 5 leaves it as a branch.
 *
 * Records name files, so a record is only written after its file's name is durable or becomes so with the same
 * sync; the snapshot's file is durable with the new head's record, before its own record is begun.
 *
 * @module
 */
import { IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import { failure } from "./core.ts";
import { createHead } from "./directory.ts";
import { type DiskRecord, newDiskRecord } from "./disk_record.ts";
import type { DiskSet } from "./disk_set.ts";
import { discardDisk, dropDisk, nextHeadName } from "./disk_files.ts";
import { ChainError, ChangeFailedError, ReplicaStateError, UnsupportedFileSystemError } from "./errors.ts";
import type { VolumeMeta } from "./volume_meta.ts";

/** What a new head needs to know. */
export interface NewHeadPlan {
  /** State of the replica before. */
  readonly before: VolumeMeta;
  /** File name of the new head's parent. */
  readonly parent: string;
  /** Record of the snapshot that the old head becomes; undefined when the old head is given up. */
  readonly snapshot?: DiskRecord;
  /** Size of the new head, bytes. */
  readonly size: number;
  /** Creation time of the new head, as records hold it. */
  readonly created: string;
  /** Opens what has to be open afterwards; before the new head counts. @throws {IoError} */
  open(head: string): void;
  /** Closes it again. */
  close(): void;
  /** Replaces `volume.meta`, durably. @throws {IoError} */
  writeMeta(meta: VolumeMeta): void;
  /** Told when it is not known which of the two heads counts. */
  unknown(reason: string): void;
}

/**
 * Makes the new head count; steps 1 to 4 of the module text.
 *
 * @returns its name
 * @throws {ReplicaStateError} when there is no name for it: nothing has changed
 * @throws {ChangeFailedError}
 */
export function switchHead(files: Files, set: DiskSet, plan: NewHeadPlan): string {
  const head = nextHeadName(files, set.directory, plan.before.head);
  if (head === undefined) throw new ReplicaStateError(`no number is left for a head in ${set.directory}`);
  let opened = false;
  try {
    prepare(files, set, plan, head);
    plan.open(head);
    opened = true;
    commit(plan, { ...plan.before, head, parent: plan.parent, size: plan.size });
  } catch (error) {
    // After a crash nothing must be touched: only what the system refused is undone.
    if (opened && (isRefusal(error) || error instanceof ChangeFailedError)) plan.close();
    if (!isRefusal(error)) throw error;
    throw new ChangeFailedError(error.message, undo(files, set, plan, head), { cause: error });
  }
  return head;
}

function isRefusal(error: unknown): error is Error {
  return error instanceof IoError || error instanceof ChainError ||
    error instanceof UnsupportedFileSystemError;
}

function prepare(files: Files, set: DiskSet, plan: NewHeadPlan, head: string): void {
  const { directory } = set, { snapshot } = plan;
  // What may be there under the snapshot's name has no record, so it is nobody's.
  if (snapshot) discardDisk(files, directory, snapshot.name);
  createHead(files, directory, head, plan.size);
  if (snapshot) files.link(`${directory}/${plan.before.head}`, `${directory}/${snapshot.name}`);
  set.write(files, newDiskRecord(head, plan.parent, plan.created));
  if (snapshot) set.write(files, snapshot);
}

/**
 * A replacement of `volume.meta` that fails may have happened. So the old content is written once more; only when
 * that succeeds may the new head go.
 */
function commit(plan: NewHeadPlan, meta: VolumeMeta): void {
  try {
    plan.writeMeta(meta);
  } catch (error) {
    failure(error);
    try {
      plan.writeMeta(plan.before);
    } catch (second) {
      failure(second);
      plan.unknown("volume.meta could not be written: it is not known which head it names");
      throw new ChangeFailedError((error as Error).message, (second as Error).message, { cause: error });
    }
    throw error;
  }
}

/** Removes what was prepared. @returns why that failed, or "" */
function undo(files: Files, set: DiskSet, plan: NewHeadPlan, head: string): string {
  const disks = plan.snapshot ? [plan.snapshot.name, head] : [head];
  let problem = "";
  for (const disk of disks) {
    set.delete(disk);
    try {
      discardDisk(files, set.directory, disk);
    } catch (error) {
      failure(error);
      problem ||= (error as Error).message;
    }
  }
  return problem;
}

/** Removes the names of the old head; step 5. What cannot be removed is left to the next open. */
export function dropOldHead(files: Files, set: DiskSet, head: string): void {
  set.delete(head);
  try {
    dropDisk(files, set.directory, head);
  } catch (error) {
    failure(error);
  }
}
