/**
 * `drover backup import`: a backup of an image or a disk that is no volume.
 *
 * @module
 */
import {
  type Compression,
  COMPRESSIONS,
  createBackup,
  type CreateOptions,
  type CreateResult,
  DEFAULT_BLOCK_BYTES,
} from "../../lib/backup/mod.ts";
import { encodeBackupUrl } from "../../lib/backup/target/url.ts";
import { ImageSource } from "../../lib/client/image_source.ts";
import { UsageError } from "../support/program.ts";
import { formatSize, parseSize } from "../support/sizes.ts";
import { formatFields } from "../support/table.ts";
import { interruptible, ProgressLine } from "./progress.ts";
import { labelsOf, open, type TargetFlags, targetUrlOf, wantsJson, wholeNumber } from "./settings.ts";

/** Flags of commands that make backups. */
export interface CreateFlags extends TargetFlags {
  /** Name of the backup. */
  readonly name?: string;
  /** `KEY=VALUE`. */
  readonly label?: readonly string[];
  /** Everything anew. */
  readonly full?: boolean;
  /** One of {@linkcode COMPRESSIONS}. */
  readonly compression?: string;
  /** Size of a block. */
  readonly blockSize?: string;
  /** Blocks under way. */
  readonly concurrency?: string;
}

/** What flags say of a backup; the volume is not among it. @throws {UsageError} */
export function createOptions(flags: CreateFlags): Omit<CreateOptions, "volume" | "snapshot"> {
  const { compression = "lz4", blockSize, full = false, name } = flags;
  if (!COMPRESSIONS.includes(compression as Compression)) {
    throw new UsageError(`--compression ${compression}: expected ${COMPRESSIONS.join(", ")}`);
  }
  const concurrency = wholeNumber("--concurrency", flags.concurrency, 1, 64);
  return {
    blockBytes: blockSize === undefined ? DEFAULT_BLOCK_BYTES : parseSize(blockSize),
    compression: compression as Compression,
    mode: full ? "full" : "incremental",
    labels: labelsOf(flags.label),
    ...(name !== undefined && { name }),
    ...(concurrency !== undefined && { concurrency }),
  };
}

/** Text about a finished backup. */
function describe(result: CreateResult, url: string): string {
  const { record, fullReason, changedBlocks, uploadedBlocks } = result;
  return formatFields([
    ["backup", record.name],
    ["url", url],
    ["kind", fullReason === undefined ? "incremental" : `full (${fullReason})`],
    ["size", formatSize(record.bytes)],
    ["blocks", `${changedBlocks} looked at, ${uploadedBlocks} uploaded`],
    ["uploaded", formatSize(record.newlyUploadedBytes + record.reUploadedBytes)],
  ]);
}

/** `drover backup import NAME FILE` */
export async function importImage(volume: string, path: string, flags: CreateFlags): Promise<void> {
  const json = wantsJson(flags);
  const options = createOptions(flags);
  await using target = await open(flags);
  using source = new ImageSource(path, options.blockBytes ?? DEFAULT_BLOCK_BYTES);
  const hint = "blocks that were uploaded stay, and the same command goes on with them";
  const result = await interruptible(hint, async (signal) => {
    using line = new ProgressLine(`backup of ${volume}`);
    // An image has no snapshots; a name of its own keeps the record true.
    const snapshot = `import-${new Date().toISOString()}`;
    return await createBackup(target, source, {
      ...options,
      volume,
      snapshot,
      signal,
      onProgress: line.show,
    });
  });
  const url = encodeBackupUrl({ target: targetUrlOf(flags), volume, backup: result.record.name });
  console.log(
    json
      ? JSON.stringify({ backup: result.record.name, url, ...counts(result) }, null, 2)
      : describe(result, url),
  );
}

function counts(
  { record, fullReason, changedBlocks, uploadedBlocks }: CreateResult,
): Record<string, unknown> {
  return {
    incremental: fullReason === undefined,
    fullReason: fullReason ?? "",
    sizeBytes: record.bytes,
    changedBlocks,
    uploadedBlocks,
    uploadedBytes: record.newlyUploadedBytes + record.reUploadedBytes,
  };
}
