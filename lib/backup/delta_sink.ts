/**
 * A file that takes a restore or the difference of two backups. Zeros are written as zeros, so a hole means: as below,
 * or as before.
 *
 * @module
 */
import type { Files } from "../io/files.ts";
import type { BlockSink } from "./source.ts";

const MODE = 0o600;
/** Zeros, for ranges that must not be holes. */
const ZEROS = new Uint8Array(1024 ** 2);

/** See the module text. */
export class DeltaSink implements BlockSink {
  readonly #files: Files;
  readonly #fd: number;

  /** Opens or makes the file, with this size. @throws {IoError} */
  constructor(files: Files, path: string, bytes: number) {
    this.#files = files;
    this.#fd = files.open(path, { write: true, create: MODE });
    files.truncate(this.#fd, bytes);
  }

  /** See {@linkcode BlockSink}. */
  write(offset: number, data: Uint8Array): Promise<void> {
    this.#files.writeAt(this.#fd, data, offset);
    return Promise.resolve();
  }

  /** See {@linkcode BlockSink}. */
  zero(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZEROS.length) {
      this.#files.writeAt(this.#fd, ZEROS.subarray(0, Math.min(ZEROS.length, length - done)), offset + done);
    }
    return Promise.resolve();
  }

  /** See {@linkcode BlockSink}. */
  flush(): Promise<void> {
    this.#files.sync(this.#fd);
    return Promise.resolve();
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#files.close(this.#fd);
  }
}
