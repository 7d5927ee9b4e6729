/**
 * `volume.meta`: the state of a replica. One JSON object and a newline, written by Drover and by Longhorn alike.
 *
 * | Key | Type | Meaning; what it guards against |
 * |---|---|---|
 * | Size | number | volume size, bytes |
 * | Head | string | file name of the active head: which of several heads is the live one after a crash |
 * | Dirty | bool | written to and not closed cleanly: unwritten extents and unequal peers are possible |
 * | Rebuilding | bool | a rebuild of this replica was begun and not ended: its content must not be served |
 * | Error | string | last fatal text |
 * | Parent | string | file name of the head's parent, or "" |
 * | SectorSize | number | 512; Size is a multiple of it |
 * | BackingFilePath | string | path of the backing file, or "" |
 * | Encrypted | bool | the volume is encrypted by its user; absent means false |
 * | Drover | object | see {@linkcode DroverRecord}; may be absent, Longhorn drops it when it rewrites the file |
 *
 * Keys that are not in this table are kept when the file is rewritten: they are of a newer version, and losing
 * them on a downgrade and back would lose a setting.
 *
 * @module
 */
import { MetadataError } from "./errors.ts";
import {
  asObject,
  booleanField,
  goFile,
  goObject,
  goString,
  goUnknown,
  goValue,
  integerField,
  type JsonObject,
  parseObject,
  stringField,
  stringsField,
  unknownKeys,
} from "./go_json.ts";
import { diskNameProblem } from "./names.ts";

/** Bytes of a sector: sizes of volumes and of backing files are multiples of it. */
export const SECTOR_BYTES = 512;
/** Largest volume, bytes (256 TiB): above every volume in use; bounds what a damaged file can claim. */
export const MAX_VOLUME_BYTES = 2 ** 48;

/**
 * In place of a boot: everything was synced at the last close. The copy may differ from others all the same, where
 * writes were under way; nothing that was completed is lost, whatever becomes of the machine.
 */
export const SYNCED_BOOT = "synced";

/** What Drover remembers about a replica beyond Longhorn's format. */
export interface DroverRecord {
  /** Identity of this copy, chosen at its creation. */
  readonly id: string;
  /** Counts starts of engines; an engine of an older generation is refused. */
  readonly generation: number;
  /** Counts changes of the set of copies within a generation: the newest record tells which copies are complete. */
  readonly revision: number;
  /**
   * The boot of the machine during which the record was written. After an unclean stop another boot means that
   * the machine lost what was not synced, while a copy on a machine that kept running lost nothing.
   * {@linkcode SYNCED_BOOT} is of every boot.
   */
  readonly boot: string;
  /** Identities of the copies that were in the set at this generation; at 0, of those that it was found beside. */
  readonly members: readonly string[];
  /** Keys of newer versions, written back as they were. */
  readonly unknown: JsonObject;
}

/** Content of `volume.meta`. */
export interface VolumeMeta {
  /** Size of the volume, bytes. */
  readonly size: number;
  /** File name of the active head. */
  readonly head: string;
  /** Written to and not closed cleanly. */
  readonly dirty: boolean;
  /** A rebuild was begun and not ended. */
  readonly rebuilding: boolean;
  /** Last fatal text, or "". */
  readonly error: string;
  /** File name of the head's parent, or "". */
  readonly parent: string;
  /** Bytes; the size is a multiple of it. */
  readonly sectorSize: number;
  /** Path of the backing file, or "". */
  readonly backingFilePath: string;
  /** The volume is encrypted by its user. */
  readonly encrypted: boolean;
  /** Drover's own part; absent in a directory that Longhorn wrote last. */
  readonly drover?: DroverRecord | undefined;
  /** Keys of newer versions, written back as they were. */
  readonly unknown: JsonObject;
}

/**
 * What is noted when everything is synced.
 *
 * @param clean the copy is equal to the others
 * @param boot of the machine now: a record of another one says that something is lost, and goes on saying so
 */
export function closedMeta(meta: VolumeMeta, clean: boolean, boot: string): VolumeMeta {
  const { dirty, drover } = meta;
  if (!dirty) return meta;
  if (clean) return { ...meta, dirty: false };
  return drover?.boot === boot ? { ...meta, drover: { ...drover, boot: SYNCED_BOOT } } : meta;
}

