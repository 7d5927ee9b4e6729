/**
 * Restoring one backup to a file, raw or qcow2, without any volume. The data goes to `PATH.partial`, how far it is to
 * `PATH.partial.json`; only when everything is there and synced, the file gets its name. Calling it again after an
 * interruption goes on.
 *
 * @module
 */
import { dirname } from "node:path";
import type { Codec } from "./codec.ts";
import { BackupInputError } from "./errors.ts";
import { FileSink } from "./file_sink.ts";
import { checksumOf } from "./names.ts";
import { layoutQcow2, type Qcow2Layout } from "./qcow2.ts";
import { type PreparedRestore, prepareRestore, runRestore, withLockAndCodec } from "./restore.ts";
import type { Target } from "./target/target.ts";
import type { OperationOptions, RestoreJournal, RestoreResult, RestoreToFileOptions } from "./types.ts";

async function syncDirectory(path: string): Promise<void> {
  using directory = await Deno.open(path);
  await directory.sync();
}

/** A journal in a file: written under another name, synced, renamed. */
export class FileJournal implements RestoreJournal {
  readonly #path: string;

  /** A journal at this path. */
  constructor(path: string) {
    this.#path = path;
  }

  /** See {@linkcode RestoreJournal.load}. */
  async load(): Promise<string | undefined> {
    try {
      return await Deno.readTextFile(this.#path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /** See {@linkcode RestoreJournal.save}. */
  async save(text: string): Promise<void> {
    const temporary = `${this.#path}.tmp`;
    {
      using file = await Deno.open(temporary, { write: true, create: true, truncate: true });
      const bytes = new TextEncoder().encode(text);
      for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
      await file.sync();
    }
    await Deno.rename(temporary, this.#path);
    await syncDirectory(dirname(this.#path));
  }

  /** See {@linkcode RestoreJournal.clear}. */
  async clear(): Promise<void> {
    for (const path of [this.#path, `${this.#path}.tmp`]) {
      await Deno.remove(path).catch((error) => {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      });
    }
  }
}

function layoutFor(plan: PreparedRestore): Qcow2Layout {
  const zeros = checksumOf(new Uint8Array(plan.blockBytes));
  const offsets = plan.steps.filter(({ checksum }) => checksum !== undefined && checksum !== zeros)
    .map(({ offset }) => offset);
  return layoutQcow2(plan.volumeBytes, plan.blockBytes, offsets);
}

/** Opens the partial file; one that no journal speaks of is begun anew. */
function openPartial(
  path: string,
  plan: PreparedRestore,
  format: RestoreToFileOptions["format"],
  fresh: boolean,
): FileSink {
  if (format === "raw") return new FileSink(path, plan.volumeBytes, { fresh });
  const layout = layoutFor(plan);
  const place = (offset: number): number => {
    const found = layout.place(offset);
    if (found === undefined) throw new BackupInputError(`the image has no place for offset ${offset}`);
    return found;
  };
  const sink = new FileSink(path, layout.fileBytes, { fresh, place });
  try {
    sink.writeAt(0, layout.metadata);
    return sink;
  } catch (error) {
    sink[Symbol.dispose]();
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** A journal whose note counts only for this backup in this format. */
async function keepIfSame(journal: FileJournal, fingerprint: string): Promise<boolean> {
  const text = await journal.load();
  if (text === undefined) return false;
  try {
    if ((JSON.parse(text) as { Restore?: unknown }).Restore === fingerprint) return true;
  } catch {
    // Not a journal of ours: begin anew.
  }
  await journal.clear();
  return false;
}

/** What {@linkcode restorePlanToFile} takes beside the plan. */
export interface PlanToFileOptions extends OperationOptions {
  /** The file; must not exist. */
  readonly path: string;
  /** Its format. */
  readonly format: RestoreToFileOptions["format"];
  /** See {@linkcode RestoreToFileOptions.journalEveryBytes}. */
  readonly journalEveryBytes?: number;
  /** Looks at the whole content before it gets its name; what it throws ends the restore. */
  readonly check?: (partial: string) => Promise<void>;
}

/**
 * Carries out a plan in a new file. The caller holds the lock.
 *
 * @throws {BackupInputError} when the file exists
 */
export async function restorePlanToFile(
  target: Target,
  whole: PreparedRestore,
  codec: Codec,
  options: PlanToFileOptions,
): Promise<RestoreResult> {
  const { path, format } = options;
  if (await exists(path)) {
    throw new BackupInputError(`${path} exists: remove it first, or choose another name`);
  }
  const plan = { ...whole, fingerprint: `${format} ${whole.fingerprint}` };
  const partial = `${path}.partial`, journal = new FileJournal(`${partial}.json`);
  const goesOn = await keepIfSame(journal, plan.fingerprint) && await exists(partial);
  if (!goesOn) await journal.clear();
  let result: RestoreResult;
  {
    using sink = openPartial(partial, plan, format, !goesOn);
    result = await runRestore(target, plan, sink, codec, { ...options, journal });
  }
  await options.check?.(partial);
  await Deno.rename(partial, path);
  await syncDirectory(dirname(path));
  await journal.clear();
  return result;
}

/**
 * Restores one backup to a new file.
 *
 * @throws {BackupInputError} when the file exists
 * @throws see `restoreBackup`; the file has not its name then, and the same call goes on
 */
export function restoreToFile(target: Target, options: RestoreToFileOptions): Promise<RestoreResult> {
  return withLockAndCodec(target, options.volume, options, async (codec) => {
    const plan = await prepareRestore(target, options);
    return await restorePlanToFile(target, plan, codec, options);
  });
}
