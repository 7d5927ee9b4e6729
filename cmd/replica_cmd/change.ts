/**
 * `drover replica add` and `rm`. They change the record of the volume; the process that serves it follows
 * (`cmd/volume/follow.ts`).
 *
 * @module
 */
import { resolve } from "node:path";
import { type RebuildStatus, rebuildStatus } from "../../lib/client/rebuild.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";
import { eraseReplica } from "../../lib/replica/remove.ts";
import { mayGoOn } from "../support/confirm.ts";
import { tellOutcome } from "../support/outcome.ts";
import { moment, ProgressBar } from "../support/progress.ts";
import { UsageError } from "../support/program.ts";
import { formatSize, parseRate } from "../support/sizes.ts";
import { exists, prepareDirectory, sharedFileSystems } from "../volume/creation.ts";
import { inspectVolume, type ReplicaReport } from "../volume/inspect.ts";
import {
  directoriesOf,
  MAX_REPLICAS,
  readRecord,
  recordName,
  type ReplicaPlace,
  type VolumeRecord,
  withRebuild,
  writeRecord,
} from "../volume/record.ts";
import { openServed } from "../volume/served.ts";
import { checkOutput, findVolume, type ShowFlags } from "../volume/show.ts";
import { whoUses } from "../volume/use.ts";
import { describePace } from "./show.ts";

/** A change that was not made, or not to its end. */
export class CopyError extends Error {
  /** For checks. */
  override readonly name = "CopyError";
}

/** How long the serving process may take to take a copy out, milliseconds: the engine gives up after 60 s. */
const FOLLOW_MS = 120_000;

/** Where another copy goes: `VOLUME-r-N` with the first number above all others. */
export function nextPlace(record: VolumeRecord, directory: string): ReplicaPlace {
  const numbers = record.replicas.map(({ name }) => Number(/-r-(\d+)$/.exec(name)?.[1] ?? 0));
  const name = `${record.name}-r-${Math.max(0, ...numbers) + 1}`;
  return { name, directory: `${directory}/${name}` };
}

/** What the command line says about a new copy. */
export interface AddFlags extends ShowFlags {
  /** Where it lies. */
  readonly to: string;
  /** Return when it is complete. */
  readonly wait?: boolean;
  /** Bytes per second, as written. */
  readonly limit?: string;
  /** Read everything back. */
  readonly verify?: boolean;
}

/** `drover replica add VOLUME --to DIRECTORY` */
export async function addCopy(volume: string, flags: AddFlags): Promise<void> {
  checkOutput(flags);
  const record = findVolume(volume, flags), directory = resolve(flags.to);
  if (record.replicas.length >= MAX_REPLICAS) {
    throw new UsageError(`volume ${volume} has ${MAX_REPLICAS} copies, which is the most`);
  }
  if (flags.limit !== undefined) parseRate(flags.limit);
  const place = nextPlace(record, directory);
  if (exists(place.directory)) {
    throw new UsageError(`--to ${flags.to}: ${place.directory} is there already; move it away`);
  }
  prepareDirectory(directory);
  const next = withRebuild({ ...record, replicas: [...record.replicas, place] }, {
    ...(flags.limit === undefined ? {} : { bytesPerSecond: parseRate(flags.limit) }),
    ...(flags.verify === undefined ? {} : { verify: flags.verify }),
  });
  const shared = sharedFileSystems(next);
  if (shared !== undefined) console.error(`note: ${shared}`);
  writeRecord(next);
  const tell = (state: string, text: string) =>
    tellOutcome(flags, { volume, replica: place.name, directory: place.directory, state }, text);
  if (whoUses(record) === undefined) {
    return tell("empty", `copy ${place.name} is filled when ${volume} runs: drover volume serve ${volume}`);
  }
  if (flags.wait === false) return tell("filling", `copy ${place.name} is being filled`);
  await untilComplete(next, place, flags);
  tell("complete", `copy ${place.name} is complete`);
}

async function untilComplete(record: VolumeRecord, { name }: ReplicaPlace, flags: ShowFlags): Promise<void> {
  using progress = new ProgressBar(`copy ${name}`);
  for (let percent = 0;;) {
    const { state, replicas } = await inspectVolume(record);
    const copy = replicas.find((one) => one.name === name);
    if (copy?.state === "complete") return;
    if (state === "stopped" || state === "faulted") {
      throw new CopyError(`volume ${record.name} is ${state}; copy ${name} is filled when it runs again`);
    }
    const status = copy?.state === "rebuilding" ? await statusOf(record.name, name, flags) : undefined;
    percent = status?.progress ?? percent;
    progress.show(percent, copy?.state === "rebuilding" ? describePace(status?.pace) : "about to begin");
    await moment();
  }
}

