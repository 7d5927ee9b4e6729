/**
 * Tells when the disks under a volume run full: its copies have holes, so a volume may be larger than what is free
 * below it, and the first one to notice would be a host whose write fails.
 *
 * @module
 */
import { formatSize } from "../support/sizes.ts";

/** How often it is looked at, milliseconds. */
const LOOK_MS = 5_000;
/** Less than this part of a file system is little, and so are fewer bytes than {@linkcode LITTLE_BYTES}. */
const LITTLE_PART = 0.03;
/** Many gigabytes are enough, whatever part they are. */
const ENOUGH_BYTES = 16 * 1024 ** 3;
/** Fewer free bytes are little in any case. */
const LITTLE_BYTES = 64 * 1024 ** 2;
/** With less, writes fail: a file system needs some room itself. */
const NONE_BYTES = 1024 ** 2;

/** What is free below a directory, bytes. */
export interface Space {
  /** For files of this user. */
  readonly free: number;
  /** In all. */
  readonly total: number;
}

type Level = "enough" | "little" | "none";

function levelOf({ free, total }: Space): Level {
  if (free < NONE_BYTES) return "none";
  if (free >= ENOUGH_BYTES) return "enough";
  // A file system that is small as a whole was chosen so.
  const little = Math.min(Math.max(total * LITTLE_PART, LITTLE_BYTES), total / 2);
  return free < little ? "little" : "enough";
}

/** See the module text. */
export class SpaceWatch {
  readonly #space: (directory: string) => Space;
  readonly #warn: (text: string) => void;
  readonly #told = new Map<string, Level>();
  #lookedAt = -Infinity;

  /** Knows nothing yet. @param space asks the file system. @param warn tells the user */
  constructor(space: (directory: string) => Space, warn: (text: string) => void) {
    this.#space = space;
    this.#warn = warn;
  }

  /** Looks, if it is time, and tells what changed. @param directories of copies. @param now monotonic milliseconds */
  look(directories: readonly string[], now: number): void {
    if (now - this.#lookedAt < LOOK_MS) return;
    this.#lookedAt = now;
    for (const directory of directories) {
      let space: Space;
      try {
        space = this.#space(directory);
      } catch {
        continue; // The copy there has troubles of its own, which are told.
      }
      const level = levelOf(space), before = this.#told.get(directory) ?? "enough";
      this.#told.set(directory, level);
      if (level === before) continue;
      if (level === "none") {
        this.#warn(
          `warning: no space is left on the disk of ${directory}: writes to the volume may fail there`,
        );
      } else if (level === "little") {
        this.#warn(`warning: only ${formatSize(space.free)} are free on the disk of ${directory}`);
      } else {this.#warn(
          `there is space again on the disk of ${directory}: ${formatSize(space.free)} are free`,
        );}
    }
  }
}
