/**
 * Who uses a volume: `NAME.run.json` in each of its directories is locked (flock) as long as a process serves the
 * volume, and says how to reach that process. The kernel drops the lock however the process ends.
 *
 * @module
 */
import { directoriesOf, type VolumeRecord } from "./record.ts";

const LOCK_ATTEMPTS = 5, LOCK_PAUSE_MS = 20;

/** One process of a running volume. */
export interface RunningReplica {
  /** `VOLUME-r-N`. */
  readonly name: string;
  /** Its process. */
  readonly pid: number;
  /** Control address. */
  readonly address: string;
}

/** How to reach a running volume. */
export interface RunningVolume {
  /** The process that serves it. */
  readonly pid: number;
  /** The process of the engine. */
  readonly enginePid: number;
  /** Control address of the engine. */
  readonly control: string;
  /** Kind. */
  readonly frontend: string;
  /** Where the disk is. */
  readonly endpoint: string;
  /** Those that were started. */
  readonly replicas: readonly RunningReplica[];
  /**
   * How often another engine was asked for by SIGUSR2, and why the last one could not take over ("": it did). Absent in
   * processes that do not know the signal: it would end them.
   */
  readonly relief?: { readonly count: number; readonly failure: string };
}

/** A volume is in use. */
export class InUseError extends Error {
  /** For checks. */
  override readonly name = "InUseError";
}

/** The name of the file. */
export function useName(volume: string): string {
  return `${volume}.run.json`;
}

function parse(text: string): RunningVolume | undefined {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && typeof value.pid === "number" ? value : undefined;
  } catch {
    return undefined; // Just starting.
  }
}

/** What is known of who uses a volume: undefined when nobody does; `starting` before it can be reached. */
export function whoUses(record: VolumeRecord): RunningVolume | "starting" | undefined {
  for (const directory of directoriesOf(record)) {
    try {
      using file = Deno.openSync(`${directory}/${useName(record.name)}`, { read: true });
      if (file.tryLockSync(true)) continue;
      return parse(Deno.readTextFileSync(`${directory}/${useName(record.name)}`)) ?? "starting";
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return undefined;
}

/** Who only looks takes the lock for a moment: that does not count. */
function lockPatiently(file: Deno.FsFile): boolean {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  for (let attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
    if (file.tryLockSync(true)) return true;
    Atomics.wait(cell, 0, 0, LOCK_PAUSE_MS);
  }
  return false;
}

/** The exclusive use of a volume. Disposing ends it. */
export class VolumeUse implements Disposable {
  readonly #files = new Map<string, Deno.FsFile>();

  /**
   * Takes it, in all directories that are there.
   * @throws {InUseError} naming the process that has it
   */
  constructor(public record: VolumeRecord) {
    for (const directory of directoriesOf(record)) {
      try {
        this.#take(directory);
      } catch (error) {
        this[Symbol.dispose]();
        throw error;
      }
    }
  }

  #take(directory: string): void {
    const { record } = this;
    try {
      const path = `${directory}/${useName(record.name)}`;
      const file = Deno.openSync(path, { read: true, write: true, create: true, mode: 0o600 });
      if (!lockPatiently(file)) {
        file.close();
        const user = whoUses(record);
        const who = typeof user === "object" ? ` by process ${user.pid}, at ${user.endpoint}` : "";
        throw new InUseError(`volume ${record.name} is being served already${who}`);
      }
      this.#files.set(directory, file);
      file.truncateSync(0);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // That disk is away.
    }
  }

  /** Goes on with a record that has other directories. @throws {InUseError} when a new one is in use */
  follow(record: VolumeRecord): void {
    const directories = directoriesOf(record);
    this.record = record;
    for (const [directory, file] of this.#files) {
      if (directories.includes(directory)) continue;
      this.#files.delete(directory);
      release(file);
      removeFile(`${directory}/${useName(record.name)}`);
    }
    for (const directory of directories) if (!this.#files.has(directory)) this.#take(directory);
  }

  /** Tells others how to reach the volume. */
  announce(running: RunningVolume): void {
    const bytes = new TextEncoder().encode(`${JSON.stringify(running)}\n`);
    for (const file of this.#files.values()) {
      file.seekSync(0, Deno.SeekMode.Start);
      file.truncateSync(0);
      for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
    }
  }

  /** Ends the use. */
  [Symbol.dispose](): void {
    for (const file of this.#files.values()) release(file);
    this.#files.clear();
  }
}

function release(file: Deno.FsFile): void {
  try {
    file.truncateSync(0);
  } catch {
    // A full or dead disk: the lock goes all the same.
  }
  file.close();
}

/** What is gone already is fine. */
function removeFile(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
