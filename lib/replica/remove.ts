/**
 * Deletes what makes a directory a replica, and nothing else that may lie there.
 *
 * @module
 */
import { lockDirectory } from "../disk/lock.ts";
import { Errno, IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";

/** Names of a replica's own files; see the disk room for each. */
const OWN_FILE =
  /^(volume-(head|snap|delta)-.*|revision\.counter|drover\.(regions|spare)|drover-restore(-journal)?\.json|.*\.tmp)$/;
const META = "volume.meta";

/**
 * Deletes a closed replica: the data first, `volume.meta` last, so that a crash in between leaves something that
 * is still recognised and can be deleted again. The directory itself goes when nothing else is in it.
 *
 * @throws {IoError}
 */
export function deleteReplica(files: Files, directory: string): void {
  if (!files.exists(directory)) return;
  for (const name of files.list(directory)) {
    if (OWN_FILE.test(name) && name !== META) files.unlink(`${directory}/${name}`);
  }
  if (files.exists(`${directory}/${META}`)) files.unlink(`${directory}/${META}`);
  files.syncDirectory(directory);
  try {
    files.removeDirectory(directory);
  } catch (error) {
    if (!(error instanceof IoError) || (error.errno !== Errno.ENOTEMPTY && error.errno !== Errno.EBUSY)) {
      throw error;
    }
  }
}

/**
 * As {@linkcode deleteReplica}, under the directory's lock. A directory that is not there is gone already.
 *
 * @throws {ReplicaLockedError} when a process has it open
 * @throws {IoError}
 */
export function eraseReplica(files: Files, directory: string): void {
  if (!files.exists(directory)) return;
  const lock = lockDirectory(files, directory);
  try {
    deleteReplica(files, directory);
  } finally {
    files.close(lock);
  }
}
