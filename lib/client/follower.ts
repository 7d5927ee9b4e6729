/**
 * A stand-by volume: it is kept as the newest backup of another volume, so that it can take over.
 *
 * What a new backup changed is downloaded to a file first and written to the volume only when it is complete: a
 * target that goes away in the middle leaves the volume as it was. All is noted in a directory of its own:
 *
 * | file | what it says | what it guards against |
 * | --- | --- | --- |
 * | `state.json` | which backup the volume holds (`Backup`), of which volume (`Volume`) of which target (`Target`); which one is being written to it (`Delta`) | a second program with other ideas; a crash while the volume is written: then it is written again, from the beginning |
 * | `delta.img` | what changed | |
 * | `journal.json` | how far the download is | downloading again what is there |
 *
 * @module
 */
import {
  BackupInProgressError,
  BackupInputError,
  FileJournal,
  inspectVolume,
  type LockOptions,
  NoSuchBackupError,
  type OperationOptions,
  RecordError,
  restoreBackup,
  restoreDelta,
  type Target,
} from "../backup/mod.ts";
import { FileSink } from "../backup/file_sink.ts";
import { replaceFile } from "../disk/atomic.ts";
import { FilesLibc } from "../io/files_libc.ts";
import { ClientError } from "./errors.ts";
import type { VolumeSink } from "./device_sink.ts";

const STATE = "state.json", DELTA = "delta.img", JOURNAL = "journal.json";
const MODE = 0o600;
/** Bytes moved at once. */
const PIECE_BYTES = 1024 ** 2;

/** What a stand-by volume holds. */
export interface FollowState {
  /** URL of the target. */
  readonly target: string;
  /** Name of the volume that is followed. */
  readonly volume: string;
  /** Backup that the stand-by volume holds, whole; empty: none. */
  readonly backup: string;
  /** Backup that is being written to it from the complete file of changes; empty: none. */
  readonly delta: string;
}

/** How a step of following works. */
export interface FollowOptions extends OperationOptions, LockOptions {}

/** What a step of following did. */
export type FollowStep = "nothing" | "full" | "incremental";

/** The state in a directory; undefined when nothing follows there. @throws {ClientError} when it is unreadable */
export function readFollowState(directory: string): FollowState | undefined {
  const files = new FilesLibc(), path = `${directory}/${STATE}`;
  if (!files.exists(path)) return undefined;
  try {
    const found = JSON.parse(new TextDecoder().decode(files.readWhole(path))) as Record<string, unknown>;
    const text = (key: string): string => {
      const value = found[key];
      if (typeof value !== "string") throw new TypeError(`${key} is missing`);
      return value;
    };
    return { target: text("Target"), volume: text("Volume"), backup: text("Backup"), delta: text("Delta") };
  } catch (cause) {
    throw new ClientError(`${path} cannot be read; remove ${directory} to begin anew`, { cause });
  }
}

/** See the module text. Dispose it. */
export class Follower implements Disposable {
  readonly #files = new FilesLibc();
  readonly #directory: string;
  readonly #sink: VolumeSink;
  readonly #journal: FileJournal;
  readonly #lock: number;

  /**
   * Takes the directory of a stand-by volume; makes it when it is not there.
   *
   * @throws {ClientError} when another process has it
   */
  constructor(directory: string, sink: VolumeSink) {
    Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#directory = directory;
    this.#sink = sink;
    this.#journal = new FileJournal(`${directory}/${JOURNAL}`);
    this.#lock = this.#files.open(`${directory}/lock`, { write: true, create: MODE });
    if (!this.#files.tryLock(this.#lock)) {
      this.#files.close(this.#lock);
      throw new ClientError(`${directory}: another process keeps this volume current`);
    }
  }

