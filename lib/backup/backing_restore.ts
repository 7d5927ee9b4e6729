/**
 * Restoring a backing image to a file, the very file that was backed up: the data goes to `PATH.partial`, and gets its
 * name when everything is there, synced, and has the SHA-512 that its record names. An interrupted restore goes on.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Codec } from "./codec.ts";
import { CodecPool } from "./codec_pool.ts";
import { BackupInProgressError, RecordError } from "./errors.ts";
import { type BackingImageRecord, encodeBackingImage, inspectBackingImage } from "./images.ts";
import { laneCount } from "./lanes.ts";
import { Lock, LockKind } from "./lock.ts";
import { BACKING_LOCKS, backingBlocksFolder, backingImagePath, checksumOf } from "./names.ts";
import { type BackupRecord, DEFAULT_BLOCK_BYTES } from "./records.ts";
import type { PreparedRestore } from "./restore.ts";
import { restorePlanToFile } from "./restore_file.ts";
import { fullSteps } from "./restore_plan.ts";
import type { Target } from "./target/target.ts";
import type { LockOptions, OperationOptions, RestoreResult } from "./types.ts";

/** Bytes read at once to hash a file. */
const HASH_BYTES = 4 * 1024 ** 2;

/** What to restore, and where to. */
export interface BackingImageRestoreOptions extends OperationOptions, LockOptions {
  /** Name of the backing image. */
  readonly name: string;
  /** The file; must not exist. */
  readonly path: string;
}

/** The blocks of a backing image, as if they were a volume's backup. */
function asBackup(image: BackingImageRecord): BackupRecord {
  return {
    name: image.name,
    volumeName: BACKING_LOCKS,
    snapshotName: "",
    snapshotCreatedAt: "",
    createdTime: image.completeTime,
    bytes: image.bytes,
    labels: null,
    parameters: null,
    isIncremental: false,
    compression: image.compression,
    newlyUploadedBytes: 0,
    reUploadedBytes: 0,
    blocks: image.blocks,
    singleFile: "",
    others: {},
  };
}

/** @throws {RecordError} when the record's blocks cannot be those of such a file */
function planFor(image: BackingImageRecord): PreparedRestore {
  const path = backingImagePath(image.name);
  for (const { offset } of image.blocks) {
    if (offset % DEFAULT_BLOCK_BYTES !== 0 || offset >= image.bytes) {
      throw new RecordError(path, `a block at ${offset} has no place in a file of ${image.bytes} bytes`);
    }
  }
  const record = asBackup(image);
  return {
    record,
    folder: backingBlocksFolder(),
    volumeBytes: image.bytes,
    blockBytes: DEFAULT_BLOCK_BYTES,
    steps: fullSteps(record, DEFAULT_BLOCK_BYTES, image.bytes, false),
    sinkIsZero: true,
    fingerprint: `image ${image.name}:${checksumOf(encodeBackingImage(image))}`,
  };
}

async function sha512Of(path: string, signal: AbortSignal | undefined): Promise<string> {
  using file = await Deno.open(path);
  const hash = createHash("sha512"), piece = new Uint8Array(HASH_BYTES);
  for (;;) {
    signal?.throwIfAborted();
    const got = await file.read(piece);
    if (got === null) return hash.digest("hex");
    hash.update(piece.subarray(0, got));
  }
}

/**
 * Restores a backing image to a new file.
 *
 * @throws {NoSuchBackupError} @throws {BackupInProgressError} @throws {BackupInputError} when the file exists
 * @throws {BlockError} when a block is missing or damaged; the file has not its name then
 * @throws {RecordError} when the whole is not what its record says; what was restored is removed then
 * @throws {LockedError} while backing images are removed
 */
export async function restoreBackingImage(
  target: Target,
  options: BackingImageRestoreOptions,
): Promise<RestoreResult> {
  const { name, path, signal } = options;
  laneCount(options.concurrency);
  // Looked at first, so that a wrong name leaves no folder with a lock behind.
  await inspectBackingImage(target, name);
  using own = options.codec === undefined ? new CodecPool() : undefined;
  await using _lock = await Lock.acquire(target, BACKING_LOCKS, LockKind.USE, options);
  const image = await inspectBackingImage(target, name);
  if (image.completeTime === "") throw new BackupInProgressError(BACKING_LOCKS, name);
  const check = async (partial: string): Promise<void> => {
    if (image.checksum === "") return;
    const found = await sha512Of(partial, signal);
    if (found === image.checksum) return;
    await Deno.remove(partial);
    throw new RecordError(
      backingImagePath(name),
      `says that the image's SHA-512 is ${image.checksum}, and its blocks make ${found}`,
    );
  };
  const codec = options.codec ?? own as Codec;
  return await restorePlanToFile(target, planFor(image), codec, { ...options, path, format: "raw", check });
}
