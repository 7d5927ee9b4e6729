/**
 * Opening the files of a replica: the live chain, the backing file, and what has to be put right in the head
 * after an unclean stop.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import { type BackingFile, openBacking } from "./backing.ts";
import { requireExtents } from "./directory.ts";
import { ChainError, UnsupportedFileSystemError } from "./errors.ts";
import { Layers } from "./layers.ts";

/** Extents are asked for in steps of this many bytes, so that one answer stays small. */
const SCAN_BYTES = 1024 * 1024 * 1024;

/** How to open the files. */
export interface ChainOptions {
  /** The replica directory. */
  readonly directory: string;
  /** The live chain, the head first. */
  readonly chain: readonly string[];
  /** Size of the volume, bytes. */
  readonly size: number;
  /** Use O_DIRECT. */
  readonly direct: boolean;
  /** Path of the backing file, or "". */
  readonly backingFile: string;
  /** The replica was not closed cleanly. */
  readonly unclean: boolean;
}

/** An opened chain. */
export interface OpenedChain {
  /** The files, the oldest (or the backing file) first. */
  readonly layers: Layers;
  /** The backing file, if there is one. */
  readonly backing: BackingFile | undefined;
}

/**
 * Opens all files of a chain. Nothing stays open when it throws.
 *
 * @throws {ChainError} {@linkcode UnsupportedFileSystemError} {@linkcode BackingFileError} {@linkcode IoError}
 */
export function openChain(files: Files, options: ChainOptions): OpenedChain {
  const layers = new Layers();
  let backing: BackingFile | undefined;
  try {
    if (options.backingFile !== "") {
      backing = openBacking(files, options.backingFile, options.direct, options.size);
      layers.push(backing.path, backing.fd, true, backing.image);
    }
    for (let i = options.chain.length - 1; i >= 0; i--) {
      layers.push(options.chain[i], openDisk(files, options, options.chain[i]));
    }
    prepareHead(files, options, layers.head.fd);
    return { layers, backing };
  } catch (error) {
    closeAll(files, layers);
    throw error;
  }
}

/** Closes every file of a chain. */
export function closeAll(files: Files, layers: Layers): void {
  for (const fd of layers.descriptors()) files.close(fd);
}

/** Opens the file of one disk. @throws {ChainError} {@linkcode UnsupportedFileSystemError} {@linkcode IoError} */
export function openDisk(
  files: Files,
  options: Pick<ChainOptions, "directory" | "direct">,
  disk: string,
): number {
  const path = `${options.directory}/${disk}`;
  try {
    return files.open(path, { write: true, direct: options.direct });
  } catch (cause) {
    if (cause instanceof IoError && cause.errno === Errno.ENOENT) {
      throw new ChainError(options.directory, `${disk} is missing, although its record is there`, { cause });
    }
    if (cause instanceof IoError && cause.errno === Errno.EINVAL && options.direct) {
      throw new UnsupportedFileSystemError(
        options.directory,
        "its file system has no direct I/O (O_DIRECT): use cached I/O, or put the directory on ext4 or XFS",
        { cause },
      );
    }
    throw cause;
  }
}

function prepareHead(files: Files, options: ChainOptions, fd: number): void {
  requireExtents(files, options.directory, fd);
  // A crash may have left the file of a new head shorter; what is missing are zeros.
  if (files.fstat(fd).size < options.size) {
    files.truncate(fd, options.size);
    files.sync(fd);
  }
  if (options.unclean) punchUnwritten(files, fd, options.size);
}

/**
 * Gives back space of a file that is allocated but was never written. A power failure leaves it where a write
 * was under way; Longhorn would take it for data (zeros) where the data of a snapshot should show.
 *
 * @returns bytes given back
 * @throws {IoError}
 */
export function punchUnwritten(files: Files, fd: number, size: number): number {
  let punched = 0;
  for (let start = 0; start < size; start += SCAN_BYTES) {
    const end = Math.min(size, start + SCAN_BYTES);
    for (const extent of files.extents(fd, start, end - start)) {
      if (!extent.unwritten) continue;
      const from = Math.max(extent.offset, start), to = Math.min(extent.offset + extent.length, end);
      if (to <= from) continue;
      files.punchHole(fd, from, to - from);
      punched += to - from;
    }
  }
  if (punched > 0) files.sync(fd);
  return punched;
}