  /** Finishes what was begun to be written to the volume. Needs no target. @returns what the volume holds then */
  async settle(): Promise<FollowState | undefined> {
    const state = readFollowState(this.#directory);
    return state === undefined || state.delta === "" ? state : await this.#apply(state);
  }

  /**
   * Brings the volume to a backup.
   *
   * @throws {ClientError} when it follows another volume
   * @throws see `restoreBackup`; the volume holds what it held, except when that was nothing
   */
  async bringTo(
    target: Target,
    volume: string,
    backup: string,
    options: FollowOptions = {},
  ): Promise<FollowStep> {
    const state = await this.settle();
    if (state !== undefined && (state.target !== target.url || state.volume !== volume)) {
      throw new ClientError(
        `this volume follows ${state.volume} on ${state.target}; remove ${this.#directory} to let it follow another`,
      );
    }
    if (state?.backup === backup) return "nothing";
    const { bytes } = await inspectVolume(target, volume);
    if (bytes !== this.#sink.bytes) {
      throw new ClientError(
        `volume ${volume} has ${bytes} bytes at its last backup, the stand-by volume ${this.#sink.bytes}: ` +
          "make it as large",
      );
    }
    if (state !== undefined && state.backup !== "") {
      try {
        await this.#change(target, state, backup, options);
        return "incremental";
      } catch (error) {
        // What it holds is no longer in the store, or in blocks of another size.
        const other = error instanceof NoSuchBackupError || error instanceof RecordError ||
          error instanceof BackupInputError || error instanceof BackupInProgressError;
        if (!other) throw error;
        await this.#forgetDownload();
      }
    }
    await this.#everything(target, volume, backup, options);
    return "full";
  }

  async #everything(
    target: Target,
    volume: string,
    backup: string,
    options: OperationOptions,
  ): Promise<void> {
    const state = { target: target.url, volume, backup: "", delta: "" };
    this.#save(state);
    const journal = this.#journal;
    await restoreBackup(target, this.#sink, { ...options, volume, backup, zeroRest: true, journal });
    this.#save({ ...state, backup });
  }

  async #change(
    target: Target,
    state: FollowState,
    backup: string,
    options: OperationOptions,
  ): Promise<void> {
    const path = this.#path(DELTA);
    if (!this.#files.exists(path)) await this.#journal.clear();
    else if (await this.#journal.load() === undefined) this.#files.unlink(path);
    {
      using file = new FileSink(path, this.#sink.bytes);
      const { volume, backup: from } = state;
      await restoreDelta(target, file, { ...options, volume, from, to: backup, journal: this.#journal });
    }
    this.#files.syncDirectory(this.#directory);
    const complete = { ...state, delta: backup };
    this.#save(complete);
    await this.#apply(complete);
  }

  /** Writes what changed to the volume. Doing it again gives the same. */
  async #apply(state: FollowState): Promise<FollowState> {
    const fd = this.#files.open(this.#path(DELTA));
    try {
      for (const extent of this.#files.extents(fd, 0, this.#files.fstat(fd).size)) {
        for (let done = 0; done < extent.length;) {
          const piece = new Uint8Array(Math.min(PIECE_BYTES, extent.length - done));
          const got = this.#files.readAt(fd, piece, extent.offset + done);
          if (got === 0) break;
          await this.#sink.write(extent.offset + done, piece.subarray(0, got));
          done += got;
        }
      }
    } finally {
      this.#files.close(fd);
    }
    await this.#sink.flush();
    const merged = { ...state, backup: state.delta, delta: "" };
    this.#save(merged);
    await this.#forgetDownload();
    return merged;
  }

  async #forgetDownload(): Promise<void> {
    if (this.#files.exists(this.#path(DELTA))) this.#files.unlink(this.#path(DELTA));
    await this.#journal.clear();
  }

  #save({ target, volume, backup, delta }: FollowState): void {
    const text = JSON.stringify({ Target: target, Volume: volume, Backup: backup, Delta: delta });
    replaceFile(this.#files, this.#directory, STATE, new TextEncoder().encode(`${text}\n`));
  }

  #path(name: string): string {
    return `${this.#directory}/${name}`;
  }

  /** Ends following for good: the volume is an ordinary one from now on. */
  forget(): void {
    Deno.removeSync(this.#directory, { recursive: true });
  }

  /** Lets another process take over. */
  [Symbol.dispose](): void {
    this.#files.close(this.#lock);
  }
}
