/**
 * A file that is sent: where it has data, and how that is read.
 *
 * | data | is read |
 * |---|---|
 * | in large pieces | past the page cache, several at a time, while what was read before is sent |
 * | in small pieces with small holes between | together with the holes, in one call; the disk is asked some batches before |
 * | else | piece by piece |
 *
 * @module
 */
import { isAligned } from "../../io/direct_write.ts";
import { Errno, IoError } from "../../io/errno.ts";
import type { FileOperation, FileQueue } from "../../io/file_queue.ts";
import { fetchAhead, readAhead } from "../../io/page_cache.ts";
import { type Batch, fileRuns, type Run, type SparseSource } from "./batches.ts";

/** Pieces of at least so many bytes bypass the page cache. */
const MIN_DIRECT_BYTES = 128 * 1024;
/** Holes up to so many bytes are read with the data around them: cheaper than another call. */
const BRIDGED_BYTES = 16 * 1024;
/** Most bytes of data and holes that are read in one call. */
const SPAN_BYTES = 256 * 1024;

/** See the module text. Dispose of it when nothing is under way any more. */
export class FileSource implements SparseSource, Disposable {
  readonly #fd: number;
  /** The same file past the page cache, where that is possible. */
  readonly #direct: number | undefined;
  #span: Uint8Array | undefined;

  /** Opens a file. @param queue of this thread @throws {IoError} */
  constructor(readonly queue: FileQueue, readonly path: string) {
    this.#fd = queue.files.open(path);
    try {
      this.size = queue.files.fstat(this.#fd).size;
      this.#direct = this.#openDirect();
    } catch (error) {
      queue.files.close(this.#fd);
      throw error;
    }
    readAhead(this.#fd);
  }

  /** See {@linkcode SparseSource.size}. */
  readonly size: number;

  #openDirect(): number | undefined {
    try {
      return this.queue.concurrent ? this.queue.files.open(this.path, { direct: true }) : undefined;
    } catch (error) {
      // A file system that cannot: everything goes through the page cache.
      if (error instanceof IoError && error.errno === Errno.EINVAL) return undefined;
      throw error;
    }
  }

  /** When its content or its attributes changed last, nanoseconds. @throws {IoError} */
  get changedNs(): bigint {
    return this.queue.files.fstat(this.#fd).changedNs;
  }

  /** See {@linkcode SparseSource.runs}. @throws {IoError} */
  runs(begin: number, end: number): Run[] {
    return fileRuns(this.queue.files, this.#fd, begin, end);
  }

  /** See {@linkcode SparseSource.read}. @throws {IoError} */
  read(into: Uint8Array, offset: number): void {
    const got = this.queue.files.readAt(this.#fd, into, offset);
    // The last block may end beyond the file.
    if (got < into.length) into.fill(0, got);
  }

  /** See {@linkcode SparseSource.begin}. @throws {IoError} */
  begin({ runs }: Batch, into: Uint8Array<ArrayBuffer>): FileOperation[] {
    const underWay: FileOperation[] = [];
    for (let index = 0, at = 0; index < runs.length;) {
      const { offset, length } = runs[index], piece = into.subarray(at, at + length);
      if (this.#direct !== undefined && length >= MIN_DIRECT_BYTES && isAligned(piece, offset)) {
        underWay.push(this.queue.read(this.#direct, piece, offset));
        at += length;
        index++;
        continue;
      }
      const last = lastOfSpan(runs, index);
      if (last === index) {
        this.read(piece, offset);
        at += length;
      } else at = this.#readSpan(runs.slice(index, last + 1), into, at);
      index = last + 1;
    }
    return underWay;
  }

  /** See {@linkcode SparseSource.announce}: many small pieces take a disk long, unless it has many at a time. */
  announce({ runs }: Batch): void {
    for (let index = 0; index < runs.length;) {
      const last = lastOfSpan(runs, index),
        { offset } = runs[index],
        end = runs[last].offset + runs[last].length;
      if (this.#direct === undefined || end - offset < MIN_DIRECT_BYTES || last > index) {
        fetchAhead(this.#fd, offset, end - offset);
      }
      index = last + 1;
    }
  }

  #readSpan(runs: readonly Run[], into: Uint8Array, at: number): number {
    const first = runs[0], last = runs[runs.length - 1];
    const span = (this.#span ??= new Uint8Array(SPAN_BYTES)).subarray(
      0,
      last.offset + last.length - first.offset,
    );
    this.read(span, first.offset);
    for (const { offset, length } of runs) {
      const from = offset - first.offset;
      into.set(span.subarray(from, from + length), at);
      at += length;
    }
    return at;
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    if (this.#direct !== undefined) {
      this.queue.forget(this.#direct);
      this.queue.files.close(this.#direct);
    }
    this.queue.files.close(this.#fd);
  }
}

/** The last of the runs that are read in one call with the one at an index. */
function lastOfSpan(runs: readonly Run[], index: number): number {
  const begin = runs[index].offset;
  let last = index;
  for (; last + 1 < runs.length; last++) {
    const before = runs[last], { offset, length } = runs[last + 1];
    if (offset - before.offset - before.length > BRIDGED_BYTES) break;
    if (offset + length - begin > SPAN_BYTES) break;
  }
  return last;
}
