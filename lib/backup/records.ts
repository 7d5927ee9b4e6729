/**
 * The records of volumes and backups, as Longhorn writes them.
 *
 * `volume.cfg`:
 *
 * | key                                        | form                      | meaning                                   |
 * | ------------------------------------------ | ------------------------- | ----------------------------------------- |
 * | Name, CreatedTime                          | string                    |                                           |
 * | Size                                       | number in quotes          | of the volume at its last backup, bytes   |
 * | Labels                                     | map or null               |                                           |
 * | LastBackupName, LastBackupAt               | string                    | what the next backup builds on            |
 * | BlockCount                                 | number in quotes          | blocks stored                             |
 * | BackingImageName, BackingImageChecksum     | string, encoded twice     |                                           |
 * | CompressionMethod                          | string, encoded twice     | fixed by the first backup                 |
 * | StorageClassName, DataEngine               | string, encoded twice     |                                           |
 *
 * `backup_NAME.cfg`:
 *
 * | key                                        | form                      | meaning                                   |
 * | ------------------------------------------ | ------------------------- | ----------------------------------------- |
 * | Name, VolumeName, SnapshotName             | string                    |                                           |
 * | SnapshotCreatedAt                          | string                    |                                           |
 * | CreatedTime                                | string                    | "" until the backup is complete: guards   |
 * |                                            |                           | against taking half a backup for a whole  |
 * | Size                                       | number in quotes          | blocks × block size                       |
 * | Labels, Parameters                         | map or null               | `backup-block-size`, `backup-mode`        |
 * | IsIncremental                              | boolean                   |                                           |
 * | CompressionMethod                          | string                    | "" means gzip                             |
 * | NewlyUploadedDataSize, ReUploadedDataSize  | numbers in quotes         | bytes as stored                           |
 * | ProcessingBlocks                           | `{}` full, null otherwise | nothing                                   |
 * | Blocks                                     | list, absent when empty   | Offset, BlockChecksum; by offset          |
 * | SingleFile                                 | {FilePath}                | a backup of an age before blocks          |
 *
 * Keys that are not in these tables are kept when a record is written again.
 *
 * @module
 */
import { encodeObject, Fields, type JsonObject, quote, quoteMap, quoteNumber, quoteTwice } from "./json.ts";
import type { StringMap } from "./json.ts";
import { RecordError } from "./errors.ts";
import { isChecksum } from "./names.ts";

export type { JsonObject, StringMap } from "./json.ts";

/** How blocks are compressed. Longhorn does not read `zstd`. */
export type Compression = "lz4" | "gzip" | "none" | "zstd";

/** All of {@linkcode Compression}, the default first. */
export const COMPRESSIONS: readonly Compression[] = ["lz4", "gzip", "none", "zstd"];

/** Size of a block when nothing is said, in bytes. */
export const DEFAULT_BLOCK_BYTES = 2 * 1024 * 1024;

/** Largest block, in bytes: bounds what a reader has to hold. */
export const MAX_BLOCK_BYTES = 64 * 1024 * 1024;

/** Most blocks of a backup: a record with more is longer than what can be read as one text. */
export const MAX_BLOCKS = 4 * 1024 * 1024;

/** Key of the block size among a backup's parameters. */
export const BLOCK_SIZE_PARAMETER = "backup-block-size";
/** Key of the mode among a backup's parameters. */
export const MODE_PARAMETER = "backup-mode";

/** One block of a backup. */
export interface BlockRef {
  /** Where it belongs in the volume, in bytes. */
  readonly offset: number;
  /** Its name: the first 64 hex digits of the SHA-512 of its content. */
  readonly checksum: string;
}

/** `volume.cfg`. */
export interface VolumeRecord {
  /** Name of the volume. */
  readonly name: string;
  /** Size at the last backup, in bytes. */
  readonly bytes: number;
  /** Labels, or null. */
  readonly labels: StringMap | null;
  /** When the record was made. */
  readonly createdTime: string;
  /** The newest backup, "" when there is none. */
  readonly lastBackupName: string;
  /** When the snapshot of the newest backup was made. */
  readonly lastBackupAt: string;
  /** Number of blocks stored. */
  readonly blockCount: number;
  /** The backing image, or "". */
  readonly backingImageName: string;
  /** Its checksum, or "". */
  readonly backingImageChecksum: string;
  /** How blocks are compressed; "" in old records, which means gzip. */
  readonly compression: string;
  /** The storage class, or "". */
  readonly storageClassName: string;
  /** `v1`. */
  readonly dataEngine: string;
  /** Keys of other writers. */
  readonly others: JsonObject;
}

