/**
 * Load on a file or a block device of this machine, without any protocol: what the disk itself gives.
 *
 * @module
 */
import { basename } from "node:path";
import { IoError } from "../io/errno.ts";
import type { Completer, Deferred, Io } from "../io/io.ts";
import { BenchError, type Target, type TargetOwner } from "./target.ts";

/** Sizes in /sys/class/block are in these, whatever the device's blocks are. */
const SYSFS_SECTOR_BYTES = 512;

/** How to open the file. */
export interface FileTargetOptions {
  /** Open for writing. */
  readonly write: boolean;
  /** Past the page cache (O_DIRECT). Block size and range must then be multiples of the disk's sectors. */
  readonly direct: boolean;
}

/** See the module text. */
export class FileTarget implements Target, Completer, Deferred {
  /** See {@linkcode Target}. */
  bytes = 0;
  #fd = -1;

  /** Opens nothing yet. */
  constructor(
    readonly io: Io,
    readonly index: number,
    readonly path: string,
    readonly options: FileTargetOptions,
    readonly owner: TargetOwner,
  ) {}

  /** See {@linkcode Target}. */
  open(): void {
    try {
      this.#fd = this.io.files.open(this.path, this.options);
      const { kind, size } = this.io.files.fstat(this.#fd);
      this.bytes = kind === "file" ? size : deviceBytes(this.path);
    } catch (cause) {
      if (!(cause instanceof IoError)) throw cause;
      throw new BenchError(cause.message, { cause });
    }
    this.io.defer(this);
  }

  /** Tells the owner that it can begin, or that it is over. */
  runDeferred(): void {
    if (this.#fd >= 0) this.owner.onReady(this);
    else this.owner.onEnded(this, undefined);
  }

  /** See {@linkcode Target}. */
  submit(write: boolean, offset: number, length: number, at: number, tag: number): void {
    if (write) this.io.write(this.#fd, at, length, offset, this, tag);
    else this.io.read(this.#fd, at, length, offset, this, tag);
  }

  /** The end of an operation. */
  complete(tag: number, result: number): void {
    this.owner.onDone(this, tag, result, "");
  }

  /** See {@linkcode Target}. */
  close(): void {
    this.io.files.close(this.#fd);
    this.#fd = -1;
    this.io.defer(this);
  }
}

/** Size of a block device, bytes. @throws {BenchError} when the path leads to something else */
function deviceBytes(path: string): number {
  try {
    const name = basename(Deno.realPathSync(path));
    return Number(Deno.readTextFileSync(`/sys/class/block/${name}/size`)) * SYSFS_SECTOR_BYTES;
  } catch (cause) {
    throw new BenchError(`${path} is neither a file nor a block device`, { cause });
  }
}
