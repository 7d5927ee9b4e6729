/**
 * `drover snapshot create`, `rm`, `revert`, `purge`, `hash` and `clone`.
 *
 * @module
 */
import { cloneSnapshot, cloneStatus } from "../../lib/client/clone.ts";
import { hashSnapshot, hashStatus } from "../../lib/client/hash.ts";
import { purgeSnapshots, type PurgeStatus, purgeStatus } from "../../lib/client/purge.ts";
import {
  createSnapshot,
  removeSnapshot,
  revertToSnapshot,
  type SnapshotInfo,
  snapshotInfo,
} from "../../lib/client/snapshots.ts";
import { HEAD_PSEUDO_NAME } from "../../lib/disk/names.ts";
import { parseLabels } from "../client/globals.ts";
import { mayGoOn } from "../support/confirm.ts";
import { tellOutcome } from "../support/outcome.ts";
import { moment, ProgressBar } from "../support/progress.ts";
import { formatSize } from "../support/sizes.ts";
import { formatTable } from "../support/table.ts";
import { frontendDown } from "../volume/frontend_down.ts";
import { openServed, type ServedVolume } from "../volume/served.ts";
import { checkOutput, type ShowFlags } from "../volume/show.ts";
import { noSnapshot } from "./show.ts";

/** Where to look, and whether to ask and to wait. */
export interface ActionFlags extends ShowFlags {
  /** False: return as soon as it has begun. */
  readonly wait?: boolean;
}

/** Something that ran on the copies and did not go well on all. */
export class JobError extends Error {
  /** For checks. */
  override readonly name = "JobError";
}

/** `drover snapshot create VOLUME [NAME]` */
export async function createVolumeSnapshot(
  volume: string,
  name: string | undefined,
  flags: ShowFlags & { readonly label: readonly string[]; readonly freeze?: boolean },
): Promise<void> {
  checkOutput(flags);
  const labels = parseLabels(flags.label);
  using served = openServed(volume, flags);
  const made = await createSnapshot(served.engine, {
    name: name ?? "",
    labels,
    freezeFilesystem: flags.freeze ?? false,
  });
  tellOutcome(flags, { volume, name: made }, made);
}

/** The snapshots that are meant. @throws {NoSnapshotError} */
async function known(
  served: ServedVolume,
  names: readonly string[],
): Promise<{ disks: Record<string, SnapshotInfo>; wanted: SnapshotInfo[] }> {
  const disks = await snapshotInfo(served.engine);
  const wanted = names.map((name) => {
    const found = name === HEAD_PSEUDO_NAME ? undefined : disks[name];
    if (!found) throw noSnapshot(served.record.name, name, disks);
    return found;
  });
  return { disks, wanted };
}

/** `drover snapshot rm VOLUME NAME...` */
export async function removeSnapshots(
  volume: string,
  names: readonly string[],
  flags: ActionFlags & { readonly purge?: boolean },
): Promise<void> {
  checkOutput(flags);
  using served = openServed(volume, flags);
  const { wanted } = await known(served, names);
  const live = wanted.filter(({ removed }) => !removed);
  const bytes = live.reduce((sum, { size }) => sum + Number(size), 0);
  const question =
    `snapshot${live.length === 1 ? "" : "s"} ${live.map(({ name }) => name).join(", ")} of ${volume}, ` +
    `${formatSize(bytes)}: remove for ever?`;
  if (live.length > 0 && !mayGoOn(`rm ${names.join(" ")}`, question, flags.yes === true)) {
    return console.log("nothing was removed");
  }
  const lines: string[] = [];
  for (const { name, removed } of wanted) {
    await removeSnapshot(served.engine, name);
    lines.push(removed ? `${name} was removed before` : `${name} removed`);
  }
  if (flags.purge !== true) lines.push(`its space is given back by: drover snapshot purge ${volume}`);
  tellOutcome(flags, { volume, removed: wanted.map(({ name }) => name) }, ...lines);
  if (flags.purge) await purge(served, flags);
}

/** `drover snapshot purge VOLUME` */
export async function purgeVolume(volume: string, flags: ActionFlags): Promise<void> {
  checkOutput(flags);
  using served = openServed(volume, flags);
  await purge(served, flags);
}

function allocated(disks: Readonly<Record<string, SnapshotInfo>>): number {
  return Object.values(disks).reduce((sum, { size }) => sum + Number(size), 0);
}

async function purge(served: ServedVolume, flags: ActionFlags): Promise<void> {
  const { engine, record: { name } } = served;
  const before = await snapshotInfo(engine);
  await purgeSnapshots(engine, { skipIfInProgress: true });
  if (flags.wait === false) {
    return tellOutcome(
      flags,
      { volume: name, purge: "begun" },
      `the purge of ${name} has begun; drover snapshot info ${name} shows what is left`,
    );
  }
  await untilPurged(served);
  const after = await snapshotInfo(engine);
  const names = Object.keys(before).filter((one) => !after[one]), gone = names.length;
  const freed = Math.max(0, allocated(before) - allocated(after));
  const base = after[after[HEAD_PSEUDO_NAME]?.parent ?? ""];
  const stays = base?.removed
    ? [`${base.name} stays until a purge after the next snapshot: what the volume writes now lies on it`]
    : [];
  tellOutcome(
    flags,
    { volume: name, purge: "done", gone: names, freedBytes: freed, stays: base?.removed ? [base.name] : [] },
    `${gone} snapshot${gone === 1 ? "" : "s"} gone, ${formatSize(freed)} freed in each copy`,
    ...stays,
  );
}

