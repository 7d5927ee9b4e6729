/**
 * What a volume's life costs its users: snapshots, the record of dirty regions, recovery, short outages, rebuilds.
 * Real processes, three copies, past the page cache, on a disk: what is synced has to be paid.
 *
 * @module
 */
import { createSnapshot } from "../../lib/client/snapshots.ts";
import { sleep } from "../../tests/support/wait.ts";
import { endOfLoad, type LifeLoad, runLoad, startLoad } from "./life_load.ts";
import {
  type BesideUsers,
  rebuildAlternating,
  rebuildBeside,
  rebuildContiguous,
  type Rebuilt,
} from "./life_rebuild.ts";
import { type RegionCost, regionCost } from "./life_regions.ts";
import { LifeVolume } from "./life_volume.ts";

const KIB = 1024, MIB = 1024 * KIB, GIB = 1024 * MIB;

/** Figures of a volume's life; null: not measured in this run. */
export interface Life {
  /** Stops of hosts at snapshots under load. */
  readonly snapshot: SnapshotStops | null;
  /** Cost of the record of dirty regions, of a volume in use, and where every write is the first of its region. */
  readonly regions: { readonly inUse: RegionCost; readonly allOver: RegionCost } | null;
  /** From the death of an engine under load until copies are equal. */
  readonly recovery: { readonly near: Recovery; readonly allOver: Recovery } | null;
  /** What a copy gets that was out for a short while. */
  readonly outage: Outage | null;
  /** A copy that is made anew. */
  readonly rebuild: { readonly contiguous: Rebuilt; readonly alternating: Rebuilt } | null;
  /** What users notice of it. */
  readonly users: BesideUsers | null;
}

/** Stops of hosts. */
export interface SnapshotStops {
  /** Of each snapshot, milliseconds, as the engine counts them. */
  readonly stoppedMs: readonly number[];
  /** Operations per second of the load beside them. */
  readonly iops: number;
  /** Its longest write, milliseconds. */
  readonly longestMs: number;
}

/** A recovery; times in milliseconds from the death of the engine. */
export interface Recovery {
  /** Bytes from the start of the volume that the load wrote to at random. */
  readonly range: number;
  /** Bytes that the load had written, in all copies together. */
  readonly allocatedBytes: number;
  /** Until the replicas had noticed. */
  readonly noticedMs: number;
  /** Until the new engine served. */
  readonly readyMs: number;
  /** Until all copies were equal. */
  readonly equalMs: number;
  /** Bytes of the regions that had to be compared. */
  readonly bytes: number;
  /** Bytes that differed. */
  readonly copied: number;
}

/** A short outage. */
export interface Outage {
  /** Bytes that were written meanwhile. */
  readonly written: number;
  /** Bytes that the copy got. */
  readonly moved: number;
  /** From the start of its process until it was complete, milliseconds. */
  readonly backMs: number;
}

/** How the rows are measured. */
export interface LifeOptions {
  /** Smaller sizes and fewer rounds. */
  readonly quick: boolean;
  /** Whether a row is wanted, by its name. */
  readonly wanted: (row: string) => boolean;
  /** Ends between two rows, and in a row of many rounds between those. */
  readonly signal?: AbortSignal;
  /** Told what is being done. */
  readonly progress: (text: string) => void;
}

const SNAPSHOTS = 10;

function randomWrites(range: number, seconds: number): LifeLoad {
  return { rw: "randwrite", blockBytes: 4 * KIB, depth: 32, range, seconds };
}

async function snapshotStops(directory: string): Promise<SnapshotStops> {
  await using volume = await LifeVolume.start(directory, GIB);
  const load = await startLoad(volume, randomWrites(256 * MIB, 8));
  for (let i = 0; i < SNAPSHOTS; i++) {
    await sleep(300);
    if (!load.running) throw new Error(`the load ended before snapshot ${i}:\n${load.output}`);
    await createSnapshot(volume.client);
  }
  const { iops, latencyUs } = await endOfLoad(load);
  const stops = [...(volume.engine?.output ?? "").matchAll(/"stopped_ms":(\d+)/g)].map(([, ms]) =>
    Number(ms)
  );
  if (stops.length !== SNAPSHOTS) throw new Error(`${stops.length} of ${SNAPSHOTS} snapshots were logged`);
  return { stoppedMs: stops, iops, longestMs: latencyUs.max / 1000 };
}

