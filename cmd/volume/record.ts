/**
 * What is remembered of a volume of this machine: `NAME.volume.json` in each of its directories. All copies say
 * the same, so that any directory that survives is enough to find the others.
 *
 * | key               | meaning; what it guards against                                                     |
 * |-------------------|-------------------------------------------------------------------------------------|
 * | format            | 1; a later version's file is refused instead of half understood                      |
 * | name, bytes       | a start with another size by mistake                                                 |
 * | created           | RFC 3339, for people                                                                 |
 * | state             | `creating` until all copies were complete once: only then may empty ones be made     |
 * | revisionCounter   | whether the copies count their writes, as Longhorn's do by default                   |
 * | rebuild           | how copies are filled; absent: without a limit, a sample is read back                |
 * | replicas          | name and directory of each copy: a lost directory is missed, not made anew           |
 *
 * @module
 */
import { replaceFile } from "../../lib/disk/atomic.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";

/** Where one copy is. */
export interface ReplicaPlace {
  /** `VOLUME-r-N`. */
  readonly name: string;
  /** Absolute. */
  readonly directory: string;
}

/** How copies are filled. */
export interface RebuildSettings {
  /** Bytes per second that a rebuild may take; 0 = no limit. */
  readonly bytesPerSecond: number;
  /** Everything is read back at the end, and compared. */
  readonly verify: boolean;
}

/** See the module text. */
export interface VolumeRecord {
  /** Version of the file. */
  readonly format: 1;
  /** Of the volume. */
  readonly name: string;
  /** Size of the volume. */
  readonly bytes: number;
  /** RFC 3339. */
  readonly created: string;
  /** `ready`: all copies were complete once. */
  readonly state: "creating" | "ready";
  /** Copies count their writes. */
  readonly revisionCounter: boolean;
  /** How copies are filled, where that was chosen. */
  readonly rebuild?: RebuildSettings;
  /** The copies, 1 to 16. */
  readonly replicas: readonly ReplicaPlace[];
}

/** A record that cannot be used. */
export class RecordError extends Error {
  /** For checks. */
  override readonly name = "RecordError";
}

/** Largest record that is read, bytes. */
const MAX_BYTES = 64 * 1024;
const SUFFIX = ".volume.json";
/** Most copies of a volume: the engine's bound. */
export const MAX_REPLICAS = 16;

/** The parent of a path. */
export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** The directories that a volume uses, the first replica's first. */
export function directoriesOf(record: VolumeRecord): string[] {
  return [...new Set(record.replicas.map(({ directory }) => parentOf(directory)))];
}

/** Where the first directory keeps the log of a volume. */
export function logPath(record: VolumeRecord): string {
  return `${directoriesOf(record)[0]}/${record.name}.log`;
}

/** The name of the file with a volume's record. */
export function recordName(volume: string): string {
  return `${volume}${SUFFIX}`;
}

/** Spreads copies over directories in turn. */
export function placeReplicas(volume: string, count: number, directories: readonly string[]): ReplicaPlace[] {
  return Array.from({ length: count }, (_, index) => {
    const name = `${volume}-r-${index + 1}`;
    return { name, directory: `${directories[index % directories.length]}/${name}` };
  });
}

function isPlace(value: unknown): value is ReplicaPlace {
  if (typeof value !== "object" || value === null) return false;
  const { name, directory } = value as Partial<Record<keyof ReplicaPlace, unknown>>;
  return typeof name === "string" && typeof directory === "string" && directory.startsWith("/") &&
    directory.endsWith(`/${name}`) && /^[A-Za-z0-9_.-]+$/.test(name);
}

function parseRebuild(value: unknown): RebuildSettings | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { bytesPerSecond, verify } = value as Partial<Record<keyof RebuildSettings, unknown>>;
  if (typeof bytesPerSecond !== "number" || !Number.isSafeInteger(bytesPerSecond) || bytesPerSecond < 0) {
    return undefined;
  }
  return { bytesPerSecond, verify: verify === true };
}

/** How copies of a volume are filled. */
export function rebuildSettings({ rebuild }: VolumeRecord): RebuildSettings {
  return rebuild ?? { bytesPerSecond: 0, verify: false };
}

