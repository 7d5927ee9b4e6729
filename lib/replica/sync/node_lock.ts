/**
 * Locks among all replicas of a node: flock(2) on files that Longhorn's processes use too.
 *
 * @module
 */
import { controlPath } from "../../host/control_path.ts";
import type { Files } from "../../io/files.ts";

/**
 * Directory of the node's lock files. In a container the node's root is at `/host`.
 *
 * @param given value of LONGHORN_CONTROL_PATH; see {@linkcode controlPath}
 */
export function lockDirectory(given: string | undefined, inContainer: boolean): string {
  return `${inContainer ? "/host" : ""}${controlPath(given)}/.lock`;
}

/**
 * Takes a lock without waiting.
 *
 * @param name such as `hash`
 * @returns the descriptor that holds it, to be closed; undefined when somebody else has it
 * @throws {IoError}
 */
export function tryNodeLock(files: Files, directory: string, name: string): number | undefined {
  files.makeDirectory(directory);
  const fd = files.open(`${directory}/${name}`, { write: true, create: 0o644 });
  try {
    if (files.tryLock(fd)) return fd;
  } catch (error) {
    files.close(fd);
    throw error;
  }
  files.close(fd);
  return undefined;
}