/** `backup_NAME.cfg`. */
export interface BackupRecord {
  /** Name of the backup. */
  readonly name: string;
  /** Name of the volume. */
  readonly volumeName: string;
  /** Name of the snapshot. */
  readonly snapshotName: string;
  /** When the snapshot was made. */
  readonly snapshotCreatedAt: string;
  /** When the backup was complete; "" while it is not. */
  readonly createdTime: string;
  /** Blocks times block size. */
  readonly bytes: number;
  /** Labels, or null. */
  readonly labels: StringMap | null;
  /** Parameters, or null. */
  readonly parameters: StringMap | null;
  /** True when only changed blocks were looked at. */
  readonly isIncremental: boolean;
  /** How its blocks are compressed; "" means gzip. */
  readonly compression: string;
  /** Bytes uploaded, as stored. */
  readonly newlyUploadedBytes: number;
  /** Bytes uploaded although the blocks were there, as stored. */
  readonly reUploadedBytes: number;
  /** All blocks, ascending by offset. */
  readonly blocks: readonly BlockRef[];
  /** Path of the one file of a legacy backup, or "". */
  readonly singleFile: string;
  /** Keys of other writers. */
  readonly others: JsonObject;
}

const VOLUME_KEYS = [
  "Name",
  "Size",
  "Labels",
  "CreatedTime",
  "LastBackupName",
  "LastBackupAt",
  "BlockCount",
  "BackingImageName",
  "BackingImageChecksum",
  "CompressionMethod",
  "StorageClassName",
  "DataEngine",
];

const BACKUP_KEYS = [
  "Name",
  "VolumeName",
  "SnapshotName",
  "SnapshotCreatedAt",
  "CreatedTime",
  "Size",
  "Labels",
  "Parameters",
  "IsIncremental",
  "CompressionMethod",
  "NewlyUploadedDataSize",
  "ReUploadedDataSize",
  "ProcessingBlocks",
  "Blocks",
  "SingleFile",
];

/** Reads `volume.cfg`. @throws {RecordError} */
export function decodeVolume(path: string, bytes: Uint8Array): VolumeRecord {
  const fields = new Fields(path, bytes);
  return {
    name: fields.string("Name"),
    bytes: fields.integer("Size"),
    labels: fields.map("Labels"),
    createdTime: fields.string("CreatedTime"),
    lastBackupName: fields.string("LastBackupName"),
    lastBackupAt: fields.string("LastBackupAt"),
    blockCount: fields.integer("BlockCount"),
    backingImageName: fields.twice("BackingImageName"),
    backingImageChecksum: fields.twice("BackingImageChecksum"),
    compression: fields.twice("CompressionMethod"),
    storageClassName: fields.twice("StorageClassName"),
    dataEngine: fields.twice("DataEngine"),
    others: fields.others(VOLUME_KEYS),
  };
}

/** Writes `volume.cfg`. */
export function encodeVolume(record: VolumeRecord): Uint8Array {
  return encodeObject([
    ["Name", quote(record.name)],
    ["Size", quoteNumber(record.bytes)],
    ["Labels", quoteMap(record.labels)],
    ["CreatedTime", quote(record.createdTime)],
    ["LastBackupName", quote(record.lastBackupName)],
    ["LastBackupAt", quote(record.lastBackupAt)],
    ["BlockCount", quoteNumber(record.blockCount)],
    ["BackingImageName", quoteTwice(record.backingImageName)],
    ["BackingImageChecksum", quoteTwice(record.backingImageChecksum)],
    ["CompressionMethod", quoteTwice(record.compression)],
    ["StorageClassName", quoteTwice(record.storageClassName)],
    ["DataEngine", quoteTwice(record.dataEngine)],
  ], record.others);
}

/** The list of blocks of a record, checked: offsets ascend, checksums are such. */
export function decodeBlocks(path: string, value: unknown): BlockRef[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new RecordError(path, "Blocks is not a list");
  let before = -1;
  return value.map((item: unknown, index) => {
    const { Offset, BlockChecksum } = (item ?? {}) as Record<string, unknown>;
    if (typeof Offset !== "number" || !Number.isSafeInteger(Offset) || Offset < 0) {
      throw new RecordError(path, `Blocks[${index}].Offset is not an offset: ${JSON.stringify(Offset)}`);
    }
    if (typeof BlockChecksum !== "string" || !isChecksum(BlockChecksum)) {
      throw new RecordError(path, `Blocks[${index}].BlockChecksum is not 64 hex digits`);
    }
    if (Offset <= before) throw new RecordError(path, `Blocks[${index}] is out of order`);
    before = Offset;
    return { offset: Offset, checksum: BlockChecksum };
  });
}

