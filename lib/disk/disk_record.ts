/**
 * The record of one disk of a replica (`DISK.img.meta`): its place in the chain and what its user said of it.
 * One JSON object and a newline.
 *
 * | Key | Type | Meaning |
 * |---|---|---|
 * | Name | string | file name when the record was first written; stale in snapshots, so readers ignore it |
 * | Parent | string | parent disk's file name, or "" |
 * | Removed | bool | marked for deletion: not listed, and its space may be taken back early |
 * | UserCreated | bool | false for snapshots made by the system |
 * | Created | string | RFC 3339, UTC, whole seconds |
 * | Labels | object or null | string to string |
 *
 * Restored and cloned snapshots may hold only `{"Parent":""}`. Unknown keys are kept, as in volume_meta.ts.
 *
 * @module
 */
import { MetadataError } from "./errors.ts";
import {
  booleanField,
  goFile,
  goLabels,
  goObject,
  goString,
  goUnknown,
  type JsonObject,
  labelsField,
  parseObject,
  stringField,
  unknownKeys,
} from "./go_json.ts";
import { diskNameProblem } from "./names.ts";

/** Content of a disk's record. */
export interface DiskRecord {
  /** The disk's file name. */
  readonly name: string;
  /** The parent disk's file name, or "". */
  readonly parent: string;
  /** Marked for deletion. */
  readonly removed: boolean;
  /** False for snapshots made by the system. */
  readonly userCreated: boolean;
  /** RFC 3339, UTC, whole seconds; may be "". */
  readonly created: string;
  /** What the user attached. */
  readonly labels: ReadonlyMap<string, string> | null;
  /** Keys of newer versions, written back as they were. */
  readonly unknown: JsonObject;
}

const KEYS = ["Name", "Parent", "Removed", "UserCreated", "Created", "Labels"];

/** The record of a new head. */
export function newDiskRecord(name: string, parent: string, created: string): DiskRecord {
  return { name, parent, removed: false, userCreated: false, created, labels: null, unknown: {} };
}

/** A wall-clock time in milliseconds as records hold it: RFC 3339, UTC, whole seconds. */
export function recordTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(/\.\d+Z$/, "Z");
}

/** The bytes of the file, exactly as Longhorn writes them. */
export function encodeDiskRecord(record: DiskRecord): Uint8Array<ArrayBuffer> {
  return goFile(goObject([
    ["Name", goString(record.name)],
    ["Parent", goString(record.parent)],
    ["Removed", String(record.removed)],
    ["UserCreated", String(record.userCreated)],
    ["Created", goString(record.created)],
    ["Labels", goLabels(record.labels)],
    ...goUnknown(record.unknown),
  ]));
}

/**
 * Reads the file's content.
 *
 * @param file path for errors
 * @param disk the disk's file name, which replaces the stale Name
 * @throws {MetadataError}
 */
export function decodeDiskRecord(file: string, disk: string, bytes: Uint8Array): DiskRecord {
  const object = parseObject(file, bytes);
  const record: DiskRecord = {
    name: disk,
    parent: stringField(file, object, "Parent"),
    removed: booleanField(file, object, "Removed"),
    userCreated: booleanField(file, object, "UserCreated"),
    created: stringField(file, object, "Created"),
    labels: labelsField(file, object, "Labels"),
    unknown: unknownKeys(object, KEYS),
  };
  const problem = record.parent === "" ? undefined : diskNameProblem(record.parent);
  if (problem) throw new MetadataError(file, `Parent: ${problem}`);
  return record;
}
