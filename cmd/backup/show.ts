/**
 * `drover backup ls`, `inspect` and `verify`.
 *
 * @module
 */
import {
  type BackupSummary,
  backupUrl,
  hasVolume,
  inspectVolume,
  listVolumes,
  longhornBackup,
  longhornVolume,
  NoSuchBackupError,
  type Target,
  verifyBackups,
} from "../../lib/backup/mod.ts";
import { formatSize } from "../support/sizes.ts";
import { formatFields, formatTable } from "../support/table.ts";
import { backupsByAge, isUsable, recordOf } from "./newest.ts";
import { interruptible, ProgressLine } from "./progress.ts";
import { named, open, type TargetFlags, wantsJson, wholeNumber } from "./settings.ts";

function stateOf(summary: BackupSummary): string {
  if (isUsable(summary)) return "complete";
  return summary.problem === "" ? "in progress" : "unreadable";
}

async function listAllVolumes(target: Target, json: boolean): Promise<void> {
  const rows: { name: string; sizeBytes: number; backups: number; last: string; lastAt: string }[] = [];
  for (const name of await listVolumes(target)) {
    const backups = await backupsByAge(target, name);
    const last = backups.findLast(isUsable);
    const sizeBytes = await inspectVolume(target, name).then(({ bytes }) => bytes, () => 0);
    rows.push({
      name,
      sizeBytes,
      backups: backups.length,
      last: last?.name ?? "",
      lastAt: last?.record?.createdTime ?? "",
    });
  }
  if (json) return console.log(JSON.stringify(rows, null, 2));
  if (rows.length === 0) return console.log(`no backups on ${target.url}`);
  const cells = rows.map((row) => [
    row.name,
    row.sizeBytes === 0 ? "?" : formatSize(row.sizeBytes),
    String(row.backups),
    row.lastAt || "-",
    row.last || "-",
  ]);
  console.log(formatTable(["VOLUME", "SIZE", "BACKUPS", "LAST", "LAST BACKUP"], cells, new Set([1, 2])));
}

async function listOne(target: Target, volume: string, json: boolean): Promise<void> {
  if (!await hasVolume(target, volume)) {
    throw new NoSuchBackupError(`there are no backups of volume ${volume} on ${target.url}`);
  }
  const backups = await backupsByAge(target, volume);
  if (json) {
    const rows = backups.map((summary) => ({
      name: summary.name,
      state: stateOf(summary),
      problem: summary.problem,
      created: summary.record?.createdTime ?? "",
      snapshot: summary.record?.snapshotName ?? "",
      snapshotCreated: summary.record?.snapshotCreatedAt ?? "",
      incremental: summary.record?.isIncremental ?? false,
      sizeBytes: summary.record?.bytes ?? 0,
      uploadedBytes: (summary.record?.newlyUploadedBytes ?? 0) + (summary.record?.reUploadedBytes ?? 0),
      blocks: summary.blocks,
      blockBytes: summary.blockBytes,
      labels: summary.record?.labels ?? {},
      url: backupUrl(target.url, { volume, backup: summary.name }),
    }));
    return console.log(JSON.stringify(rows, null, 2));
  }
  if (backups.length === 0) return console.log(`no backups of ${volume} on ${target.url}`);
  const cells = backups.map((summary) => {
    const { record } = summary;
    return [
      summary.name,
      stateOf(summary),
      record?.createdTime || "-",
      record?.snapshotName ?? "-",
      record === undefined ? "-" : record.isIncremental ? "incremental" : "full",
      record === undefined ? "?" : formatSize(record.bytes),
      record === undefined ? "?" : formatSize(record.newlyUploadedBytes + record.reUploadedBytes),
    ];
  });
  const heading = ["BACKUP", "STATE", "CREATED", "SNAPSHOT", "KIND", "SIZE", "UPLOADED"];
  console.log(formatTable(heading, cells, new Set([5, 6])));
  for (const { problem } of backups) if (problem !== "") console.error(`warning: ${problem}`);
}

