/**
 * What a volume costs that nobody uses: CPU time, memory, and the time until it is there.
 *
 * @module
 */
import { sleep } from "../../tests/support/wait.ts";
import { DroverVolume } from "./drover.ts";
import { privateBytes, threadTimes, usedMs } from "./proc.ts";

const TIB = 1024 ** 4;
/** Until what the start left behind is done, seconds. */
const SETTLE_SECONDS = 3;

/** Figures of an idle volume of 1 TiB with one replica. */
export interface Idle {
  /** Seconds that were watched. */
  readonly seconds: number;
  /** CPU time of the engine in them, milliseconds. */
  readonly engineCpuMs: number;
  /** CPU time of the replica in them, milliseconds. */
  readonly replicaCpuMs: number;
  /** Memory that only the engine uses, bytes. */
  readonly engineBytes: number;
  /** Memory that only the replica uses, bytes. */
  readonly replicaBytes: number;
  /** From the start of the engine's process, its replica being up, until the disk is there; milliseconds. */
  readonly readyMs: number;
}

/** Watches a volume that nobody uses. */
export async function watchIdle(directory: string, seconds: number): Promise<Idle> {
  const shape = { frontend: "socket", replicas: 1, ioMode: "direct" } as const;
  {
    // The very first start compiles and fills caches; what a node pays is every later one.
    await using first = new DroverVolume("bench-idle", `${directory}/first`);
    await Deno.mkdir(first.directory);
    await first.start(TIB, shape);
  }
  await using volume = new DroverVolume("bench-idle", directory);
  await volume.start(TIB, shape);
  const engine = volume.engine?.pid ?? 0, replica = volume.replicas[0]?.pid ?? 0;
  await sleep(Math.min(SETTLE_SECONDS, seconds) * 1000);
  const before = { engine: threadTimes(engine), replica: threadTimes(replica) };
  await sleep(seconds * 1000);
  const round = (ms: number) => Math.round(ms * 100) / 100;
  return {
    seconds,
    engineCpuMs: round(usedMs(before.engine, threadTimes(engine))),
    replicaCpuMs: round(usedMs(before.replica, threadTimes(replica))),
    engineBytes: privateBytes(engine),
    replicaBytes: privateBytes(replica),
    readyMs: Math.round(volume.readyMs),
  };
}
