/**
 * Records of what else lies on a target: backups of backing images (`backing_create.ts`, `backing_restore.ts`), and of
 * the system's own state (`system_backup.ts`).
 *
 * `backing-image.cfg`: Name, Size and BlockCount (numbers in quotes), Checksum (SHA-512 of the image), Labels,
 * CompressionMethod, CreatedTime, CompleteTime ("" until it is complete), Secret, SecretNamespace, Blocks as in the
 * record of a backup.
 *
 * `system-backup.cfg`: Name, LonghornVersion, LonghornGitCommit, BackupTargetURL, ManagerImage, EngineImage, CreatedAt,
 * Checksum (SHA-256 of the zip).
 *
 * @module
 */
import { NoSuchBackupError } from "./errors.ts";
import { encodeObject, Fields, quote, quoteMap, quoteNumber, type StringMap } from "./json.ts";
import { BACKING_IMAGES, backingImagePath, isName, SYSTEM_BACKUPS, systemBackupFolder } from "./names.ts";
import { type BlockRef, decodeBlocks, encodeBlocks } from "./records.ts";
import { readIfThere } from "./store.ts";
import type { Target } from "./target/target.ts";

/** `backing-image.cfg`. */
export interface BackingImageRecord {
  /** Name of the backing image. */
  readonly name: string;
  /** Size of the image in bytes. */
  readonly bytes: number;
  /** Number of its blocks. */
  readonly blockCount: number;
  /** SHA-512 of the image, in hex. */
  readonly checksum: string;
  /** Labels, or null. */
  readonly labels: StringMap | null;
  /** How its blocks are compressed. */
  readonly compression: string;
  /** When it was begun. */
  readonly createdTime: string;
  /** When it was complete; "" while it is not. */
  readonly completeTime: string;
  /** Name of the secret that an encrypted image needs, or "". */
  readonly secret: string;
  /** Where that secret is, or "". */
  readonly secretNamespace: string;
  /** Its blocks, by offset. */
  readonly blocks: readonly BlockRef[];
}

/** `system-backup.cfg`. */
export interface SystemBackupRecord {
  /** Name of the system backup. */
  readonly name: string;
  /** Version of the program that made it. */
  readonly version: string;
  /** Its commit. */
  readonly gitCommit: string;
  /** The target it was made to, without credentials. */
  readonly targetUrl: string;
  /** Image of the manager. */
  readonly managerImage: string;
  /** Image of the engine. */
  readonly engineImage: string;
  /** When it was made. */
  readonly createdAt: string;
  /** SHA-256 of the zip, in hex. */
  readonly checksum: string;
}

/** Reads `backing-image.cfg`. @throws {RecordError} */
export function decodeBackingImage(path: string, bytes: Uint8Array): BackingImageRecord {
  const fields = new Fields(path, bytes);
  return {
    name: fields.string("Name"),
    bytes: fields.integer("Size"),
    blockCount: fields.integer("BlockCount"),
    checksum: fields.string("Checksum"),
    labels: fields.map("Labels"),
    compression: fields.string("CompressionMethod"),
    createdTime: fields.string("CreatedTime"),
    completeTime: fields.string("CompleteTime"),
    secret: fields.string("Secret"),
    secretNamespace: fields.string("SecretNamespace"),
    blocks: decodeBlocks(path, fields.raw("Blocks")),
  };
}

/** Writes `backing-image.cfg`. */
export function encodeBackingImage(record: BackingImageRecord): Uint8Array {
  return encodeObject([
    ["Name", quote(record.name)],
    ["Size", quoteNumber(record.bytes)],
    ["BlockCount", quoteNumber(record.blockCount)],
    ["Checksum", quote(record.checksum)],
    ["Labels", quoteMap(record.labels)],
    ["CompressionMethod", quote(record.compression)],
    ["CreatedTime", quote(record.createdTime)],
    ["CompleteTime", quote(record.completeTime)],
    ["Secret", quote(record.secret)],
    ["SecretNamespace", quote(record.secretNamespace)],
    ["ProcessingBlocks", '{"Blocks":{}}'],
    ...(record.blocks.length === 0 ? [] : [["Blocks", encodeBlocks(record.blocks)] as const]),
  ], {});
}

/** Reads `system-backup.cfg`. @throws {RecordError} */
export function decodeSystemBackup(path: string, bytes: Uint8Array): SystemBackupRecord {
  const fields = new Fields(path, bytes);
  return {
    name: fields.string("Name"),
    version: fields.string("LonghornVersion"),
    gitCommit: fields.string("LonghornGitCommit"),
    targetUrl: fields.string("BackupTargetURL"),
    managerImage: fields.string("ManagerImage"),
    engineImage: fields.string("EngineImage"),
    createdAt: fields.string("CreatedAt"),
    checksum: fields.string("Checksum"),
  };
}

/** Writes `system-backup.cfg`. */
export function encodeSystemBackup(record: SystemBackupRecord): Uint8Array {
  return encodeObject([
    ["Name", quote(record.name)],
    ["LonghornVersion", quote(record.version)],
    ["LonghornGitCommit", quote(record.gitCommit)],
    ["BackupTargetURL", quote(record.targetUrl)],
    ["ManagerImage", quote(record.managerImage)],
    ["EngineImage", quote(record.engineImage)],
    ["CreatedAt", quote(record.createdAt)],
    ["Checksum", quote(record.checksum)],
  ], {});
}

/** Names of the backing images on a target, sorted. */
export async function listBackingImages(target: Target): Promise<string[]> {
  return (await target.children(BACKING_IMAGES)).filter(isName).sort();
}

/** The record of a backing image. @throws {NoSuchBackupError} @throws {RecordError} */
export async function inspectBackingImage(target: Target, name: string): Promise<BackingImageRecord> {
  const path = backingImagePath(name);
  const bytes = await readIfThere(target, path);
  if (bytes !== undefined) return decodeBackingImage(path, bytes);
  throw new NoSuchBackupError(`there is no backing image ${name} on ${target.url}`);
}

/** One system backup, by version and name. */
export interface SystemBackupName {
  /** Version of the program that made it. */
  readonly version: string;
  /** Name of the system backup. */
  readonly name: string;
}

/** All system backups on a target, by version, then name. */
export async function listSystemBackups(target: Target): Promise<SystemBackupName[]> {
  const found: SystemBackupName[] = [];
  for (const version of (await target.children(SYSTEM_BACKUPS)).filter(isName).sort()) {
    const names = await target.children(`${SYSTEM_BACKUPS}/${version}/`);
    found.push(...names.filter(isName).sort().map((name) => ({ version, name })));
  }
  return found;
}

/** The record of a system backup. @throws {NoSuchBackupError} @throws {RecordError} */
export async function inspectSystemBackup(
  target: Target,
  { version, name }: SystemBackupName,
): Promise<SystemBackupRecord> {
  const path = `${systemBackupFolder(version, name)}system-backup.cfg`;
  const bytes = await readIfThere(target, path);
  if (bytes !== undefined) return decodeSystemBackup(path, bytes);
  throw new NoSuchBackupError(`there is no system backup ${name} of version ${version} on ${target.url}`);
}
