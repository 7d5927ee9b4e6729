/**
 * Records on a target: read, checked and written by name.
 *
 * @module
 */
import { BackupInProgressError, NoSuchBackupError, RecordError } from "./errors.ts";
import { backupOfFile, backupPath, backupsFolder, volumePath } from "./names.ts";
import {
  type BackupRecord,
  decodeBackup,
  decodeVolume,
  encodeBackup,
  encodeVolume,
  type VolumeRecord,
} from "./records.ts";
import { NotFoundError, type Target } from "./target/target.ts";

/** The content of an object; undefined when it is not there. */
export async function readIfThere(target: Target, path: string): Promise<Uint8Array | undefined> {
  try {
    return await target.read(path);
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** The record of a volume; undefined when there is none. @throws {RecordError} */
export async function findVolume(target: Target, volume: string): Promise<VolumeRecord | undefined> {
  const path = volumePath(volume);
  const bytes = await readIfThere(target, path);
  return bytes === undefined ? undefined : decodeVolume(path, bytes);
}

/** The record of a volume. @throws {NoSuchBackupError} */
export async function loadVolume(target: Target, volume: string): Promise<VolumeRecord> {
  const record = await findVolume(target, volume);
  if (record !== undefined) return record;
  throw new NoSuchBackupError(`there are no backups of volume ${volume} on ${target.url}`);
}

/** Writes the record of a volume. */
export function saveVolume(target: Target, record: VolumeRecord): Promise<void> {
  return target.write(volumePath(record.name), encodeVolume(record));
}

/** Names of all backups of a volume, complete or not, sorted. */
export async function backupNames(target: Target, volume: string): Promise<string[]> {
  const files = await target.children(backupsFolder(volume));
  return files.map(backupOfFile).filter((name) => name !== undefined).sort();
}

/** The record of a backup; undefined when there is none. @throws {RecordError} */
export async function findBackup(
  target: Target,
  volume: string,
  backup: string,
): Promise<BackupRecord | undefined> {
  const path = backupPath(volume, backup);
  const bytes = await readIfThere(target, path);
  if (bytes === undefined) return undefined;
  const record = decodeBackup(path, bytes);
  if (record.name === backup && record.volumeName === volume) return record;
  throw new RecordError(path, `is the record of backup ${record.name} of volume ${record.volumeName}`);
}

/** The record of a backup. @throws {NoSuchBackupError} */
export async function loadBackup(target: Target, volume: string, backup: string): Promise<BackupRecord> {
  const record = await findBackup(target, volume, backup);
  if (record !== undefined) return record;
  throw new NoSuchBackupError(`there is no backup ${backup} of volume ${volume} on ${target.url}`);
}

/** True when the backup was finished. */
export function isComplete(record: BackupRecord): boolean {
  return record.createdTime !== "";
}

/**
 * The record of a backup that can be used.
 *
 * @throws {NoSuchBackupError} @throws {BackupInProgressError} @throws {RecordError}
 */
export async function loadComplete(target: Target, volume: string, backup: string): Promise<BackupRecord> {
  const record = await loadBackup(target, volume, backup);
  if (!isComplete(record)) throw new BackupInProgressError(volume, backup);
  if (record.singleFile !== "") {
    throw new RecordError(
      backupPath(volume, backup),
      "is a backup in one file, of an age before blocks: restore it with Longhorn, then back up anew",
    );
  }
  return record;
}

/** Writes the record of a backup. */
export function saveBackup(target: Target, record: BackupRecord): Promise<void> {
  return target.write(backupPath(record.volumeName, record.name), encodeBackup(record));
}
