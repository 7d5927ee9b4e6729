/**
 * The newest backup of a volume that can be restored.
 *
 * @module
 */
import { type BackupRecord, NoSuchBackupError, RecordError, type Target } from "../../lib/backup/mod.ts";
import { backupNames, findBackup, isComplete } from "../../lib/backup/store.ts";

/** Records of a volume's backups, the oldest first, and what is wrong with those that cannot be read. */
export interface Backups {
  /** Complete ones and those in progress. */
  readonly records: readonly BackupRecord[];
  /** The others. */
  readonly unreadable: readonly { readonly name: string; readonly problem: string }[];
}

/** Milliseconds since 1970 of a backup's end; backups in progress count as newer than all others. */
function endOf(record: BackupRecord): number {
  return isComplete(record) ? Date.parse(record.createdTime) || 0 : Infinity;
}

/** Reads the records of all backups of a volume. */
export async function readBackups(target: Target, volume: string): Promise<Backups> {
  const records: BackupRecord[] = [], unreadable: { name: string; problem: string }[] = [];
  for (const name of await backupNames(target, volume)) {
    try {
      const record = await findBackup(target, volume, name);
      if (record !== undefined) records.push(record);
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      unreadable.push({ name, problem: error.message });
    }
  }
  records.sort((a, b) => endOf(a) - endOf(b) || (a.name < b.name ? -1 : 1));
  return { records, unreadable };
}

/** Name of the newest complete backup. @throws {NoSuchBackupError} */
export async function newestBackup(target: Target, volume: string): Promise<string> {
  const { records } = await readBackups(target, volume);
  const newest = records.findLast(isComplete);
  if (newest !== undefined) return newest.name;
  throw new NoSuchBackupError(`there is no complete backup of volume ${volume} on ${target.url}`);
}
