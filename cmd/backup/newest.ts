/**
 * The newest backup of a volume that can be restored.
 *
 * @module
 */
import {
  type BackupName,
  type BackupRecord,
  type BackupSummary,
  inspectBackup,
  listBackups,
  NoSuchBackupError,
  type Target,
} from "../../lib/backup/mod.ts";

/** Milliseconds since 1970 of a backup's end; backups in progress count as newer than all others. */
function endOf({ record }: BackupSummary): number {
  if (record === undefined) return 0;
  return record.createdTime === "" ? Infinity : Date.parse(record.createdTime) || 0;
}

/** The backups of a volume, those that cannot be read first, then the oldest. */
export async function backupsByAge(target: Target, volume: string): Promise<BackupSummary[]> {
  return (await listBackups(target, volume)).sort((a, b) =>
    endOf(a) - endOf(b) || (a.name < b.name ? -1 : 1)
  );
}

/** True when a backup can be restored. */
export function isUsable({ record, problem }: BackupSummary): boolean {
  return problem === "" && record !== undefined && record.createdTime !== "";
}

/** Name of the newest complete backup. @throws {NoSuchBackupError} */
export async function newestBackup(target: Target, volume: string): Promise<string> {
  const newest = (await backupsByAge(target, volume)).findLast(isUsable);
  if (newest !== undefined) return newest.name;
  throw new NoSuchBackupError(`there is no complete backup of volume ${volume} on ${target.url}`);
}

/** The record of a backup. @throws {NoSuchBackupError} */
export async function recordOf(target: Target, name: BackupName): Promise<BackupRecord> {
  const record = await inspectBackup(target, name);
  if (record !== undefined) return record;
  throw new NoSuchBackupError(`there is no backup ${name.backup} of volume ${name.volume} on ${target.url}`);
}
