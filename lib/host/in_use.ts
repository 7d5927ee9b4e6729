/**
 * Who uses a block device: mounts in any mount namespace, devices stacked on it, processes that have it open. Asked
 * before a disk is taken away from the host, because the kernel does not refuse that for every kind of disk.
 *
 * @module
 */
import { type BlockNumber, fileSystemsOn, type KernelTrees, stackOn } from "./block_stack.ts";
import { describeMounts } from "./mounts.ts";
import { HostError } from "./retry.ts";

/** The disk of a volume is in use and was not taken away. */
export class DeviceBusyError extends HostError {
  /** For checks across threads. */
  override readonly name = "DeviceBusyError";

  /** Says who uses it. */
  constructor(
    /** Path of the device. */
    readonly device: string,
    /** Who uses it, for people. */
    readonly users: readonly string[],
  ) {
    super(`${device} is in use: ${users.join(", ")}; unmount or close that first`);
  }
}

/** Processes that have one of these paths open. */
export function openersOf(paths: readonly string[], proc = "/proc"): number[] {
  const found: number[] = [];
  for (const { name } of Deno.readDirSync(proc)) {
    if (/^\d+$/.test(name) && hasOpen(`${proc}/${name}/fd`, paths)) found.push(Number(name));
  }
  return found;
}

function hasOpen(directory: string, paths: readonly string[]): boolean {
  try {
    for (const { name } of Deno.readDirSync(directory)) {
      try {
        if (paths.includes(Deno.readLinkSync(`${directory}/${name}`))) return true;
      } catch {
        // Closed meanwhile.
      }
    }
  } catch {
    // The process ended, or is none of our business.
  }
  return false;
}

/** Everybody who uses a device, as texts; empty: nobody. @param paths names of the device in /dev */
export function usersOfDevice(
  device: BlockNumber,
  paths: readonly string[],
  trees: KernelTrees = {},
): string[] {
  const { proc = "/proc", sys = "/sys" } = trees;
  const mapped = stackOn(device, sys).slice(1).filter(({ name }) => !isPartition(name, sys));
  return [
    ...fileSystemsOn(device, trees).map((mount) => `mounted at ${describeMounts([mount])}`),
    ...mapped.map(({ name }) => `part of /dev/${name}`),
    ...openersOf(paths, proc).map((pid) => `open in process ${pid}`),
  ];
}

function isPartition(name: string, sys: string): boolean {
  try {
    return Deno.statSync(`${sys}/class/block/${name}/partition`).isFile;
  } catch {
    return false;
  }
}
