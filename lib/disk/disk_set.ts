/**
 * The disks of a replica: their records and how they hang together. Disks form trees; the line from the head to
 * its oldest ancestor is the live chain, everything else is a branch that a revert or a crash left behind.
 *
 * @module
 */
import type { Files } from "../io/files.ts";
import { replaceFile } from "./atomic.ts";
import { decodeDiskRecord, type DiskRecord, encodeDiskRecord } from "./disk_record.ts";
import { ChainError, MetadataError } from "./errors.ts";
import { MAX_CHAIN } from "./layers.ts";
import { diskNameProblem, IMAGE_SUFFIX, META_SUFFIX } from "./names.ts";
import { isEmptyMeta } from "./volume_meta.ts";

/** Longest record that is read, bytes: labels are small. */
export const MAX_RECORD_BYTES = 1024 * 1024;

/** The records of a directory. */
export class DiskSet {
  readonly #records = new Map<string, DiskRecord>();
  readonly #broken = new Map<string, MetadataError>();

  /** An empty set for a directory. */
  constructor(readonly directory: string) {}

  /** All records, by file name of the disk. */
  get records(): ReadonlyMap<string, DiskRecord> {
    return this.#records;
  }

  /** Records that cannot be used. Only fatal when the live chain needs one. */
  get broken(): ReadonlyMap<string, MetadataError> {
    return this.#broken;
  }

  /** The record of a disk, if there is one. */
  get(disk: string): DiskRecord | undefined {
    return this.#records.get(disk);
  }

  /** Adds or replaces a record, in memory only. */
  put(record: DiskRecord): void {
    this.#records.set(record.name, record);
    this.#broken.delete(record.name);
  }

  /** Forgets a record, in memory only. */
  delete(disk: string): void {
    this.#records.delete(disk);
    this.#broken.delete(disk);
  }

  /** Takes over what another set of the same directory knows. */
  become(other: DiskSet): void {
    this.#records.clear();
    this.#broken.clear();
    for (const [disk, record] of other.records) this.#records.set(disk, record);
    for (const [disk, error] of other.broken) this.#broken.set(disk, error);
  }

  /** Notes that a disk's record cannot be used. */
  putBroken(disk: string, error: MetadataError): void {
    this.#broken.set(disk, error);
  }

  /** Replaces a record on disk, durably, and in memory. @throws {IoError} memory is unchanged then */
  write(files: Files, record: DiskRecord): void {
    replaceFile(files, this.directory, record.name + META_SUFFIX, encodeDiskRecord(record));
    this.put(record);
  }

  /** Disks whose parent is the one given. */
  children(disk: string): string[] {
    const result: string[] = [];
    for (const record of this.#records.values()) {
      if (record.parent === disk) result.push(record.name);
    }
    return result;
  }

  /**
   * The live chain, from the head to the oldest disk.
   * @throws {ChainError} when a disk is missing, named twice, or there are too many
   */
  chain(head: string): string[] {
    const chain: string[] = [], seen = new Set<string>();
    for (
      let disk = head, child = "";
      disk !== "";
      child = disk, disk = this.#records.get(disk)?.parent ?? ""
    ) {
      const broken = this.#broken.get(disk);
      if (broken) throw new ChainError(this.directory, broken.message, { cause: broken });
      if (!this.#records.has(disk)) {
        const wanted = child === "" ? "the head" : `the parent of ${child}`;
        throw new ChainError(this.directory, `${disk}${META_SUFFIX} is missing, and ${disk} is ${wanted}`);
      }
      if (seen.has(disk)) throw new ChainError(this.directory, `${disk} is its own ancestor`);
      if (chain.length === MAX_CHAIN) {
        throw new ChainError(
          this.directory,
          `more than ${MAX_CHAIN} disks in the live chain: purge snapshots first`,
        );
      }
      seen.add(disk);
      chain.push(disk);
    }
    return chain;
  }
}

/**
 * Reads every disk record of a directory.
 *
 * @param names the directory's list
 * @throws {IoError}
 */
export function readDiskSet(files: Files, directory: string, names: readonly string[]): DiskSet {
  const set = new DiskSet(directory);
  for (const name of names) {
    if (!name.endsWith(IMAGE_SUFFIX + META_SUFFIX)) continue;
    const disk = name.slice(0, -META_SUFFIX.length), path = `${directory}/${name}`;
    try {
      const bytes = files.readWhole(path, MAX_RECORD_BYTES);
      const problem = diskNameProblem(disk) ?? (isEmptyMeta(bytes) ? "is empty" : undefined);
      if (problem) throw new MetadataError(path, problem);
      set.put(decodeDiskRecord(path, disk, bytes));
    } catch (error) {
      if (!(error instanceof MetadataError)) throw error;
      set.putBroken(disk, error);
    }
  }
  return set;
}
