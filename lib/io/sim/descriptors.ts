/**
 * What a process's descriptors stand for, and the table of them.
 *
 * @module
 */
import { Errno, IoError } from "../errno.ts";
import type { Inode } from "./inode.ts";

/** The lowest descriptor handed out: 0 to 2 are the standard streams. */
const FIRST_DESCRIPTOR = 3;

/** Descriptors a process may have open (RLIMIT_NOFILE's usual soft limit). */
const MAX_DESCRIPTORS = 1024;

/** EMFILE: too many open files. */
const EMFILE = 24;

/** Anything a descriptor stands for. */
export interface Descriptor {
  /** For error messages and the trace. */
  readonly path: string;
  /** Operations of the Io that were submitted and not completed yet. */
  underWay: number;
  /** The last use is over. @param killed the process died: the kernel closes for it */
  released(killed: boolean): void;
}

/** An open file description. */
export class OpenFile implements Descriptor {
  underWay = 0;
  /** Labels of the trace by kind of operation, as far as they were needed. */
  readonly labels: (number | undefined)[] = [];

  /** Counts itself in `inode.opens`. @param path as it was opened */
  constructor(
    readonly inode: Inode,
    readonly path: string,
    readonly writable: boolean,
    readonly direct: boolean,
    readonly onRelease: (file: OpenFile) => void,
  ) {
    inode.opens++;
  }

  /** See {@linkcode Descriptor.released}. */
  released(): void {
    this.inode.opens--;
    if (this.inode.lock === this) this.inode.lock = null;
    this.onRelease(this);
  }
}

/** The descriptors of one process: the lowest free number is given out, as POSIX demands. */
export class DescriptorTable {
  #entries: (Descriptor | null)[] = [];
  #open = 0;

  /** Descriptors open. */
  get open(): number {
    return this.#open;
  }

  /** Gives out the lowest free descriptor. @throws IoError EMFILE */
  install(descriptor: Descriptor): number {
    let at = this.#entries.indexOf(null);
    if (at < 0) at = this.#entries.length;
    if (at >= MAX_DESCRIPTORS) throw new IoError("open", descriptor.path, EMFILE);
    this.#entries[at] = descriptor;
    this.#open++;
    return at + FIRST_DESCRIPTOR;
  }

  /** What a descriptor stands for; null when it is not open. */
  get(fd: number): Descriptor | null {
    return this.#entries[fd - FIRST_DESCRIPTOR] ?? null;
  }

  /** The open file behind a descriptor. @throws IoError EBADF */
  file(operation: string, fd: number): OpenFile {
    const descriptor = this.get(fd);
    if (!(descriptor instanceof OpenFile)) throw new IoError(operation, `descriptor ${fd}`, Errno.EBADF);
    return descriptor;
  }

  /**
   * Closes a descriptor.
   *
   * @throws IoError EBADF
   * @throws Error when operations are under way: a mistake of the caller that the kernel would not report
   */
  close(fd: number): void {
    const descriptor = this.get(fd);
    if (descriptor === null) throw new IoError("close", `descriptor ${fd}`, Errno.EBADF);
    if (descriptor.underWay > 0) {
      throw new Error(`close of ${descriptor.path} (${fd}) with ${descriptor.underWay} operations under way`);
    }
    this.#entries[fd - FIRST_DESCRIPTOR] = null;
    this.#open--;
    descriptor.released(false);
  }

  /** Closes everything, as the kernel does for a process that died. */
  closeAll(): void {
    const entries = this.#entries;
    this.#entries = [];
    this.#open = 0;
    for (const descriptor of entries) descriptor?.released(true);
  }
}
