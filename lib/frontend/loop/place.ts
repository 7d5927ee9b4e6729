/**
 * Where the loop frontend keeps its mount points: `<run>/loop/<volume>/<n>`, the file being
 * `<run>/loop/<volume>/<n>/volume`. Everything of a volume can be found again by that path, in the mount table
 * and as the backing file of loop devices, without any other record. `n` lets a new mount stand beside a dead
 * one that is still in use.
 *
 * @module
 */
import { FILE_NAME } from "./protocol.ts";

/** Default run directory. */
export const RUN_DIRECTORY = "/run/drover";

/** Longest volume name that has a place: a file name's limit. */
const MAX_NAME_BYTES = 255;

/** A volume's place. */
export interface LoopPlace {
  /** The run directory, such as {@linkcode RUN_DIRECTORY}; absolute, without symbolic links. */
  readonly run: string;
  /** The volume's name. */
  readonly name: string;
}

/**
 * The directory that holds the mount points of a volume.
 *
 * @throws {TypeError} for a name that cannot be a directory's, or a run directory that is not absolute
 */
export function placeDirectory(place: LoopPlace): string {
  const { run, name } = place;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name) || name.length > MAX_NAME_BYTES) {
    throw new TypeError(`volume name ${JSON.stringify(name.slice(0, 300))} cannot name a directory`);
  }
  if (!/^\/[^\0]*[^/\0]$/.test(run)) {
    throw new TypeError(`run directory ${JSON.stringify(run)} is not an absolute path`);
  }
  return `${run}/loop/${name}`;
}

/** The file in a mount point. */
export function fileIn(mountPoint: string): string {
  return `${mountPoint}/${FILE_NAME}`;
}

/** The mount point that a backing file of a loop device belongs to, if it is one of the volume's; else null. */
export function mountPointOf(place: LoopPlace, backingFile: string): string | null {
  const directory = `${placeDirectory(place)}/`;
  if (!backingFile.startsWith(directory)) return null;
  const rest = new RegExp(`^(\\d+)/${FILE_NAME}$`).exec(backingFile.slice(directory.length));
  return rest === null ? null : `${directory}${rest[1]}`;
}

/** The numbered directories of a volume, mounted or not, in order. */
export function listMountPoints(place: LoopPlace): string[] {
  const directory = placeDirectory(place);
  try {
    return [...Deno.readDirSync(directory)].filter((entry) => /^\d+$/.test(entry.name))
      .map((entry) => Number(entry.name)).sort((a, b) => a - b).map((n) => `${directory}/${n}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Makes an empty directory to mount on. @throws the runtime's error when it cannot be made */
export function makeMountPoint(place: LoopPlace): string {
  const directory = placeDirectory(place);
  Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (let n = 0;; n++) {
    try {
      Deno.mkdirSync(`${directory}/${n}`, { mode: 0o700 });
      return `${directory}/${n}`;
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
  }
}

/** Removes a mount point, and the volume's directory with the last one. The mount must be gone. */
export function removeMountPoint(place: LoopPlace, mountPoint: string): void {
  for (const path of [mountPoint, placeDirectory(place)]) {
    try {
      Deno.removeSync(path);
    } catch (error) {
      // The directory of another mount is left, or somebody was faster.
      if (error instanceof Deno.errors.NotFound) continue;
      if (path === mountPoint || !isNotEmpty(error)) throw error;
    }
  }
}

function isNotEmpty(error: unknown): boolean {
  return error instanceof Error && (error as { code?: unknown }).code === "ENOTEMPTY";
}
