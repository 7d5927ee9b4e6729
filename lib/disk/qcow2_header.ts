/**
 * The header of a qcow2 image (QEMU docs/interop/qcow2.txt). All numbers are big endian.
 *
 * | offset | bytes | field                     | what is checked, and why                                            |
 * |--------|-------|---------------------------|---------------------------------------------------------------------|
 * | 0      | 4     | magic `QFI\xfb`           | tells it from a raw image                                           |
 * | 4      | 4     | version                   | 2 or 3                                                              |
 * | 8      | 8     | offset of a backing name  | 0: an image on another image would need that one, too               |
 * | 20     | 4     | cluster bits              | 9 to 21, as QEMU: everything else is computed from it               |
 * | 24     | 8     | virtual size              | a multiple of 512, and no larger than a volume can be               |
 * | 32     | 4     | encryption                | 0: the content could not be read                                    |
 * | 36     | 4     | entries of the L1 table   | enough for the size, and bounded, because the table is in memory    |
 * | 40     | 8     | offset of the L1 table    | at a cluster, within the file                                       |
 * | 72     | 8     | incompatible features (3) | only known bits: an unknown one means that the rest means something else |
 * | 100    | 4     | length of the header (3)  | at least 104                                                        |
 * | 104    | 1     | compression (3)           | 0 deflate, 1 zstd                                                   |
 *
 * Snapshots inside the image and reference counts are of no interest to a reader.
 *
 * @module
 */
import { BackingFileError } from "./errors.ts";
import { MAX_VOLUME_BYTES, SECTOR_BYTES } from "./volume_meta.ts";

/** First bytes of every qcow image. */
export const QCOW_MAGIC = 0x514649fb;
/** Bytes of the file that {@linkcode parseQcow2Header} wants to see; less where the file ends. */
export const HEADER_BYTES = 112;

/** Header of version 2; that of version 3 is at least {@linkcode V3_BYTES} long. */
const V2_BYTES = 72, V3_BYTES = 104;
/** Clusters of 512 bytes to 2 MiB (QEMU's limits). */
const MIN_CLUSTER_BITS = 9, MAX_CLUSTER_BITS = 21;
/** Largest L1 table, bytes (QEMU's QCOW_MAX_L1_SIZE). */
const MAX_L1_BYTES = 32 * 1024 * 1024;
/** Bytes of an entry of a table. */
export const ENTRY_BYTES = 8;

/** Incompatible features. An image that was not closed has only wrong reference counts: fine for a reader. */
const DIRTY = 1, CORRUPT = 2, EXTERNAL_DATA = 4, COMPRESSION_TYPE = 8, EXTENDED_L2 = 16;
const KNOWN_FEATURES = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;

/** How compressed clusters are compressed. */
export type Compression = "deflate" | "zstd";

/** What a reader needs of a header. */
export interface Qcow2Header {
  /** Of the format. */
  readonly version: 2 | 3;
  /** Of a cluster: its size is two to the power of this. */
  readonly clusterBits: number;
  /** What a guest sees, bytes. */
  readonly size: number;
  /** Entries of the L1 table that matter. */
  readonly l1Entries: number;
  /** Where the L1 table is in the file. */
  readonly l1Offset: number;
  /** How compressed clusters are compressed. */
  readonly compression: Compression;
}

const FLATTEN = "copy it into one plain image with `qemu-img convert -O qcow2 OLD NEW`";
const REPAIR = "check it with `qemu-img check`, or take another copy";

/** A 64-bit number; Infinity beyond 2^53, which no offset or size may be. */
function u64(view: DataView, at: number): number {
  const value = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
  return Number.isSafeInteger(value) ? value : Infinity;
}

/**
 * Reads a header that begins with {@linkcode QCOW_MAGIC}.
 *
 * @param path of the image, for messages
 * @param bytes the first {@linkcode HEADER_BYTES} of the file
 * @param fileBytes size of the file
 * @throws {BackingFileError} when the image is broken, or needs something that this reader has not
 */
export function parseQcow2Header(path: string, bytes: Uint8Array, fileBytes: number): Qcow2Header {
  const refuse = (problem: string): never => {
    throw new BackingFileError(path, problem);
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < V2_BYTES) refuse(`the qcow2 header is cut off after ${bytes.length} bytes: ${REPAIR}`);
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) return refuse(`qcow version ${version} is not supported: ${FLATTEN}`);
  if (version === 3 && (bytes.length < V3_BYTES || view.getUint32(100) < V3_BYTES)) {
    refuse(`the qcow2 header is too short: ${REPAIR}`);
  }
  const compression = features(path, view, version);
  if (u64(view, 8) !== 0) refuse(`the image stands on another image: ${FLATTEN}`);
  if (view.getUint32(32) !== 0) refuse(`the image is encrypted: copy it decrypted with \`qemu-img convert\``);

  const clusterBits = view.getUint32(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    refuse(`2^${clusterBits} bytes are no valid size of a cluster: ${REPAIR}`);
  }
  const size = u64(view, 24), clusterBytes = 2 ** clusterBits;
  if (size > MAX_VOLUME_BYTES) {
    refuse(`its size, ${size} bytes, is larger than any volume (${MAX_VOLUME_BYTES} bytes)`);
  }
  if (size % SECTOR_BYTES !== 0) refuse(`its size, ${size} bytes, is not a multiple of ${SECTOR_BYTES}`);
  const l1Entries = Math.ceil(size / (clusterBytes * (clusterBytes / ENTRY_BYTES)));
  if (l1Entries > view.getUint32(36)) refuse(`its first table is too short for its size: ${REPAIR}`);
  if (l1Entries * ENTRY_BYTES > MAX_L1_BYTES) {
    refuse(
      "its clusters are too small for its size: copy it with `qemu-img convert -O qcow2 -o cluster_size=64k`",
    );
  }
  const l1Offset = u64(view, 40);
  if (l1Entries > 0 && (l1Offset % clusterBytes !== 0 || l1Offset + l1Entries * ENTRY_BYTES > fileBytes)) {
    refuse(`its first table is not where the header says: ${REPAIR}`);
  }
  return { version, clusterBits, size, l1Entries, l1Offset, compression };
}

function features(path: string, view: DataView, version: number): Compression {
  if (version === 2) return "deflate";
  const refuse = (problem: string): never => {
    throw new BackingFileError(path, problem);
  };
  const high = view.getUint32(72), bits = view.getUint32(76);
  if (bits & CORRUPT) refuse(`the image is marked as corrupt: ${REPAIR}`);
  if (bits & EXTERNAL_DATA) refuse(`its data is in another file: ${FLATTEN}`);
  if (bits & EXTENDED_L2) {
    refuse(
      "it has subclusters: copy it with `qemu-img convert -O qcow2 -o extended_l2=off OLD NEW`",
    );
  }
  if (high !== 0 || (bits & ~KNOWN_FEATURES) !== 0) refuse(`it has features nobody knows of: ${FLATTEN}`);
  if (!(bits & COMPRESSION_TYPE)) return "deflate";
  const type = view.byteLength > V3_BYTES && view.getUint32(100) > V3_BYTES ? view.getUint8(V3_BYTES) : 0;
  if (type > 1) refuse(`compression ${type} is not supported: ${FLATTEN}`);
  return type === 1 ? "zstd" : "deflate";
}