/** The list of blocks as it is written. */
export function encodeBlocks(blocks: readonly BlockRef[]): string {
  return `[${
    blocks.map(({ offset, checksum }) => `{"Offset":${offset},"BlockChecksum":"${checksum}"}`).join(",")
  }]`;
}

function decodeSingleFile(fields: Fields): string {
  const value = fields.raw("SingleFile");
  if (typeof value !== "object" || value === null) return "";
  const path = (value as Record<string, unknown>)["FilePath"];
  return typeof path === "string" ? path : "";
}

/** Reads `backup_NAME.cfg`. @throws {RecordError} */
export function decodeBackup(path: string, bytes: Uint8Array): BackupRecord {
  const fields = new Fields(path, bytes);
  return {
    name: fields.string("Name"),
    volumeName: fields.string("VolumeName"),
    snapshotName: fields.string("SnapshotName"),
    snapshotCreatedAt: fields.string("SnapshotCreatedAt"),
    createdTime: fields.string("CreatedTime"),
    bytes: fields.integer("Size"),
    labels: fields.map("Labels"),
    parameters: fields.map("Parameters"),
    isIncremental: fields.boolean("IsIncremental"),
    compression: fields.string("CompressionMethod"),
    newlyUploadedBytes: fields.integer("NewlyUploadedDataSize"),
    reUploadedBytes: fields.integer("ReUploadedDataSize"),
    blocks: decodeBlocks(path, fields.raw("Blocks")),
    singleFile: decodeSingleFile(fields),
    others: fields.others(BACKUP_KEYS),
  };
}

/** Writes `backup_NAME.cfg`. */
export function encodeBackup(record: BackupRecord): Uint8Array {
  return encodeObject([
    ["Name", quote(record.name)],
    ["VolumeName", quote(record.volumeName)],
    ["SnapshotName", quote(record.snapshotName)],
    ["SnapshotCreatedAt", quote(record.snapshotCreatedAt)],
    ["CreatedTime", quote(record.createdTime)],
    ["Size", quoteNumber(record.bytes)],
    ["Labels", quoteMap(record.labels)],
    ["Parameters", quoteMap(record.parameters)],
    ["IsIncremental", String(record.isIncremental)],
    ["CompressionMethod", quote(record.compression)],
    ["NewlyUploadedDataSize", quoteNumber(record.newlyUploadedBytes)],
    ["ReUploadedDataSize", quoteNumber(record.reUploadedBytes)],
    ["ProcessingBlocks", record.isIncremental || record.createdTime === "" ? "null" : "{}"],
    ...(record.blocks.length === 0 ? [] : [["Blocks", encodeBlocks(record.blocks)] as const]),
    ["SingleFile", `{"FilePath":${quote(record.singleFile)}}`],
  ], record.others);
}

/**
 * The size of a backup's blocks in bytes: what its parameters say, else what its size and number of blocks say, else
 * the default.
 *
 * @throws {RecordError} when what is said cannot be
 */
export function blockBytesOf(path: string, record: BackupRecord): number {
  const said = record.parameters?.[BLOCK_SIZE_PARAMETER];
  const bytes = said !== undefined && said !== ""
    ? parseBlockSize(said)
    : record.blocks.length > 0 && record.bytes > 0
    ? record.bytes / record.blocks.length
    : DEFAULT_BLOCK_BYTES;
  if (bytes === undefined || !Number.isInteger(bytes) || bytes <= 0 || bytes > MAX_BLOCK_BYTES) {
    throw new RecordError(path, `the block size is ${said ?? bytes}, not one up to ${MAX_BLOCK_BYTES} bytes`);
  }
  return bytes;
}

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 1024,
  Mi: 1024 ** 2,
  Gi: 1024 ** 3,
};

/** A block size as a Kubernetes quantity (`2Mi`, `2097152`), in bytes; undefined when it is none. */
export function parseBlockSize(text: string): number | undefined {
  const match = /^(\d{1,15})(|k|M|G|Ki|Mi|Gi)$/.exec(text);
  const unit = UNITS[match?.[2] ?? "?"];
  return match === null || unit === undefined ? undefined : Number(match[1]) * unit;
}

/** A time as the records hold it: RFC 3339, UTC, whole seconds. */
export function timeText(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(/\.\d+Z$/, "Z");
}