/** Patience with copies that are being made equal, milliseconds. */
const EQUAL_MS = 600_000;

/** What the load of {@linkcode recovery} writes to where users write near to each other. */
const NEAR_BYTES = 4 * GIB;

async function recovery(directory: string, range: number, quick: boolean): Promise<Recovery> {
  await using volume = await LifeVolume.start(directory, 100 * GIB);
  const load = await startLoad(volume, randomWrites(range, 60));
  await sleep(quick ? 500 : 2000);
  const began = performance.now(), passed = () => Math.round(performance.now() - began);
  await volume.killEngine();
  await load.status;
  await Promise.all(volume.replicas.map((replica) => replica.closed()));
  const noticedMs = passed(), allocatedBytes = volume.replicas.reduce((sum, r) => sum + r.allocated(), 0);
  await volume.startEngine();
  const readyMs = passed();
  const [, bytes, copied] = await volume.logged(
    /copies are equal again.*?"bytes":(\d+),"copied":(\d+)/,
    EQUAL_MS,
  );
  const equalMs = passed();
  return { range, allocatedBytes, noticedMs, readyMs, equalMs, bytes: Number(bytes), copied: Number(copied) };
}

/** What is written during an outage: bytes of an operation, and how many of them; 100 MiB together. */
const OUTAGE_WRITES = [[4 * KIB, 6400], [16 * KIB, 1600], [64 * KIB, 800]] as const;

async function outage(directory: string): Promise<Outage> {
  const bytes = 10 * GIB;
  await using volume = await LifeVolume.start(directory, bytes);
  const [victim] = volume.replicas;
  if (!victim) throw new Error("the volume has no copies");
  await runLoad(volume, { ...randomWrites(bytes, 1), rw: "write", blockBytes: MIB, depth: 4 });
  await volume.lose(victim);
  let written = 0;
  for (const [blockBytes, operations] of OUTAGE_WRITES) {
    const load = { ...randomWrites(bytes, 120), blockBytes, operations, seed: blockBytes };
    written += (await runLoad(volume, load)).bytes;
  }
  const began = performance.now();
  await volume.bringBack(victim);
  const backMs = Math.round(performance.now() - began);
  const [, moved] = await volume.logged(/a new copy is complete.*?"bytes":(\d+)/);
  return { written, moved: Number(moved), backMs };
}

/** Measures what is wanted; each row with a volume of its own. @param directory exists, on a disk */
export async function measureLife(directory: string, options: LifeOptions): Promise<Life> {
  const { quick, wanted, progress, signal } = options;
  const row = async <T>(name: string, measure: () => Promise<T>): Promise<T | null> => {
    if (!wanted(name)) return null;
    signal?.throwIfAborted();
    progress(`life: ${name}`);
    const found = await measure();
    progress(`life: ${name}: ${JSON.stringify(found)}`);
    return found;
  };
  return {
    snapshot: await row("snapshot", () => snapshotStops(directory)),
    regions: await row("regions", async () => ({
      inUse: await regionCost(directory, GIB, options),
      allOver: await regionCost(directory, 100 * GIB, options),
    })),
    recovery: await row("recovery", async () => ({
      near: await recovery(directory, NEAR_BYTES, quick),
      allOver: await recovery(directory, 100 * GIB, quick),
    })),
    outage: await row("outage", () => outage(directory)),
    rebuild: await row("rebuild", async () => ({
      // Large enough that the half second counts little in which processes find each other and threads start.
      contiguous: await rebuildContiguous(directory, quick ? GIB : 4 * GIB),
      alternating: await rebuildAlternating(directory, quick ? 128 * MIB : 512 * MIB),
    })),
    users: await row("users", () => rebuildBeside(directory, quick)),
  };
}