/** A record with other settings, as far as they are given. */
export function withRebuild(record: VolumeRecord, changes: Partial<RebuildSettings>): VolumeRecord {
  if (Object.keys(changes).length === 0) return record;
  const rebuild = { ...rebuildSettings(record), ...changes }, { rebuild: _, ...rest } = record;
  return rebuild.bytesPerSecond === 0 && !rebuild.verify ? rest : { ...rest, rebuild };
}

/** Checks what a file says. @throws {RecordError} */
export function parseRecord(path: string, text: string): VolumeRecord {
  const refuse = (what: string): never => {
    throw new RecordError(
      `${path}: ${what}; the copies themselves are not touched by this. Restore the file from ` +
        `another directory of the volume`,
    );
  };
  let value: Partial<Record<keyof VolumeRecord, unknown>>;
  try {
    value = JSON.parse(text);
  } catch {
    return refuse("is not JSON");
  }
  if (typeof value !== "object" || value === null) return refuse("is not an object");
  if (value.format !== 1) return refuse(`has format ${JSON.stringify(value.format)}; this version knows 1`);
  const { name, bytes, created, state, revisionCounter, rebuild, replicas } = value;
  if (typeof name !== "string" || !path.endsWith(`/${recordName(name)}`)) {
    return refuse("names another volume");
  }
  if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes <= 0) {
    return refuse("has no valid bytes");
  }
  if (state !== "creating" && state !== "ready") return refuse("has no valid state");
  if (
    !Array.isArray(replicas) || replicas.length < 1 || replicas.length > MAX_REPLICAS ||
    !replicas.every(isPlace)
  ) {
    return refuse("has no valid replicas");
  }
  return {
    format: 1,
    name,
    bytes,
    created: typeof created === "string" ? created : "",
    state,
    revisionCounter: revisionCounter === true,
    ...(rebuild === undefined ? {} : { rebuild: parseRebuild(rebuild) ?? refuse("has no valid rebuild") }),
    replicas: replicas.map(({ name, directory }: ReplicaPlace) => ({ name, directory })),
  };
}

/** The records of a name, one of each volume that has it, in the order of directories. @throws {RecordError} */
export function readRecords(volume: string, directories: readonly string[]): VolumeRecord[] {
  const found: VolumeRecord[] = [];
  for (const directory of directories) {
    const path = `${directory}/${recordName(volume)}`;
    try {
      if (Deno.statSync(path).size > MAX_BYTES) throw new RecordError(`${path}: too large to be a record`);
      const record = parseRecord(path, Deno.readTextFileSync(path));
      if (!found.some((one) => sameVolume(one, record))) found.push(record);
    } catch (error) {
      // What the first one that can be read says counts; one that is damaged matters where there is no other.
      if (!(error instanceof Deno.errors.NotFound) && found.length === 0) throw error;
    }
  }
  return found;
}

/** Whether two records with one name are of one volume: made at the same moment, or with a copy in common. */
function sameVolume(a: VolumeRecord, b: VolumeRecord): boolean {
  if (a.created !== "" && a.created === b.created) return true;
  return a.replicas.some(({ directory }) => b.replicas.some((one) => one.directory === directory));
}

/**
 * Reads a volume's record from the first directory that has one.
 *
 * @throws {RecordError} when it cannot be read, or when another directory has another volume of that name
 */
export function readRecord(volume: string, directories: readonly string[]): VolumeRecord | undefined {
  const found = readRecords(volume, directories);
  if (found.length < 2) return found[0];
  const places = found.map((record) => directoriesOf(record)[0]).join(" and ");
  throw new RecordError(`there are ${found.length} volumes ${volume}, in ${places}; say which with --dir`);
}

/** Writes a record, atomically and durably, into all of its directories that are there. */
export function writeRecord(record: VolumeRecord): void {
  const files = new FilesLibc();
  const bytes = new TextEncoder().encode(`${JSON.stringify(record, null, 2)}\n`);
  for (const directory of directoriesOf(record)) {
    if (files.exists(directory)) replaceFile(files, directory, recordName(record.name), bytes);
  }
}

/** Names of all volumes that have a record in one of the directories, sorted. */
export function listVolumes(directories: readonly string[]): string[] {
  const names = new Set<string>();
  for (const directory of directories) {
    try {
      for (const { name } of Deno.readDirSync(directory)) {
        if (name.endsWith(SUFFIX) && name.length > SUFFIX.length) names.add(name.slice(0, -SUFFIX.length));
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return [...names].sort();
}
