/**
 * The host's part of the loop frontend: mount the file system, attach a loop device to its file, grow and
 * detach it. Runs on the main thread, while the volume thread serves (`loop_frontend.ts`).
 *
 * The order of a start:
 *
 * 1. {@linkcode openLoop} mounts and gives a descriptor;
 * 2. the volume thread makes a `LoopFrontend` with it;
 * 3. {@linkcode attachLoop} attaches the device, for which the file has to be served.
 *
 * And of an end: {@linkcode detachLoop} flushes, detaches the device, waits until it is gone and unmounts; the
 * kernel then ends the connection, the frontend closes the descriptor.
 *
 * **No thread of this process may open or stat the file, the mounted directory or the device.** All of that is
 * done by child processes; `lib/host/loop_device.ts` says why. For the same reason the memory of this process
 * must never wait for the device: the volume thread calls `markIoFlusher`.
 *
 * @module
 */
import { SECTOR_BYTES } from "../../block/device.ts";
import { type Runner, runOrThrow } from "../../host/command.ts";
import { linkDevice, type LinkOptions, type LinkTarget, unlinkDevice } from "../../host/device_link.ts";
import { mountFuse, unmount } from "../../host/fuse_mount.ts";
import {
  attachLoopDevice,
  detachLoopDevice,
  growLoopDevice,
  holdersOf,
  isAttached,
  listLoopDevices,
  LOOP_MAJOR,
  type LoopDevice,
} from "../../host/loop_device.ts";
import { describeMounts, findMounts, isMountPoint } from "../../host/mounts.ts";
import { fileIn, type LoopPlace, makeMountPoint, removeMountPoint } from "./place.ts";
import { MAX_DATA_BYTES } from "./protocol.ts";

/** Default time limit of one command, milliseconds. A flush of a slow volume is the longest. */
export const LOOP_TIMEOUT_MS = 60_000;
/** How long a detached device may take to lose its last user, milliseconds: udev looks at it for a moment. */
const GONE_MS = 5_000;

/** A mounted file system whose requests wait to be served. */
export interface LoopMount {
  /** Whose it is. */
  readonly place: LoopPlace;
  /** The directory it is mounted on. */
  readonly mountPoint: string;
  /** The one file. */
  readonly file: string;
  /** For `LoopOptions.fd`. Whoever serves it closes it. */
  readonly fd: number;
}

/** An attached device. Plain data: can be posted between threads. */
export interface LoopAttachment {
  /** The file system with the file. */
  readonly mount: LoopMount;
  /** The device on the file. */
  readonly device: LoopDevice;
  /** The second name, when one was asked for. */
  readonly link: LinkOptions | null;
}

/** How to attach. */
export interface AttachOptions {
  /** Bytes of a logical block, 512 (default) or 4096. File systems made with 4096 do not mount on 512. */
  readonly sectorBytes?: 512 | 4096;
  /**
   * Bypass the page cache of the file; default true. Without it every block is cached twice, and the loop
   * driver has one request under way instead of many.
   */
  readonly directIo?: boolean;
  /** Make the device refuse writes; default false. */
  readonly readOnly?: boolean;
  /** A second name for the device, such as `/dev/longhorn/NAME`. */
  readonly link?: LinkOptions | undefined;
  /** Time limit of a command, default {@linkcode LOOP_TIMEOUT_MS}. */
  readonly timeoutMs?: number;
}

/** The device is in use and was not detached. */
export class LoopBusyError extends Error {
  /** For checks across threads. */
  override readonly name = "LoopBusyError";

  /**
   * Makes the error.
   *
   * @param device path of the device
   * @param users who uses it: mount points, devices on top of it
   */
  constructor(
    /** Path of the device. */
    readonly device: string,
    /** Who uses it. */
    readonly users: readonly string[],
  ) {
    super(`${device} is in use: ${users.join(", ")}; unmount or close that first`);
  }
}

/** The device's numbers, for links. */
export function linkTarget(device: LoopDevice): LinkTarget {
  return { path: device.path, major: LOOP_MAJOR, minor: device.minor };
}

