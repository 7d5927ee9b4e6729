/**
 * The record of a snapshot's checksum (`DISK.img.checksum`). One JSON object and a newline.
 *
 * | Key | Meaning; what it guards against |
 * |---|---|
 * | method | `crc64`: ISO polynomial over the whole apparent size, zeros included |
 * | checksum | 16 lower-case hexadecimal digits |
 * | change_time | the data file's ctime as text: a changed file makes the checksum worthless |
 * | last_hashed_at | RFC 3339 |
 * | silently_corrupted | the content changed although the ctime did not |
 *
 * @module
 */
import {
  booleanField,
  goFile,
  goObject,
  goString,
  goUnknown,
  type JsonObject,
  parseObject,
  stringField,
  unknownKeys,
} from "./go_json.ts";

/** The only checksum method in use. */
export const CHECKSUM_METHOD = "crc64";

/** Content of a checksum record. */
export interface ChecksumRecord {
  /** See {@linkcode CHECKSUM_METHOD}. */
  readonly method: string;
  /** 16 lower-case hexadecimal digits. */
  readonly checksum: string;
  /** ctime of the data file, see {@linkcode changeTimeText}. */
  readonly changeTime: string;
  /** RFC 3339; "" in records received during a rebuild. */
  readonly lastHashedAt: string;
  /** The content changed although the ctime did not. */
  readonly silentlyCorrupted: boolean;
  /** Keys of newer versions, written back as they were. */
  readonly unknown: JsonObject;
}

const KEYS = ["method", "checksum", "change_time", "last_hashed_at", "silently_corrupted"];
const NS_PER_SECOND = 1_000_000_000n;

/** A file time in nanoseconds since 1970 as Go prints it in UTC: `2026-07-12 08:00:00.297975939 +0000 UTC`. */
export function changeTimeText(nanoseconds: bigint): string {
  const fraction = ((nanoseconds % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
  const seconds = Number((nanoseconds - fraction) / NS_PER_SECOND);
  const [date, time] = new Date(seconds * 1000).toISOString().slice(0, 19).split("T");
  const digits = fraction.toString().padStart(9, "0").replace(/0+$/, "");
  return `${date} ${time}${digits === "" ? "" : "." + digits} +0000 UTC`;
}

/** The bytes of the file, exactly as Longhorn writes them. */
export function encodeChecksumRecord(record: ChecksumRecord): Uint8Array<ArrayBuffer> {
  return goFile(goObject([
    ["method", goString(record.method)],
    ["checksum", goString(record.checksum)],
    ["change_time", goString(record.changeTime)],
    ["last_hashed_at", goString(record.lastHashedAt)],
    ["silently_corrupted", String(record.silentlyCorrupted)],
    ...goUnknown(record.unknown),
  ]));
}

/**
 * Reads the file's content.
 *
 * @param file path for errors
 * @throws {MetadataError}
 */
export function decodeChecksumRecord(file: string, bytes: Uint8Array): ChecksumRecord {
  const object = parseObject(file, bytes);
  return {
    method: stringField(file, object, "method"),
    checksum: stringField(file, object, "checksum"),
    changeTime: stringField(file, object, "change_time"),
    lastHashedAt: stringField(file, object, "last_hashed_at"),
    silentlyCorrupted: booleanField(file, object, "silently_corrupted"),
    unknown: unknownKeys(object, KEYS),
  };
}
