/**
 * Removing blocks that no backup needs any more, while other clients may be at work on the same volume.
 *
 * A block may go only when no backup needs it, finished or not. Why none that is needed goes:
 *
 * 1. A collection holds the lock against backups and restores; who uses blocks holds the other one. This also keeps
 *    Longhorn away.
 * 2. A backup writes its incomplete record before it looks for blocks. A collection that finds an incomplete record
 *    removes nothing, even when its writer's lock has expired because the machine was asleep.
 * 3. A collection writes its note (`collection.ts`) before it looks for records a second time; a backup reads the note
 *    after it has written its record. Whichever comes second sees the other: the collection stops, or the backup looks
 *    whether its blocks are still there before it says that it is complete.
 * 4. A collection that could not refresh its lock stops before others may take it for expired.
 * 5. The newest backup that the volume's record names must be among the records listed; a listing that lacks it lags
 *    behind, and nothing is removed.
 *
 * An incomplete record of Drover's that was not touched for a day is one of a backup that died: it goes. Those of other
 * writers stay until somebody removes them.
 *
 * @module
 */
import { type CollectionNote, readCollectionNote, writeCollectionNote } from "./collection.ts";
import { WRITER, WRITER_KEY } from "./create.ts";
import { NoSuchBackupError, RecordError } from "./errors.ts";
import { inLanes, laneCount, mapInLanes } from "./lanes.ts";
import type { Lock } from "./lock.ts";
import { backupPath, blocksFolder, checksumOfPath, newName } from "./names.ts";
import type { BackupRecord, VolumeRecord } from "./records.ts";
import { backupNames, findBackup, findVolume, isComplete, saveVolume } from "./store.ts";
import type { Entry, Target } from "./target/target.ts";
import type { DeleteOptions, GarbageReport } from "./types.ts";

/** An incomplete record that was not written for so long is one of a backup that died, in milliseconds. */
const ABANDONED_MS = 24 * 60 * 60 * 1000;
/** A collection looks for new records each time it has removed so many blocks. */
const RECHECK_BLOCKS = 256;

/** Stops a collection, with what to report. */
class Stop extends Error {
  constructor(readonly state: GarbageReport["state"], readonly detail: string) {
    super(detail);
  }
}

/** A report on nothing removed. */
export function nothingRemoved(state: GarbageReport["state"], detail: string): GarbageReport {
  return { state, detail, removedBlocks: 0, removedBytes: 0, keptBlocks: 0 };
}

/** The complete backup to build on next: that of the newest snapshot. */
export function newestOf(records: readonly BackupRecord[]): BackupRecord | undefined {
  const age = ({ snapshotCreatedAt, createdTime }: BackupRecord): string => snapshotCreatedAt || createdTime;
  return records.filter(isComplete).reduce<BackupRecord | undefined>(
    (best, record) => best === undefined || age(record) > age(best) ? record : best,
    undefined,
  );
}

/** One collection of one volume. The caller holds the lock against backups and restores. */
export class Collection {
  readonly #target: Target;
  readonly #volume: string;
  readonly #lock: Lock;
  readonly #options: DeleteOptions;
  #removedBlocks = 0;
  #removedBytes = 0;
  #keptBlocks = 0;
  /** Checksums of all blocks that backups need. */
  readonly #needed = new Set<string>();

  /** A collection of `volume` under `lock`. */
  constructor(target: Target, volume: string, lock: Lock, options: DeleteOptions) {
    this.#target = target;
    this.#volume = volume;
    this.#lock = lock;
    this.#options = options;
  }

  /** Removes what nothing needs, and says what it did. */
  async run(): Promise<GarbageReport> {
    try {
      const records = await this.#records();
      await this.#assertListingWhole(records);
      const garbage = await this.#garbage();
      if (garbage.length > 0) await this.#remove(garbage, records);
      await this.#updateVolume(records);
      return this.#report("done", "");
    } catch (error) {
      if (error instanceof Stop) return this.#report(error.state, error.detail);
      throw error;
    }
  }

