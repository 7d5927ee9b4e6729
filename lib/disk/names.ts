/**
 * Names of the files in a replica directory, and which names found in metadata may be believed.
 *
 * | File | Content |
 * |---|---|
 * | `volume.meta` | state of the replica, see volume_meta.ts |
 * | `revision.counter` | number of writes, see revision_counter.ts |
 * | `volume-head-NNN.img` | blocks written since the last snapshot |
 * | `volume-snap-NAME.img` | a snapshot |
 * | `DISK.meta` | record of a disk, see disk_record.ts |
 * | `DISK.checksum` | record of its checksum, see checksum_record.ts |
 * | `drover.spare` | space for `volume.meta` on a full disk, see spare.ts |
 * | `META.tmp`, `CHECKSUM..tmp` | half-written records (the two dots are real) |
 *
 * @module
 */

/** State of the replica. */
export const VOLUME_META = "volume.meta";
/** Number of writes. */
export const REVISION_COUNTER = "revision.counter";
/** Suffix of every disk's data file. */
export const IMAGE_SUFFIX = ".img";
/** Added to a disk's name: its record. */
export const META_SUFFIX = ".meta";
/** Added to a disk's name: its checksum record. */
export const CHECKSUM_SUFFIX = ".checksum";
/** Added to a file's name while its replacement is being written. */
export const TEMPORARY_SUFFIX = ".tmp";
/** What peers call the head in lists of snapshots. */
export const HEAD_PSEUDO_NAME = "volume-head";

const HEAD = /^volume-head-(\d{1,15})\.img$/;
const SNAPSHOT = /^volume-snap-(.+)\.img$/s;
/** NAME_MAX of Linux, less the longest suffix that is added to a disk's name (`.checksum..tmp`). */
const MAX_DISK_NAME_BYTES = 255 - 14;

/** `volume-head-007.img` for 7: zero padded to three digits, more when needed. */
export function headName(number: number): string {
  return `volume-head-${String(number).padStart(3, "0")}.img`;
}

/** The number in a head's name, or undefined when the name is not a head's. */
export function headNumber(disk: string): number | undefined {
  const match = HEAD.exec(disk);
  return match ? Number(match[1]) : undefined;
}

/** `volume-snap-NAME.img` */
export function snapshotDiskName(snapshot: string): string {
  return `volume-snap-${snapshot}.img`;
}

/** The user's name of a snapshot, or undefined when the disk is not a snapshot. */
export function snapshotName(disk: string): string | undefined {
  return SNAPSHOT.exec(disk)?.[1];
}

/**
 * What is wrong with a disk's name that was read from a file, or undefined. Names become paths, so a name that
 * leaves the directory must never be used.
 */
export function diskNameProblem(disk: string): string | undefined {
  if (/[/\0]/.test(disk)) return `disk name ${JSON.stringify(disk)} must not leave the directory`;
  if (!disk.endsWith(IMAGE_SUFFIX)) {
    return `disk name ${JSON.stringify(disk)} does not end in ${IMAGE_SUFFIX}`;
  }
  if (new TextEncoder().encode(disk).length > MAX_DISK_NAME_BYTES) {
    return `disk name of ${disk.length} characters is too long`;
  }
  return undefined;
}

/** True for files that an interrupted replacement left behind; safe to delete while the replica is not open. */
export function isTemporary(file: string): boolean {
  return file.endsWith(META_SUFFIX + TEMPORARY_SUFFIX) ||
    file.endsWith(CHECKSUM_SUFFIX + "." + TEMPORARY_SUFFIX) ||
    file.endsWith(CHECKSUM_SUFFIX + TEMPORARY_SUFFIX);
}
