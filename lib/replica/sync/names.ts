/**
 * Which files of a replica directory the sync agent lets others read, replace or remove. Names come from the
 * network and become paths.
 *
 * | kind | read | received | why |
 * |---|---|---|---|
 * | `volume-snap-NAME.img` | yes | yes | a snapshot |
 * | its `.meta`, `.checksum` | yes | yes, no | records; a checksum holds for one file's ctime, so it is made, not copied |
 * | `volume-snap-NAME.img.snap_tmp`, `.meta` of it | no | yes | a full restore beside the old content |
 * | `volume-delta-NAME.img` | no | yes | an incremental restore |
 * | `volume-head-NNN.img.meta` | yes | yes | the head's record at the start of a rebuild |
 * | `volume-head-NNN.img` | no | no | it is being written to by the volume thread |
 * | everything else | no | no | |
 *
 * @module
 */
import {
  diskNameProblem,
  headNumber,
  META_SUFFIX,
  snapshotDiskName,
  snapshotName,
} from "../../disk/names.ts";
import { Code, RpcError } from "../../rpc/errors.ts";

const SNAP_FILE = /^volume-snap-[^/\0]+\.img(\.meta|\.checksum)?$/;
const RESTORE_FILE = /^(volume-snap-[^/\0]+\.img\.snap_tmp(\.meta)?|volume-delta-[^/\0]+\.img(\.meta)?)$/;
const HEAD_RECORD = /^volume-head-\d{1,15}\.img\.meta$/;
/** NAME_MAX of Linux, bytes. */
const NAME_MAX = 255;

function refuse(name: string, why: string): never {
  throw new RpcError(Code.INVALID_ARGUMENT, `file name ${JSON.stringify(name.slice(0, NAME_MAX))}: ${why}`);
}

function check(name: string): string {
  if (name === "") refuse(name, "it is missing");
  if (/[/\0]/.test(name)) refuse(name, "it must not leave the replica directory");
  if (new TextEncoder().encode(name).length > NAME_MAX) refuse(name, "it is too long");
  return name;
}

/** A file that may be sent to another replica. @throws {RpcError} INVALID_ARGUMENT */
export function readableName(name: string): string {
  if (SNAP_FILE.test(check(name)) || HEAD_RECORD.test(name)) return name;
  return refuse(name, "only snapshots and records are sent");
}

/** A file that may be written by a receiver. @throws {RpcError} INVALID_ARGUMENT */
export function receivableName(name: string): string {
  const snapshot = SNAP_FILE.test(check(name)) && !name.endsWith(".checksum");
  if (snapshot || RESTORE_FILE.test(name) || HEAD_RECORD.test(name)) return name;
  return refuse(name, "only snapshots and records are received");
}

/** A file that may be removed or renamed. @throws {RpcError} INVALID_ARGUMENT */
export function changeableName(name: string): string {
  if (SNAP_FILE.test(check(name)) || RESTORE_FILE.test(name)) return name;
  return refuse(name, "only files of snapshots can be removed or renamed");
}

/** File name of a snapshot's disk, from either of its names. @throws {RpcError} INVALID_ARGUMENT */
export function snapshotDisk(name: string): string {
  const disk = snapshotName(check(name)) === undefined ? snapshotDiskName(name) : name;
  const problem = diskNameProblem(disk);
  if (problem || headNumber(disk) !== undefined) refuse(name, problem ?? "it is no snapshot");
  return disk;
}

/** True for records, which are small and replaced as a whole. */
export function isRecord(name: string): boolean {
  return name.endsWith(META_SUFFIX) || name.endsWith(".checksum");
}
