/**
 * Deleting backups, one, many or all of a volume, and what nothing needs afterwards.
 *
 * A backup's record goes first: from then on the backup does not exist, and a crash leaves blocks that the next
 * collection finds. While a backup or restore of the volume runs, only the record goes (it is nobody's business but
 * its own), and the blocks wait for the next deletion or collection.
 *
 * @module
 */
import { assertVolumeThere, Collection, nothingRemoved } from "./collect.ts";
import { BackupInputError, LockedError, NoSuchBackupError, RecordError } from "./errors.ts";
import { laneCount, mapInLanes } from "./lanes.ts";
import { Lock, LockKind } from "./lock.ts";
import { backupPath, backupsFolder, blocksFolder, volumeFolder } from "./names.ts";
import type { BackupRecord } from "./records.ts";
import { backupNames, findBackup, isComplete } from "./store.ts";
import type { Target } from "./target/target.ts";
import type { BackupName, DeleteOptions, GarbageReport, RetainOptions, RetainResult } from "./types.ts";

/** Runs `work` under the lock against backups and restores; without a lock when one runs and that is allowed. */
async function withRemoveLock<T>(
  target: Target,
  volume: string,
  options: DeleteOptions,
  work: (lock: Lock | LockedError) => Promise<T>,
): Promise<T> {
  laneCount(options.concurrency);
  let lock: Lock;
  try {
    lock = await Lock.acquire(target, volume, LockKind.REMOVE, options);
  } catch (error) {
    if (error instanceof LockedError && options.whenBusy !== "fail") return await work(error);
    throw error;
  }
  await using held = lock;
  return await work(held);
}

async function removeRecords(
  target: Target,
  volume: string,
  names: readonly string[],
  options: DeleteOptions,
): Promise<GarbageReport> {
  return await withRemoveLock(target, volume, options, async (lock) => {
    for (const name of names) {
      options.signal?.throwIfAborted();
      if (lock instanceof Lock) lock.assertHeld();
      await target.remove(backupPath(volume, name));
    }
    if (lock instanceof LockedError) return nothingRemoved("busy", lock.message);
    return await new Collection(target, volume, lock, options).run();
  });
}

/**
 * Deletes one backup, complete or not, and the blocks that no other backup needs.
 *
 * @throws {NoSuchBackupError}
 * @throws {LockedError} with `whenBusy: "fail"` while a backup or restore runs
 */
export async function deleteBackup(
  target: Target,
  { volume, backup }: BackupName,
  options: DeleteOptions = {},
): Promise<GarbageReport> {
  if (await target.head(backupPath(volume, backup)) === undefined) {
    throw new NoSuchBackupError(`there is no backup ${backup} of volume ${volume} on ${target.url}`);
  }
  return await removeRecords(target, volume, [backup], options);
}

/** Removes the blocks that no backup needs: what interrupted backups and deletions left. @throws {NoSuchBackupError} */
export async function collectGarbage(
  target: Target,
  volume: string,
  options: DeleteOptions = {},
): Promise<GarbageReport> {
  await assertVolumeThere(target, volume);
  return await removeRecords(target, volume, [], options);
}

/**
 * Deletes all backups of a volume and everything else of it.
 *
 * @throws {NoSuchBackupError} @throws {LockedError} while a backup or restore of the volume runs
 */
export async function deleteVolume(
  target: Target,
  volume: string,
  options: Omit<DeleteOptions, "whenBusy"> = {},
): Promise<void> {
  await assertVolumeThere(target, volume);
  await using lock = await Lock.acquire(target, volume, LockKind.REMOVE, options);
  // Records first: a backup that is half gone must not look whole. The volume's record goes with the rest.
  for (const prefix of [backupsFolder(volume), blocksFolder(volume), volumeFolder(volume)]) {
    options.signal?.throwIfAborted();
    lock.assertHeld();
    await target.removeTree(prefix);
  }
}

function withoutBlocks(record: BackupRecord | undefined): BackupRecord | undefined {
  return record === undefined ? undefined : { ...record, blocks: [] };
}

function whenUnreadable(error: unknown): undefined {
  if (!(error instanceof RecordError)) throw error;
}

/** Records of the complete backups with these labels, oldest first. Those that cannot be read are not counted. */
async function candidates(target: Target, options: RetainOptions): Promise<BackupRecord[]> {
  const { volume, labels = {} } = options;
  const names = await backupNames(target, volume);
  const records = await mapInLanes(
    names,
    laneCount(options.concurrency),
    options.signal,
    (name) => findBackup(target, volume, name).then(withoutBlocks, whenUnreadable),
  );
  const wanted = records.filter((record) => record !== undefined).filter((record) =>
    isComplete(record) && Object.entries(labels).every(([key, value]) => record.labels?.[key] === value)
  );
  const age = ({ createdTime }: BackupRecord): number => Date.parse(createdTime) || 0;
  return wanted.sort((a, b) => age(a) - age(b) || (a.name < b.name ? -1 : 1));
}

/**
 * Deletes old backups. A backup stays when it is among the newest `keepCount`, or younger than `keepMs`; the newest
 * one always stays. Backups in progress are not touched.
 *
 * @throws {BackupInputError} when neither rule is given
 */
export async function retain(target: Target, options: RetainOptions): Promise<RetainResult> {
  const { volume, keepCount, keepMs, nowMs = Date.now() } = options;
  if (keepCount === undefined && keepMs === undefined) {
    throw new BackupInputError("say how many backups to keep, or how long");
  }
  if (keepCount !== undefined && (!Number.isInteger(keepCount) || keepCount < 1)) {
    throw new BackupInputError(`${keepCount} is not a number of backups to keep: use 1 or more`);
  }
  await assertVolumeThere(target, volume);
  const records = await candidates(target, options);
  const names = records.map(({ name }) => name);
  const stays = ({ createdTime }: BackupRecord, index: number): boolean => {
    const rank = records.length - index;
    const made = Date.parse(createdTime);
    // A time that cannot be read is no reason to remove a backup.
    const young = keepMs !== undefined && !(nowMs - made > keepMs);
    return rank === 1 || (keepCount !== undefined && rank <= keepCount) || young;
  };
  const kept = records.filter(stays).map(({ name }) => name);
  const removed = names.filter((name) => !kept.includes(name));
  if (removed.length === 0 || options.dryRun === true) return { removed, kept, garbage: undefined };
  return { removed, kept, garbage: await removeRecords(target, volume, removed, options) };
}
