/**
 * Where everything lies below a target's root. The layout is Longhorn's:
 *
 * | path                                                          | what                                        |
 * | ------------------------------------------------------------- | ------------------------------------------- |
 * | `backupstore/volumes/HH/HH/VOLUME/volume.cfg`                  | the volume's record                         |
 * | `…/VOLUME/backups/backup_NAME.cfg`                             | one backup                                  |
 * | `…/VOLUME/blocks/CC/CC/CHECKSUM.blk`                           | one block, for all backups of the volume    |
 * | `…/VOLUME/locks/lock-HEX16.lck`                                | a lock                                      |
 * | `…/VOLUME/drover-collection.json`                              | the last collection (Drover's own)          |
 * | `backupstore/backing-images/backing-images/NAME/backing-image.cfg` | a backing image                         |
 * | `backupstore/backing-images/blocks/CC/CC/CHECKSUM.blk`         | its blocks                                  |
 * | `backupstore/system-backups/VERSION/NAME/system-backup.cfg`, `.zip` | a backup of the system's own state     |
 *
 * `HH/HH` are the first digits of the SHA-512 of the volume's name, `CC/CC` those of the checksum.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { BackupInputError } from "./errors.ts";

/** Folder of everything. */
const BASE = "backupstore";
/** Hex digits of SHA-512 that name a block. */
export const CHECKSUM_DIGITS = 64;

const BACKING = `${BASE}/backing-images`;
/** Folder of the system backups. */
export const SYSTEM_BACKUPS = `${BASE}/system-backups`;
/** Folder of the backing images' records. */
export const BACKING_IMAGES = `${BACKING}/backing-images`;
/** The name of a volume that does not exist: locks of the backing images are its. */
export const BACKING_LOCKS = "BACKINGIMAGE";
/** Folder of the volumes: two levels of hash, then the volume. */
export const VOLUMES = `${BASE}/volumes`;

/** Longest name of a volume or backup: what a file name can hold beside what we add to it. */
const MAX_NAME = 230;
const NAME = /^[0-9A-Za-z][0-9A-Za-z_.-]*$/;
const CHECKSUM = /^[0-9a-f]{64}$/;
const BLOCK_FILE = /\/([0-9a-f]{64})\.blk$/;

/** True for names that can be part of a path on every target. */
export function isName(name: string): boolean {
  return name.length <= MAX_NAME && NAME.test(name);
}

/** Returns the name. @throws {BackupInputError} when it cannot be one */
export function checkName(what: string, name: string): string {
  if (isName(name)) return name;
  throw new BackupInputError(
    `${
      JSON.stringify(name)
    } cannot be the name of a ${what}: use up to ${MAX_NAME} letters, digits, "_", "." ` +
      `and "-", beginning with a letter or digit`,
  );
}

/** True for 64 lower-case hex digits. */
export function isChecksum(text: string): boolean {
  return CHECKSUM.test(text);
}

/** The name of a block with this content: 64 hex digits. */
export function checksumOf(data: Uint8Array): string {
  return createHash("sha512").update(data).digest("hex").slice(0, CHECKSUM_DIGITS);
}

/** Folder of a volume, with the `/` at its end. */
export function volumeFolder(volume: string): string {
  const digits = checksumOf(new TextEncoder().encode(checkName("volume", volume)));
  return `${VOLUMES}/${digits.slice(0, 2)}/${digits.slice(2, 4)}/${volume}/`;
}

/** Record of a volume. */
export function volumePath(volume: string): string {
  return `${volumeFolder(volume)}volume.cfg`;
}

/** Folder of a volume's backups, with the `/` at its end. */
export function backupsFolder(volume: string): string {
  return `${volumeFolder(volume)}backups/`;
}

/** Record of a backup. */
export function backupPath(volume: string, backup: string): string {
  return `${backupsFolder(volume)}backup_${checkName("backup", backup)}.cfg`;
}

/** The backup that a file in the folder of backups is the record of; undefined for other files. */
export function backupOfFile(file: string): string | undefined {
  const name = /^backup_(.+)\.cfg$/.exec(file)?.[1];
  return name !== undefined && isName(name) ? name : undefined;
}

/** Folder of a volume's locks, with the `/` at its end. */
export function locksFolder(volume: string): string {
  return `${volumeFolder(volume)}locks/`;
}

/** Folder of a volume's blocks, with the `/` at its end. */
export function blocksFolder(volume: string): string {
  return `${volumeFolder(volume)}blocks/`;
}

/** A block below a folder of blocks. */
export function blockPath(folder: string, checksum: string): string {
  return `${folder}${checksum.slice(0, 2)}/${checksum.slice(2, 4)}/${checksum}.blk`;
}

/** The checksum in the path of a block; undefined for other files. */
export function checksumOfPath(path: string): string | undefined {
  return BLOCK_FILE.exec(path)?.[1];
}

/** Folder of the blocks of all backing images, with the `/` at its end. */
export function backingBlocksFolder(): string {
  return `${BACKING}/blocks/`;
}

/** Record of a backing image. */
export function backingImagePath(name: string): string {
  return `${BACKING_IMAGES}/${checkName("backing image", name)}/backing-image.cfg`;
}

/** Folder of a system backup, with the `/` at its end. */
export function systemBackupFolder(version: string, name: string): string {
  return `${SYSTEM_BACKUPS}/${checkName("version", version)}/${checkName("system backup", name)}/`;
}

/** Drover's note about the last collection of a volume's blocks. */
export function collectionPath(volume: string): string {
  return `${volumeFolder(volume)}drover-collection.json`;
}

/** A new name: the prefix, `-` and 16 hex digits. */
export function newName(prefix: string): string {
  const random = crypto.getRandomValues(new Uint8Array(8));
  return `${prefix}-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