/** @throws {JobError} */
async function untilPurged({ engine, record, nameOf }: ServedVolume): Promise<void> {
  using progress = new ProgressBar(`purge of ${record.name}`);
  for (;;) {
    const states = Object.entries(await purgeStatus(engine));
    const failed = states.filter(([, { error }]) => error !== "");
    if (failed.length > 0 && !states.some(([, { isPurging }]) => isPurging)) {
      throw new JobError(
        `the purge of ${record.name} failed: ` +
          failed.map(([address, { error }]) => `${nameOf(address)}: ${error}`).join("; "),
      );
    }
    if (states.every(([, { isPurging }]) => !isPurging)) return;
    progress.show(slowest(states.map(([, state]) => state)));
    await moment();
  }
}

function slowest(states: readonly PurgeStatus[]): number {
  return Math.min(...states.map(({ isPurging, progress }) => isPurging ? progress : 100));
}

/** `drover snapshot revert VOLUME NAME` */
export async function revertVolume(volume: string, name: string, flags: ActionFlags): Promise<void> {
  checkOutput(flags);
  using served = openServed(volume, flags);
  const { wanted: [{ created, removed }] } = await known(served, [name]);
  if (removed) throw new JobError(`snapshot ${name} is marked as removed; a purge may take it at any time`);
  const question =
    `volume ${volume}: go back to snapshot ${name} of ${created}, and lose what was written since?`;
  if (!mayGoOn(`revert ${name}`, question, flags.yes === true)) return console.log("nothing was changed");
  await frontendDown(served, () => revertToSnapshot(served.engine, name));
  tellOutcome(
    flags,
    { volume, revertedTo: name },
    `volume ${volume} is as it was at ${name}; snapshots made since are still there`,
  );
}

/** `drover snapshot hash VOLUME NAME` */
export async function hashVolumeSnapshot(
  volume: string,
  name: string,
  flags: ActionFlags & { readonly rehash?: boolean },
): Promise<void> {
  checkOutput(flags);
  using served = openServed(volume, flags);
  await known(served, [name]);
  await hashSnapshot(served.engine, name, flags.rehash ?? false);
  if (flags.wait === false) return console.log(`hashing ${name} has begun`);
  const states = await untilHashed(served, name);
  const lines = states.map(([address, { checksum, error, silentlyCorrupted }]) => ({
    replica: served.nameOf(address),
    checksum,
    result: error || (silentlyCorrupted ? "its disk changed data that nobody wrote" : "ok"),
  }));
  if (flags.output === "json") {
    console.log(JSON.stringify({ volume, snapshot: name, replicas: lines }, null, 2));
  } else {
    const rows = lines.map(({ replica, checksum, result }) => [replica, checksum || "-", result]);
    console.log(formatTable(["REPLICA", "CHECKSUM", "RESULT"], rows));
  }
  if (lines.some(({ result }) => result !== "ok")) {
    throw new JobError(`snapshot ${name} is not good on all copies`);
  }
  if (new Set(lines.map(({ checksum }) => checksum)).size > 1) {
    throw new JobError(
      `snapshot ${name}: the copies differ; take out the one that is wrong, so that it is filled anew`,
    );
  }
}

async function untilHashed({ engine, record }: ServedVolume, name: string) {
  using progress = new ProgressBar(`hashes of ${name} of ${record.name}`);
  for (;;) {
    const states = Object.entries(await hashStatus(engine, name));
    const done = states.filter(([, { state }]) => state === "complete" || state === "error").length;
    if (done === states.length) return states;
    progress.show(100 * done / states.length, `${done} of ${states.length} copies`);
    await moment();
  }
}

/** `drover snapshot clone VOLUME NAME TARGET` */
export async function cloneVolume(
  volume: string,
  name: string,
  target: string,
  flags: ActionFlags,
): Promise<void> {
  checkOutput(flags);
  using source = openServed(volume, flags);
  using served = openServed(target, flags);
  await known(source, [name]);
  const [from, to] = [(await source.engine.volume()).size, (await served.engine.volume()).size];
  if (from !== to) {
    throw new JobError(
      `volume ${target} has ${formatSize(to)}, ${volume} ${formatSize(from)}: they must have the same size`,
    );
  }
  const question = `volume ${target}: replace all its data by ${name} of ${volume}?`;
  if (!mayGoOn(`clone to ${target}`, question, flags.yes === true)) return console.log("nothing was changed");
  await frontendDown(served, async () => {
    using progress = new ProgressBar(`clone of ${name}`);
    const work = cloneSnapshot(served.engine, source.engine, { snapshot: name });
    let ended = false;
    work.finally(() => ended = true).catch(() => {});
    while (!ended) {
      const states = Object.values(await cloneStatus(served.engine));
      progress.show(Math.min(100, ...states.map((state) => state.progress)));
      await Promise.race([work.catch(() => {}), moment()]);
    }
    await work;
    checkCloned(served, Object.entries(await cloneStatus(served.engine)));
  });
  tellOutcome(
    flags,
    { volume: target, from: volume, snapshot: name },
    `volume ${target} has the data of ${name} of ${volume}`,
  );
}

/** A copy that failed may say so only afterwards. @throws {JobError} */
function checkCloned(
  { nameOf }: ServedVolume,
  states: readonly (readonly [string, { readonly error: string }])[],
): void {
  const failed = states.filter(([, { error }]) => error !== "");
  if (failed.length === 0) return;
  throw new JobError(
    `the clone failed: ${failed.map(([address, { error }]) => `${nameOf(address)}: ${error}`).join("; ")}`,
  );
}
