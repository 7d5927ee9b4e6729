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

/** Operations per second with and without, the best of all rounds. */
export interface RegionCost {
  /** Bytes of the volume that is written to. */
  readonly volumeBytes: number;
  /** As it is. */
  readonly recorded: number;
  /** With every region recorded before. */
  readonly unrecorded: number;
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

/** Measures both in turns, from the first write on. */
export async function regionCost(directory: string, bytes: number, quick: boolean): Promise<RegionCost> {
  const filledFirst = bytes <= FILLED_BYTES, best = { recorded: 0, unrecorded: 0 };
  const rounds = quick ? (filledFirst ? 2 : 1) : 3, seconds = quick ? 3 : 6;
  const random = { rw: "randwrite", blockBytes: 4096, depth: 32, range: bytes, seconds } as const;
  await using filled = filledFirst ? await LifeVolume.start(directory, bytes) : undefined;
  if (filled) {
    const all = { ...random, rw: "write", blockBytes: MIB, depth: 4, seconds: 600 } as const;
    await runLoad(filled, { ...all, operations: bytes / MIB });
    await filled.stop();
  }
  for (let round = 0; round < rounds; round++) {
    for (const kind of ["recorded", "unrecorded"] as const) {
      await using fresh = filled ? undefined : LifeVolume.make(directory, bytes);
      const volume = filled ?? fresh;
      if (!volume) continue;
      await volume.startReplicas();
      if (kind === "unrecorded") volume.replicas.forEach(recordAll);
      await volume.startEngine();
      const { iops } = await runLoad(volume, random);
      best[kind] = Math.max(best[kind], iops);
      await volume.stop();
    }
  }
  return { volumeBytes: bytes, ...best };
}
