/**
 * A lock between processes of one host: flock(2) on a file, so that programs other than ours can take part, and the
 * kernel drops it when its holder dies.
 *
 * @module
 */
import { cString, errno, libc, OpenFlag } from "../io/libc.ts";
import { Errno, IoError } from "../io/errno.ts";
import { HostError } from "./retry.ts";

/** LOCK_EX | LOCK_NB (asm-generic/fcntl.h). */
const LOCK_EXCLUSIVE_NOW = 2 | 4;
/** Between two attempts, milliseconds. */
const POLL_MS = 100;
/** Links in a path before it counts as a circle. */
const MAX_LINKS = 40;

/**
 * Follows the symbolic links of a path as a process with another root directory would.
 *
 * @param root that directory, empty for our own
 * @param path absolute, in it
 */
export function pathInRoot(root: string, path: string): string {
  let at = "", links = 0;
  const rest = path.split("/").filter((part) => part !== "" && part !== ".");
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    if (part === "..") {
      at = at.slice(0, Math.max(0, at.lastIndexOf("/")));
      continue;
    }
    let target: string | null = null;
    try {
      target = Deno.readLinkSync(`${root}${at}/${part}`);
    } catch {
      // Not a link, or not there: it stays as it is.
    }
    if (target === null) {
      at = `${at}/${part}`;
      continue;
    }
    if (++links > MAX_LINKS) throw new HostError(`${path}: too many symbolic links`);
    if (target.startsWith("/")) at = "";
    rest.unshift(...target.split("/").filter((one) => one !== "" && one !== "."));
  }
  return `${root}${at}`;
}

/**
 * Takes a lock, waiting for its holder. The file is made if it is not there, and stays.
 *
 * @returns releases the lock
 * @throws {HostError} when it is not free within the time
 * @throws {IoError} when the file cannot be opened
 */
export async function lockFile(path: string, timeoutMs: number): Promise<Disposable> {
  const fd = libc.open(cString(path, "open"), OpenFlag.RDWR | OpenFlag.CREAT | OpenFlag.CLOEXEC, 0o644);
  if (fd < 0) throw new IoError("open", path, errno());
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    if (libc.flock(fd, LOCK_EXCLUSIVE_NOW) === 0) return { [Symbol.dispose]: () => void libc.close(fd) };
    const number = errno();
    if (number !== Errno.EAGAIN || performance.now() >= deadline) {
      libc.close(fd);
      if (number !== Errno.EAGAIN) throw new IoError("flock", path, number);
      throw new HostError(`${path} is locked by another process since ${timeoutMs / 1000} s`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
