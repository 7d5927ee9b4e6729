/**
 * `drover backup image ...`: backups of backing images, the files that volumes may lie on.
 *
 * @module
 */
import {
  type BackingImageRecord,
  createBackingImage,
  deleteBackingImage,
  inspectBackingImage,
  listBackingImages,
  RecordError,
  restoreBackingImage,
  type Target,
} from "../../lib/backup/mod.ts";
import { encodeBackingImage } from "../../lib/backup/images.ts";
import { COMPRESSIONS } from "../../lib/backup/records.ts";
import { ImageSource } from "../../lib/client/image_source.ts";
import { UsageError } from "../support/program.ts";
import { formatSize } from "../support/sizes.ts";
import { formatFields, formatTable } from "../support/table.ts";
import { interruptible, ProgressLine } from "./progress.ts";
import { describeGarbage } from "./remove.ts";
import { agreed, labelsOf, open, type TargetFlags, wantsJson, wholeNumber } from "./settings.ts";

/** Flags of the commands. */
export interface ImageFlags extends TargetFlags {
  /** Labels `KEY=VALUE`. */
  readonly label?: readonly string[];
  /** How blocks are compressed. */
  readonly compression?: string;
  /** Blocks under way. */
  readonly concurrency?: string;
  /** Do not ask. */
  readonly yes?: boolean;
}

function limits(flags: ImageFlags): { concurrency?: number } {
  const concurrency = wholeNumber("--concurrency", flags.concurrency, 1, 64);
  return concurrency === undefined ? {} : { concurrency };
}

function fieldsOf(record: BackingImageRecord): string {
  return formatFields([
    ["image", record.name],
    ["size", formatSize(record.bytes)],
    ["blocks", String(record.blockCount)],
    ["sha512", record.checksum],
    ["complete", record.completeTime || "in progress"],
    ["compression", record.compression],
    [
      "labels",
      Object.entries(record.labels ?? {}).map(([key, value]) => `${key}=${value}`).join(", ") || "-",
    ],
  ]);
}

function print(json: boolean, record: BackingImageRecord): void {
  // As it is stored, which is what Longhorn prints.
  console.log(json ? new TextDecoder().decode(encodeBackingImage(record)) : fieldsOf(record));
}

/** `drover backup image create NAME FILE` */
export async function createImageCommand(name: string, path: string, flags: ImageFlags): Promise<void> {
  const json = wantsJson(flags), labels = labelsOf(flags.label), limit = limits(flags);
  const compression = COMPRESSIONS.find((one) => one === flags.compression);
  if (compression === undefined) {
    throw new UsageError(`--compression ${flags.compression}: expected ${COMPRESSIONS.join(", ")}`);
  }
  await using target = await open(flags);
  // The file's own length: nothing is added at its end.
  using source = new ImageSource(path, 1);
  const hint = "blocks that were uploaded stay, and the same command goes on with them";
  const { record, uploadedBytes } = await interruptible(hint, async (signal) => {
    using line = new ProgressLine(`backup of ${name}`);
    const options = { name, compression, labels, signal, onProgress: line.show, ...limit };
    return await createBackingImage(target, source, options);
  });
  print(json, record);
  if (!json) console.log(formatFields([["uploaded", formatSize(uploadedBytes)]]));
}

async function recordOrProblem(target: Target, name: string): Promise<BackingImageRecord | string> {
  try {
    return await inspectBackingImage(target, name);
  } catch (error) {
    if (error instanceof RecordError) return error.message;
    throw error;
  }
}

/** `drover backup image ls` */
export async function listImagesCommand(flags: ImageFlags): Promise<void> {
  const json = wantsJson(flags);
  await using target = await open(flags);
  const names = await listBackingImages(target);
  const records = await Promise.all(names.map((name) => recordOrProblem(target, name)));
  if (json) {
    const rows = records.map((record, index) =>
      typeof record === "string"
        ? { name: names[index], state: "unreadable", problem: record }
        : { name: names[index], state: stateOf(record), sizeBytes: record.bytes, sha512: record.checksum }
    );
    return console.log(JSON.stringify(rows, null, 2));
  }
  if (names.length === 0) return console.log(`no backing images on ${target.url}`);
  const cells = records.map((record, index) =>
    typeof record === "string"
      ? [names[index] ?? "", "unreadable", "?", "-"]
      : [record.name, stateOf(record), formatSize(record.bytes), record.completeTime || "-"]
  );
  console.log(formatTable(["IMAGE", "STATE", "SIZE", "CREATED"], cells, new Set([2])));
}

function stateOf(record: BackingImageRecord): string {
  return record.completeTime === "" ? "in progress" : "complete";
}

/** `drover backup image inspect NAME` */
export async function inspectImageCommand(name: string, flags: ImageFlags): Promise<void> {
  const json = wantsJson(flags);
  await using target = await open(flags);
  print(json, await inspectBackingImage(target, name));
}

/** `drover backup image restore NAME FILE` */
export async function restoreImageCommand(name: string, path: string, flags: ImageFlags): Promise<void> {
  const json = wantsJson(flags), limit = limits(flags);
  await using target = await open(flags);
  const hint = `what was written is in ${path}.partial, and the same command goes on with it`;
  const { volumeBytes, writtenBlocks, resumedBlocks } = await interruptible(hint, async (signal) => {
    using line = new ProgressLine(`restore of ${name}`);
    return await restoreBackingImage(target, { name, path, signal, onProgress: line.show, ...limit });
  });
  console.log(
    json
      ? JSON.stringify({ image: name, path, sizeBytes: volumeBytes, writtenBlocks, resumedBlocks }, null, 2)
      : `${path} holds the backing image ${name}, ${
        formatSize(volumeBytes)
      }: ${writtenBlocks} blocks written`,
  );
}

/** `drover backup image rm NAME` */
export async function removeImageCommand(name: string, flags: ImageFlags): Promise<void> {
  const json = wantsJson(flags);
  await using target = await open(flags);
  if (!agreed(`remove the backup of backing image ${name} on ${target.url}?`, flags.yes)) {
    return console.log("nothing was removed");
  }
  const report = await deleteBackingImage(target, name);
  console.log(json ? JSON.stringify({ image: name, garbage: report }, null, 2) : describeGarbage(report));
}
