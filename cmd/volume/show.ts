/**
 * `drover volume info`, `ls` and `rm`.
 *
 * @module
 */
import { deleteReplica } from "../../lib/replica/remove.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";
import { mayGoOn } from "../support/confirm.ts";
import { tellOutcome } from "../support/outcome.ts";
import { UsageError } from "../support/program.ts";
import { formatSize } from "../support/sizes.ts";
import { formatFields, formatTable } from "../support/table.ts";
import { inspectVolume, type VolumeReport } from "./inspect.ts";
import { checkVolumeName, resolveDirectories } from "./names.ts";
import {
  directoriesOf,
  listVolumes,
  logPath,
  readRecord,
  readRecords,
  recordName,
  type VolumeRecord,
} from "./record.ts";
import { InUseError, useName, VolumeUse } from "./use.ts";

/** What the commands have in common. */
export interface ShowFlags {
  /** Where to look. */
  readonly dir?: readonly string[];
  /** `table` or `json`. */
  readonly output: string;
  /** Do not ask. */
  readonly yes?: boolean;
}

/** A volume that is not there. */
export class NoVolumeError extends Error {
  /** For checks. */
  override readonly name = "NoVolumeError";
}

const OUTPUTS = ["table", "json"];

/** Refuses formats that do not exist. @throws {UsageError} */
export function checkOutput({ output }: Pick<ShowFlags, "output">): void {
  if (!OUTPUTS.includes(output)) throw new UsageError(`--output ${output}: expected ${OUTPUTS.join(" or ")}`);
}

/** The record of a volume. @throws {NoVolumeError} naming those that are there */
export function findVolume(name: string, flags: Pick<ShowFlags, "dir">): VolumeRecord {
  checkVolumeName(name);
  const directories = resolveDirectories(flags.dir);
  const record = readRecord(name, directories);
  if (record) return record;
  const others = listVolumes(directories);
  throw new NoVolumeError(
    `no volume ${name} in ${directories.join(", ")}` +
      (others.length > 0 ? `; there is: ${others.join(", ")}` : "; --dir names another directory"),
  );
}

function describeState({ state, unclean }: VolumeReport): string {
  return unclean ? "stopped, not in order" : state;
}

function completeOf({ replicas }: VolumeReport): string {
  return `${
    replicas.filter(({ state }) => state === "complete" || state === "new").length
  }/${replicas.length}`;
}

function allocatedOf({ replicas }: VolumeReport): number {
  return replicas.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0);
}

function describe(report: VolumeReport): string {
  const { running } = report;
  const fields: [string, string][] = [
    ["name", report.name],
    ["state", describeState(report)],
    ["size", formatSize(report.sizeBytes)],
    ["on disk", `${formatSize(allocatedOf(report))} in all copies`],
    ["created", report.created],
    ...(running
      ? [
        ["disk", `${running.endpoint} (${running.frontend})`],
        ["control", running.control],
        ["processes", `serve ${running.pid}, engine ${running.enginePid}`],
      ] as [string, string][]
      : []),
    ["log", report.log],
  ];
  const rows = report.replicas.map(({ name, state, allocatedBytes, pid, directory, reason }) => [
    name,
    state,
    formatSize(allocatedBytes),
    pid === undefined ? "-" : String(pid),
    reason === "" ? directory : `${directory} (${reason})`,
  ]);
  const table = formatTable(["REPLICA", "STATE", "ON DISK", "PROCESS", "DIRECTORY"], rows, new Set([2]));
  return `${formatFields(fields)}\n\n${table}`;
}

/** `drover volume info NAME` */
export async function showVolume(name: string, flags: ShowFlags): Promise<void> {
  checkOutput(flags);
  const report = await inspectVolume(findVolume(name, flags));
  console.log(flags.output === "json" ? JSON.stringify(report, null, 2) : describe(report));
}

/** `drover volume ls` */
export async function listAll(flags: ShowFlags): Promise<void> {
  checkOutput(flags);
  const directories = resolveDirectories(flags.dir);
  const reports: VolumeReport[] = [];
  for (const name of listVolumes(directories)) {
    try {
      for (const record of readRecords(name, directories)) reports.push(await inspectVolume(record));
    } catch (error) {
      console.error(`warning: ${error instanceof Error ? error.message : error}`);
    }
  }
  if (flags.output === "json") return console.log(JSON.stringify(reports, null, 2));
  if (reports.length === 0) return console.log(`no volumes in ${directories.join(", ")}`);
  const rows = reports.map((report) => [
    report.name,
    describeState(report),
    formatSize(report.sizeBytes),
    formatSize(allocatedOf(report)),
    completeOf(report),
    report.running?.endpoint ?? "-",
  ]);
  console.log(formatTable(["NAME", "STATE", "SIZE", "ON DISK", "COMPLETE", "DISK"], rows, new Set([2, 3])));
}

/** `drover volume rm NAME` */
export async function removeVolume(name: string, flags: ShowFlags): Promise<void> {
  checkOutput(flags);
  const record = findVolume(name, flags);
  const report = await inspectVolume(record);
  if (report.state !== "stopped") {
    const pid = report.running?.pid;
    throw new InUseError(
      `volume ${name} is in use${pid === undefined ? "" : ` by process ${pid}`}; stop it first` +
        (pid === undefined ? "" : ` (Ctrl-C there, or: kill ${pid})`),
    );
  }
  const text =
    `volume ${name}, ${formatSize(report.sizeBytes)}, ${formatSize(allocatedOf(report))} on disk: ` +
    `remove it and its data for ever?`;
  if (!mayGoOn(`rm ${name}`, text, flags.yes === true)) return console.log("nothing was removed");
  using use = new VolumeUse(record);
  const files = new FilesLibc();
  for (const { directory } of record.replicas) deleteReplica(files, directory);
  for (const directory of directoriesOf(record)) {
    for (const file of [recordName(name), useName(name)]) removeFile(`${directory}/${file}`);
  }
  for (const path of [logPath(record), `${logPath(record)}.1`]) removeFile(path);
  for (const { directory } of use.record.replicas) {
    if (files.exists(directory)) console.error(`warning: ${directory} stays: there are other files in it`);
  }
  tellOutcome(flags, { volume: name, removed: true }, `volume ${name} removed`);
}

function removeFile(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
