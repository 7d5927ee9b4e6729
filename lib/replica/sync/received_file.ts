/**
 * A file that is being received. A snapshot is written in place: whoever begins again after a crash finds what is
 * there already, and `Rebuilding` in `volume.meta` keeps it from being believed meanwhile. A record is kept in
 * memory and replaces the old one as a whole at the end.
 *
 * | step | after a crash here |
 * |---|---|
 * | the old checksum goes, durably, before the first change | the content is not vouched for |
 * | data and holes | a mixture, found by comparing |
 * | sync of the file and of the directory, at the close | complete |
 * | a checksum for the new ctime, if the sender gave one | complete |
 *
 * @module
 */
import { createHash } from "node:crypto";
import { replaceFile } from "../../disk/atomic.ts";
import { CHECKSUM_METHOD } from "../../disk/checksum_record.ts";
import { isAligned } from "../../io/direct_write.ts";
import { Errno, IoError } from "../../io/errno.ts";
import type { FileOperation, FileQueue } from "../../io/file_queue.ts";
import type { Files } from "../../io/files.ts";
import { dropCached } from "../../io/page_cache.ts";
import {
  type Batch,
  BATCH_DATA_BYTES,
  batchSum,
  encodeTable,
  fileRuns,
  readBatch,
  type Run,
} from "./batches.ts";
import { changeTime, dropChecksum, writeChecksum } from "./checksums.ts";
import { HttpError } from "./http1.ts";
import { isRecord } from "./names.ts";

/** Largest record, bytes. */
const MAX_RECORD_BYTES = 1024 * 1024;
/** Largest snapshot, bytes: as the largest volume. */
const MAX_FILE_BYTES = 256 * 2 ** 40;
/** Pieces of at least so many bytes bypass the page cache. */
const MIN_DIRECT_BYTES = 128 * 1024;
/** Small pieces are pushed to the disk in steps of so many bytes. */
const WRITEBACK_BYTES = 8 * 1024 * 1024;
/** Largest range that is hashed for a peer, bytes. */
const MAX_HASHED_BYTES = 16 * 1024 * 1024;
const MODE = 0o600, NO_FD = -1;

/** See the module text. */
export class ReceivedFile {
  readonly #path: string;
  #fd = NO_FD;
  /** The same file past the page cache: large pieces go that way, small ones are gathered by the kernel. */
  #direct = NO_FD;
  #record: Uint8Array | undefined;
  #touched = false;
  #size = -1;
  /** It was there before. */
  existed = false;
  /** It has data from before, so there is something to compare with. */
  hasOldData = false;
  /** Small pieces that were written and not pushed to the disk: where, and how many bytes. */
  #writeback = { from: Infinity, to: 0, bytes: 0 };
  readonly #scratch = new Uint8Array(BATCH_DATA_BYTES);

  /** Opens nothing yet. @param queue of this thread @param name a checked file name */
  constructor(
    readonly files: Files,
    readonly queue: FileQueue,
    readonly directory: string,
    readonly name: string,
  ) {
    this.#path = `${directory}/${name}`;
  }

  /** Apparent size, bytes; -1 before it was opened. */
  get size(): number {
    return this.#size;
  }

