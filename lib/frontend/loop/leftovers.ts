/**
 * Cleaning up after a process that died: its file system answers with ENOTCONN, its loop device with I/O
 * errors, and both stay until somebody takes them away. Done at the next start of the volume on this host, and
 * by the command line.
 *
 * @module
 */
import { CommandError, type Runner } from "../../host/command.ts";
import { type LinkOptions, unlinkDevice } from "../../host/device_link.ts";
import { unmount } from "../../host/fuse_mount.ts";
import { detachLoopDevice, listLoopDevices, type LoopDevice } from "../../host/loop_device.ts";
import { isMountPoint } from "../../host/mounts.ts";
import { linkTarget, usersOf } from "./attach.ts";
import { fileIn, listMountPoints, type LoopPlace, mountPointOf, removeMountPoint } from "./place.ts";

/** Time limit of one command, milliseconds. */
const COMMAND_MS = 30_000;
/** How long a server may take to answer before it counts as hanging, milliseconds. */
const ANSWER_MS = 5_000;
/** How long a detached device may take to be gone, milliseconds. */
const GONE_MS = 5_000;

/** What was found and done. */
export interface Leftovers {
  /** Loop devices that were detached. */
  readonly detached: string[];
  /** Mount points that were unmounted. */
  readonly unmounted: string[];
  /**
   * Devices that are still in use. They were told to go with their last user; until then their dead mount point
   * stays too, so that a later call finds them.
   */
  readonly busy: { readonly device: string; readonly users: readonly string[] }[];
}

/** What to clean. */
export interface CleanOptions {
  /** A second name that may lead to one of the devices. */
  readonly link?: Pick<LinkOptions, "path"> | undefined;
  /** Take a volume away even if its server answers, or hangs. Its users get I/O errors. */
  readonly force?: boolean;
}

/** The volume is being served: there is nothing left over. */
export class LoopAliveError extends Error {
  /** For checks across threads. */
  override readonly name = "LoopAliveError";

  /**
   * Makes the error.
   *
   * @param mountPoint where it is mounted
   * @param state `answers`, or `hangs` when there was no answer within five seconds
   */
  constructor(
    /** Where it is mounted. */
    readonly mountPoint: string,
    /** Whether there was an answer. */
    readonly state: "answers" | "hangs",
  ) {
    const what = state === "answers"
      ? "is being served by a running process"
      : "has a server that does not answer";
    super(`${mountPoint} ${what}; stop that process first, or use force`);
  }
}

/** Finds out, in a child process, whether somebody answers for a mount point. */
async function serverState(runner: Runner, mountPoint: string): Promise<"dead" | "answers" | "hangs"> {
  try {
    const result = await runner.run(["stat", "--format=%s", fileIn(mountPoint)], { timeoutMs: ANSWER_MS });
    return result.code === 0 ? "answers" : "dead";
  } catch (error) {
    if (error instanceof CommandError) return "hangs";
    throw error;
  }
}

async function detach(runner: Runner, device: LoopDevice, found: Leftovers, link?: string): Promise<boolean> {
  const users = usersOf(device);
  const waitMs = users.length > 0 ? 0 : GONE_MS;
  const gone = await detachLoopDevice(runner, device, { waitMs, timeoutMs: COMMAND_MS });
  if (gone) found.detached.push(device.path);
  else found.busy.push({ device: device.path, users: users.length > 0 ? users : ["opened by a process"] });
  if (link !== undefined) unlinkDevice(link, linkTarget(device));
  return gone;
}

/**
 * Takes away what a dead process left of a volume: loop devices on its file, mounts, directories, the second
 * name. File systems that users mounted from a dead device are not touched: they are reported.
 *
 * @throws {LoopAliveError} the volume is being served, and `force` was not given
 * @throws {CommandError} a command failed
 */
export async function cleanLeftovers(
  runner: Runner,
  place: LoopPlace,
  options: CleanOptions = {},
): Promise<Leftovers> {
  const found: Leftovers = { detached: [], unmounted: [], busy: [] };
  const mountPoints = listMountPoints(place);
  if (!options.force) {
    for (const mountPoint of mountPoints) {
      if (!isMountPoint(mountPoint)) continue;
      const state = await serverState(runner, mountPoint);
      if (state !== "dead") throw new LoopAliveError(mountPoint, state);
    }
  }
  const inUse = new Set<string>();
  for (const device of listLoopDevices()) {
    const mountPoint = mountPointOf(place, device.backingFile);
    if (mountPoint === null) continue;
    // A hanging server would keep the device's last write for ever: its requests are made to fail first.
    if (options.force && isMountPoint(mountPoint)) await abort(runner, mountPoint);
    if (!await detach(runner, device, found, options.link?.path)) inUse.add(mountPoint);
  }
  for (const mountPoint of mountPoints) {
    if (inUse.has(mountPoint)) continue;
    if (isMountPoint(mountPoint)) {
      await unmount(runner, mountPoint, { force: true, timeoutMs: COMMAND_MS });
      found.unmounted.push(mountPoint);
    }
    removeMountPoint(place, mountPoint);
  }
  return found;
}

/** Aborts the requests of a file system that is in use: umount --force does that even where it fails. */
async function abort(runner: Runner, mountPoint: string): Promise<void> {
  const argv = ["umount", "--internal-only", "--no-canonicalize", "--force", mountPoint];
  await runner.run(argv, { timeoutMs: COMMAND_MS });
}
