/**
 * Restoring a backup into a snapshot of a replica, in a thread of its own.
 *
 * | found | done |
 * |---|---|
 * | the note says that the snapshot holds this very backup | nothing |
 * | it holds another backup of the volume, which is still in the store | the difference goes to `volume-delta-OLD.img`; when it is complete it is merged into the snapshot |
 * | anything else | everything goes to `SNAPSHOT.snap_tmp`, which gets the snapshot's name when it is complete |
 *
 * So a target that goes away in the middle leaves the snapshot as it was: a stand-by volume can still be used with
 * what it held. Only merging changes it in place; that takes no network, and the note (restore_note.ts) makes the
 * next restore finish a merge that was cut off. A download that was cut off goes on where it was.
 *
 * @module
 */
import {
  BackupInProgressError,
  BackupInputError,
  FileJournal,
  NoSuchBackupError,
  RecordError,
  restoreDelta,
  type RestoreJournal,
  type RestoreOptions,
  type Target,
} from "../../backup/mod.ts";
import { FileSink } from "../../backup/file_sink.ts";
import { prepareRestore, runRestore, withLockAndCodec } from "../../backup/restore.ts";
import { loadVolume } from "../../backup/store.ts";
import { removeIfThere } from "../../disk/atomic.ts";
import type { Files } from "../../io/files.ts";
import { FilesLibc } from "../../io/files_libc.ts";
import { openTargetHere } from "./backup_job.ts";
import type { JobContext } from "./job.ts";
import { readRestoreNote, RESTORE_JOURNAL, type RestoreNote, writeRestoreNote } from "./restore_note.ts";

/** What is restored, and where to. */
export interface RestoreParams {
  /** The replica directory. */
  readonly directory: string;
  /** File name of the snapshot's disk; need not be there. */
  readonly disk: string;
  /** URL of the target. */
  readonly target: string;
  /** What the target needs beside. */
  readonly credentials: Readonly<Record<string, string>>;
  /** Name of the backup volume. */
  readonly volume: string;
  /** Name of the backup. */
  readonly backup: string;
  /** Blocks under way at the same time. */
  readonly concurrency: number;
  /** Size of this volume in bytes. */
  readonly bytes: number;
  /** True: below the snapshot is a backing image, so zeros have to be there as zeros. */
  readonly backed: boolean;
}

/** How the snapshot came to its content. */
export type RestoreKind = "full" | "incremental" | "there";

/** Bytes moved at once in a merge. */
const PIECE_BYTES = 1024 ** 2;

/** Writes what the delta has over the snapshot. Doing it again, or from the middle, gives the same. */
function mergeDelta(files: Files, delta: string, snapshot: string): void {
  const from = files.open(delta), to = files.open(snapshot, { write: true });
  try {
    const size = files.fstat(from).size, buffer = new Uint8Array(PIECE_BYTES);
    if (files.fstat(to).size < size) files.truncate(to, size);
    for (const extent of files.extents(from, 0, size)) {
      for (let done = 0; done < extent.length;) {
        const part = buffer.subarray(0, Math.min(PIECE_BYTES, extent.length - done));
        const got = files.readAt(from, part, extent.offset + done);
        if (got === 0) break;
        files.writeAt(to, part.subarray(0, got), extent.offset + done);
        done += got;
      }
    }
    files.sync(to);
  } finally {
    files.close(from);
    files.close(to);
  }
}

class Restore {
  readonly #files = new FilesLibc();
  readonly #params: RestoreParams;
  readonly #context: JobContext;
  readonly #journal: RestoreJournal;

  constructor(params: RestoreParams, context: JobContext) {
    this.#params = params;
    this.#context = context;
    this.#journal = new FileJournal(this.#path(RESTORE_JOURNAL));
  }

