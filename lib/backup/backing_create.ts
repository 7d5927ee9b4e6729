/**
 * Backing up a backing image: the file as it is, whatever its format. Always whole; blocks that some backing image of
 * the target has already are not uploaded again, for all of them share their blocks.
 *
 * | step | what                                             | if it ends here                                          |
 * | ---- | ------------------------------------------------ | -------------------------------------------------------- |
 * | 1    | SHA-512 of the file                              | nothing                                                  |
 * | 2    | lock against removals                            | the lock expires                                         |
 * | 3    | the record, not complete: nobody removes blocks  | nothing removes blocks until the record is made anew     |
 * | 4    | blocks                                           | the same; what is uploaded is found next time            |
 * | 5    | the record, complete                             | a whole backup                                           |
 *
 * Blocks have 2 MiB: the record has no place for another size. The last one is as long as the file has bytes for it, so
 * that whoever writes it back does not make the file longer. Holes of the file are left out.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { BlockIndex } from "./block_index.ts";
import { type Codec, methodOf } from "./codec.ts";
import { CodecPool } from "./codec_pool.ts";
import { BackupInputError, NoSuchBackupError } from "./errors.ts";
import { type BackingImageRecord, encodeBackingImage, inspectBackingImage } from "./images.ts";
import type { StringMap } from "./json.ts";
import { laneCount, pause } from "./lanes.ts";
import { Lock, LockKind } from "./lock.ts";
import { BACKING_LOCKS, backingBlocksFolder, backingImagePath, checkName } from "./names.ts";
import { type Compression, DEFAULT_BLOCK_BYTES, timeText } from "./records.ts";
import type { BlockSource } from "./source.ts";
import type { Target } from "./target/target.ts";
import type { LockOptions, OperationOptions } from "./types.ts";
import { blocksOf, Uploader } from "./upload.ts";

/** Bytes hashed between two looks at everything else that is to do. */
const HASH_BYTES = 8 * 1024 ** 2;

/** What to back up, and how. */
export interface BackingImageOptions extends OperationOptions, LockOptions {
  /** Name of the backing image. */
  readonly name: string;
  /** SHA-512 of the file in hex, where it is known: another content is refused. */
  readonly checksum?: string;
  /** Default lz4. */
  readonly compression?: Compression;
  /** Kept in the record. */
  readonly labels?: StringMap;
  /** Name and namespace of the secret that an encrypted image needs; kept in the record. */
  readonly secret?: { readonly name: string; readonly namespace: string };
}

/** A finished backup of a backing image. */
export interface BackingImageResult {
  /** The record as it is stored. */
  readonly record: BackingImageRecord;
  /** Blocks uploaded; the others were there. */
  readonly uploadedBlocks: number;
  /** Bytes uploaded, as stored. */
  readonly uploadedBytes: number;
}

/** SHA-512 of all that a source shows, in hex. */
async function sha512Of(source: BlockSource, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash("sha512"), piece = new Uint8Array(HASH_BYTES);
  for (let offset = 0; offset < source.bytes; offset += HASH_BYTES) {
    const part = piece.subarray(0, Math.min(HASH_BYTES, source.bytes - offset));
    await source.read(offset, part);
    hash.update(part);
    await pause(0, signal);
  }
  return hash.digest("hex");
}

/** The record that is there; undefined when there is none. */
async function findImage(target: Target, name: string): Promise<BackingImageRecord | undefined> {
  try {
    return await inspectBackingImage(target, name);
  } catch (error) {
    if (error instanceof NoSuchBackupError) return undefined;
    throw error;
  }
}

async function upload(
  target: Target,
  source: BlockSource,
  begun: BackingImageRecord,
  codec: Codec,
  options: BackingImageOptions,
): Promise<BackingImageResult> {
  const offsets = blocksOf(source.changed(undefined), DEFAULT_BLOCK_BYTES, source.bytes);
  const folder = backingBlocksFolder();
  const uploader = new Uploader({
    target,
    source,
    codec,
    index: new BlockIndex(target, folder, { questions: offsets.length, trustListings: false }),
    folder,
    blockBytes: DEFAULT_BLOCK_BYTES,
    shortEnd: true,
    method: methodOf(begun.compression) ?? "lz4",
    again: false,
    lanes: laneCount(options.concurrency),
    signal: options.signal,
  });
  const report = (percent: number): void =>
    options.onProgress?.({
      percent,
      doneBlocks: uploader.done,
      totalBlocks: offsets.length,
      transferredBytes: uploader.newBytes,
    });
  const blocks = await uploader.run(offsets, () => report(Math.floor(uploader.done / offsets.length * 99)));
  const record = { ...begun, blocks, blockCount: blocks.length, completeTime: timeText(Date.now()) };
  return { record, uploadedBlocks: uploader.newBlocks, uploadedBytes: uploader.newBytes };
}

/**
 * Backs up a backing image. A complete backup of the same content under this name is left as it is; one that was cut
 * short is gone on with.
 *
 * @param source the file; it must not change meanwhile
 * @throws {BackupInputError} when there is a backup of this name with another content, or the content is not as told
 * @throws {LockedError} while backing images are removed
 * @throws {TargetError} when the target fails for good
 */
export async function createBackingImage(
  target: Target,
  source: BlockSource,
  options: BackingImageOptions,
): Promise<BackingImageResult> {
  const { signal, compression = "lz4", labels, secret } = options;
  const name = checkName("backing image", options.name), path = backingImagePath(name);
  laneCount(options.concurrency);
  const checksum = await sha512Of(source, signal);
  if (options.checksum !== undefined && options.checksum !== checksum) {
    throw new BackupInputError(
      `backing image ${name}: the file's SHA-512 is ${checksum}, not ${options.checksum}`,
    );
  }
  using own = options.codec === undefined ? new CodecPool() : undefined;
  await using lock = await Lock.acquire(target, BACKING_LOCKS, LockKind.USE, options);
  const there = await findImage(target, name);
  if (there !== undefined && there.completeTime !== "") {
    if (there.checksum === checksum) return { record: there, uploadedBlocks: 0, uploadedBytes: 0 };
    throw new BackupInputError(
      `there is a backup of a backing image ${name} with another content already: choose another name`,
    );
  }
  const begun: BackingImageRecord = {
    name,
    bytes: source.bytes,
    blockCount: 0,
    checksum,
    labels: labels ?? null,
    compression,
    createdTime: timeText(Date.now()),
    completeTime: "",
    secret: secret?.name ?? "",
    secretNamespace: secret?.namespace ?? "",
    blocks: [],
  };
  await target.write(path, encodeBackingImage(begun));
  try {
    await lock.assertAlone();
    const result = await upload(target, source, begun, options.codec ?? own as Codec, options);
    signal?.throwIfAborted();
    // Who was asleep for long cannot know whether the blocks that it found are still there.
    lock.assertHeld();
    if (await target.head(path) === undefined) {
      throw new NoSuchBackupError(`the backup of backing image ${name} was removed while it was made`);
    }
    await target.write(path, encodeBackingImage(result.record));
    return result;
  } catch (error) {
    await target.remove(path).catch(() => {
      // What counts is the failure itself. The record stays incomplete, and can be removed or gone on with.
    });
    throw error;
  }
}
