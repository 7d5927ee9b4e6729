/**
 * `drover backup rm`, `retain` and `gc`.
 *
 * @module
 */
import {
  collectGarbage,
  deleteBackup,
  deleteVolume,
  type GarbageReport,
  inspectVolume,
  retain,
} from "../../lib/backup/mod.ts";
import { UsageError } from "../support/program.ts";
import { formatSize } from "../support/sizes.ts";
import { interruptible } from "./progress.ts";
import { agreed, labelsOf, named, open, type TargetFlags, wantsJson, wholeNumber } from "./settings.ts";

/** Flags of the commands that remove. */
export interface RemoveFlags extends TargetFlags {
  /** The whole volume. */
  readonly all?: boolean;
  /** Do not ask. */
  readonly yes?: boolean;
  /** Number of backups to keep. */
  readonly keep?: string;
  /** Age up to which backups are kept. */
  readonly keepFor?: string;
  /** Only backups with these. */
  readonly label?: readonly string[];
  /** Only say it. */
  readonly dryRun?: boolean;
}

const HINT = "what was removed is gone; the same command goes on";

/** Milliseconds of `30d`, `12h`, `90m`, `2w`. @throws {UsageError} */
export function parseAge(flag: string, text: string): number {
  const match = /^(\d{1,6})\s*([mhdw])$/.exec(text);
  const units = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;
  if (match === null) throw new UsageError(`${flag} ${text}: expected for example 90m, 12h, 30d or 4w`);
  return Number(match[1]) * units[match[2] as keyof typeof units];
}

/** What became of blocks, for people. */
export function describeGarbage(report: GarbageReport): string {
  const { state, removedBlocks, removedBytes, keptBlocks, detail } = report;
  if (state === "done") {
    return `${removedBlocks} blocks (${formatSize(removedBytes)}) removed, ${keptBlocks} are in use`;
  }
  return `its blocks stay for now, a later removal takes them (${detail || state})`;
}

/** `drover backup rm VOLUME BACKUP` and `rm VOLUME --all` */
export async function removeCommand(words: readonly string[], given: RemoveFlags): Promise<void> {
  const { flags, volume, rest } = named(words, given), json = wantsJson(given);
  if (given.all === true && rest.length > 0) throw new UsageError("name backups, or --all, not both");
  if (given.all !== true && rest.length === 0) {
    throw new UsageError(`which backup of ${volume}? (--all: every one)`);
  }
  await using target = await open(flags);
  if (given.all === true) {
    await inspectVolume(target, volume);
    if (!agreed(`remove all backups of ${volume} on ${target.url} for ever?`, given.yes)) {
      return console.log("nothing was removed");
    }
    await interruptible(HINT, (signal) => deleteVolume(target, volume, { signal }));
    return console.log(json ? JSON.stringify({ volume, removed: true }) : `all backups of ${volume} removed`);
  }
  const what = rest.length === 1 ? `backup ${rest[0]}` : `${rest.length} backups`;
  if (!agreed(`remove ${what} of ${volume} on ${target.url} for ever?`, given.yes)) {
    return console.log("nothing was removed");
  }
  const reports: (GarbageReport & { backup: string })[] = [];
  for (const backup of rest) {
    const report = await interruptible(
      HINT,
      (signal) => deleteBackup(target, { volume, backup }, { signal }),
    );
    reports.push({ backup, ...report });
    if (!json) console.log(`${backup} removed; ${describeGarbage(report)}`);
  }
  if (json) console.log(JSON.stringify(reports, null, 2));
}

/** `drover backup retain VOLUME --keep N --keep-for AGE` */
export async function retainCommand(word: string, given: RemoveFlags): Promise<void> {
  const { flags, volume } = named([word], given),
    json = wantsJson(given),
    { keep, keepFor, dryRun = false } = given;
  if (keep === undefined && keepFor === undefined) {
    throw new UsageError("what is kept? --keep N, --keep-for 30d, or both");
  }
  const keepCount = wholeNumber("--keep", keep, 1, 100_000);
  const keepMs = keepFor === undefined ? undefined : parseAge("--keep-for", keepFor);
  const rules = {
    volume,
    labels: labelsOf(given.label),
    ...(keepCount !== undefined && { keepCount }),
    ...(keepMs !== undefined && { keepMs }),
  };
  await using target = await open(flags);
  const plan = await retain(target, { ...rules, dryRun: true });
  const question = `remove ${plan.removed.length} backups of ${volume} for ever, keep ${plan.kept.length}?`;
  if (!dryRun && plan.removed.length > 0 && !agreed(question, given.yes)) {
    return console.log("nothing was removed");
  }
  const result = dryRun || plan.removed.length === 0
    ? plan
    : await interruptible(HINT, (signal) => retain(target, { ...rules, signal }));
  if (json) return console.log(JSON.stringify(result, null, 2));
  for (const name of result.removed) console.log(`${name} ${dryRun ? "would be removed" : "removed"}`);
  const rest = result.garbage === undefined ? "" : `; ${describeGarbage(result.garbage)}`;
  console.log(
    `${result.removed.length} of ${result.removed.length + result.kept.length} backups of ${volume}${rest}`,
  );
}

/** `drover backup gc VOLUME` */
export async function garbageCommand(word: string, given: TargetFlags): Promise<void> {
  const { flags, volume } = named([word], given), json = wantsJson(given);
  await using target = await open(flags);
  const report = await interruptible(HINT, (signal) => collectGarbage(target, volume, { signal }));
  console.log(json ? JSON.stringify(report, null, 2) : describeGarbage(report));
}
