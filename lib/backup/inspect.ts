/**
 * What is on a target: names, records, and both in the form in which Longhorn's commands print them.
 *
 * @module
 */
import { RecordError } from "./errors.ts";
import { laneCount, mapInLanes } from "./lanes.ts";
import { BACKING_LOCKS, backupPath, isName, volumePath, VOLUMES } from "./names.ts";
import { type BackupRecord, blockBytesOf, DEFAULT_BLOCK_BYTES, type VolumeRecord } from "./records.ts";
import { backupNames, findBackup, findVolume, loadVolume } from "./store.ts";
import type { Target } from "./target/target.ts";
import type { BackupName } from "./types.ts";

/** How to list. */
export interface ListOptions {
  /** Calls under way at the same time. */
  readonly concurrency?: number;
  /** Stops. */
  readonly signal?: AbortSignal;
}

const HASH_FOLDER = /^[0-9a-f]{2}$/;

/** Names of all volumes with backups on a target, sorted. */
export async function listVolumes(target: Target, options: ListOptions = {}): Promise<string[]> {
  const lanes = laneCount(options.concurrency);
  const below = async (folders: readonly string[]): Promise<string[]> => {
    const names = await mapInLanes(folders, lanes, options.signal, (folder) => target.children(folder));
    return folders.flatMap((folder, index) => (names[index] ?? []).map((name) => `${folder}${name}/`));
  };
  const hashes = (paths: readonly string[]): string[] =>
    paths.filter((path) => HASH_FOLDER.test(path.split("/").at(-2) ?? ""));
  const first = hashes(await below([`${VOLUMES}/`]));
  const second = hashes(await below(first));
  const volumes = (await below(second)).map((path) => path.split("/").at(-2) ?? "");
  return volumes.filter((name) => isName(name) && name !== BACKING_LOCKS).sort();
}

/** A backup as a list shows it. */
export interface BackupSummary {
  /** Name of the backup. */
  readonly name: string;
  /** Its record without the blocks; undefined when it cannot be read. */
  readonly record: Omit<BackupRecord, "blocks"> | undefined;
  /** Number of its blocks. */
  readonly blocks: number;
  /** Size of its blocks in bytes. */
  readonly blockBytes: number;
  /** Why the record cannot be used; empty when it can. */
  readonly problem: string;
}

async function summary(target: Target, volume: string, name: string): Promise<BackupSummary | undefined> {
  try {
    const found = await findBackup(target, volume, name);
    if (found === undefined) return undefined;
    const { blocks, ...record } = found;
    const blockBytes = blockBytesOf(backupPath(volume, name), found);
    return { name, record, blocks: blocks.length, blockBytes, problem: "" };
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
    return { name, record: undefined, blocks: 0, blockBytes: 0, problem: error.message };
  }
}

/** All backups of a volume, complete or not, by name. Records that cannot be read are told with the reason. */
export async function listBackups(
  target: Target,
  volume: string,
  options: ListOptions = {},
): Promise<BackupSummary[]> {
  const names = await backupNames(target, volume);
  const lanes = laneCount(options.concurrency);
  const found = await mapInLanes(names, lanes, options.signal, (name) => summary(target, volume, name));
  return found.filter((one) => one !== undefined);
}

/** The URL that names a backup in Longhorn's commands: the target's, with the names as parameters. */
export function backupUrl(targetUrl: string, { volume, backup }: BackupName): string {
  // A target with mount options has a query already.
  return `${targetUrl}${targetUrl.includes("?") ? "&" : "?"}${new URLSearchParams({ backup, volume })}`;
}

/** Parts of the URL of a backup or volume. */
export interface BackupUrlParts {
  /** URL of the target. */
  readonly target: string;
  /** Name of the volume; undefined when the URL has none. */
  readonly volume: string | undefined;
  /** Name of the backup; undefined when the URL has none. */
  readonly backup: string | undefined;
  /** Name of the backing image; undefined when the URL has none. */
  readonly backingImage: string | undefined;
}

/** Takes the URL of a backup apart. Parameters of the target itself, such as mount options, stay with it. */
export function parseBackupUrl(url: string): BackupUrlParts {
  const mark = url.indexOf("?");
  if (mark < 0) return { target: url, volume: undefined, backup: undefined, backingImage: undefined };
  const names = ["backup", "volume", "backingImage"];
  const parts = url.slice(mark + 1).split("&").filter((part) => part !== "");
  const isOurs = (part: string): boolean => names.includes(part.split("=")[0] ?? "");
  const rest = parts.filter((part) => !isOurs(part)).join("&");
  const ours = new URLSearchParams(parts.filter(isOurs).join("&"));
  return {
    target: url.slice(0, mark) + (rest === "" ? "" : `?${rest}`),
    volume: ours.get("volume") ?? undefined,
    backup: ours.get("backup") ?? undefined,
    backingImage: ours.get("backingImage") ?? undefined,
  };
}

