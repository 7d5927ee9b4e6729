/**
 * Restoring: a whole backup, or the difference between two, to anything that can be written to.
 *
 * The sink gets only blocks whose content matches their checksum. A failure leaves it half-written; whoever owns the
 * sink makes sure that it is not taken for whole (files: `restore_file.ts`). With a journal, how far it is is noted
 * durably: first the sink is flushed, then the note says that all steps before a number are done; also when the restore
 * is stopped, or the target fails. A note is only believed for the same two records, byte for byte.
 *
 * @module
 */
import type { Codec } from "./codec.ts";
import { CodecPool } from "./codec_pool.ts";
import { BackupInputError, BlockError } from "./errors.ts";
import { BlockReader } from "./fetch.ts";
import { encodeObject, Fields, quote } from "./json.ts";
import { inLanes, laneCount } from "./lanes.ts";
import { Lock, LockKind } from "./lock.ts";
import { blocksFolder, checksumOf } from "./names.ts";
import { type BackupRecord, encodeBackup } from "./records.ts";
import { checkedBlockBytes, deltaSteps, fullSteps, type RestoreStep } from "./restore_plan.ts";
import type { BlockSink } from "./source.ts";
import { loadComplete, loadVolume } from "./store.ts";
import { type Target, TargetError } from "./target/target.ts";
import type {
  DeltaOptions,
  JournalOptions,
  LockOptions,
  OperationOptions,
  RestoreJournal,
  RestoreOptions,
  RestoreResult,
} from "./types.ts";

/** A journal is written after so many bytes, because each time the sink has to be flushed. */
const JOURNAL_BYTES = 256 * 1024 * 1024;

/** A restore whose steps are known. */
export interface PreparedRestore {
  /** The backup that the sink will hold. */
  readonly record: BackupRecord;
  /** Folder of its blocks, with `/`. */
  readonly folder: string;
  /** Size of the volume in bytes. */
  readonly volumeBytes: number;
  /** Size of the backup's blocks in bytes. */
  readonly blockBytes: number;
  /** What to do, by offset. */
  readonly steps: readonly RestoreStep[];
  /** True: the sink reads as zeros, so zeros need not be written to it. */
  readonly sinkIsZero: boolean;
  /** Stands for the records that the steps follow from. */
  readonly fingerprint: string;
}

/** How {@linkcode runRestore} works. */
export interface RunOptions extends OperationOptions, LockOptions, JournalOptions {}

/** Counts finished steps, which end in any order, and knows below which all are done. */
class Watermark {
  readonly #done = new Set<number>();
  below: number;

  constructor(start: number) {
    this.below = start;
  }