  async run(): Promise<RestoreKind> {
    const { volume, backup, directory, disk } = this.#params;
    let note = this.#note();
    if (note !== undefined && note.delta !== "") note = this.#merge(note);
    if (note?.backup === backup) return "there";
    await using target = await openTargetHere(this.#params.target, this.#params.credentials);
    await this.#checkSize(target);
    if (note !== undefined && note.backup !== "") {
      try {
        await this.#incremental(target, note);
        return "incremental";
      } catch (error) {
        // The old backup is gone from the store, or its blocks are of another size: then everything.
        const other = error instanceof NoSuchBackupError || error instanceof RecordError ||
          error instanceof BackupInputError || error instanceof BackupInProgressError;
        if (!other) throw error;
        removeIfThere(this.#files, this.#path(`volume-delta-${note.backup}.img`));
        await this.#journal.clear();
      }
    }
    await this.#full(target);
    writeRestoreNote(this.#files, directory, { volume, disk, backup, delta: "" });
    return "full";
  }

  /** The note, when it speaks of this snapshot and this volume. */
  #note(): RestoreNote | undefined {
    const { directory, disk, volume } = this.#params;
    const note = readRestoreNote(this.#files, directory);
    const fits = note?.volume === volume && note.disk === disk && this.#files.exists(this.#path(disk));
    return fits ? note : undefined;
  }

  async #checkSize(target: Target): Promise<void> {
    const { volume, bytes } = this.#params;
    const stored = (await loadVolume(target, volume)).bytes;
    if (stored > bytes) {
      throw new BackupInputError(
        `the backup's volume has ${stored} bytes and this one ${bytes}: need to expand the DR volume`,
      );
    }
  }

  async #incremental(target: Target, note: RestoreNote): Promise<void> {
    const { volume, backup, directory, disk } = this.#params;
    const delta = this.#path(`volume-delta-${note.backup}.img`);
    if (!this.#files.exists(delta)) await this.#journal.clear();
    else if (await this.#journal.load() === undefined) this.#files.unlink(delta);
    const { bytes } = await loadVolume(target, volume);
    {
      using sink = new FileSink(delta, bytes);
      await restoreDelta(target, sink, { ...this.#options(), volume, from: note.backup, to: backup });
      await sink.flush();
    }
    this.#files.syncDirectory(directory);
    const merging = { volume, disk, backup: note.backup, delta: backup };
    writeRestoreNote(this.#files, directory, merging);
    this.#merge(merging);
  }

  /** Finishes what the note says. */
  #merge(note: RestoreNote): RestoreNote {
    const { directory, disk } = this.#params;
    const delta = this.#path(`volume-delta-${note.backup}.img`),
      merged = { ...note, backup: note.delta, delta: "" };
    mergeDelta(this.#files, delta, this.#path(disk));
    writeRestoreNote(this.#files, directory, merged);
    removeIfThere(this.#files, delta);
    return merged;
  }

  async #full(target: Target): Promise<void> {
    const { volume, backup, directory, disk, backed } = this.#params;
    const temporary = this.#path(`${disk}.snap_tmp`);
    if (!this.#files.exists(temporary)) await this.#journal.clear();
    else if (await this.#journal.load() === undefined) this.#files.unlink(temporary);
    const stored = (await loadVolume(target, volume)).bytes;
    {
      // Where the volume is larger than the backup's, its end reads as zeros.
      using sink = new FileSink(temporary, Math.max(stored, this.#params.bytes));
      const options = { ...this.#options(), volume, backup };
      await withLockAndCodec(target, volume, options, async (codec) => {
        const plan = await prepareRestore(target, options);
        // Over a backing image a hole is no zero.
        await runRestore(target, { ...plan, sinkIsZero: !backed }, sink, codec, options);
      });
    }
    // From here on the old content is no more what a note says, and the new one is not yet.
    writeRestoreNote(this.#files, directory, { volume, disk, backup: "", delta: "" });
    this.#files.rename(temporary, this.#path(disk));
    this.#files.syncDirectory(directory);
    await this.#journal.clear();
  }

  #options(): RestoreOptions {
    const { volume, backup, concurrency } = this.#params, { signal } = this.#context;
    let shown = -1;
    return {
      volume,
      backup,
      concurrency,
      signal,
      journal: this.#journal,
      onProgress: ({ percent }) => {
        if (percent === shown) return;
        shown = percent;
        this.#context.event(percent);
      },
    };
  }

  #path(name: string): string {
    return `${this.#params.directory}/${name}`;
  }
}

/** See the module text. Reports the percentage. */
export async function restoreSnapshot(params: RestoreParams, context: JobContext): Promise<RestoreKind> {
  return await new Restore(params, context).run();
}