/** Who uses a device, as texts: where it is mounted in any mount namespace, and devices stacked on it. */
export function usersOf(device: LoopDevice): string[] {
  const mounts = findMounts(LOOP_MAJOR, device.minor);
  return [
    ...mounts.map((use) => `mounted at ${describeMounts([use])}`),
    ...holdersOf(device).map((name) => `part of /dev/${name}`),
  ];
}

/**
 * Mounts the file system of a volume. Does not wait for its server.
 *
 * @throws {IoError} no FUSE in the kernel, or no CAP_SYS_ADMIN
 * @throws {TypeError} a name that cannot be a directory's
 */
export function openLoop(place: LoopPlace): LoopMount {
  const mountPoint = makeMountPoint(place);
  try {
    const source = `drover:${place.name}`;
    const fd = mountFuse({ directory: mountPoint, source, maxRead: MAX_DATA_BYTES });
    return { place, mountPoint, file: fileIn(mountPoint), fd };
  } catch (error) {
    removeMountPoint(place, mountPoint);
    throw error;
  }
}

/**
 * Attaches a loop device to the file, which is being served. When that fails, the mount is taken away again (and
 * so the frontend ends).
 *
 * @throws {CommandError} losetup failed: no free device, or the file cannot be opened
 */
export async function attachLoop(
  runner: Runner,
  mount: LoopMount,
  options: AttachOptions = {},
): Promise<LoopAttachment> {
  const { sectorBytes = SECTOR_BYTES, directIo = true, readOnly = false, link = null } = options;
  const timeoutMs = options.timeoutMs ?? LOOP_TIMEOUT_MS;
  try {
    const device = await attachLoopDevice(runner, mount.file, { sectorBytes, directIo, readOnly, timeoutMs });
    if (link !== null) await linkDevice(runner, link, linkTarget(device));
    return { mount, device, link };
  } catch (error) {
    // Also a losetup that failed or was given up may have attached a device.
    for (const device of listLoopDevices()) {
      if (device.backingFile !== mount.file) continue;
      await detachLoopDevice(runner, device, { waitMs: GONE_MS, timeoutMs });
    }
    await closeLoop(runner, mount, true);
    throw error;
  }
}

/**
 * Unmounts a file system to which no device is attached, and removes its directory. The frontend's connection
 * ends with it.
 *
 * @param force also when the server is dead or hangs: its requests fail
 * @throws {CommandError}
 */
export async function closeLoop(runner: Runner, mount: LoopMount, force = false): Promise<void> {
  if (isMountPoint(mount.mountPoint)) {
    await unmount(runner, mount.mountPoint, { force, timeoutMs: LOOP_TIMEOUT_MS });
  }
  removeMountPoint(mount.place, mount.mountPoint);
}

/**
 * Makes the device as large as the volume is now (`LoopEvents.onResized`).
 *
 * @returns its size in bytes, as the host sees it
 * @throws {CommandError}
 */
export async function resizeLoop(runner: Runner, attachment: LoopAttachment): Promise<number> {
  const { device } = attachment;
  await growLoopDevice(runner, device, LOOP_TIMEOUT_MS);
  const { stdout } = await runOrThrow(runner, ["blockdev", "--getsize64", device.path]);
  return Number(stdout.trim());
}

/**
 * Flushes and detaches the device, removes its second name and unmounts.
 *
 * @throws {LoopBusyError} it is mounted, or stacked upon; nothing was changed. Or it is open: then it goes away
 *   with its last user, and the call may be repeated after that
 * @throws {CommandError} the flush failed: data that the host wrote may not be in the volume
 */
export async function detachLoop(
  runner: Runner,
  attachment: LoopAttachment,
  options: { readonly timeoutMs?: number } = {},
): Promise<void> {
  const { mount, device, link } = attachment;
  const timeoutMs = options.timeoutMs ?? LOOP_TIMEOUT_MS;
  if (isAttached(device)) {
    const users = usersOf(device);
    if (users.length > 0) throw new LoopBusyError(device.path, users);
    await runOrThrow(runner, ["blockdev", "--flushbufs", device.path], { timeoutMs });
    if (!await detachLoopDevice(runner, device, { waitMs: GONE_MS, timeoutMs })) {
      throw new LoopBusyError(device.path, ["opened by a process"]);
    }
  }
  if (link !== null) unlinkDevice(link.path, linkTarget(device));
  await closeLoop(runner, mount);
}
