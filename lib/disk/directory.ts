/**
 * A replica directory while it is not open: what state it is in, creating it, and finding its head when
 * `volume.meta` was lost.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import { FILE_MODE, replaceFile } from "./atomic.ts";
import { newDiskRecord } from "./disk_record.ts";
import { type DiskSet, readDiskSet } from "./disk_set.ts";
import { ChainError, MetadataError, ReplicaStateError, UnsupportedFileSystemError } from "./errors.ts";
import { headName, headNumber, IMAGE_SUFFIX, snapshotName, VOLUME_META } from "./names.ts";
import { isFull, replaceFromSpare } from "./spare.ts";
import {
  decodeVolumeMeta,
  type DroverRecord,
  encodeVolumeMeta,
  isEmptyMeta,
  newVolumeMeta,
  type VolumeMeta,
  volumeSizeProblem,
} from "./volume_meta.ts";

/** Mode of a replica directory. */
const DIRECTORY_MODE = 0o700;
/** Longest `volume.meta` that is read, bytes. */
const MAX_META_BYTES = 1024 * 1024;

/** States of a directory that is not open. */
export type ClosedState = "initial" | "closed" | "error";

/** What can be told about a directory without opening it. */
export interface Inspection {
  /** `initial`: no replica here yet; `closed`: one that can be opened; `error`: `volume.meta` is unreadable or notes a fault. */
  readonly state: ClosedState;
  /** Content of `volume.meta`, when it is readable. */
  readonly meta?: VolumeMeta;
  /** Why `volume.meta` is unreadable. */
  readonly error?: MetadataError | IoError;
}

/** How to create a replica. */
export interface CreateOptions {
  /** Size of the volume, bytes, a multiple of 512. */
  readonly size: number;
  /** Path of the backing file. */
  readonly backingFile?: string | undefined;
  /** The volume is encrypted by its user. */
  readonly encrypted?: boolean | undefined;
  /** Drover's own part of `volume.meta`. */
  readonly drover?: DroverRecord | undefined;
}

/** Reads `volume.meta`. @returns undefined when it is missing or empty @throws {IoError} {@linkcode MetadataError} */
export function readVolumeMeta(files: Files, directory: string): VolumeMeta | undefined {
  const path = `${directory}/${VOLUME_META}`;
  let bytes: Uint8Array;
  try {
    bytes = files.readWhole(path, MAX_META_BYTES);
  } catch (error) {
    if (error instanceof IoError && error.errno === Errno.ENOENT) return undefined;
    throw error;
  }
  return isEmptyMeta(bytes) ? undefined : decodeVolumeMeta(path, bytes);
}

/** Replaces `volume.meta`, durably; on a full disk with the space that is set aside. @throws {IoError} */
export function writeVolumeMeta(files: Files, directory: string, meta: VolumeMeta): void {
  const content = encodeVolumeMeta(meta);
  try {
    replaceFile(files, directory, VOLUME_META, content);
  } catch (error) {
    if (!isFull(error) || !replaceFromSpare(files, directory, VOLUME_META, content)) throw error;
  }
}

/** Tells state and size of a directory without opening it, and without waiting for who has it open. */
export function inspect(files: Files, directory: string): Inspection {
  try {
    const meta = readVolumeMeta(files, directory);
    if (!meta) return { state: "initial" };
    return { state: meta.error === "" ? "closed" : "error", meta };
  } catch (error) {
    if (error instanceof MetadataError || error instanceof IoError) return { state: "error", error };
    throw error;
  }
}

