/**
 * Loading a replica directory: its state, its records, its live chain.
 *
 * @module
 */
import type { Files } from "../io/files.ts";
import { readVolumeMeta, recoverVolumeMeta } from "./directory.ts";
import { newDiskRecord } from "./disk_record.ts";
import { type DiskSet, readDiskSet } from "./disk_set.ts";
import type { MetadataError } from "./errors.ts";
import { removeLeftovers } from "./leftovers.ts";
import { VOLUME_META } from "./names.ts";
import type { VolumeMeta } from "./volume_meta.ts";

/** What the caller knows better than the directory. */
export interface LoadOptions {
  /** Path of the backing file; default: what `volume.meta` says. */
  readonly backingFile?: string | undefined;
  /** Size of the volume, bytes; only used when `volume.meta` was lost. */
  readonly size?: number | undefined;
}

/** What was read from a directory. */
export interface Loaded {
  /** State of the replica; still to be written when {@linkcode Loaded.rewrite} is true. */
  readonly meta: VolumeMeta;
  /** Records of all disks. */
  readonly set: DiskSet;
  /** The live chain, the head first. */
  readonly chain: readonly string[];
  /** `volume.meta` has to be written. */
  readonly rewrite: boolean;
  /** What was out of order, for the log. */
  readonly notes: readonly string[];
}

/**
 * Reads a locked directory, and puts right what a crash left in its names and records.
 *
 * @throws {MetadataError} @throws {ChainError} @throws {IoError}
 */
export function loadDirectory(files: Files, directory: string, options: LoadOptions): Loaded {
  const notes: string[] = [];
  const names = files.list(directory);
  const set = readDiskSet(files, directory, names);
  let meta = readVolumeMeta(files, directory), rewrite = false;
  if (meta) {
    restoreHeadRecord(files, set, meta, notes);
  } else {
    meta = recoverVolumeMeta(files, directory, names, set, options.size);
    rewrite = true;
    notes.push(`${VOLUME_META} was lost; made again with head ${meta.head}`);
  }
  const chain = set.chain(meta.head);
  for (const name of removeLeftovers(files, directory, names, set, chain)) {
    notes.push(`removed leftover ${name}`);
  }
  for (const error of set.broken.values()) notes.push(`ignored: ${error.message}`);
  const parent = set.get(meta.head)?.parent ?? "";
  const backingFilePath = options.backingFile ?? meta.backingFilePath;
  if (parent !== meta.parent || backingFilePath !== meta.backingFilePath) {
    meta = { ...meta, parent, backingFilePath };
    rewrite = true;
  }
  return { meta, set, chain, rewrite, notes };
}

/** A power failure may have emptied the head's record; all that matters of it is in `volume.meta`, too. */
function restoreHeadRecord(files: Files, set: DiskSet, meta: VolumeMeta, notes: string[]): void {
  const broken: MetadataError | undefined = set.broken.get(meta.head);
  if (set.get(meta.head) || (broken && broken.problem !== "is empty")) return;
  if (!files.exists(`${set.directory}/${meta.head}`)) return;
  set.write(files, newDiskRecord(meta.head, meta.parent, ""));
  notes.push(`the record of ${meta.head} was lost; made again from ${VOLUME_META}`);
}
