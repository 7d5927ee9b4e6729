/**
 * Space that is set aside for `volume.meta`: the file `drover.spare`, one block.
 *
 * A copy must be able to record who the members of its volume are also when its disk is full; the last one above all,
 * for nothing may be acknowledged before it has recorded that it is the last. Writing the new content beside the old one
 * takes a block, which is not there. So the content is written over the spare, whose block is, and the two files
 * change their parts: what was `volume.meta` is the spare of the next time, and no block is needed ever.
 *
 * | step | after a crash here the next opening |
 * |---|---|
 * | 1. content into the spare, synced | finds the old `volume.meta`, and a spare with any content |
 * | 2. `volume.meta` gets a second name, `drover.spare.tmp` | the same, and removes that name |
 * | 3. the spare is renamed to `volume.meta`, the directory synced | finds the new one |
 * | 4. `drover.spare.tmp` is renamed to `drover.spare` | finds both, or makes a new spare |
 *
 * A spare that has a second name is never written to: a power cut may keep step 4 and lose step 3, and then it is
 * `volume.meta` itself. File systems that never write in place (btrfs, ZFS) need space all the same; there it is as
 * it is without a spare.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import { FILE_MODE, removeIfThere } from "./atomic.ts";
import { TEMPORARY_SUFFIX } from "./names.ts";

/** Name of the spare. Longhorn looks at none of that name. */
export const SPARE_FILE = "drover.spare";

/** Its size, bytes: a block, far above what `volume.meta` takes. */
export const SPARE_BYTES = 4096;

/** True for an error that says that there is no space. */
export function isFull(error: unknown): boolean {
  return error instanceof IoError && (error.errno === Errno.ENOSPC || error.errno === Errno.EDQUOT);
}

/** Makes sure that there is a spare, when a directory is opened. @returns false when there is no space @throws {IoError} */
export function makeSpare(files: Files, directory: string): boolean {
  const path = `${directory}/${SPARE_FILE}`;
  removeIfThere(files, path + TEMPORARY_SUFFIX);
  if (usable(files, path)) return true;
  removeIfThere(files, path);
  const fd = files.open(path, { write: true, create: FILE_MODE, truncate: true });
  try {
    files.writeAt(fd, new Uint8Array(SPARE_BYTES), 0);
    files.sync(fd);
  } catch (error) {
    if (!isFull(error)) throw error;
    files.unlink(path);
    return false;
  } finally {
    files.close(fd);
  }
  files.syncDirectory(directory);
  return true;
}

function usable(files: Files, path: string): boolean {
  if (!files.exists(path)) return false;
  const { kind, links, allocated } = files.stat(path);
  return kind === "file" && links === 1 && allocated >= SPARE_BYTES;
}

/**
 * Replaces a file that is there without new space; see the module text. When it returns, the new content is on stable
 * storage.
 *
 * @returns false when there is no spare, or the content does not fit: nothing has changed
 * @throws {IoError} the old content is still in place then (except when only the last sync failed)
 */
export function replaceFromSpare(
  files: Files,
  directory: string,
  name: string,
  content: Uint8Array,
): boolean {
  const spare = `${directory}/${SPARE_FILE}`, old = spare + TEMPORARY_SUFFIX, path = `${directory}/${name}`;
  if (content.length > SPARE_BYTES || !files.exists(path) || !usable(files, spare)) return false;
  const fd = files.open(spare, { write: true });
  try {
    files.writeAt(fd, content, 0);
    files.truncate(fd, content.length);
    files.sync(fd);
  } finally {
    files.close(fd);
  }
  removeIfThere(files, old);
  files.link(path, old);
  files.rename(spare, path);
  files.syncDirectory(directory);
  files.rename(old, spare);
  return true;
}
