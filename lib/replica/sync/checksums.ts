/**
 * The checksum record beside a snapshot: reading it, and whether it still holds for the file.
 *
 * @module
 */
import { removeIfThere, replaceFile } from "../../disk/atomic.ts";
import {
  changeTimeText,
  type ChecksumRecord,
  decodeChecksumRecord,
  encodeChecksumRecord,
} from "../../disk/checksum_record.ts";
import { MetadataError } from "../../disk/errors.ts";
import { CHECKSUM_SUFFIX } from "../../disk/names.ts";
import type { Files } from "../../io/files.ts";

/** Longest record that is read, bytes. */
const MAX_RECORD_BYTES = 64 * 1024;

/** The record of a disk; undefined without one, or with one that cannot be read (it is made again then). */
export function readChecksum(files: Files, directory: string, disk: string): ChecksumRecord | undefined {
  const path = `${directory}/${disk}${CHECKSUM_SUFFIX}`;
  if (!files.exists(path)) return undefined;
  try {
    return decodeChecksumRecord(path, files.readWhole(path, MAX_RECORD_BYTES));
  } catch (error) {
    if (error instanceof MetadataError) return undefined;
    throw error;
  }
}

/** The disk's file ctime, as records hold it. @throws {IoError} */
export function changeTime(files: Files, directory: string, disk: string): string {
  return changeTimeText(files.stat(`${directory}/${disk}`).changedNs);
}

/** Replaces the record of a disk, durably. @throws {IoError} */
export function writeChecksum(files: Files, directory: string, disk: string, record: ChecksumRecord): void {
  replaceFile(files, directory, disk + CHECKSUM_SUFFIX, encodeChecksumRecord(record));
}

/** Removes it, durably. @throws {IoError} */
export function dropChecksum(files: Files, directory: string, disk: string): void {
  if (removeIfThere(files, `${directory}/${disk}${CHECKSUM_SUFFIX}`)) files.syncDirectory(directory);
}
