/**
 * Removing and renaming files of snapshots for peers that restore or rebuild.
 *
 * @module
 */
import { Code, RpcError } from "../../rpc/errors.ts";
import { Errno, IoError } from "../../io/errno.ts";
import { FilesLibc } from "../../io/files_libc.ts";
import type { ptypes } from "../../rpc/gen/ptypes.js";
import type { ReplicaCalls } from "../service.ts";
import { changeableName } from "./names.ts";

/** @throws {RpcError} for a file that the open replica works with */
async function refuseInUse(thread: ReplicaCalls, name: string): Promise<void> {
  const replica = await thread.call("get") as ptypes.IReplica;
  const disks = Object.keys(replica.disks ?? {});
  if (disks.some((disk) => name === disk || name === `${disk}.meta`)) {
    throw new RpcError(Code.FAILED_PRECONDITION, `${name} is part of the open replica: remove its snapshot`);
  }
}

/** Removes a file, durably. @throws {RpcError} @throws {IoError} */
export async function removeFile(thread: ReplicaCalls, directory: string, name: string): Promise<void> {
  const path = `${directory}/${changeableName(name)}`, files = new FilesLibc();
  await refuseInUse(thread, name);
  try {
    files.unlink(path);
  } catch (error) {
    if (error instanceof IoError && error.errno === Errno.ENOENT) return;
    throw error;
  }
  files.syncDirectory(directory);
}

/** Renames a file, durably; one that has the new name is replaced. @throws {RpcError} @throws {IoError} */
export async function renameFile(
  thread: ReplicaCalls,
  directory: string,
  from: string,
  to: string,
): Promise<void> {
  const files = new FilesLibc();
  changeableName(from);
  changeableName(to);
  await refuseInUse(thread, from);
  files.rename(`${directory}/${from}`, `${directory}/${to}`);
  files.syncDirectory(directory);
}
