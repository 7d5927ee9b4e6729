/**
 * A file that takes a restore or the difference of two backups.
 *
 * A block goes to its place in one call. Every now and then what came so far is synced, in a thread of the runtime's
 * beside those that bring blocks: so little is left for the sync at the end, and nobody waits for one before.
 *
 * @module
 */
import { FilesLibc } from "../io/files_libc.ts";
import type { BlockSink } from "./source.ts";

const MODE = 0o600;
/** After so many bytes what came is synced, if the last such sync has ended. */
const EARLY_BYTES = 64 * 1024 ** 2;
/** Zeros, for ranges that must not be holes. */
const ZEROS = new Uint8Array(1024 ** 2);

/** What a sink in a file may be told. */
export interface FileSinkOptions {
  /** Cuts what the file held before. */
  readonly fresh?: boolean;
  /** Where in the file a block lies that belongs at an offset of the volume. Default: there. */
  readonly place?: (offset: number) => number;
}

/** See the module text. Zeros are written as zeros, so a hole means: as below, or as before. */
export class FileSink implements BlockSink {
  readonly #files = new FilesLibc();
  readonly #fd: number;
  readonly #place: (offset: number) => number;
  /** The same file, for syncs: from the beginning, so that it hears of every failure to write. */
  readonly #synced: Deno.FsFile;
  #unsynced = 0;
  #syncing: Promise<void> | undefined;
  /** Why an early sync failed. */
  #failure: unknown;

  /** Opens or makes the file, with this size. @throws {IoError} */
  constructor(
    path: string,
    bytes: number,
    { fresh = false, place = (offset) => offset }: FileSinkOptions = {},
  ) {
    this.#place = place;
    this.#fd = this.#files.open(path, { write: true, create: MODE, truncate: fresh });
    try {
      this.#files.truncate(this.#fd, bytes);
      this.#synced = Deno.openSync(path, { write: true });
    } catch (error) {
      this.#files.close(this.#fd);
      throw error;
    }
  }

  /** Writes at a place in the file. @throws {IoError} */
  writeAt(place: number, data: Uint8Array): void {
    this.#files.writeAt(this.#fd, data, place);
    this.#unsynced += data.length;
    if (this.#unsynced < EARLY_BYTES || this.#syncing !== undefined) return;
    this.#unsynced = 0;
    this.#syncing = this.#synced.syncData().catch((error) => this.#failure ??= error).finally(() =>
      this.#syncing = undefined
    );
  }

  /** See {@linkcode BlockSink}. */
  write(offset: number, data: Uint8Array): Promise<void> {
    try {
      this.writeAt(this.#place(offset), data);
      return Promise.resolve();
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** See {@linkcode BlockSink}. */
  async zero(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZEROS.length) {
      await this.write(offset + done, ZEROS.subarray(0, Math.min(ZEROS.length, length - done)));
    }
  }

  /** See {@linkcode BlockSink}. */
  async flush(): Promise<void> {
    await this.#syncing;
    // The kernel tells a failure once: to whoever asks first.
    if (this.#failure !== undefined) throw this.#failure;
    await this.#synced.sync();
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#files.close(this.#fd);
    this.#synced.close();
  }
}
