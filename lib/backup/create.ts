/**
 * Making a backup of a snapshot.
 *
 * | step | what                                                       | if it ends here                                |
 * | ---- | ---------------------------------------------------------- | ---------------------------------------------- |
 * | 1    | lock against removals                                      | the lock expires                               |
 * | 2    | the volume's record, if there is none                      | an empty volume                                |
 * | 3    | the backup's record, not complete: from here on nobody     | nothing removes blocks of the volume until the |
 * |      | removes blocks, whatever becomes of the lock               | record is removed, or a day old                |
 * | 4    | blocks                                                     | the same; what is uploaded is found next time  |
 * | 5    | a look whether blocks were removed since step 3            | the same                                       |
 * | 6    | the backup's record, complete                              | a whole backup                                 |
 * | 7    | the volume's record names it as the last one               | the next one builds on an older one            |
 *
 * The last block of a volume whose size is no multiple of the block size is filled up with zeros. Longhorn has no such
 * volumes, and refuses to restore them.
 *
 * Changed blocks come from the source's map of what was written since the snapshot of the last backup; data is not
 * compared. Blocks of the last backup are never dropped, so a trimmed region stays until a full backup.
 *
 * @module
 */
import { BlockIndex } from "./block_index.ts";
import { type Codec, methodOf } from "./codec.ts";
import { CodecPool } from "./codec_pool.ts";
import { type FoundNote, readCollectionNote, writeCollectionNote } from "./collection.ts";
import { BackupInProgressError, BackupInputError, NoSuchBackupError, RecordError } from "./errors.ts";
import { inLanes, laneCount, pause } from "./lanes.ts";
import { Lock, LOCK_EXPIRY_MS, LockKind } from "./lock.ts";
import { backupPath, blockPath, blocksFolder, checkName, newName, volumePath } from "./names.ts";
import {
  BLOCK_SIZE_PARAMETER,
  blockBytesOf,
  type BlockRef,
  type Compression,
  DEFAULT_BLOCK_BYTES,
  MAX_BLOCK_BYTES,
  MAX_BLOCKS,
  MODE_PARAMETER,
  timeText,
  type VolumeRecord,
} from "./records.ts";
import type { BackupRecord } from "./records.ts";
import { type BlockSource, SOURCE_UNIT } from "./source.ts";
import { findBackup, findVolume, isComplete, loadComplete, saveBackup, saveVolume } from "./store.ts";
import type { Target } from "./target/target.ts";
import type { CreateOptions, CreateResult, FullReason } from "./types.ts";
import { blocksOf, mergeBlocks, Uploader } from "./upload.ts";

/** Share of the blocks in the progress, in percent; the rest are records. */
const BLOCKS_PERCENT = 95;
/** A volume is a multiple of this, in bytes. */
const SECTOR_BYTES = 512;
/** Pause between two looks at a collection that is under way, in milliseconds. */
const COLLECTION_POLL_MS = 1_000;
/** Listings may show a block for so long after it was removed, in milliseconds. */
const LISTING_LAG_MS = 60_000;
/** Key in an incomplete record that says that Drover wrote it. */
export const WRITER_KEY = "Writer";
/** Its value. */
export const WRITER = "drover";

function checkOptions(source: BlockSource, options: CreateOptions): { blockBytes: number; lanes: number } {
  checkName("volume", options.volume);
  const blockBytes = options.blockBytes ?? DEFAULT_BLOCK_BYTES;
  if (blockBytes < SOURCE_UNIT || blockBytes > MAX_BLOCK_BYTES || blockBytes % SOURCE_UNIT !== 0) {
    throw new BackupInputError(
      `a block size of ${blockBytes} bytes is not possible: use a multiple of ${SOURCE_UNIT} up to ${MAX_BLOCK_BYTES}`,
    );
  }
  if (source.bytes <= 0 || source.bytes % SECTOR_BYTES !== 0) {
    throw new BackupInputError(
      `volume ${options.volume} has ${source.bytes} bytes, which is no multiple of ${SECTOR_BYTES}`,
    );
  }
  if (source.bytes / blockBytes > MAX_BLOCKS) {
    throw new BackupInputError(
      `volume ${options.volume} has more than ${MAX_BLOCKS} blocks of ${blockBytes} bytes: choose larger blocks`,
    );
  }
  return { blockBytes, lanes: laneCount(options.concurrency) };
}