/** Creates a directory and makes its name durable. @throws {IoError} */
export function makeReplicaDirectory(files: Files, directory: string): void {
  if (files.exists(directory)) return;
  files.makeDirectory(directory, DIRECTORY_MODE);
  files.syncDirectory(directory.replace(/\/+[^/]+\/*$/, "") || "/");
}

/**
 * Creates a replica in a locked directory that is `initial`: the head, its record, and last `volume.meta`, which
 * makes it a replica. A crash before that leaves the directory `initial`, and creating it again succeeds.
 * Disks that are there already are adopted, as Longhorn does.
 *
 * @param now wall-clock time as records hold it
 * @throws {IoError}
 * @throws {UnsupportedFileSystemError}
 * @throws {ReplicaStateError} when there is data that no record belongs to
 */
export function createReplica(files: Files, directory: string, options: CreateOptions, now: string): void {
  const problem = volumeSizeProblem(options.size);
  if (problem) throw new ReplicaStateError(`cannot create replica ${directory}: ${problem}`);
  const names = files.list(directory);
  const set = readDiskSet(files, directory, names);
  let meta: VolumeMeta;
  if (findHead(files, directory, names, set) !== undefined) {
    meta = recoverVolumeMeta(files, directory, names, set, options.size);
  } else {
    refuseStrayData(files, directory, names);
    const head = headName(0);
    createHead(files, directory, head, options.size);
    set.write(files, newDiskRecord(head, "", now));
    meta = newVolumeMeta(options.size, head);
  }
  writeVolumeMeta(files, directory, {
    ...meta,
    backingFilePath: options.backingFile ?? "",
    encrypted: options.encrypted ?? false,
    drover: options.drover,
  });
}

function refuseStrayData(files: Files, directory: string, names: readonly string[]): void {
  for (const name of names) {
    if (name.endsWith(IMAGE_SUFFIX) && files.stat(`${directory}/${name}`).allocated > 0) {
      throw new ReplicaStateError(
        `cannot create replica ${directory}: ${name} has data but no record; move it away or delete it first`,
      );
    }
  }
}

/**
 * Creates the sparse file of a head and checks that its file system can tell data from holes.
 * @throws {IoError} @throws {UnsupportedFileSystemError}
 */
export function createHead(files: Files, directory: string, name: string, size: number): void {
  const path = `${directory}/${name}`;
  const fd = files.open(path, { write: true, create: FILE_MODE, truncate: true });
  try {
    requireExtents(files, directory, fd);
    files.truncate(fd, size);
    files.sync(fd);
  } catch (error) {
    files.close(fd);
    files.unlink(path);
    throw error;
  }
  files.close(fd);
}

/** Checks that a file's extents can be listed. @throws {UnsupportedFileSystemError} @throws {IoError} */
export function requireExtents(files: Files, directory: string, fd: number): void {
  try {
    files.extents(fd, 0, 4096);
  } catch (cause) {
    if (!(cause instanceof IoError) || cause.errno !== Errno.EOPNOTSUPP) throw cause;
    throw new UnsupportedFileSystemError(
      directory,
      "its file system cannot list the extents of a file (FIEMAP), as tmpfs and NFS cannot: " +
        "put the directory on ext4 or XFS",
      { cause },
    );
  }
}

/**
 * The state of a directory whose `volume.meta` is missing or empty, from its disks.
 *
 * @param size size of the volume, bytes; by default that of the head's file
 * @throws {ChainError} when no head can be found
 */
export function recoverVolumeMeta(
  files: Files,
  directory: string,
  names: readonly string[],
  set: DiskSet,
  size?: number,
): VolumeMeta {
  const head = findHead(files, directory, names, set);
  if (head === undefined) throw new ChainError(directory, "no replica here (no volume.meta and no head)");
  const bytes = size ?? files.stat(`${directory}/${head}`).size;
  const problem = volumeSizeProblem(bytes);
  if (problem) throw new ChainError(directory, `volume.meta is lost, and the head's ${problem}`);
  return { ...newVolumeMeta(bytes, head), dirty: true, parent: set.get(head)?.parent ?? "" };
}

/**
 * The head, without `volume.meta`: the first head, by name, whose chain is complete, preferably one whose file is
 * not a snapshot's already. (After a crash in the middle of a snapshot there may be two heads: the new one counts
 * once the snapshot is complete, the old one before.)
 */
function findHead(
  files: Files,
  directory: string,
  names: readonly string[],
  set: DiskSet,
): string | undefined {
  const inodes = new Set<bigint>();
  for (const name of names) {
    if (name.endsWith(IMAGE_SUFFIX) && snapshotName(name) !== undefined) {
      inodes.add(files.stat(`${directory}/${name}`).inode);
    }
  }
  const heads = names.filter((name) => headNumber(name) !== undefined && set.get(name) && isComplete(name));
  return heads.find((name) => !inodes.has(files.stat(`${directory}/${name}`).inode)) ?? heads[0];

  function isComplete(head: string): boolean {
    try {
      return set.chain(head).every((disk) => names.includes(disk));
    } catch (error) {
      if (error instanceof ChainError) return false;
      throw error;
    }
  }
}
