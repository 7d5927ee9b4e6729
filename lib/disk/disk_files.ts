/**
 * Removing the files of a disk, and finding a name for a new head.
 *
 * @module
 */
import type { Files } from "../io/files.ts";
import { removeIfThere } from "./atomic.ts";
import { CHECKSUM_SUFFIX, headName, headNumber, META_SUFFIX } from "./names.ts";

/** Heads are numbered with three digits. */
const HEAD_NUMBERS = 1000;

/**
 * Removes a disk that counts no more: its data first, durably. After a crash in between there is a record without
 * a file, which the next open removes when the record says that the disk is removed, or is a head's. (The other
 * way round there would be a file that nobody knows of.)
 *
 * @throws {IoError}
 */
export function dropDisk(files: Files, directory: string, disk: string): void {
  if (removeIfThere(files, `${directory}/${disk}`)) files.syncDirectory(directory);
  const record = removeIfThere(files, `${directory}/${disk}${META_SUFFIX}`);
  const checksum = removeIfThere(files, `${directory}/${disk}${CHECKSUM_SUFFIX}`);
  if (record || checksum) files.syncDirectory(directory);
}

/**
 * Removes a disk that never counted: its data last, durably, because what is to be done about a file that is not
 * known can be told from the file (see leftovers.ts), but nothing from a record alone.
 *
 * @throws {IoError}
 */
export function discardDisk(files: Files, directory: string, disk: string): void {
  const record = removeIfThere(files, `${directory}/${disk}${META_SUFFIX}`);
  const checksum = removeIfThere(files, `${directory}/${disk}${CHECKSUM_SUFFIX}`);
  if (record || checksum) files.syncDirectory(directory);
  if (removeIfThere(files, `${directory}/${disk}`)) files.syncDirectory(directory);
}

/**
 * A name for the head after the one given: the next number of which there is nothing in the directory. Peers find
 * the head by the name in `volume.meta`, so any number will do.
 *
 * @returns undefined when all are taken
 */
export function nextHeadName(files: Files, directory: string, head: string): string | undefined {
  const from = headNumber(head) ?? 0;
  for (let step = 1; step < HEAD_NUMBERS; step++) {
    const name = headName((from + step) % HEAD_NUMBERS), path = `${directory}/${name}`;
    if (!files.exists(path) && !files.exists(path + META_SUFFIX)) return name;
  }
  return undefined;
}
