/**
 * The ends of processes that are somebody else's children: those that an earlier manager started. wait(2) is for
 * parents, so they are watched through pidfds, all of them with one system call per look and no thread. A pidfd
 * also means one process for ever, so that no signal reaches a stranger who got the number.
 *
 * How such a process ended is known from Linux 6.15 on (PIDFD_GET_INFO with PIDFD_INFO_EXIT, linux/pidfd.h), and
 * earlier when it is seen before the host's init has waited for it. Otherwise nobody can know.
 *
 * @module
 */
import { libc } from "../io/libc.ts";
import type { Clock } from "./clock.ts";
import { type Exit, exitOfWaitStatus, UNKNOWN_EXIT } from "./exit.ts";
import { ADOPTED_LOOK_MS } from "./limits.ts";
import { type ProcessKey, processStat } from "./proc.ts";

/** Numbers of system calls, the same on all architectures (asm-generic/unistd.h). */
const PIDFD_SEND_SIGNAL = 424, PIDFD_OPEN = 434;

/** struct pollfd { int fd; short events; short revents } and POLLIN (poll.h). */
const POLLFD_BYTES = 8, POLLIN = 1;

/**
 * struct pidfd_info (linux/pidfd.h), its first 64 bytes; integers little-endian on both architectures.
 *
 * | offset | field |
 * |---|---|
 * | 0 | u64 mask: what is asked for, then what is there |
 * | 8 | u64 cgroupid, then eleven u32 of pids and ids |
 * | 60 | s32 exit_code, as wait(2) gives it |
 */
const PIDFD_INFO_BYTES = 64, EXIT_CODE_AT = 60;
/** _IOWR(0xff, 11, struct pidfd_info). */
const PIDFD_GET_INFO = 0xc040ff0b;
const PIDFD_INFO_EXIT = 8n;

/** Looks at a process that has ended until somebody has waited for it; then its status is known or lost. */
const STATUS_LOOKS = 5;

interface Watched {
  readonly key: ProcessKey;
  /** -1: the kernel has no pidfds. */
  readonly fd: number;
  readonly ended: (exit: Exit) => void;
  looks: number;
}

/** Watches processes that are not children of this one. */
export class ForeignProcesses implements Disposable {
  readonly #clock: Clock;
  readonly #watched = new Set<Watched>();
  readonly #stopped = new AbortController();
  #running = false;

  /** Makes one that watches nothing, and does nothing as long as that is so. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Begins to watch a process.
   *
   * @returns how it ends, and a way to signal it; undefined when it is not there any more
   */
  watch(key: ProcessKey): { ended: Promise<Exit>; signal: (number: number) => void } | undefined {
    const fd = openPidfd(key.pid);
    // Only now: the descriptor is of the process that is looked at, or that one was gone before.
    if (!isThere(key)) {
      if (fd >= 0) libc.close(fd);
      return undefined;
    }
    const { promise, resolve } = Promise.withResolvers<Exit>();
    const watched: Watched = { key, fd, ended: resolve, looks: 0 };
    this.#watched.add(watched);
    if (!this.#running) void this.#run();
    return { ended: promise, signal: (number) => this.#signal(watched, number) };
  }

  /** Stops watching; ends are not told any more. */
  [Symbol.dispose](): void {
    this.#stopped.abort();
    for (const { fd } of this.#watched) if (fd >= 0) libc.close(fd);
    this.#watched.clear();
  }

  #signal(watched: Watched, number: number): void {
    if (!this.#watched.has(watched)) return;
    sendSignal(watched.fd, watched.key, number);
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#watched.size > 0 && !this.#stopped.signal.aborted) {
      await this.#clock.sleep(ADOPTED_LOOK_MS, this.#stopped.signal);
      if (!this.#stopped.signal.aborted) this.#look();
    }
    this.#running = false;
  }

  /** One look at all of them. */
  #look(): void {
    const all = [...this.#watched];
    const ready = pollPidfds(all.map(({ fd }) => fd));
    for (const [index, watched] of all.entries()) {
      if (watched.fd >= 0 ? !ready[index] : isThere(watched.key)) continue;
      const exit = exitOf(watched) ?? (++watched.looks >= STATUS_LOOKS ? UNKNOWN_EXIT : undefined);
      if (exit === undefined) continue;
      this.#watched.delete(watched);
      if (watched.fd >= 0) libc.close(watched.fd);
      watched.ended(exit);
    }
  }
}

function isThere(key: ProcessKey): boolean {
  const stat = processStat(key.pid);
  return stat !== undefined && stat.startTicks === key.startTicks && !stat.zombie;
}

/** Sends a signal to a process, never to another one that got its number. @param fd of the process, or -1 */
export function sendSignal(fd: number, key: ProcessKey, number: number): void {
  if (fd >= 0) libc.syscall6(PIDFD_SEND_SIGNAL, fd, number, 0, 0, null, 0n);
  else if (isThere(key)) killByNumber(key.pid, number);
}

/** Opens a process. @returns a descriptor (close-on-exec, as all pidfds), or -1 where the kernel has none */
export function openPidfd(pid: number): number {
  return libc.syscall3(PIDFD_OPEN, pid, null);
}

function killByNumber(pid: number, number: number): void {
  const names: Readonly<Record<number, Deno.Signal>> = {
    1: "SIGHUP",
    2: "SIGINT",
    9: "SIGKILL",
    15: "SIGTERM",
  };
  const name = names[number];
  if (name === undefined) return;
  try {
    Deno.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Which of the descriptors say that their process has ended. Does not wait. Negative ones never do. */
function pollPidfds(fds: readonly number[]): boolean[] {
  const bytes = new Uint8Array(Math.max(fds.length, 1) * POLLFD_BYTES);
  const view = new DataView(bytes.buffer);
  fds.forEach((fd, index) => {
    view.setInt32(index * POLLFD_BYTES, fd, true);
    view.setInt16(index * POLLFD_BYTES + 4, POLLIN, true);
  });
  const now = new Uint8Array(16); // struct timespec of zeros
  const count = libc.ppoll(
    Deno.UnsafePointer.of(bytes),
    fds.length,
    Deno.UnsafePointer.of(now),
    null,
  );
  // Interrupted, or out of memory for a moment: the next look will tell.
  if (count < 0) return fds.map(() => false);
  return fds.map((_, index) => view.getInt16(index * POLLFD_BYTES + 6, true) !== 0);
}

/** How an ended process ended; undefined when that is not known (yet). */
function exitOf({ key, fd }: Watched): Exit | undefined {
  if (fd >= 0) {
    const info = new Uint8Array(PIDFD_INFO_BYTES), view = new DataView(info.buffer);
    view.setBigUint64(0, PIDFD_INFO_EXIT, true);
    const known = libc.ioctl(fd, PIDFD_GET_INFO, info) === 0 &&
      (view.getBigUint64(0, true) & PIDFD_INFO_EXIT) !== 0n;
    if (known) return exitOfWaitStatus(view.getInt32(EXIT_CODE_AT, true));
  }
  const stat = processStat(key.pid);
  if (stat?.startTicks === key.startTicks && stat.zombie) return exitOfWaitStatus(stat.waitStatus);
  return undefined;
}
