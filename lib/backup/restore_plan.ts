/**
 * What a restore does to its sink, as a list of steps by offset. It follows from the records alone, so a restore that
 * was interrupted makes the same list again and goes on in it.
 *
 * @module
 */
import { BackupInputError, RecordError } from "./errors.ts";
import { backupPath } from "./names.ts";
import { type BackupRecord, blockBytesOf, type BlockRef } from "./records.ts";

/** One step: writes a block, or zeros a range. */
export interface RestoreStep {
  /** First byte. */
  readonly offset: number;
  /** Number of bytes: less than a block where the volume ends within it. */
  readonly length: number;
  /** The block; undefined: zeros. */
  readonly checksum: string | undefined;
}

/** The size of the record's blocks; also checks that they fit the volume. @throws {RecordError} */
export function checkedBlockBytes(record: BackupRecord, volumeBytes: number): number {
  const path = backupPath(record.volumeName, record.name);
  const blockBytes = blockBytesOf(path, record);
  for (const { offset } of record.blocks) {
    if (offset % blockBytes !== 0) {
      throw new RecordError(
        path,
        `a block at ${offset} is not at a multiple of the block size ${blockBytes}`,
      );
    }
    if (offset >= volumeBytes) {
      throw new RecordError(path, `a block at ${offset} lies beyond the volume's ${volumeBytes} bytes`);
    }
  }
  return blockBytes;
}

/** Steps that make a volume of one backup; `zeroRest` zeros what the backup does not hold. */
export function fullSteps(
  record: BackupRecord,
  blockBytes: number,
  volumeBytes: number,
  zeroRest: boolean,
): RestoreStep[] {
  const steps: RestoreStep[] = [];
  let end = 0;
  const gapTo = (offset: number): void => {
    if (zeroRest && offset > end) steps.push({ offset: end, length: offset - end, checksum: undefined });
  };
  for (const { offset, checksum } of record.blocks) {
    gapTo(offset);
    end = Math.min(offset + blockBytes, volumeBytes);
    steps.push({ offset, length: end - offset, checksum });
  }
  gapTo(volumeBytes);
  return steps;
}

/** Steps from one backup to another: what differs is written, what is gone is zeroed. */
export function deltaSteps(
  from: BackupRecord,
  to: BackupRecord,
  blockBytes: number,
  volumeBytes: number,
): RestoreStep[] {
  const before = blockBytesOf(backupPath(from.volumeName, from.name), from);
  if (from.blocks.length > 0 && before !== blockBytes) {
    throw new BackupInputError(
      `backup ${from.name} has blocks of ${before} bytes and ${to.name} of ${blockBytes}: ` +
        `restore ${to.name} whole`,
    );
  }
  const steps: RestoreStep[] = [];
  const step = (offset: number, checksum: string | undefined): void => {
    const length = Math.min(blockBytes, volumeBytes - offset);
    if (length > 0) steps.push({ offset, length, checksum });
  };
  let f = 0, t = 0;
  for (;;) {
    const old: BlockRef | undefined = from.blocks[f], young: BlockRef | undefined = to.blocks[t];
    if (old === undefined && young === undefined) return steps;
    if (young === undefined || (old !== undefined && old.offset < young.offset)) {
      step((old as BlockRef).offset, undefined);
      f++;
      continue;
    }
    const same = old?.offset === young.offset;
    if (!same || old.checksum !== young.checksum) step(young.offset, young.checksum);
    if (same) f++;
    t++;
  }
}
