/**
 * `drover backup restore` and `restore-to-file`.
 *
 * A restore into a volume goes through its frontend: downloaded once, written by the engine to all copies.
 *
 * @module
 */
import {
  FileJournal,
  restoreBackup,
  type RestoreResult,
  restoreToFile,
  type Target,
} from "../../lib/backup/mod.ts";
import { openDeviceSink, type VolumeSink } from "../../lib/client/device_sink.ts";
import { openNbdSink, parseNbdUrl } from "../../lib/client/nbd_sink.ts";
import { describeMounts, findMounts } from "../../lib/host/mounts.ts";
import { UsageError } from "../support/program.ts";
import { formatSize } from "../support/sizes.ts";
import { resolveDirectories } from "../volume/names.ts";
import { directoriesOf, readRecord } from "../volume/record.ts";
import { newestBackup } from "./newest.ts";
import { interruptible, ProgressLine } from "./progress.ts";
import { runningVolume } from "./running.ts";
import { agreed, named, open, type TargetFlags, wantsJson, wholeNumber } from "./settings.ts";

/** Flags of restores. */
export interface RestoreFlags extends TargetFlags {
  /** Volume of this machine, block device or NBD URL. */
  readonly into?: string;
  /** Where volumes are looked for. */
  readonly dir?: readonly string[];
  /** raw or qcow2. */
  readonly format?: string;
  /** Blocks under way. */
  readonly concurrency?: string;
  /** Do not ask. */
  readonly yes?: boolean;
  /** Go on where an interrupted restore was. */
  readonly continue?: boolean;
}

/** Refuses a device with a mounted file system: it would be destroyed under its user. */
function refuseMounted(path: string): void {
  const { rdev, isBlockDevice } = Deno.statSync(path);
  if (!isBlockDevice || rdev === null) return;
  const major = Math.floor(rdev / 256) & 0xfff, minor = (rdev & 0xff) | (Math.floor(rdev / 4096) & ~0xff);
  const uses = findMounts(major, minor);
  if (uses.length > 0) {
    throw new UsageError(
      `${path} is mounted on ${describeMounts(uses)}; unmount it before it is overwritten`,
    );
  }
}

/**
 * Opens the place that a restore writes to.
 *
 * @param into name of a volume that `drover volume serve` serves, path of a block device, or NBD URL
 * @throws {UsageError}
 */
export async function openPlace(into: string, dir: readonly string[] | undefined): Promise<VolumeSink> {
  const place = parseNbdUrl(into);
  if (place !== undefined) return await openNbdSink(place);
  if (into.startsWith("/")) {
    refuseMounted(into);
    return await openDeviceSink(into);
  }
  const running = runningVolume(into, dir);
  if (running.endpoint.startsWith("/") || parseNbdUrl(running.endpoint) !== undefined) {
    return await openPlace(running.endpoint, undefined);
  }
  throw new UsageError(
    `volume ${into} is served by ${running.frontend} at ${running.endpoint}; restoring needs the frontend loop or nbd`,
  );
}

/** The backup of a command line: named, or the newest complete one. */
async function backupOf(target: Target, volume: string, words: readonly string[]): Promise<string> {
  const [backup] = words;
  return backup === undefined || backup === "latest" ? await newestBackup(target, volume) : backup;
}

function report(result: RestoreResult, place: string, json: boolean): void {
  const { record, volumeBytes, writtenBlocks, downloadedBlocks, resumedBlocks } = result;
  if (json) {
    const backup = record.name;
    return console.log(
      JSON.stringify({ backup, place, volumeBytes, writtenBlocks, downloadedBlocks, resumedBlocks }, null, 2),
    );
  }
  const resumed = resumedBlocks > 0 ? `, ${resumedBlocks} were there from an earlier try` : "";
  console.log(
    `${place} holds ${record.name} of ${record.volumeName}, ${formatSize(volumeBytes)}: ` +
      `${writtenBlocks} blocks written, ${downloadedBlocks} downloaded${resumed}`,
  );
}

function limits(flags: RestoreFlags): { concurrency?: number } {
  const concurrency = wholeNumber("--concurrency", flags.concurrency, 1, 64);
  return concurrency === undefined ? {} : { concurrency };
}

/**
 * Where a restore notes how far it is: beside the volume that it goes into. A note counts only when the user says
 * so, because nobody else knows whether something wrote to the volume in between.
 */
async function journalFor(into: string, given: RestoreFlags): Promise<FileJournal | undefined> {
  const record = into.includes("/") ? undefined : readRecord(into, resolveDirectories(given.dir));
  const [directory] = record === undefined ? [] : directoriesOf(record);
  if (directory === undefined) {
    if (given.continue === true) {
      throw new UsageError("--continue: only restores into volumes of this machine can go on");
    }
    return undefined;
  }
  const journal = new FileJournal(`${directory}/${into}.restore.json`);
  if (given.continue !== true) await journal.clear();
  else if (await journal.load() === undefined) {
    throw new UsageError(`--continue: no interrupted restore into ${into} is noted; restore it without`);
  }
  return journal;
}

/** `drover backup restore VOLUME [BACKUP] --into PLACE` */
export async function restoreCommand(words: readonly string[], given: RestoreFlags): Promise<void> {
  const { flags, volume, rest } = named(words, given);
  const json = wantsJson(given), { into } = given;
  if (into === undefined) {
    throw new UsageError("where to? --into VOLUME, /dev/DEVICE or nbd://HOST:PORT/NAME");
  }
  await using target = await open(flags);
  const backup = await backupOf(target, volume, rest);
  using sink = await openPlace(into, given.dir);
  if (
    !agreed(
      `${into} (${formatSize(sink.bytes)}): overwrite everything with ${backup} of ${volume}?`,
      given.yes,
    )
  ) {
    return console.log("nothing was written");
  }
  const journal = await journalFor(into, given);
  const again = journal === undefined ? "restore it again" : "restore it again, or go on with --continue";
  const hint = `${into} holds neither the old nor the new content; ${again}`;
  const result = await interruptible(hint, async (signal) => {
    using line = new ProgressLine(`restore of ${backup}`);
    const options = { volume, backup, zeroRest: true, signal, onProgress: line.show, ...limits(given) };
    return await restoreBackup(target, sink, { ...options, ...(journal && { journal }) });
  });
  report(result, into, json);
}

/** `drover backup restore-to-file VOLUME [BACKUP] FILE` */
export async function restoreToFileCommand(words: readonly string[], given: RestoreFlags): Promise<void> {
  const path = words.at(-1) ?? "";
  const { flags, volume, rest } = named(words.slice(0, -1), given);
  const json = wantsJson(given), { format = "raw" } = given;
  if (format !== "raw" && format !== "qcow2") {
    throw new UsageError(`--format ${format}: expected raw or qcow2`);
  }
  if (volume === "" || path === "") {
    throw new UsageError("which backup, and to which file? VOLUME [BACKUP] FILE");
  }
  await using target = await open(flags);
  const backup = await backupOf(target, volume, rest);
  const hint = `what was written is in ${path}.partial, and the same command goes on with it`;
  const result = await interruptible(hint, async (signal) => {
    using line = new ProgressLine(`restore of ${backup}`);
    return await restoreToFile(target, {
      volume,
      backup,
      path,
      format,
      signal,
      onProgress: line.show,
      ...limits(given),
    });
  });
  report(result, path, json);
}
