/**
 * Rebuilds: how fast a copy is made anew beside `cp --sparse=always` of the same files, and what users notice.
 *
 * @module
 */
import { addReplica } from "../../lib/client/rebuild.ts";
import { createSnapshot } from "../../lib/client/snapshots.ts";
import { run } from "../../tests/support/process.ts";
import { sleep, waitFor } from "../../tests/support/wait.ts";
import { p99, runLoad, seldom, writeEveryOther } from "./life_load.ts";
import { type LifeReplica, LifeVolume } from "./life_volume.ts";

const MIB = 1024 * 1024;

/** A copy that was made anew; times in milliseconds. */
export interface Rebuilt {
  /** Bytes of data. */
  readonly bytes: number;
  /** From the call that adds it until it is complete: snapshot, files, comparison. */
  readonly rebuildMs: number;
  /** `cp --sparse=always` of the files of a copy. */
  readonly cpMs: number;
  /** And until they are on the disk, as the new copy's are. */
  readonly cpSyncedMs: number;
}

/** What users notice of a rebuild with a limit. */
export interface BesideUsers {
  /** Bytes per second that the rebuild may move. */
  readonly limit: number;
  /** 99 % of single blocks took at most this without a rebuild, milliseconds. */
  readonly idleP99Ms: number;
  /** The same while it runs. */
  readonly rebuildP99Ms: number;
  /** Blocks that were read and written while it ran. */
  readonly operations: number;
}

/** Takes what is cached of a file out of memory, so that nobody reads what another one has read. */
async function forget(path: string): Promise<void> {
  await run("sync", ["--data", path]);
  await run("dd", [`if=${path}`, "iflag=nocache", "count=0", "status=none"]);
}

function snapshotFiles({ directory }: LifeReplica): string[] {
  return [...Deno.readDirSync(directory)].filter(({ name }) => /^volume-snap-.*\.img$/.test(name))
    .map(({ name }) => `${directory}/${name}`);
}

/** Of all copies but the one that is gone. */
async function forgetAll(volume: LifeVolume, gone: LifeReplica): Promise<void> {
  for (const replica of volume.replicas) {
    for (const path of replica === gone ? [] : snapshotFiles(replica)) await forget(path);
  }
}

/** The copy that is made anew, and one that its files come from. */
function actors({ replicas: [fresh, source] }: LifeVolume): { fresh: LifeReplica; source: LifeReplica } {
  if (!fresh || !source) throw new Error("the volume has too few copies");
  return { fresh, source };
}

/** Loses a copy with all its files. What is there in the others stays in snapshots. */
async function loseAll(volume: LifeVolume, replica: LifeReplica): Promise<void> {
  await createSnapshot(volume.client);
  await volume.lose(replica);
  await Deno.remove(replica.directory, { recursive: true });
}

async function copyBeside(volume: LifeVolume, source: LifeReplica): Promise<[number, number]> {
  const directory = `${volume.directory}/cp`, files = snapshotFiles(source);
  await Deno.mkdir(directory);
  const began = performance.now();
  await run("cp", ["--sparse=always", ...files, directory]);
  const copied = performance.now() - began;
  await run("sync", [...Deno.readDirSync(directory)].map(({ name }) => `${directory}/${name}`));
  const synced = performance.now() - began;
  await Deno.remove(directory, { recursive: true });
  return [Math.round(copied), Math.round(synced)];
}

async function measureRebuild(volume: LifeVolume, bytes: number): Promise<Rebuilt> {
  const { fresh, source } = actors(volume);
  await loseAll(volume, fresh);
  await forgetAll(volume, fresh);
  const [cpMs, cpSyncedMs] = await copyBeside(volume, source);
  await forgetAll(volume, fresh);
  await fresh.start();
  const began = performance.now();
  await addReplica(volume.client, fresh.address);
  const rebuildMs = Math.round(performance.now() - began);
  // The head of the source is empty: a copy that lacks something would be smaller.
  const [had, has] = [source.allocated(), fresh.allocated()];
  if (has < bytes || has < had * 0.99) throw new Error(`the new copy has ${has} bytes, its source ${had}`);
  return { bytes, rebuildMs, cpMs, cpSyncedMs };
}

/** Fills a volume from its start. */
async function fillVolume(volume: LifeVolume, range: number): Promise<void> {
  const operations = range / MIB;
  await runLoad(volume, { rw: "write", blockBytes: MIB, depth: 4, range, seconds: 600, operations });
}

/** Data without holes. */
export async function rebuildContiguous(directory: string, bytes: number): Promise<Rebuilt> {
  await using volume = await LifeVolume.start(directory, 2 * bytes);
  await fillVolume(volume, bytes);
  return await measureRebuild(volume, bytes);
}

/** 4 KiB of data, 4 KiB of hole, and so on. */
export async function rebuildAlternating(directory: string, range: number): Promise<Rebuilt> {
  await using volume = await LifeVolume.start(directory, 2 * range);
  return await measureRebuild(volume, await writeEveryOther(volume, range));
}

/** Watched without a rebuild so long, milliseconds; with it as long as it takes. */
const IDLE_MS = 6_000;

/** A rebuild at a limit beside a host that asks seldom. */
export async function rebuildBeside(directory: string, quick: boolean): Promise<BesideUsers> {
  const bytes = quick ? 128 * MIB : 512 * MIB, limit = quick ? 32 * MIB : 64 * MIB;
  await using volume = await LifeVolume.start(directory, 2 * bytes);
  const { fresh } = actors(volume);
  await fillVolume(volume, bytes);
  await loseAll(volume, fresh);
  let over = false;
  const [idle] = await Promise.all([
    seldom(volume, bytes, () => over),
    sleep(IDLE_MS).then(() => over = true),
  ]);
  await fresh.start();
  await volume.client.replica(fresh.address).agent.unary("droverSyncLimitSet", { bytesPerSecond: limit });
  over = false;
  const rebuilt = addReplica(volume.client, fresh.address).finally(() => over = true);
  const beside = await seldom(volume, bytes, () => over);
  await rebuilt;
  await waitFor(async () => (await volume.client.replicas()).every(({ mode }) => mode === "RW"));
  return { limit, idleP99Ms: p99(idle), rebuildP99Ms: p99(beside), operations: beside.length };
}
