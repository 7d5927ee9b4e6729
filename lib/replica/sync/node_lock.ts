/**
 * Locks among all replicas of a node: flock(2) on files that Longhorn's processes use too.
 *
 * @module
 */
import type { Files } from "../../io/files.ts";

/** Where Longhorn keeps what is the node's, unless LONGHORN_CONTROL_PATH says otherwise. */
const CONTROL_PATH = "/var/lib/longhorn";

/**
 * Directory of the node's lock files. In a container the node's root is at `/host`.
 *
 * @param controlPath value of LONGHORN_CONTROL_PATH; what is not below a proper directory is ignored
 */
export function lockDirectory(controlPath: string | undefined, inContainer: boolean): string {
  const given = controlPath ?? "";
  const usable = given.startsWith("/") && given !== "/" && given !== "/dev" && !given.startsWith("/dev/");
  return `${inContainer ? "/host" : ""}${usable ? given.replace(/\/+$/, "") : CONTROL_PATH}/.lock`;
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
