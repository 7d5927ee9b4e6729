/**
 * Mounting a FUSE file system without libfuse: open `/dev/fuse`, pass its descriptor to mount(2), serve it.
 * Needs CAP_SYS_ADMIN. Source: Linux Documentation/filesystems/fuse.rst, mount(2).
 *
 * Neither call waits for the server: the kernel's first request (INIT) is queued and nobody waits for its
 * answer. Unmounting is left to a child process, see `loop_device.ts` for why.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import { check, cString, errno, libc, OpenFlag } from "../io/libc.ts";
import { type Runner, runOrThrow } from "./command.ts";

const symbols = {
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

const native = Deno.dlopen("libc.so.6", symbols).symbols;

/** MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME (linux/mount.h). */
const MOUNT_FLAGS = 2n | 4n | 8n | 1024n;
/** prctl option PR_SET_IO_FLUSHER (linux/prctl.h), since Linux 5.6. */
const PR_SET_IO_FLUSHER = 57;

/** What to mount. */
export interface FuseMountOptions {
  /** An existing, empty directory. */
  readonly directory: string;
  /** Shown as the source in mount tables. */
  readonly source: string;
  /** Largest READ request, bytes. */
  readonly maxRead: number;
}

/**
 * Mounts and returns the descriptor to serve. Close it (or end the process) and every access fails with
 * ENOTCONN; the mount stays until it is unmounted.
 *
 * The descriptor does not block: a request can be given up between the moment it is announced and the moment it
 * is read, and another read can be faster. A blocking read would then stop the volume thread inside the kernel,
 * and the answers that the next request waits for with it.
 *
 * The file system answers to root only (no `allow_other`).
 *
 * @throws {IoError} from `open /dev/fuse` (the kernel has no FUSE) or `mount` (EPERM: not root)
 */
export function mountFuse(options: FuseMountOptions): number {
  const fd = libc.open(cString("/dev/fuse", "open"), OpenFlag.RDWR | OpenFlag.NONBLOCK | OpenFlag.CLOEXEC, 0);
  check(fd, "open", "/dev/fuse");
  // rootmode: S_IFDIR; the user and group that may use it: root.
  const data = `fd=${fd},rootmode=40000,user_id=0,group_id=0,max_read=${options.maxRead}`;
  const path = cString(options.directory, "mount");
  const source = cString(options.source, "mount"), type = cString("fuse", "mount");
  if (native.mount(source, path, type, MOUNT_FLAGS, cString(data, "mount")) < 0) {
    const number = errno();
    libc.close(fd);
    const cause = number === Errno.EPERM ? new Error("mounting needs CAP_SYS_ADMIN; run as root") : undefined;
    throw new IoError("mount", options.directory, number, cause && { cause });
  }
  return fd;
}

/** How to unmount. */
export interface UnmountOptions {
  /** Abort requests under way and take the mount away even while it is in use. For dead servers only. */
  readonly force: boolean;
  /** Time limit in milliseconds. */
  readonly timeoutMs: number;
}

/** Unmounts a file system in a child process. @throws {CommandError} from `command.ts` */
export async function unmount(runner: Runner, directory: string, options: UnmountOptions): Promise<void> {
  // --internal-only: no helper program of the file system's; --no-canonicalize: do not look at the path first,
  // looking at a dead FUSE mount fails.
  const argv = ["umount", "--internal-only", "--no-canonicalize"];
  if (options.force) argv.push("--force", "--lazy");
  await runOrThrow(runner, [...argv, directory], { timeoutMs: options.timeoutMs });
}

/**
 * Marks the calling thread as one that block I/O depends on: its allocations do not wait for pages to be
 * written out through the very device it serves, and it is not throttled for dirty pages of others. To be
 * called on the volume thread of any frontend whose host is this machine.
 *
 * @returns false where the kernel (before 5.6) or missing CAP_SYS_RESOURCE does not allow it
 */
export function markIoFlusher(): boolean {
  return native.prctl(PR_SET_IO_FLUSHER, 1n, 0n, 0n, 0n) === 0;
}