async function statusOf(volume: string, name: string, flags: ShowFlags): Promise<RebuildStatus | undefined> {
  try {
    using served = openServed(volume, flags);
    const states = Object.entries(await rebuildStatus(served.engine));
    return states.find(([address]) => served.nameOf(address) === name)?.[1];
  } catch {
    return undefined; // It is just changing. What matters is asked again.
  }
}

/** Refuses what would lose data. @throws {CopyError} */
function checkRemoval(
  volume: string,
  running: boolean,
  copy: ReplicaReport,
  all: readonly ReplicaReport[],
): void {
  const others = all.filter(({ name }) => name !== copy.name);
  if (!others.some(({ state }) => state === "complete" || (!running && state === "new"))) {
    throw new CopyError(
      `${copy.name} is the only complete copy of ${volume}: add another one first, or remove the volume`,
    );
  }
  if (!running && copy.state === "complete") {
    throw new CopyError(
      `${copy.name} is complete, and the others must take note when it goes: start the volume first, with ` +
        `drover volume serve ${volume}`,
    );
  }
}

/** `drover replica rm VOLUME REPLICA` */
export async function removeCopy(
  volume: string,
  name: string,
  flags: ShowFlags & { readonly keepData?: boolean },
): Promise<void> {
  checkOutput(flags);
  const record = findVolume(volume, flags), report = await inspectVolume(record);
  const place = record.replicas.find((one) => one.name === name);
  const copy = report.replicas.find((one) => one.name === name);
  if (!place || !copy) {
    const names = record.replicas.map((one) => one.name).join(", ");
    throw new CopyError(`volume ${volume} has no copy ${name}; there is: ${names}`);
  }
  const running = report.state !== "stopped";
  checkRemoval(volume, running, copy, report.replicas);
  const question =
    `${name} of ${volume}, ${formatSize(copy.allocatedBytes)} in ${copy.directory}: take it out` +
    (flags.keepData ? "?" : " and delete it?");
  if (!mayGoOn(`rm ${name}`, question, flags.yes === true)) return console.log("nothing was removed");
  const next = { ...record, replicas: record.replicas.filter((one) => one.name !== name) };
  writeRecord(next);
  // Where no copy is left there is no record either: else the old one would be found first.
  for (const directory of directoriesOf(record)) {
    if (!directoriesOf(next).includes(directory)) removeFile(`${directory}/${recordName(volume)}`);
  }
  if (running) await untilOut(next, place);
  if (!flags.keepData) deleteData(place);
  tellOutcome(
    flags,
    { volume, replica: name, removed: true },
    `copy ${name} is no part of ${volume} any more`,
  );
  const before = directoriesOf(record), after = directoriesOf(next);
  if (before.some((directory) => !after.includes(directory))) {
    console.error(`note: ${volume} is found from now on with --dir ${after.join(" ")}`);
  }
}

/** Until the process that serves the volume has taken the copy out. @throws {CopyError} when it did not */
async function untilOut(record: VolumeRecord, { name }: ReplicaPlace): Promise<void> {
  const end = performance.now() + FOLLOW_MS;
  while (performance.now() < end) {
    const user = whoUses(record);
    if (user === undefined) {
      throw new CopyError(
        `volume ${record.name} stopped meanwhile; its next start may miss ${name} and need --degraded`,
      );
    }
    if (user !== "starting" && !user.replicas.some((one) => one.name === name)) return;
    if (readRecord(record.name, directoriesOf(record))?.replicas.some((one) => one.name === name)) {
      throw new CopyError(`copy ${name} stays: the engine refused; drover volume serve says why`);
    }
    await moment();
  }
  throw new CopyError(
    `drover volume serve did not take ${name} out within ${FOLLOW_MS / 1000} s; see its output`,
  );
}

function deleteData({ directory }: ReplicaPlace): void {
  const files = new FilesLibc();
  eraseReplica(files, directory);
  if (files.exists(directory)) console.error(`warning: ${directory} stays: there are other files in it`);
}

function removeFile(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
