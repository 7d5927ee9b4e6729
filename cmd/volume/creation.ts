/**
 * The record of a volume before it is served: that of a new one, and whether that of one that exists is what was
 * asked for.
 *
 * @module
 */
import { readVolumeMeta } from "../../lib/disk/directory.ts";
import { fileSystemType, GOOD_FILE_SYSTEMS } from "../../lib/host/filesystem.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";
import { whyNotUsable } from "../support/probes.ts";
import { UsageError } from "../support/program.ts";
import { formatSize, parseSize } from "../support/sizes.ts";
import { directoriesOf, MAX_REPLICAS, placeReplicas, type VolumeRecord } from "./record.ts";

/** What the command line says about a new volume. */
export interface CreationFlags {
  /** Size, as written. */
  readonly size?: string;
  /** Copies, as written. */
  readonly replicas?: string;
  /** Its copies do not count their writes. */
  readonly disableRevisionCounter: boolean;
}

const DEFAULT_REPLICAS = 3;
/** Blocks of file systems and pages of memory: sizes are multiples of it, bytes. */
const BLOCK_BYTES = 4096;

/** The record of a new volume. @throws {UsageError} */
export function newRecord(name: string, flags: CreationFlags, directories: readonly string[]): VolumeRecord {
  if (flags.size === undefined) {
    throw new UsageError(
      `volume ${name} does not exist in ${directories.join(", ")}; to make it, add for example --size 10GiB`,
    );
  }
  const bytes = parseSize(flags.size);
  if (bytes === 0 || bytes % BLOCK_BYTES !== 0) {
    const next = (Math.floor(bytes / BLOCK_BYTES) + 1) * BLOCK_BYTES;
    throw new UsageError(
      `--size ${flags.size}: expected a multiple of ${BLOCK_BYTES} bytes; the next is ${next}`,
    );
  }
  const count = Number(flags.replicas ?? DEFAULT_REPLICAS);
  if (!Number.isInteger(count) || count < 1 || count > MAX_REPLICAS) {
    throw new UsageError(`--replicas ${flags.replicas}: expected 1 to ${MAX_REPLICAS}`);
  }
  return {
    format: 1,
    name,
    bytes,
    created: new Date().toISOString(),
    state: "creating",
    revisionCounter: !flags.disableRevisionCounter,
    replicas: placeReplicas(name, count, directories),
  };
}

/** A volume is not what the command line says: better an error than a surprise. @throws {UsageError} */
export function checkSame(record: VolumeRecord, flags: CreationFlags): void {
  if (flags.size !== undefined && parseSize(flags.size) !== record.bytes) {
    throw new UsageError(
      `--size ${flags.size}: volume ${record.name} has ${formatSize(record.bytes)}; leave --size out`,
    );
  }
  if (flags.replicas !== undefined && Number(flags.replicas) !== record.replicas.length) {
    throw new UsageError(
      `--replicas ${flags.replicas}: volume ${record.name} was made with ${record.replicas.length}; ` +
        `leave --replicas out`,
    );
  }
}

/** Makes the directories of a new volume, and refuses places where it cannot or should not be. @throws {UsageError} */
export function prepareDirectories(record: VolumeRecord): void {
  for (const directory of directoriesOf(record)) {
    prepareDirectory(directory);
  }
  for (const { directory } of record.replicas) {
    if (exists(directory)) {
      throw new UsageError(
        `${directory} is there already, but no volume ${record.name} is recorded beside it; ` +
          `move it away or choose another name`,
      );
    }
  }
}

/** Makes a directory that is to hold copies. @throws {UsageError} when it cannot */
export function prepareDirectory(directory: string): void {
  Deno.mkdirSync(directory, { recursive: true });
  // What counts is whether it works: not every good file system is known by name.
  const problem = whyNotUsable(directory);
  if (problem === undefined) return;
  if (/ENOSPC|EDQUOT/.test(problem)) {
    throw new UsageError(`--dir ${directory}: there is no space left (${problem}); name another with --dir`);
  }
  if (/EACCES|EPERM|EROFS/.test(problem)) {
    throw new UsageError(`--dir ${directory}: it cannot be written to (${problem}); name another with --dir`);
  }
  throw new UsageError(
    `--dir ${directory}: it is on ${fileSystemType(directory)}, which cannot hold copies (${problem}); ` +
      `use a directory on ${GOOD_FILE_SYSTEMS.join(", ")}`,
  );
}

/** Whether there is anything with that name. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** What the loss of one disk would mean; undefined when each copy has its own file system. */
export function sharedFileSystems(record: VolumeRecord): string | undefined {
  const byDevice = new Map<number, number>();
  for (const { directory } of record.replicas) {
    const parent = directory.slice(0, directory.lastIndexOf("/")) || "/";
    if (!exists(parent)) continue;
    const { dev } = Deno.statSync(parent);
    byDevice.set(dev, (byDevice.get(dev) ?? 0) + 1);
  }
  const most = Math.max(0, ...byDevice.values());
  if (most < 2) return undefined;
  return `${most} of ${record.replicas.length} copies share one file system: they protect against crashes of ` +
    `processes, not against its loss. Give --dir a directory on each disk.`;
}

/**
 * The record of a volume that was expanded by a command that did not live to write it down: the copies know.
 *
 * @returns the record itself where it is right
 */
export function grownRecord(record: VolumeRecord): VolumeRecord {
  const files = new FilesLibc(), sizes = new Set<number>();
  for (const { directory } of record.replicas) {
    try {
      const meta = readVolumeMeta(files, directory);
      if (meta) sizes.add(meta.size);
    } catch {
      // What cannot be read says nothing; the start reports it.
    }
  }
  const [bytes] = sizes;
  return sizes.size === 1 && bytes !== undefined && bytes > record.bytes ? { ...record, bytes } : record;
}
