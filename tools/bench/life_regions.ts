/**
 * What the record of dirty regions costs: random writes on a volume whose replicas have to record each region before
 * its first write, beside the same volume whose replicas find every region recorded already. There is no switch in the
 * programs for that, on purpose: a record that is full before the engine opens the copies does the same.
 *
 * @module
 */
import { REGIONS_FILE } from "../../lib/replica/dirty_regions.ts";
import { runLoad } from "./life_load.ts";
import { type LifeReplica, LifeVolume } from "./life_volume.ts";
import { undisturbed } from "./measure.ts";

/** Operations per second with and without, a round of both after the other. */
export interface RegionRound {
  /** As it is. */
  readonly recorded: number;
  /** With every region recorded before. */
  readonly unrecorded: number;
}

/** What the record costs. */
export interface RegionCost {
  /** Bytes of the volume that is written to. */
  readonly volumeBytes: number;
  /** All rounds, that with the least share of operations left first. */
  readonly rounds: readonly RegionRound[];
}

/** What a record leaves of the operations per second. */
export function shareLeft({ recorded, unrecorded }: RegionRound): number {
  return recorded / unrecorded;
}

/** The round in the middle: a disk that others use, too, is faster or slower from second to second. */
export function middleRound({ rounds }: RegionCost): RegionRound {
  const middle = rounds[rounds.length >> 1];
  if (!middle) throw new TypeError("there is at least one round");
  return middle;
}

/** Layout of the record: see lib/replica/dirty_regions.ts. */
const HEADER_BYTES = 4096, MAP_BYTES = 4096;

/** Writes a record in which every region is dirty, before an engine opens the copy. */
function recordAll({ directory, bytes }: LifeReplica): void {
  const content = new Uint8Array(HEADER_BYTES + MAP_BYTES);
  content.set(new TextEncoder().encode("DRVREGN1"));
  new DataView(content.buffer).setBigUint64(8, BigInt(bytes), true);
  content.fill(0xff, HEADER_BYTES);
  Deno.writeFileSync(`${directory}/${REGIONS_FILE}`, content);
}

/** Volumes up to this size are written once before: what is measured is then the record, not the file system. */
const FILLED_BYTES = 1024 ** 3;
const MIB = 1024 * 1024;

/** So often at most while the host takes processors away: there are several rounds, too. */
const TRIES = 2;
/** With the record first, and without first. */
const ORDERS = [["recorded", "unrecorded"], ["unrecorded", "recorded"]] as const;

/**
 * Measures both in turns, from the first write on; who is first changes, for a disk slows down and recovers.
 *
 * @param options `quick`: fewer and shorter rounds; `signal` ends it between two loads
 */
export async function regionCost(
  directory: string,
  bytes: number,
  { quick, signal }: { readonly quick: boolean; readonly signal?: AbortSignal },
): Promise<RegionCost> {
  const filledFirst = bytes <= FILLED_BYTES, found: RegionRound[] = [];
  const rounds = quick ? 3 : 7, seconds = quick ? 3 : 6;
  const random = { rw: "randwrite", blockBytes: 4096, depth: 32, range: bytes, seconds } as const;
  await using filled = filledFirst ? await LifeVolume.start(directory, bytes) : undefined;
  if (filled) {
    const all = { ...random, rw: "write", blockBytes: MIB, depth: 4, seconds: 600 } as const;
    await runLoad(filled, { ...all, operations: bytes / MIB });
    await filled.stop();
  }
  const once = async (kind: keyof RegionRound): Promise<number> => {
    signal?.throwIfAborted();
    await using fresh = filled ? undefined : LifeVolume.make(directory, bytes);
    const volume = filled ?? fresh;
    if (!volume) throw new TypeError("there is a volume of either kind");
    await volume.startReplicas();
    if (kind === "unrecorded") volume.replicas.forEach(recordAll);
    await volume.startEngine();
    const { iops } = await runLoad(volume, random);
    await volume.stop();
    return iops;
  };
  for (let round = 0; round < rounds; round++) {
    const iops = { recorded: 0, unrecorded: 0 };
    for (const kind of ORDERS[round % ORDERS.length] ?? []) {
      iops[kind] = (await undisturbed(() => once(kind), TRIES)).found;
    }
    found.push(iops);
  }
  return { volumeBytes: bytes, rounds: found.toSorted((a, b) => shareLeft(a) - shareLeft(b)) };
}