  /** Opens or creates it with this size. Again with the same size is fine. @throws {HttpError} {@linkcode IoError} */
  open(size: number, direct: boolean): void {
    const limit = isRecord(this.name) ? MAX_RECORD_BYTES : MAX_FILE_BYTES;
    if (size > limit) throw new HttpError(400, `${this.name}: ${size} bytes are too many`);
    if (direct && size % 4096 !== 0) {
      throw new HttpError(400, `${this.name}: ${size} bytes are no whole blocks, as direct I/O needs`);
    }
    if (this.#size >= 0) {
      if (this.#size === size) return;
      throw new HttpError(409, `${this.name}: its senders do not agree: ${this.#size} or ${size} bytes`);
    }
    this.existed = this.files.exists(this.#path);
    if (isRecord(this.name)) this.#record = new Uint8Array(size);
    else {
      this.#fd = this.files.open(this.#path, { write: true, create: MODE });
      this.#direct = this.#openDirect();
      const stat = this.files.fstat(this.#fd);
      this.hasOldData = stat.allocated > 0;
      // Setting the size changes the ctime even where it changes nothing.
      if (stat.size !== size) {
        this.#touch();
        this.files.truncate(this.#fd, size);
      }
    }
    this.#size = size;
  }

  #openDirect(): number {
    try {
      return this.files.open(this.#path, { write: true, direct: true });
    } catch (error) {
      // A file system that cannot: everything goes through the page cache.
      if (error instanceof IoError && error.errno === Errno.EINVAL) return NO_FD;
      throw error;
    }
  }

  #touch(): void {
    if (this.#touched) return;
    dropChecksum(this.files, this.directory, this.name);
    this.#touched = true;
  }

  /** Checks a range that came from outside. @throws {HttpError} */
  range(begin: number, end: number): void {
    if (this.#size < 0) throw new HttpError(409, `${this.name} was not opened`);
    if (!(Number.isSafeInteger(begin) && begin >= 0 && begin <= end && end <= this.#size)) {
      throw new HttpError(400, `${this.name}: ${begin} to ${end} is no range of ${this.#size} bytes`);
    }
  }

  /**
   * Writes bytes of an aligned buffer; the range was checked. Large pieces are under way afterwards.
   *
   * @param underWay gets what must be waited for before the buffer changes, and before the range counts
   * @throws {IoError}
   */
  write(bytes: Uint8Array<ArrayBuffer>, offset: number, underWay: FileOperation[]): void {
    if (this.#record) return this.#record.set(bytes, offset);
    this.#touch();
    if (this.#direct !== NO_FD && bytes.length >= MIN_DIRECT_BYTES && isAligned(bytes, offset)) {
      underWay.push(this.queue.write(this.#direct, bytes, offset));
      return;
    }
    this.files.writeAt(this.#fd, bytes, offset);
    const range = this.#writeback;
    range.from = Math.min(range.from, offset);
    range.to = Math.max(range.to, offset + bytes.length);
    range.bytes += bytes.length;
    if (range.bytes < WRITEBACK_BYTES) return;
    // One call for many pieces with holes between: a call for each would be an operation of the disk for each.
    this.queue.writeback(this.#fd, range.from, range.to - range.from);
    this.#writeback = { from: Infinity, to: 0, bytes: 0 };
  }

  /** Makes a range a hole; it was checked. @throws {IoError} */
  hole(begin: number, end: number): void {
    if (this.#record) {
      this.#record.fill(0, begin, end);
      return;
    }
    // In a new file everything else is a hole.
    if (!this.hasOldData) return;
    for (const { offset, length } of this.#runs(begin, end)) {
      this.#touch();
      this.files.punchHole(this.#fd, offset, length);
    }
  }

  /** Makes a range hold a batch: its data, and holes between; see {@linkcode write}. @throws {IoError} */
  place(batch: Batch, data: Uint8Array<ArrayBuffer>, underWay: FileOperation[]): void {
    let at = 0, until = batch.begin;
    for (const { offset, length } of batch.runs) {
      if (offset > until) this.hole(until, offset);
      this.write(data.subarray(at, at + length), offset, underWay);
      at += length;
      until = offset + length;
    }
    if (batch.end > until) this.hole(until, batch.end);
  }

  #runs(begin: number, end: number): Run[] {
    return fileRuns(this.files, this.#fd, begin, end).map(({ offset, length }) => {
      const from = Math.max(begin, offset), to = Math.min(end, offset + length);
      return { offset: from, length: to - from };
    }).filter(({ length }) => length > 0);
  }

  /** The sum of what is in a range; undefined when that is more than a batch can be. @throws {IoError} */
  sum(begin: number, end: number): { readonly sum: string; readonly bytes: number } | undefined {
    if (this.#record) return undefined;
    const runs = this.#runs(begin, end), bytes = runs.reduce((sum, { length }) => sum + length, 0);
    if (bytes > BATCH_DATA_BYTES) return undefined;
    const batch: Batch = { begin, end, runs, bytes };
    const data = readBatch(
      { size: this.#size, runs: () => runs, read: (into, at) => void this.files.readAt(this.#fd, into, at) },
      batch,
      this.#scratch,
    );
    return { sum: batchSum(encodeTable(batch), data), bytes };
  }

  /** SHA-512 of a range that is all data, base64; null when it is not. @throws {HttpError} {@linkcode IoError} */
  sha512(begin: number, end: number): string | null {
    if (end - begin > MAX_HASHED_BYTES) {
      throw new HttpError(400, `${end - begin} bytes are too many to be hashed`);
    }
    if (this.#record || !this.hasOldData) return null;
    const runs = this.#runs(begin, end);
    if (runs.length !== 1 || runs[0].offset !== begin || runs[0].length !== end - begin) return null;
    const hash = createHash("sha512");
    for (let at = begin; at < end;) {
      const got = this.files.readAt(
        this.#fd,
        this.#scratch.subarray(0, Math.min(end - at, BATCH_DATA_BYTES)),
        at,
      );
      if (got === 0) return null;
      hash.update(this.#scratch.subarray(0, got));
      at += got;
    }
    return hash.digest("base64");
  }

  /** Makes what was written durable. A record is written at the end only. @throws {IoError} */
  async sync(): Promise<void> {
    if (this.#record) return;
    // Not in this thread: other files are on their way while the disk works.
    const file = await Deno.open(this.#path);
    try {
      await file.sync();
    } finally {
      file.close();
    }
  }

  /** What is read from now on comes from the disk. To be called when it is synced. */
  forgetCached(): void {
    if (this.#fd !== NO_FD) dropCached(this.#fd);
  }

  /**
   * Makes everything durable and ends.
   *
   * @param checksum of the sender's file, "" for none
   * @throws {IoError}
   */
  async finish(method: string, checksum: string): Promise<void> {
    if (this.#record) {
      replaceFile(this.files, this.directory, this.name, this.#record);
      return;
    }
    if (this.#fd === NO_FD) throw new HttpError(409, `${this.name} was not opened`);
    await this.sync();
    this.abandon();
    this.files.syncDirectory(this.directory);
    if (method !== CHECKSUM_METHOD || !/^[0-9a-f]{16}$/.test(checksum)) return;
    writeChecksum(this.files, this.directory, this.name, {
      method,
      checksum,
      changeTime: changeTime(this.files, this.directory, this.name),
      lastHashedAt: "",
      silentlyCorrupted: false,
      unknown: {},
    });
  }

  /** Ends, whatever is in it. Nothing is written to it any more. */
  abandon(): void {
    for (const fd of [this.#fd, this.#direct]) if (fd !== NO_FD) this.queue.forget(fd);
    for (const fd of [this.#fd, this.#direct]) if (fd !== NO_FD) this.files.close(fd);
    this.#fd = this.#direct = NO_FD;
  }
}
