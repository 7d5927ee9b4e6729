/**
 * Which backup a replica holds, kept beside its files: so that the next restore downloads only what changed, and one
 * that was cut off goes on, also after the process was started anew. Peers that do not know the file ignore it.
 *
 * `drover-restore.json`:
 *
 * | Key | Type | What it guards against |
 * |---|---|---|
 * | Volume | string | a backup of the same name of another volume |
 * | Disk | string | the snapshot that holds the content; a note about another one is void |
 * | Backup | string | what that snapshot holds, whole; "" while it holds nothing whole |
 * | Delta | string | the backup whose difference lies complete in the delta file and is being merged; "" else |
 *
 * @module
 */
import { replaceFile } from "../../disk/atomic.ts";
import type { Files } from "../../io/files.ts";

/** Name of the file. */
export const RESTORE_NOTE = "drover-restore.json";
/** Name of the file that says how far the download under way is. */
export const RESTORE_JOURNAL = "drover-restore-journal.json";

/** See the module text. */
export interface RestoreNote {
  /** Name of the backup volume. */
  readonly volume: string;
  /** File name of the snapshot's disk. */
  readonly disk: string;
  /** What it holds. */
  readonly backup: string;
  /** What is being merged into it. */
  readonly delta: string;
}

/** Reads the note; undefined when there is none, or it makes no sense: then everything is restored. */
export function readRestoreNote(files: Files, directory: string): RestoreNote | undefined {
  if (!files.exists(`${directory}/${RESTORE_NOTE}`)) return undefined;
  try {
    const bytes = files.readWhole(`${directory}/${RESTORE_NOTE}`);
    const found = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    const text = (key: string): string => {
      const value = found[key];
      if (typeof value !== "string") throw new TypeError(key);
      return value;
    };
    return {
      volume: text("Volume"),
      disk: text("Disk"),
      backup: text("Backup"),
      delta: text("Delta"),
    };
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return undefined;
    throw error;
  }
}

/** Writes the note durably. */
export function writeRestoreNote(files: Files, directory: string, note: RestoreNote): void {
  const { volume, disk, backup, delta } = note;
  const text = JSON.stringify({ Volume: volume, Disk: disk, Backup: backup, Delta: delta });
  replaceFile(files, directory, RESTORE_NOTE, new TextEncoder().encode(`${text}\n`));
}
