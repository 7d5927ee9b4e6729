/**
 * A raw image file or a block device as what a backup is made of: for disks that are no volume yet.
 *
 * Holes of a file are left out. There are no snapshots, so every backup of an image is complete; blocks that the
 * target has are not uploaded again.
 *
 * @module
 */
import { type BlockSource, type Extent, SOURCE_UNIT } from "../backup/source.ts";
import { FilesLibc } from "../io/files_libc.ts";
import { Errno, IoError } from "../io/errno.ts";

/** Bytes looked at with one question for the extents of a file. */
const WINDOW_BYTES = 1024 ** 3;

/** See the module text. Dispose it. */
export class ImageSource implements BlockSource {
  /** Size of the image, rounded up to whole blocks; what is behind its end reads as zeros. */
  readonly bytes: number;
  readonly #files = new FilesLibc();
  readonly #fd: number;
  readonly #end: number;

  /**
   * Opens an image for reading.
   *
   * @param blockBytes size that the image is rounded up to a multiple of
   */
  constructor(path: string, blockBytes: number) {
    this.#end = sizeOf(path);
    this.#fd = this.#files.open(path);
    this.bytes = Math.ceil(this.#end / blockBytes) * blockBytes;
  }

  /** See {@linkcode BlockSource.read}. */
  read(offset: number, into: Uint8Array): void {
    let done = 0;
    while (done < into.length && offset + done < this.#end) {
      const got = this.#files.readAt(this.#fd, into.subarray(done), offset + done);
      if (got === 0) break;
      done += got;
    }
    into.fill(0, done);
  }

  /** See {@linkcode BlockSource.changed}: everything that is not a hole. */
  *changed(): Generator<Extent> {
    for (let from = 0; from < this.#end; from += WINDOW_BYTES) {
      const length = Math.min(WINDOW_BYTES, this.#end - from);
      for (const extent of this.#extents(from, length)) {
        const offset = Math.floor(extent.offset / SOURCE_UNIT) * SOURCE_UNIT;
        const end = Math.ceil((extent.offset + extent.length) / SOURCE_UNIT) * SOURCE_UNIT;
        yield { offset, length: end - offset };
      }
    }
  }

  #extents(offset: number, length: number): Extent[] {
    try {
      return this.#files.extents(this.#fd, offset, length).filter(({ unwritten }) => !unwritten);
    } catch (error) {
      // A block device, or a file system that does not tell.
      if (!(error instanceof IoError) || error.errno === Errno.EIO) throw error;
      return [{ offset, length }];
    }
  }

  /** There are no snapshots. */
  has(): boolean {
    return false;
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#files.close(this.#fd);
  }
}

/** Bytes of a file or block device. */
export function sizeOf(path: string): number {
  using file = Deno.openSync(path, { read: true });
  return file.seekSync(0, Deno.SeekMode.End);
}
