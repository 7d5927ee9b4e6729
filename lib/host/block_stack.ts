/**
 * What stands on a block device: its partitions, and what is mapped onto it or them (LUKS, LVM, md), found in
 * sysfs. Users seldom mount a volume's device itself when it is encrypted; who asks whether a volume is in use, or
 * wants its file systems frozen, means the whole stack.
 *
 * Nothing here opens a device: a thread of the process that serves it must never wait for it.
 *
 * @module
 */
import { basename } from "node:path";
import { findMountsWhere, type FoundMount } from "./mounts.ts";

/** A block device of the kernel. */
export interface BlockNumber {
  /** Device number, upper part. */
  readonly major: number;
  /** Device number, lower part. */
  readonly minor: number;
}

/** A device of a stack. */
export interface StackedDevice extends BlockNumber {
  /** The kernel's name, such as `loop3`, `sda1` or `dm-0`. */
  readonly name: string;
}

/** Where to look. Tests have trees of their own. */
export interface KernelTrees {
  /** procfs; default `/proc`. */
  readonly proc?: string;
  /** sysfs; default `/sys`. */
  readonly sys?: string;
}

/** Most devices of one stack that are looked at: far more than anybody builds; a loop in sysfs would not end. */
const MAX_STACK = 256;
/** How often a name may lead to another name. */
const MAX_LINKS = 8;

/** Takes a device number of stat(2) apart (glibc's `gnu_dev_major`, `gnu_dev_minor`). */
export function splitDeviceNumber(rdev: number): BlockNumber {
  const high = Math.floor(rdev / 2 ** 32);
  return {
    major: ((rdev >>> 8) & 0xfff) | (high & 0xfffff000),
    minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfffff00),
  };
}

function readNumber(path: string): BlockNumber | null {
  try {
    const match = /^(\d+):(\d+)\s*$/.exec(Deno.readTextFileSync(path));
    return match ? { major: Number(match[1]), minor: Number(match[2]) } : null;
  } catch {
    return null; // Gone, or no such device.
  }
}

/** The number of a device by the kernel's name for it, such as `loop3`; null when there is none. */
export function numberOfName(name: string, sys = "/sys"): BlockNumber | null {
  return /^[^/]+$/.test(name) && name !== ".." ? readNumber(`${sys}/class/block/${name}/dev`) : null;
}

/**
 * The number of the device that a path leads to: a device node, or symbolic links to one.
 *
 * @returns null when the path is not there, or is something else
 */
export function numberOfPath(path: string, sys = "/sys"): BlockNumber | null {
  for (let at = path, links = 0; links < MAX_LINKS; links++) {
    let stat: Deno.FileInfo;
    try {
      stat = Deno.lstatSync(at);
    } catch {
      // A link to a device that this /dev does not show may still be known to sysfs.
      return at.startsWith("/dev/") ? numberOfName(basename(at), sys) : null;
    }
    if (!stat.isSymlink) return stat.isBlockDevice === true ? splitDeviceNumber(stat.rdev ?? 0) : null;
    const target = Deno.readLinkSync(at);
    at = target.startsWith("/") ? target : `${at.slice(0, at.lastIndexOf("/"))}/${target}`;
  }
  return null;
}

function names(directory: string): string[] {
  try {
    return [...Deno.readDirSync(directory)].map((entry) => entry.name).sort();
  } catch {
    return [];
  }
}

function nameOf({ major, minor }: BlockNumber, sys: string): string | null {
  try {
    return basename(Deno.readLinkSync(`${sys}/dev/block/${major}:${minor}`));
  } catch {
    return null;
  }
}

/** The device and everything that stands on it, each once, from below to above. */
export function stackOn(bottom: BlockNumber, sys = "/sys"): StackedDevice[] {
  const stack: StackedDevice[] = [];
  const add = (number: BlockNumber | null, name: string | null): void => {
    if (!number || name === null || stack.length >= MAX_STACK) return;
    if (stack.some((d) => d.major === number.major && d.minor === number.minor)) return;
    stack.push({ ...number, name });
  };
  add(bottom, nameOf(bottom, sys));
  // Grows while it is walked.
  for (const device of stack) {
    const directory = `${sys}/class/block/${device.name}`;
    for (const name of names(directory)) {
      if (name.startsWith(device.name)) add(readNumber(`${directory}/${name}/dev`), name);
    }
    for (const name of names(`${directory}/holders`)) add(numberOfName(name, sys), name);
  }
  return stack;
}

/**
 * The mounted file systems of a device and of what stands on it, one mount for each, in our own mount namespace
 * where there is one.
 */
export function fileSystemsOn(bottom: BlockNumber, trees: KernelTrees = {}): FoundMount[] {
  const { proc = "/proc", sys = "/sys" } = trees;
  const devices = stackOn(bottom, sys);
  const has = (number: BlockNumber | null): boolean =>
    devices.some(({ major, minor }) => major === number?.major && minor === number.minor);
  const found = findMountsWhere(
    // File systems of several devices (btrfs) have numbers of their own; their source is one of the devices.
    (mount) =>
      has(mount) ||
      mount.major === 0 && mount.source.startsWith("/dev/") && has(numberOfPath(mount.source, sys)),
    proc,
  );
  const seen = new Set<string>();
  return found.filter(({ major, minor }) => {
    const key = `${major}:${minor}`;
    return seen.has(key) ? false : seen.add(key);
  });
}