/** `drover backup ls [VOLUME]` */
export async function listCommand(word: string | undefined, given: TargetFlags): Promise<void> {
  const json = wantsJson(given);
  const { flags, volume } = named(word === undefined ? [] : [word], given);
  await using target = await open(flags);
  if (volume === "") await listAllVolumes(target, json);
  else await listOne(target, volume, json);
}

/** `drover backup inspect VOLUME [BACKUP]` */
export async function inspectCommand(words: readonly string[], given: TargetFlags): Promise<void> {
  const { flags, volume, rest: [backup] } = named(words, given), json = wantsJson(given);
  await using target = await open(flags);
  const record = await inspectVolume(target, volume);
  if (backup === undefined) {
    if (json) return console.log(JSON.stringify(longhornVolume(record), null, 2));
    return console.log(formatFields([
      ["volume", record.name],
      ["size", formatSize(record.bytes)],
      ["created", record.createdTime || "-"],
      ["last backup", record.lastBackupName || "-"],
      ["last snapshot", record.lastBackupAt || "-"],
      ["blocks", String(record.blockCount)],
      ["compression", record.compression || "gzip"],
      ["backing image", record.backingImageName || "-"],
      ["labels", labelText(record.labels)],
    ]));
  }
  const found = await recordOf(target, { volume, backup });
  if (json) return console.log(JSON.stringify(longhornBackup(found, record, target.url), null, 2));
  console.log(formatFields([
    ["backup", found.name],
    ["url", backupUrl(target.url, { volume, backup })],
    ["volume", `${record.name}, ${formatSize(record.bytes)}`],
    ["snapshot", `${found.snapshotName}${found.snapshotCreatedAt ? `, of ${found.snapshotCreatedAt}` : ""}`],
    ["created", found.createdTime || "in progress"],
    ["kind", found.isIncremental ? "incremental" : "full"],
    ["size", formatSize(found.bytes)],
    ["uploaded", formatSize(found.newlyUploadedBytes + found.reUploadedBytes)],
    ["compression", found.compression || "gzip"],
    ["labels", labelText(found.labels)],
  ]));
}

function labelText(labels: Readonly<Record<string, string>> | null): string {
  return Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`).join(", ") || "-";
}

/** A check that found damage: everything went well, and that is the answer. */
export class DamageError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "DamageError";
}

/** `drover backup verify VOLUME [BACKUP...]` */
export async function verifyCommand(
  words: readonly string[],
  given: TargetFlags & { readonly concurrency?: string },
): Promise<void> {
  const { flags, volume, rest } = named(words, given), json = wantsJson(given);
  const concurrency = wholeNumber("--concurrency", given.concurrency, 1, 64);
  await using target = await open(flags);
  const result = await interruptible("nothing was changed", async (signal) => {
    using line = new ProgressLine(`check of ${volume}`);
    const backups = rest.length === 0 ? {} : { backups: rest };
    const limit = concurrency === undefined ? {} : { concurrency };
    return await verifyBackups(target, { volume, ...backups, ...limit, signal, onProgress: line.show });
  });
  if (json) console.log(JSON.stringify(result, null, 2));
  else {
    for (const { backup, problem } of result.skipped) console.log(`not checked: ${backup}: ${problem}`);
    for (const { backups, offset, checksum, problem } of result.bad) {
      console.log(`bad: block ${checksum} (offset ${offset}) of ${backups.join(", ")}: ${problem}`);
    }
    console.log(`${result.blocks} blocks of ${result.backups.length} backups read, ${result.bad.length} bad`);
  }
  const asked = rest.filter((backup) => result.skipped.some((one) => one.backup === backup));
  if (result.bad.length > 0) {
    throw new DamageError(
      `${result.bad.length} blocks of ${volume} are damaged or missing; a backup with --full uploads them anew ` +
        "where the volume still has them",
    );
  }
  if (asked.length > 0) throw new DamageError(`not checked: ${asked.join(", ")}`);
}