/** Values as JSON prints them: a structure with its keys in Longhorn's order. */
export type LonghornJson = Record<string, unknown>;

/** A volume as `backup inspect-volume` prints it. */
export function longhornVolume(record: VolumeRecord): LonghornJson {
  return {
    Name: record.name,
    Size: String(record.bytes),
    Labels: record.labels,
    Created: record.createdTime,
    LastBackupName: record.lastBackupName,
    LastBackupAt: record.lastBackupAt,
    DataStored: String(record.blockCount * DEFAULT_BLOCK_BYTES),
    Messages: {},
    BackingImageName: record.backingImageName,
    BackingImageChecksum: record.backingImageChecksum,
    StorageClassname: record.storageClassName,
    DataEngine: record.dataEngine,
  };
}

/** A backup as `backup inspect` prints it. */
export function longhornBackup(
  record: Omit<BackupRecord, "blocks">,
  volume: VolumeRecord,
  targetUrl: string,
): LonghornJson {
  const optional = (key: string, value: string): LonghornJson => value === "" ? {} : { [key]: value };
  return {
    Name: record.name,
    URL: backupUrl(targetUrl, { volume: volume.name, backup: record.name }),
    SnapshotName: record.snapshotName,
    SnapshotCreated: record.snapshotCreatedAt,
    Created: record.createdTime,
    Size: String(record.bytes),
    Labels: record.labels,
    IsIncremental: record.isIncremental,
    ...optional("CompressionMethod", record.compression),
    VolumeName: volume.name,
    VolumeSize: String(volume.bytes),
    ...optional("VolumeCreated", volume.createdTime),
    ...optional("VolumeBackingImageName", volume.backingImageName),
    Messages: null,
    NewlyUploadedDataSize: String(record.newlyUploadedBytes),
    ReUploadedDataSize: String(record.reUploadedBytes),
  };
}

/** What Longhorn prints for a backup in a list: only its name counts there. */
const EMPTY_BACKUP: LonghornJson = {
  Name: "",
  URL: "",
  SnapshotName: "",
  SnapshotCreated: "",
  Created: "",
  Size: "0",
  Labels: null,
  IsIncremental: false,
  Messages: null,
};

const EMPTY_VOLUME: LonghornJson = {
  Name: "",
  Size: "0",
  Labels: null,
  Created: "",
  LastBackupName: "",
  LastBackupAt: "",
  DataStored: "0",
};

/** What `backup ls` prints: volumes by name, each with the names of its backups, unless only volumes are wanted. */
export async function longhornList(
  target: Target,
  options: ListOptions & { readonly volume?: string; readonly volumeOnly?: boolean } = {},
): Promise<LonghornJson> {
  const volumes = options.volume === undefined ? await listVolumes(target, options) : [options.volume];
  const infos = await mapInLanes(volumes, laneCount(options.concurrency), options.signal, async (volume) => {
    const rest = { BackingImageName: "", BackingImageChecksum: "", StorageClassname: "", DataEngine: "" };
    if (await target.head(volumePath(volume)) === undefined) {
      const Messages = { error: `cannot find ${volumePath(volume)} in backupstore` };
      return { ...EMPTY_VOLUME, Messages, ...rest };
    }
    if (options.volumeOnly === true) return { ...EMPTY_VOLUME, Messages: {}, ...rest };
    const names = await backupNames(target, volume);
    const Backups = Object.fromEntries(names.map((name) => [name, EMPTY_BACKUP]));
    return { ...EMPTY_VOLUME, Messages: {}, ...(names.length === 0 ? {} : { Backups }), ...rest };
  });
  return Object.fromEntries(volumes.map((volume, index) => [volume, infos[index]]));
}

/** The record of a volume. @throws {NoSuchBackupError} @throws {RecordError} */
export function inspectVolume(target: Target, volume: string): Promise<VolumeRecord> {
  return loadVolume(target, volume);
}

/** The record of a backup, complete or not; undefined when there is none. @throws {RecordError} */
export function inspectBackup(
  target: Target,
  { volume, backup }: BackupName,
): Promise<BackupRecord | undefined> {
  return findBackup(target, volume, backup);
}

/** True when the target has anything of a volume of this name. */
export async function hasVolume(target: Target, volume: string): Promise<boolean> {
  return await findVolume(target, volume) !== undefined;
}
