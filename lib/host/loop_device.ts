/**
 * Loop devices: which there are (from sysfs), and attaching, growing and detaching them through `losetup`.
 *
 * Everything that opens a loop device or its backing file happens in a child process, never in this one. When
 * this process itself serves the file (FUSE), a thread of it that waits for the device keeps the process from
 * dying when it is killed: its descriptors stay open while the thread waits, so the kernel goes on waiting for
 * an answer of the killed server. A child has no such tie: with the server gone, its request fails.
 *
 * @module
 */
import { CommandError, type Runner, runOrThrow } from "./command.ts";

/** Major number of loop devices; Linux Documentation/admin-guide/devices.txt. */
export const LOOP_MAJOR = 7;
/** Between two looks whether a device is gone, milliseconds. */
const POLL_MS = 20;

/** A loop device with a backing file. */
export interface LoopDevice {
  /** Such as `/dev/loop3`. */
  readonly path: string;
  /** The N of `/dev/loopN`. */
  readonly minor: number;
  /** As the kernel tells it: a path in the mount namespace it was set up in. */
  readonly backingFile: string;
  /** It detaches itself when the last user closes it. */
  readonly autoclear: boolean;
  /** It bypasses the page cache of the backing file. */
  readonly directIo: boolean;
}

/** How to attach. */
export interface LoopAttachOptions {
  /** Bytes of a logical block: 512 or 4096. */
  readonly sectorBytes: number;
  /** Bypass the page cache of the backing file. */
  readonly directIo: boolean;
  /** Refuse writes. */
  readonly readOnly: boolean;
  /** Time limit in milliseconds. */
  readonly timeoutMs: number;
}

function attribute(path: string): string | null {
  try {
    return Deno.readTextFileSync(path).replace(/\n$/, "");
  } catch {
    return null; // Detached meanwhile.
  }
}

function describe(name: string, sysBlock: string): LoopDevice | null {
  const minor = /^loop(\d+)$/.exec(name)?.[1];
  const backingFile = minor === undefined ? null : attribute(`${sysBlock}/${name}/loop/backing_file`);
  if (minor === undefined || backingFile === null) return null;
  return {
    path: `/dev/${name}`,
    minor: Number(minor),
    backingFile,
    autoclear: attribute(`${sysBlock}/${name}/loop/autoclear`) === "1",
    directIo: attribute(`${sysBlock}/${name}/loop/dio`) === "1",
  };
}

/** Loop devices that have a backing file, by number. @param sysBlock `/sys/block` */
export function listLoopDevices(sysBlock = "/sys/block"): LoopDevice[] {
  const devices: LoopDevice[] = [];
  for (const entry of Deno.readDirSync(sysBlock)) {
    const device = describe(entry.name, sysBlock);
    if (device !== null) devices.push(device);
  }
  return devices.sort((a, b) => a.minor - b.minor);
}

/** Devices stacked on a block device (LVM, dm-crypt, md), by name. */
export function holdersOf(device: LoopDevice, sysBlock = "/sys/block"): string[] {
  try {
    return [...Deno.readDirSync(`${sysBlock}/loop${device.minor}/holders`)].map((entry) => entry.name).sort();
  } catch {
    return [];
  }
}

/**
 * Attaches a free loop device to a file.
 *
 * @throws {CommandError} when losetup fails or hangs
 */
export async function attachLoopDevice(
  runner: Runner,
  file: string,
  options: LoopAttachOptions,
): Promise<LoopDevice> {
  const argv = [
    "losetup",
    "--find",
    "--show",
    `--sector-size=${options.sectorBytes}`,
    `--direct-io=${options.directIo ? "on" : "off"}`,
    ...(options.readOnly ? ["--read-only"] : []),
    file,
  ];
  const { stdout } = await runOrThrow(runner, argv, { timeoutMs: options.timeoutMs });
  const name = stdout.trim().replace(/^\/dev\//, "");
  const device = describe(name, "/sys/block");
  if (device === null) throw new CommandError(argv, `names no loop device: ${JSON.stringify(stdout)}`);
  return device;
}

/**
 * Makes a loop device as large as its backing file is now.
 *
 * @throws {CommandError}
 */
export async function growLoopDevice(runner: Runner, device: LoopDevice, timeoutMs: number): Promise<void> {
  // Before Linux 6.17 the driver takes the size that the inode has in memory. Looking at the file first makes
  // a network or FUSE file system renew it.
  await runOrThrow(runner, ["stat", "--format=%s", device.backingFile], { timeoutMs });
  await runOrThrow(runner, ["losetup", "--set-capacity", device.path], { timeoutMs });
}

/** True while the device is attached to this backing file. */
export function isAttached(device: LoopDevice, sysBlock = "/sys/block"): boolean {
  return attribute(`${sysBlock}/loop${device.minor}/loop/backing_file`) === device.backingFile;
}

/**
 * Detaches a loop device. A device in use detaches itself with its last user: then the result is false.
 *
 * @param waitMs how long to wait for the last user, milliseconds (udev looks at devices for a moment)
 * @returns true when it is gone
 * @throws {CommandError}
 */
export async function detachLoopDevice(
  runner: Runner,
  device: LoopDevice,
  options: { readonly waitMs: number; readonly timeoutMs: number },
): Promise<boolean> {
  if (!isAttached(device)) return true;
  const argv = ["losetup", "--detach", device.path];
  const result = await runner.run(argv, { timeoutMs: options.timeoutMs });
  const deadline = performance.now() + options.waitMs;
  while (isAttached(device)) {
    if (result.code !== 0) {
      throw new CommandError(argv, `exit code ${result.code}: ${result.stderr.trim()}`, result);
    }
    if (performance.now() >= deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return true;
}
