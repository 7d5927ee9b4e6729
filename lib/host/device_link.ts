/**
 * A second name for a block device, such as `/dev/longhorn/NAME`: a symbolic link, or a device node where the
 * name is used behind a mount that does not show `/dev/loopN`. Replaced atomically, removed only if it is ours.
 *
 * @module
 */
import { dirname } from "node:path";
import { type Runner, runOrThrow } from "./command.ts";

/** Group `disk`, which may use block devices, on every distribution. */
const DISK_GROUP = 6;

/** How the second name is made. */
export type LinkKind = "symlink" | "node";

/** A name to make. */
export interface LinkOptions {
  /** Absolute path of the name. */
  readonly path: string;
  /** How it is made. */
  readonly kind: LinkKind;
}

/** The device that is named. */
export interface LinkTarget {
  /** Such as `/dev/loop3`. */
  readonly path: string;
  /** Device number, upper part. */
  readonly major: number;
  /** Device number, lower part. */
  readonly minor: number;
}

/** Device number as stat(2) tells it, for the small numbers of loop devices (linux/kdev_t.h). */
function deviceNumber(target: LinkTarget): number {
  return (target.major << 8) | (target.minor & 0xff) | ((target.minor & ~0xff) << 12);
}

/**
 * Makes the name, or turns it to this device. Its directory is made too.
 *
 * @throws {CommandError} or the runtime's error when the name cannot be made
 */
export async function linkDevice(runner: Runner, link: LinkOptions, target: LinkTarget): Promise<void> {
  Deno.mkdirSync(dirname(link.path), { recursive: true });
  const temporary = `${link.path}.${crypto.randomUUID().slice(0, 8)}`;
  if (link.kind === "symlink") Deno.symlinkSync(target.path, temporary);
  else {
    const numbers = [String(target.major), String(target.minor)];
    await runOrThrow(runner, ["mknod", "--mode=0660", temporary, "b", ...numbers]);
  }
  try {
    if (link.kind === "node") Deno.chownSync(temporary, 0, DISK_GROUP);
    Deno.renameSync(temporary, link.path);
  } catch (error) {
    Deno.removeSync(temporary);
    throw error;
  }
}

/** Whether a name leads to this device. */
export function isLinkTo(path: string, target: LinkTarget): boolean {
  try {
    const stat = Deno.lstatSync(path);
    if (stat.isSymlink) return Deno.readLinkSync(path) === target.path;
    return stat.isBlockDevice === true && stat.rdev === deviceNumber(target);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Removes the name if it leads to this device. @returns whether it did */
export function unlinkDevice(path: string, target: LinkTarget): boolean {
  if (!isLinkTo(path, target)) return false;
  Deno.removeSync(path);
  return true;
}
