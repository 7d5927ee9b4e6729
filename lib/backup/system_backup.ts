/**
 * Backups of the system's own state: a zip, whose content is nobody's business here, and a record with its checksum.
 *
 * The zip is written first: what has a record is whole. A zip without a record is what an interrupted upload left; it
 * is written again.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { BackupInputError, NoSuchBackupError, RecordError } from "./errors.ts";
import { encodeSystemBackup, inspectSystemBackup, type SystemBackupName } from "./images.ts";
import { isName, systemBackupFolder } from "./names.ts";
import { readIfThere } from "./store.ts";
import type { Target } from "./target/target.ts";

const CONFIG = "system-backup.cfg", ZIP = "system-backup.zip";

/** What is recorded with a system backup beside its name. */
export interface SystemBackupDetails {
  /** Commit of the program that made it. */
  readonly gitCommit: string;
  /** Image of the manager. */
  readonly managerImage: string;
  /** Image of the engine. */
  readonly engineImage: string;
  /** When it was made, milliseconds since 1970. */
  readonly createdMs: number;
}

/** A system backup and its target, as one URL names them. */
export interface SystemBackupUrl extends SystemBackupName {
  /** URL of the target. */
  readonly target: string;
}

/**
 * Takes `TARGET/backupstore/system-backups/VERSION/NAME` apart.
 *
 * @throws {BackupInputError} when it is no such URL
 */
export function parseSystemBackupUrl(url: string): SystemBackupUrl {
  const match = /^(.*?)\/backupstore\/system-backups\/([^/?]+)\/([^/?]+)\/?(\?.*)?$/.exec(url);
  const [, before = "", version = "", name = "", query = ""] = match ?? [];
  if (match === null || !isName(version) || !isName(name)) {
    throw new BackupInputError(
      `${url} names no system backup: expected TARGET/backupstore/system-backups/VERSION/NAME`,
    );
  }
  return { target: `${before}/${query}`, version, name };
}

function sha256(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** Stores a zip and its record. @throws {BackupInputError} when there is a system backup of this name already */
export async function uploadSystemBackup(
  target: Target,
  one: SystemBackupName,
  zip: Uint8Array,
  details: SystemBackupDetails,
): Promise<void> {
  const folder = systemBackupFolder(one.version, one.name);
  if (await target.head(`${folder}${CONFIG}`) !== undefined) {
    throw new BackupInputError(
      `there is a system backup ${one.name} of version ${one.version} already: choose another name`,
    );
  }
  await target.write(`${folder}${ZIP}`, zip);
  const { createdMs, ...rest } = details;
  const record = {
    ...one,
    ...rest,
    targetUrl: target.url,
    createdAt: new Date(createdMs).toISOString(),
    checksum: sha256(zip),
  };
  await target.write(`${folder}${CONFIG}`, encodeSystemBackup(record));
}

/** The zip, checked. @throws {NoSuchBackupError} @throws {RecordError} when it is not what its record says */
export async function downloadSystemBackup(target: Target, one: SystemBackupName): Promise<Uint8Array> {
  const { checksum } = await inspectSystemBackup(target, one);
  const path = `${systemBackupFolder(one.version, one.name)}${ZIP}`;
  const zip = await readIfThere(target, path);
  if (zip === undefined) throw new RecordError(path, "is missing, although its record is there");
  const found = sha256(zip);
  if (found === checksum) return zip;
  throw new RecordError(path, `is damaged: its SHA-256 is ${found}, its record says ${checksum}`);
}

/** Removes a system backup, the record first. @throws {NoSuchBackupError} */
export async function deleteSystemBackup(target: Target, one: SystemBackupName): Promise<void> {
  const folder = systemBackupFolder(one.version, one.name);
  const config = `${folder}${CONFIG}`, zip = `${folder}${ZIP}`;
  if (await target.head(config) === undefined && await target.head(zip) === undefined) {
    throw new NoSuchBackupError(
      `there is no system backup ${one.name} of version ${one.version} on ${target.url}`,
    );
  }
  await target.remove(config);
  await target.removeTree(folder);
}