const KEYS = [
  "Size",
  "Head",
  "Dirty",
  "Rebuilding",
  "Error",
  "Parent",
  "SectorSize",
  "BackingFilePath",
  "Encrypted",
  "Drover",
];
const DROVER_KEYS = ["id", "generation", "revision", "boot", "members"];

/** A meta of a new replica: clean, no parent, no backing file. */
export function newVolumeMeta(size: number, head: string): VolumeMeta {
  return {
    size,
    head,
    dirty: false,
    rebuilding: false,
    error: "",
    parent: "",
    sectorSize: SECTOR_BYTES,
    backingFilePath: "",
    encrypted: false,
    unknown: {},
  };
}

/** What is wrong with a volume's size, or undefined. */
export function volumeSizeProblem(size: number): string | undefined {
  if (!Number.isSafeInteger(size) || size <= 0) return `size ${size} is not a positive number of bytes`;
  if (size % SECTOR_BYTES !== 0) return `size ${size} is not a multiple of ${SECTOR_BYTES}`;
  if (size > MAX_VOLUME_BYTES) {
    return `size ${size} is more than the largest volume, ${MAX_VOLUME_BYTES} bytes`;
  }
  return undefined;
}

/** True for a file that a power failure emptied, which is the same as no file. */
export function isEmptyMeta(bytes: Uint8Array): boolean {
  // NUL, tab, newline, carriage return, space.
  return bytes.every((b) => b === 0 || b === 9 || b === 10 || b === 13 || b === 32);
}

/** The bytes of the file, exactly as Longhorn writes them. */
export function encodeVolumeMeta(meta: VolumeMeta): Uint8Array<ArrayBuffer> {
  const fields: [string, string][] = [
    ["Size", String(meta.size)],
    ["Head", goString(meta.head)],
    ["Dirty", String(meta.dirty)],
    ["Rebuilding", String(meta.rebuilding)],
    ["Error", goString(meta.error)],
    ["Parent", goString(meta.parent)],
    ["SectorSize", String(meta.sectorSize)],
    ["BackingFilePath", goString(meta.backingFilePath)],
    ["Encrypted", String(meta.encrypted)],
    ...goUnknown(meta.unknown),
  ];
  if (meta.drover) fields.push(["Drover", encodeDrover(meta.drover)]);
  return goFile(goObject(fields));
}

function encodeDrover(record: DroverRecord): string {
  return goObject([
    ["id", goString(record.id)],
    ["generation", String(record.generation)],
    ["revision", String(record.revision)],
    ["boot", goString(record.boot)],
    ["members", goValue(record.members)],
    ...goUnknown(record.unknown),
  ]);
}

function decodeDrover(file: string, value: unknown): DroverRecord | undefined {
  if (value === undefined || value === null) return undefined;
  const object = asObject(file, "Drover", value);
  return {
    id: stringField(file, object, "id"),
    generation: integerField(file, object, "generation"),
    revision: integerField(file, object, "revision"),
    boot: stringField(file, object, "boot"),
    members: stringsField(file, object, "members"),
    unknown: unknownKeys(object, DROVER_KEYS),
  };
}

/**
 * Reads the file's content.
 *
 * @param file path for errors
 * @throws {MetadataError} when the content cannot be a replica's state
 */
export function decodeVolumeMeta(file: string, bytes: Uint8Array): VolumeMeta {
  const object = parseObject(file, bytes);
  const meta: VolumeMeta = {
    size: integerField(file, object, "Size"),
    head: stringField(file, object, "Head"),
    dirty: booleanField(file, object, "Dirty"),
    rebuilding: booleanField(file, object, "Rebuilding"),
    error: stringField(file, object, "Error"),
    parent: stringField(file, object, "Parent"),
    sectorSize: integerField(file, object, "SectorSize") || SECTOR_BYTES,
    backingFilePath: stringField(file, object, "BackingFilePath"),
    encrypted: booleanField(file, object, "Encrypted"),
    drover: decodeDrover(file, Object.hasOwn(object, "Drover") ? object["Drover"] : undefined),
    unknown: unknownKeys(object, KEYS),
  };
  const problem = volumeSizeProblem(meta.size) ??
    (meta.head === "" ? "Head is empty" : diskNameProblem(meta.head)) ??
    (meta.size % meta.sectorSize === 0 ? undefined : `Size ${meta.size} is not a multiple of SectorSize`);
  if (problem) throw new MetadataError(file, problem);
  return meta;
}
