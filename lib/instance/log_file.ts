/**
 * The log of an instance: a file that the process itself appends to, so that it goes on being written while there is
 * no manager. The manager keeps it from growing without end.
 *
 * | file | content |
 * |---|---|
 * | `NAME.log` | the newer part, at least; the process has it open for appending |
 * | `NAME.log.1` | what was cut off before it, the last time |
 *
 * Cutting: whole blocks at the front are copied to `NAME.log.1`, then taken out of the file in one step
 * (FALLOC_FL_COLLAPSE_RANGE: ext4 and xfs). The process notices nothing and no line is lost. Where a file system
 * cannot do that, the file is copied and truncated; lines that are written between the two are lost then.
 *
 * @module
 */
import { IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import { cString, errno, libc, OpenFlag } from "../io/libc.ts";
import { LOG_BYTES, LOG_KEEP_MS, LOG_LINE_BYTES } from "./limits.ts";
import { isName } from "./names.ts";

/** FALLOC_FL_COLLAPSE_RANGE (linux/falloc.h). */
const COLLAPSE_RANGE = 0x08;
/** What is cut off is a multiple of this, bytes: more than any block or extent size in use. */
const CUT_BYTES = 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;
/** O_APPEND (asm-generic/fcntl.h). */
const APPEND = 0o2000;
/** O_NOFOLLOW: a link in the place of a log is somebody's trick. */
const NOFOLLOW = Deno.build.arch === "aarch64" ? 0o100000 : 0o400000;
const LOG_MODE = 0o640;

const SUFFIX = ".log", OLDER = ".1";

/** The logs of a directory. */
export class LogDirectory {
  readonly #files: Files;
  /** Where they are. */
  readonly directory: string;
  /** Bytes that were cut off each log since this manager runs: readers count from there. */
  readonly #removed = new Map<string, number>();
  readonly #limit: number;

  /** Opens the directory; it is made if it is not there. @throws {IoError} */
  constructor(files: Files, directory: string, limitBytes: number = LOG_BYTES) {
    this.#files = files;
    this.directory = directory;
    this.#limit = limitBytes;
    files.makeDirectory(directory, 0o755);
  }

  /** Path of a log. */
  path(name: string): string {
    return `${this.directory}/${name}${SUFFIX}`;
  }

  /** Opens a log for a process to append to. @returns a descriptor. @throws {IoError} */
  openForProcess(name: string): number {
    const path = this.path(name);
    // Not through `Files`, which has no use for appending elsewhere.
    const fd = libc.open(
      cString(path, "open"),
      OpenFlag.WRONLY | OpenFlag.CREAT | OpenFlag.CLOEXEC | NOFOLLOW | APPEND,
      LOG_MODE,
    );
    if (fd < 0) throw new IoError("open", path, errno());
    return fd;
  }

  /** Cuts a log that has become too long. @returns whether it did */
  trim(name: string): boolean {
    const path = this.path(name);
    if (!this.#files.exists(path)) return false;
    const { size, kind } = this.#files.stat(path);
    if (kind !== "file" || size <= this.#limit) return false;
    const fd = this.#files.open(path, { write: true });
    try {
      const wanted = Math.min(size, Math.ceil((size - this.#limit / 2) / CUT_BYTES) * CUT_BYTES);
      const whole = Math.floor(wanted / CUT_BYTES) * CUT_BYTES;
      let cut = 0;
      if (whole > 0 && whole < size) {
        this.#copy(fd, `${path}${OLDER}`, whole);
        if (libc.fallocate(fd, COLLAPSE_RANGE, 0n, BigInt(whole)) === 0) cut = whole;
      }
      if (cut === 0) {
        cut = this.#files.fstat(fd).size;
        this.#copy(fd, `${path}${OLDER}`, cut);
        this.#files.truncate(fd, 0);
      }
      this.#removed.set(name, this.#removedFrom(name) + cut);
    } finally {
      this.#files.close(fd);
    }
    return true;
  }

  #removedFrom(name: string): number {
    return this.#removed.get(name) ?? 0;
  }

  /** Copies the last part of the first `bytes` bytes, as much as is kept. */
  #copy(fd: number, to: string, bytes: number): void {
    const out = this.#files.open(to, { write: true, create: LOG_MODE, truncate: true });
    try {
      const begin = Math.max(0, bytes - this.#limit), buffer = new Uint8Array(CHUNK_BYTES);
      for (let at = begin; at < bytes;) {
        const count = this.#files.readAt(fd, buffer.subarray(0, Math.min(CHUNK_BYTES, bytes - at)), at);
        if (count === 0) break;
        this.#files.writeAt(out, buffer.subarray(0, count), at - begin);
        at += count;
      }
    } finally {
      this.#files.close(out);
    }
  }

  /** Removes logs of names that are not in use and were not written to for long. @returns how many */
  removeOld(inUse: (name: string) => boolean, nowMs: number): number {
    let count = 0;
    for (const file of this.#files.list(this.directory)) {
      const name = file.replace(/\.log(\.1)?$/, "");
      if (name === file || !isName(name) || inUse(name)) continue;
      const path = `${this.directory}/${file}`;
      const { kind, modifiedNs } = this.#files.stat(path);
      if (kind !== "file" || Number(modifiedNs / 1_000_000n) > nowMs - LOG_KEEP_MS) continue;
      this.#files.unlink(path);
      this.#removed.delete(name);
      count++;
    }
    return count;
  }

  /**
   * The lines of a log from the oldest that is kept to the end that it has now. Bytes that are no UTF-8 come as
   * U+FFFD; a line above {@linkcode LOG_LINE_BYTES} comes in pieces.
   */
  *lines(name: string): Generator<string, void> {
    const decoder = new TextDecoder();
    let rest: Uint8Array<ArrayBuffer> = new Uint8Array(0);
    for (const piece of this.#pieces(name)) {
      const bytes = new Uint8Array(rest.length + piece.length);
      bytes.set(rest);
      bytes.set(piece, rest.length);
      let from = 0;
      for (;;) {
        const feed = bytes.indexOf(10, from);
        const end = feed < 0 ? bytes.length : feed;
        while (end - from > LOG_LINE_BYTES) {
          yield decoder.decode(bytes.subarray(from, from + LOG_LINE_BYTES));
          from += LOG_LINE_BYTES;
        }
        if (feed < 0) break;
        yield decoder.decode(bytes.subarray(from, feed));
        from = feed + 1;
      }
      rest = bytes.slice(from);
    }
    if (rest.length > 0) yield decoder.decode(rest);
  }

  /** The bytes of a log, in pieces. */
  *#pieces(name: string): Generator<Uint8Array<ArrayBuffer>, void> {
    const end = this.end(name);
    for (let at = -Infinity; at < end;) {
      const { bytes, next } = this.piece(name, at, end);
      if (bytes.length === 0) return;
      at = next;
      yield bytes;
    }
  }

  /** Where a log ends: its bytes are counted from the first one ever, so that cutting it moves nothing. */
  end(name: string): number {
    return this.#removedFrom(name) + this.#size(this.path(name));
  }

  /**
   * The bytes at a position, or the oldest that are kept, if those were cut off.
   *
   * @param end nothing from there on
   * @returns at most {@linkcode LOG_LINE_BYTES}, and the position after them
   */
  piece(name: string, at: number, end: number): { bytes: Uint8Array<ArrayBuffer>; next: number } {
    const path = this.path(name), removed = this.#removedFrom(name);
    const oldest = removed - this.#size(`${path}${OLDER}`), from = Math.max(at, oldest);
    const older = from < removed;
    const length = Math.max(0, Math.min(LOG_LINE_BYTES, (older ? Math.min(removed, end) : end) - from));
    const bytes = older
      ? this.#read(`${path}${OLDER}`, from - oldest, length)
      : this.#read(path, from - removed, length);
    return { bytes, next: from + bytes.length };
  }

  /** Names that have a log. */
  names(): string[] {
    return this.#files.list(this.directory).filter((file) => file.endsWith(SUFFIX))
      .map((file) => file.slice(0, -SUFFIX.length)).filter(isName);
  }

  #size(file: string): number {
    return this.#files.exists(file) ? this.#files.stat(file).size : 0;
  }

  #read(path: string, offset: number, length: number): Uint8Array<ArrayBuffer> {
    if (!this.#files.exists(path)) return new Uint8Array(0);
    const fd = this.#files.open(path);
    try {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, this.#files.readAt(fd, bytes, offset));
    } finally {
      this.#files.close(fd);
    }
  }
}