  add(index: number): void {
    this.#done.add(index);
    while (this.#done.delete(this.below)) this.below++;
  }
}

async function loadStart(journal: RestoreJournal | undefined, fingerprint: string): Promise<number> {
  const text = await journal?.load();
  if (text === undefined) return 0;
  const fields = new Fields("the journal of a restore", new TextEncoder().encode(text));
  return fields.string("Restore") === fingerprint ? fields.integer("Done") : 0;
}

/** Carries out the steps. The caller holds the lock. */
export async function runRestore(
  target: Target,
  plan: PreparedRestore,
  sink: BlockSink,
  codec: Codec,
  options: RunOptions,
): Promise<RestoreResult> {
  const { record, folder, volumeBytes, blockBytes, steps } = plan;
  const { journal, journalEveryBytes = JOURNAL_BYTES, signal } = options;
  const start = Math.min(await loadStart(journal, plan.fingerprint), steps.length);
  const lanes = laneCount(options.concurrency);
  const reader = new BlockReader(target, codec, record, folder, blockBytes, lanes);
  const mark = new Watermark(start);
  let written = 0, doneSteps = start, unsaved = 0, saving: Promise<void> | undefined;
  const save = async (): Promise<void> => {
    if (journal === undefined) return;
    const below = mark.below;
    await sink.flush();
    const fields = [["Restore", quote(plan.fingerprint)], ["Done", String(below)]] as const;
    await journal.save(new TextDecoder().decode(encodeObject(fields, {})));
  };
  const work = inLanes(steps.slice(start), lanes, signal, async (step, index, stop) => {
    const wrote = await restoreStep(plan, step, reader, sink, stop);
    written += wrote;
    mark.add(start + index);
    doneSteps++;
    unsaved += step.length;
    options.onProgress?.({
      percent: Math.floor(doneSteps / steps.length * 99),
      doneBlocks: doneSteps,
      totalBlocks: steps.length,
      transferredBytes: reader.bytes,
    });
    if (journal === undefined || unsaved < journalEveryBytes || saving !== undefined) return;
    unsaved = 0;
    saving = save();
    await saving;
    saving = undefined;
  });
  await work.catch(async (error) => {
    const orderly = signal?.aborted === true || error instanceof TargetError || error instanceof BlockError;
    // So that what is there need not come again. That this fails too must not hide why.
    if (orderly && mark.below > start) await save().catch(() => {});
    throw error;
  });
  await sink.flush();
  options.onProgress?.({
    percent: 100,
    doneBlocks: steps.length,
    totalBlocks: steps.length,
    transferredBytes: reader.bytes,
  });
  return {
    record,
    volumeBytes,
    writtenBlocks: written,
    downloadedBlocks: reader.blocks,
    resumedBlocks: start,
  };
}

/** One step; returns 1 when it wrote a block. */
async function restoreStep(
  plan: PreparedRestore,
  step: RestoreStep,
  reader: BlockReader,
  sink: BlockSink,
  signal: AbortSignal,
): Promise<number> {
  const { offset, length, checksum } = step;
  if (checksum === undefined || reader.isZeros(checksum)) {
    if (!plan.sinkIsZero) await sink.zero(offset, length);
    return checksum === undefined ? 0 : 1;
  }
  const data = await reader.read({ offset, checksum }, signal, length);
  await sink.write(offset, data.subarray(0, length));
  reader.release(data);
  return 1;
}

function fingerprint(...records: readonly BackupRecord[]): string {
  return records.map((record) => `${record.name}:${checksumOf(encodeBackup(record))}`).join(" ");
}

/** Finds out what restoring one backup takes. */
export async function prepareRestore(target: Target, options: RestoreOptions): Promise<PreparedRestore> {
  const { volume, backup, zeroRest = false } = options;
  const record = await loadComplete(target, volume, backup);
  return await prepared(
    target,
    volume,
    [record],
    !zeroRest,
    (blockBytes, volumeBytes) => fullSteps(record, blockBytes, volumeBytes, zeroRest),
  );
}

async function prepareDelta(target: Target, options: DeltaOptions): Promise<PreparedRestore> {
  const { volume, from, to } = options;
  const [before, record] = [
    await loadComplete(target, volume, from),
    await loadComplete(target, volume, to),
  ];
  return await prepared(
    target,
    volume,
    [before, record],
    false,
    (blockBytes, volumeBytes) => deltaSteps(before, record, blockBytes, volumeBytes),
  );
}

/** The last of the records is what is there in the end. */
async function prepared(
  target: Target,
  volume: string,
  records: readonly [BackupRecord] | readonly [before: BackupRecord, record: BackupRecord],
  sinkIsZero: boolean,
  stepsOf: (blockBytes: number, volumeBytes: number) => RestoreStep[],
): Promise<PreparedRestore> {
  const record = records[records.length - 1];
  const volumeBytes = (await loadVolume(target, volume)).bytes;
  const blockBytes = checkedBlockBytes(record, volumeBytes);
  return {
    record,
    folder: blocksFolder(volume),
    volumeBytes,
    blockBytes,
    steps: stepsOf(blockBytes, volumeBytes),
    sinkIsZero,
    fingerprint: fingerprint(...records),
  };
}

/** Runs `work` with a codec and the lock that keeps blocks where they are. */
export async function withLockAndCodec<T>(
  target: Target,
  volume: string,
  options: OperationOptions & LockOptions,
  work: (codec: Codec) => Promise<T>,
): Promise<T> {
  laneCount(options.concurrency);
  // Looked at first, so that a wrong name leaves no folder with a lock behind.
  await loadVolume(target, volume);
  using own = options.codec === undefined ? new CodecPool() : undefined;
  await using _lock = await Lock.acquire(target, volume, LockKind.USE, options);
  return await work(options.codec ?? own as Codec);
}

function checkFit(sinkBytes: number | undefined, volumeBytes: number): void {
  if (sinkBytes === undefined || sinkBytes === volumeBytes) return;
  throw new BackupInputError(
    `the backup's volume has ${volumeBytes} bytes, the place to restore it to ${sinkBytes}: make it as large`,
  );
}

/** A sink of a known size; restores refuse one that does not fit. */
export interface SizedSink extends BlockSink {
  /** Size in bytes; undefined: whatever is needed. */
  readonly bytes?: number;
}

/**
 * Restores one backup. The sink is flushed at the end, and not disposed.
 *
 * @throws {NoSuchBackupError} @throws {BackupInProgressError} @throws {RecordError}
 * @throws {BlockError} when a block is missing or damaged; the sink is half-written then
 * @throws {LockedError} while backups of the volume are deleted
 */
export function restoreBackup(
  target: Target,
  sink: SizedSink,
  options: RestoreOptions,
): Promise<RestoreResult> {
  return withLockAndCodec(target, options.volume, options, async (codec) => {
    const plan = await prepareRestore(target, options);
    checkFit(sink.bytes, plan.volumeBytes);
    const result = await runRestore(target, plan, sink, codec, options);
    await options.journal?.clear();
    return result;
  });
}

/**
 * Turns a sink that holds one backup into one that holds another backup of the same volume; only what differs is
 * downloaded. When it fails the sink holds neither, and the same call goes on where it was.
 *
 * @throws see {@linkcode restoreBackup}; {@linkcode BackupInputError} when the block sizes differ
 */
export function restoreDelta(target: Target, sink: SizedSink, options: DeltaOptions): Promise<RestoreResult> {
  return withLockAndCodec(target, options.volume, options, async (codec) => {
    const plan = await prepareDelta(target, options);
    checkFit(sink.bytes, plan.volumeBytes);
    const result = await runRestore(target, plan, sink, codec, options);
    await options.journal?.clear();
    return result;
  });
}