/** One run of {@linkcode createBackup}. */
class Creation {
  readonly #target: Target;
  readonly #source: BlockSource;
  readonly #options: CreateOptions;
  readonly #codec: Codec;
  readonly #lock: Lock;
  readonly #name: string;
  readonly #blockBytes: number;
  readonly #lanes: number;

  constructor(target: Target, source: BlockSource, options: CreateOptions, codec: Codec, lock: Lock) {
    this.#target = target;
    this.#source = source;
    this.#options = options;
    this.#codec = codec;
    this.#lock = lock;
    this.#name = checkName("backup", options.name ?? newName("backup"));
    const { blockBytes, lanes } = checkOptions(source, options);
    this.#blockBytes = blockBytes;
    this.#lanes = lanes;
  }

  async run(): Promise<CreateResult> {
    const { volume } = this.#options;
    const earlier = this.#options.name === undefined
      ? undefined
      : await findBackup(this.#target, volume, this.#name);
    if (earlier !== undefined && isComplete(earlier)) return await this.#finishEarlier(earlier);
    const record = await this.#volumeRecord();
    const compression = methodOf(record.compression);
    if (compression === undefined) {
      throw new RecordError(volumePath(volume), `names the unknown compression method ${record.compression}`);
    }
    // Before the base is read: a collection may remove it, and its blocks, until the own record is there.
    const before = await readCollectionNote(this.#target, volume);
    const { base, reason } = await this.#base(record);
    await saveBackup(this.#target, this.#incomplete(compression));
    let result: CreateResult;
    try {
      result = await this.#fill(compression, base, reason, before);
    } catch (error) {
      await this.#target.remove(backupPath(volume, this.#name)).catch(() => {
        // What counts is the failure itself. The record stays incomplete, and can be removed or gone on with.
      });
      throw error;
    }
    await this.#nameAsLast(result.record, result.uploadedBlocks);
    return result;
  }

  /** The volume's record; its first backup makes it. */
  async #volumeRecord(): Promise<VolumeRecord> {
    const { volume, compression, labels, backingImage, storageClass } = this.#options;
    const found = await findVolume(this.#target, volume);
    if (found !== undefined) return found;
    const record: VolumeRecord = {
      name: volume,
      bytes: this.#source.bytes,
      labels: labels ?? null,
      createdTime: timeText(Date.now()),
      lastBackupName: "",
      lastBackupAt: "",
      blockCount: 0,
      backingImageName: backingImage?.name ?? "",
      backingImageChecksum: backingImage?.checksum ?? "",
      compression: compression ?? "lz4",
      storageClassName: storageClass ?? "",
      dataEngine: "v1",
      others: {},
    };
    await saveVolume(this.#target, record);
    return record;
  }

  /** The backup to build on, or why there is none. */
  async #base(volume: VolumeRecord): Promise<{ base?: BackupRecord; reason?: FullReason }> {
    if (this.#options.mode === "full") return { reason: "requested" };
    if (volume.lastBackupName === "" || volume.lastBackupName === this.#name) {
      return { reason: "first backup" };
    }
    let base: BackupRecord;
    try {
      base = await loadComplete(this.#target, volume.name, volume.lastBackupName);
      // Blocks of one backup have one size: with another one, old and new blocks would overlap.
      const blockBytes = blockBytesOf(backupPath(volume.name, base.name), base);
      if (blockBytes !== this.#blockBytes) return { reason: "other block size" };
    } catch (error) {
      const unusable = error instanceof NoSuchBackupError || error instanceof RecordError ||
        error instanceof BackupInProgressError;
      if (unusable) return { reason: "last backup unreadable" };
      throw error;
    }
    if (base.snapshotName === this.#options.snapshot) return { reason: "same snapshot" };
    return this.#source.has(base.snapshotName) ? { base } : { reason: "last snapshot gone" };
  }

  #incomplete(compression: Compression): BackupRecord {
    return {
      name: this.#name,
      volumeName: this.#options.volume,
      snapshotName: this.#options.snapshot,
      snapshotCreatedAt: this.#options.snapshotCreatedAt ?? "",
      createdTime: "",
      bytes: 0,
      labels: null,
      parameters: null,
      isIncremental: false,
      compression,
      newlyUploadedBytes: 0,
      reUploadedBytes: 0,
      blocks: [],
      singleFile: "",
      others: { [WRITER_KEY]: WRITER },
    };
  }

  /** Steps 4 to 6. */
  async #fill(
    compression: Compression,
    base: BackupRecord | undefined,
    reason: FullReason | undefined,
    before: FoundNote,
  ): Promise<CreateResult> {
    const { volume } = this.#options;
    await this.#lock.assertAlone();
    const note = await readCollectionNote(this.#target, volume);
    // One that died; a living one would hold its lock, and be seen by now.
    const died = note.active && !this.#mayLive(note);
    if (died) await writeCollectionNote(this.#target, volume, { run: note.run, active: false });
    const ranges = this.#source.changed(base?.snapshotName);
    const offsets = blocksOf(ranges, this.#blockBytes, this.#source.bytes);
    const uploader = this.#uploader(compression, offsets.length, note);
    const report = (): void => this.#report(uploader, offsets.length);
    const fresh = await uploader.run(offsets, report);
    const kept = base?.blocks.filter(({ offset }) => offset < this.#source.bytes) ?? [];
    const merged = mergeBlocks(kept, fresh);
    const undisturbed = !before.active && before.run === note.run;
    const blocks = await this.#assure(uploader, merged, undisturbed ? note : { ...note, active: true });
    const record = this.#complete(compression, base !== undefined, blocks, uploader);
    this.#options.signal?.throwIfAborted();
    await this.#assertWanted();
    await saveBackup(this.#target, record);
    const uploadedBlocks = uploader.newBlocks + uploader.againBlocks;
    return { record, fullReason: reason, changedBlocks: offsets.length, uploadedBlocks };
  }

  #uploader(compression: Compression, questions: number, note: FoundNote): Uploader {
    const folder = blocksFolder(this.#options.volume);
    const trustListings = this.#lock.targetTimeMs - note.modifiedMs > LISTING_LAG_MS;
    return new Uploader({
      target: this.#target,
      source: this.#source,
      codec: this.#codec,
      index: new BlockIndex(this.#target, folder, { questions, trustListings }),
      folder,
      blockBytes: this.#blockBytes,
      method: compression,
      again: this.#options.mode === "full",
      lanes: this.#lanes,
      signal: this.#options.signal,
    });
  }

  #report(uploader: Uploader, totalBlocks: number): void {
    this.#options.onProgress?.({
      percent: Math.floor(uploader.done / Math.max(1, totalBlocks) * BLOCKS_PERCENT),
      doneBlocks: uploader.done,
      totalBlocks,
      transferredBytes: uploader.newBytes + uploader.againBytes,
    });
  }

  /** False when who wrote the note held its lock so long ago that everyone sees it, or that it is expired. */
  #mayLive(note: FoundNote): boolean {
    return this.#lock.targetTimeMs - note.modifiedMs <= LOCK_EXPIRY_MS;
  }

  /** Step 5: when blocks were removed in the meantime, whatever is missing is uploaded again. */
  async #assure(uploader: Uploader, blocks: BlockRef[], start: FoundNote): Promise<BlockRef[]> {
    let seen = start, whole = blocks;
    for (;;) {
      const { signal, volume } = this.#options;
      const note = await readCollectionNote(this.#target, volume);
      if (note.active && this.#mayLive(note)) {
        await pause(Math.min(COLLECTION_POLL_MS, this.#options.settleMs ?? COLLECTION_POLL_MS), signal);
        continue;
      }
      if (!seen.active && note.run === seen.run) return whole;
      seen = { ...note, active: false };
      const folder = blocksFolder(volume), missing: number[] = [];
      await inLanes(whole, this.#lanes, signal, async ({ offset, checksum }) => {
        const entry = await this.#target.head(blockPath(folder, checksum));
        if (entry === undefined || entry.bytes === 0) missing.push(offset);
      });
      missing.sort((a, b) => a - b);
      uploader.forget();
      whole = mergeBlocks(whole, await uploader.run(missing, () => {}));
    }
  }

  #complete(
    compression: Compression,
    isIncremental: boolean,
    blocks: readonly BlockRef[],
    uploader: Uploader,
  ): BackupRecord {
    const parameters = {
      [BLOCK_SIZE_PARAMETER]: String(this.#blockBytes),
      [MODE_PARAMETER]: this.#options.mode ?? "incremental",
    };
    return {
      ...this.#incomplete(compression),
      createdTime: timeText(Date.now()),
      bytes: blocks.length * this.#blockBytes,
      labels: this.#options.labels ?? null,
      parameters,
      isIncremental,
      newlyUploadedBytes: uploader.newBytes,
      reUploadedBytes: uploader.againBytes,
      blocks,
      others: {},
    };
  }

  /** Somebody may have deleted the backup while it was made. */
  async #assertWanted(): Promise<void> {
    const path = backupPath(this.#options.volume, this.#name);
    if (await this.#target.head(path) !== undefined) return;
    throw new NoSuchBackupError(
      `backup ${this.#name} of volume ${this.#options.volume} was deleted while it was made`,
    );
  }

  /** Step 7. */
  async #nameAsLast(record: BackupRecord, newBlocks: number): Promise<void> {
    const { labels, backingImage, storageClass } = this.#options;
    const volume = await this.#volumeRecord();
    await saveVolume(this.#target, {
      ...volume,
      bytes: this.#source.bytes,
      labels: labels ?? volume.labels,
      lastBackupName: record.name,
      lastBackupAt: record.snapshotCreatedAt,
      blockCount: volume.blockCount + newBlocks,
      backingImageName: backingImage?.name ?? volume.backingImageName,
      backingImageChecksum: backingImage?.checksum ?? volume.backingImageChecksum,
      storageClassName: storageClass ?? volume.storageClassName,
    });
  }

  /** The backup is complete already: at most step 7 is missing. */
  async #finishEarlier(record: BackupRecord): Promise<CreateResult> {
    if (record.snapshotName !== this.#options.snapshot) {
      throw new BackupInputError(
        `there is a backup ${record.name} of volume ${record.volumeName} already, of snapshot ` +
          `${record.snapshotName}: choose another name`,
      );
    }
    const volume = await this.#volumeRecord();
    const newer = volume.lastBackupName === "" || record.snapshotCreatedAt > volume.lastBackupAt;
    if (newer) await this.#nameAsLast(record, 0);
    return { record, fullReason: undefined, changedBlocks: 0, uploadedBlocks: 0 };
  }
}

/**
 * Backs up the snapshot that `source` shows. See the module's text for the steps and {@linkcode CreateOptions}.
 *
 * A failure or an abort removes the incomplete record; blocks that were uploaded stay and are found by the next
 * attempt, until a collection removes them.
 *
 * @throws {BackupInputError} for options that cannot be
 * @throws {LockedError} while backups of the volume are deleted
 * @throws {TargetError} when the target fails for good
 */
export async function createBackup(
  target: Target,
  source: BlockSource,
  options: CreateOptions,
): Promise<CreateResult> {
  checkOptions(source, options);
  using own = options.codec === undefined ? new CodecPool() : undefined;
  const codec = options.codec ?? own as Codec;
  await using lock = await Lock.acquire(target, options.volume, LockKind.USE, options);
  const result = await new Creation(target, source, options, codec, lock).run();
  const { changedBlocks } = result;
  options.onProgress?.({
    percent: 100,
    doneBlocks: changedBlocks,
    totalBlocks: changedBlocks,
    transferredBytes: result.record.newlyUploadedBytes + result.record.reUploadedBytes,
  });
  return result;
}
