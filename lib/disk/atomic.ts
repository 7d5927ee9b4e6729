/**
 * Atomic replacement of small files: after a crash the old content or the new one is there, never a mixture and
 * never nothing.
 *
 * @module
 */
import type { Files } from "../io/files.ts";
import { TEMPORARY_SUFFIX } from "./names.ts";

/** Mode of every file that Drover creates in a replica directory. */
export const FILE_MODE = 0o600;

/**
 * Replaces a file: writes `PATH.tmp`, syncs it, renames it over the old one and syncs the directory. When it
 * returns, the new content is on stable storage.
 *
 * @throws {IoError} the old content is still in place then (except when only the last sync failed)
 */
export function replaceFile(files: Files, directory: string, name: string, content: Uint8Array): void {
  const path = `${directory}/${name}`, temporary = path + TEMPORARY_SUFFIX;
  const fd = files.open(temporary, { write: true, create: FILE_MODE, truncate: true });
  try {
    files.writeAt(fd, content, 0);
    files.sync(fd);
  } catch (error) {
    files.close(fd);
    removeIfThere(files, temporary);
    throw error;
  }
  files.close(fd);
  files.rename(temporary, path);
  files.syncDirectory(directory);
}

/** Removes a name when it exists. @returns whether it did */
export function removeIfThere(files: Files, path: string): boolean {
  if (!files.exists(path)) return false;
  files.unlink(path);
  return true;
}
