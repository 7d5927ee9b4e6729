/**
 * One process per replica directory: an advisory lock (flock) on the directory itself, so that no file appears
 * that a peer would have to ignore. The kernel drops it when the process ends, however it ends.
 *
 * @module
 */
import type { Files } from "../io/files.ts";
import { ReplicaLockedError } from "./errors.ts";

/** The kernel's list of locks (proc(5)). */
const PROC_LOCKS = "/proc/locks";

/**
 * Locks a directory.
 *
 * @returns a descriptor; closing it releases the lock
 * @throws {ReplicaLockedError} when it is in use
 * @throws {IoError} when it cannot be opened
 */
export function lockDirectory(files: Files, directory: string): number {
  const fd = files.open(directory);
  if (files.tryLock(fd)) return fd;
  const { inode } = files.fstat(fd);
  files.close(fd);
  throw new ReplicaLockedError(directory, lockHolder(files, inode));
}

/** The process that holds a lock on an inode; undefined when the kernel does not tell (or in another namespace). */
function lockHolder(files: Files, inode: bigint): number | undefined {
  let text: string;
  try {
    text = new TextDecoder().decode(files.readWhole(PROC_LOCKS));
  } catch {
    return undefined; // Not worth failing for: it only names the culprit.
  }
  return parseLockHolder(text, inode);
}

/** Finds an inode in the text of {@linkcode PROC_LOCKS}: `1: FLOCK  ADVISORY  WRITE 1234 fe:01:131 0 EOF`. */
export function parseLockHolder(text: string, inode: bigint): number | undefined {
  for (const line of text.split("\n")) {
    const match = /^\d+: FLOCK +\S+ +WRITE +(\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /.exec(line);
    if (match && BigInt(match[2]) === inode && match[1] !== "0") return Number(match[1]);
  }
  return undefined;
}
