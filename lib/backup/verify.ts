/**
 * Checking backups: every block is read, decompressed and compared with its checksum, each once however many backups
 * share it.
 *
 * @module
 */
import { BackupInProgressError, BlockError, NoSuchBackupError, RecordError } from "./errors.ts";
import { BlockReader } from "./fetch.ts";
import { inLanes, laneCount } from "./lanes.ts";
import { blocksFolder } from "./names.ts";
import type { BackupRecord, BlockRef } from "./records.ts";
import { withLockAndCodec } from "./restore.ts";
import { checkedBlockBytes } from "./restore_plan.ts";
import { backupNames, loadComplete, loadVolume } from "./store.ts";
import type { Target } from "./target/target.ts";
import type { BadBlock, VerifyOptions, VerifyResult } from "./types.ts";

interface Wanted {
  readonly ref: BlockRef;
  readonly record: BackupRecord;
  readonly blockBytes: number;
  readonly backups: string[];
}

interface Gathered {
  readonly wanted: Map<string, Wanted>;
  readonly backups: string[];
  readonly skipped: { backup: string; problem: string }[];
}

/** All blocks that the backups need, each once. Backups that cannot be used are named with the reason. */
async function gather(target: Target, volume: string, names: readonly string[]): Promise<Gathered> {
  const { bytes } = await loadVolume(target, volume);
  const wanted = new Map<string, Wanted>(), backups: string[] = [], skipped: Gathered["skipped"] = [];
  for (const backup of names) {
    try {
      const record = await loadComplete(target, volume, backup);
      const blockBytes = checkedBlockBytes(record, bytes);
      // Records are kept without their blocks: together those may be many.
      const kept = { ...record, blocks: [] };
      for (const ref of record.blocks) {
        const known = wanted.get(ref.checksum);
        if (known === undefined) {
          wanted.set(ref.checksum, { ref, record: kept, blockBytes, backups: [backup] });
        } else if (known.backups.at(-1) !== backup) known.backups.push(backup);
      }
      backups.push(backup);
    } catch (error) {
      const told = error instanceof BackupInProgressError || error instanceof RecordError ||
        error instanceof NoSuchBackupError;
      if (!told) throw error;
      skipped.push({ backup, problem: error.message });
    }
  }
  return { wanted, backups, skipped };
}

/**
 * Reads every block of a volume's backups and tells which are missing or damaged.
 *
 * @throws {NoSuchBackupError} when there is no such volume
 * @throws {LockedError} while backups of the volume are deleted
 * @throws {TargetError} when the target fails for good: that says nothing about the blocks
 */
export function verifyBackups(target: Target, options: VerifyOptions): Promise<VerifyResult> {
  const { volume, signal } = options;
  return withLockAndCodec(target, volume, options, async (codec) => {
    const names = options.backups ?? await backupNames(target, volume);
    const { wanted, backups, skipped } = await gather(target, volume, names);
    const bad: BadBlock[] = [], folder = blocksFolder(volume);
    let done = 0, transferredBytes = 0;
    await inLanes(wanted.values(), laneCount(options.concurrency), signal, async (block, _, stop) => {
      const { ref, record, blockBytes } = block;
      const reader = new BlockReader(target, codec, record, folder, blockBytes, 1);
      try {
        await reader.read(ref, stop);
      } catch (error) {
        if (!(error instanceof BlockError)) throw error;
        bad.push({ backups: block.backups, ...ref, problem: error.problem });
      }
      done++;
      transferredBytes += reader.bytes;
      const percent = Math.floor(done / wanted.size * 100);
      options.onProgress?.({ percent, doneBlocks: done, totalBlocks: wanted.size, transferredBytes });
    });
    bad.sort((a, b) => a.offset - b.offset || (a.checksum < b.checksum ? -1 : 1));
    return { backups, skipped, blocks: wanted.size, bad };
  });
}