  #report(state: GarbageReport["state"], detail: string): GarbageReport {
    return {
      state,
      detail,
      removedBlocks: this.#removedBlocks,
      removedBytes: this.#removedBytes,
      keptBlocks: this.#keptBlocks,
    };
  }

  get #lanes(): number {
    return laneCount(this.#options.concurrency);
  }

  /** All records, without their blocks: together those may be many. @throws {Stop} when one cannot be relied on */
  async #records(): Promise<BackupRecord[]> {
    const names = await backupNames(this.#target, this.#volume);
    const found = await mapInLanes(names, this.#lanes, this.#options.signal, (name) => this.#record(name));
    return found.filter((record) => record !== undefined);
  }

  async #record(name: string): Promise<BackupRecord | undefined> {
    let record: BackupRecord | undefined;
    try {
      record = await findBackup(this.#target, this.#volume, name);
    } catch (error) {
      if (error instanceof RecordError) throw new Stop("unreadable record", error.message);
      throw error;
    }
    if (record === undefined) return undefined;
    for (const { checksum } of record.blocks) this.#needed.add(checksum);
    if (isComplete(record)) return { ...record, blocks: [] };
    const path = backupPath(this.#volume, name);
    const age = this.#lock.targetTimeMs - ((await this.#target.head(path))?.modifiedMs ?? Infinity);
    if (record.others[WRITER_KEY] !== WRITER || age < ABANDONED_MS) {
      throw new Stop("in progress", `backup ${name} is in progress or was cut short`);
    }
    this.#lock.assertHeld();
    await this.#target.remove(path);
    return undefined;
  }

  async #assertListingWhole(records: readonly BackupRecord[]): Promise<void> {
    let last: VolumeRecord | undefined;
    try {
      last = await findVolume(this.#target, this.#volume);
    } catch (error) {
      if (error instanceof RecordError) throw new Stop("unreadable record", error.message);
      throw error;
    }
    const name = last?.lastBackupName ?? "";
    if (name === "" || records.some((record) => record.name === name)) return;
    if (await this.#target.head(backupPath(this.#volume, name)) === undefined) return;
    throw new Stop("in progress", `the target's listing does not show backup ${name} yet`);
  }

  async #garbage(): Promise<Entry[]> {
    const garbage: Entry[] = [];
    for await (const entry of this.#target.list(blocksFolder(this.#volume))) {
      const checksum = checksumOfPath(entry.path);
      if (checksum === undefined) continue;
      if (this.#needed.has(checksum)) this.#keptBlocks++;
      else garbage.push(entry);
    }
    return garbage;
  }

  /** @throws {Stop} when a backup has appeared */
  async #assertNoneNew(known: ReadonlySet<string>): Promise<void> {
    const names = await backupNames(this.#target, this.#volume);
    const young = names.find((name) => !known.has(name));
    if (young !== undefined) throw new Stop("in progress", `backup ${young} has begun`);
  }

  async #remove(garbage: readonly Entry[], records: readonly BackupRecord[]): Promise<void> {
    const known = new Set(records.map(({ name }) => name));
    const note: CollectionNote = { run: newName("collection"), active: true };
    await writeCollectionNote(this.#target, this.#volume, note);
    try {
      await this.#assertNoneNew(known);
      await inLanes(garbage, this.#lanes, this.#options.signal, async ({ path, bytes }, index) => {
        if (index > 0 && index % RECHECK_BLOCKS === 0) await this.#assertNoneNew(known);
        this.#lock.assertHeld();
        await this.#target.remove(path);
        this.#removedBlocks++;
        this.#removedBytes += bytes;
      });
    } finally {
      // Whatever happened, nothing is removed from here on. If this fails, the note stays active, which is safe.
      const last = await readCollectionNote(this.#target, this.#volume).catch(() => undefined);
      if (last?.run === note.run) {
        await writeCollectionNote(this.#target, this.#volume, { ...note, active: false }).catch(() => {});
      }
    }
  }

  async #updateVolume(records: readonly BackupRecord[]): Promise<void> {
    await nameNewest(this.#target, this.#volume, records, this.#keptBlocks);
  }
}

/** Makes the volume's record name the newest backup that is left, and count its blocks when they are known. */
export async function nameNewest(
  target: Target,
  volume: string,
  records: readonly BackupRecord[],
  blockCount?: number,
): Promise<void> {
  const record = await findVolume(target, volume);
  if (record === undefined) return;
  const gone = !records.some(({ name }) => name === record.lastBackupName);
  const newest = gone ? newestOf(records) : undefined;
  const updated: VolumeRecord = {
    ...record,
    blockCount: blockCount ?? record.blockCount,
    lastBackupName: gone ? newest?.name ?? "" : record.lastBackupName,
    lastBackupAt: gone ? newest?.snapshotCreatedAt ?? "" : record.lastBackupAt,
  };
  const same = updated.blockCount === record.blockCount && updated.lastBackupName === record.lastBackupName;
  if (!same) await saveVolume(target, updated);
}

/** Returns when the target has something of this volume. @throws {NoSuchBackupError} */
export async function assertVolumeThere(target: Target, volume: string): Promise<void> {
  const there = await findVolume(target, volume).catch((error) => {
    // A record that cannot be read is no reason not to remove anything.
    if (error instanceof RecordError) return true;
    throw error;
  });
  if (there !== undefined) return;
  throw new NoSuchBackupError(`there are no backups of volume ${volume} on ${target.url}`);
}
