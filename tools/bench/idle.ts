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

/** Figures of an idle volume of 1 TiB with three replicas, which is what users have. */
export interface Idle {
  /** Seconds that were watched. */
  readonly seconds: number;
  /** CPU time of the engine in them, milliseconds. */
  readonly engineCpuMs: number;
  /** CPU time of the busiest replica in them, milliseconds. */
  readonly replicaCpuMs: number;
  /** Memory that only the engine uses, bytes. */
  readonly engineBytes: number;
  /** Memory that a replica has to itself, of the largest; bytes. */
  readonly replicaBytes: number;
  /** From the start of the engine's process, its replica being up, until the disk is there; milliseconds. */
  readonly readyMs: number;
}

/** Watches a volume that nobody uses. */
export async function watchIdle(directory: string, seconds: number): Promise<Idle> {
  const shape = { frontend: "socket", replicas: 3, ioMode: "direct" } as const;
  {
    // The very first start compiles and fills caches; what a node pays is every later one.
    await using first = new DroverVolume("bench-idle", `${directory}/first`);
    await Deno.mkdir(first.directory);
    await first.start(TIB, shape);
  }
  await using volume = new DroverVolume("bench-idle", directory);
  await volume.start(TIB, shape);
  const engine = volume.engine?.pid ?? 0, replicas = volume.replicas.map(({ pid }) => pid);
  await sleep(Math.min(SETTLE_SECONDS, seconds) * 1000);
  const before = { engine: threadTimes(engine), replicas: replicas.map(threadTimes) };
  await sleep(seconds * 1000);
  const round = (ms: number) => Math.round(ms * 100) / 100;
  return {
    seconds,
    engineCpuMs: round(usedMs(before.engine, threadTimes(engine))),
    replicaCpuMs: round(Math.max(...replicas.map((pid, i) => usedMs(before.replicas[i], threadTimes(pid))))),
    engineBytes: privateBytes(engine),
    replicaBytes: Math.max(...replicas.map(privateBytes)),
    readyMs: Math.round(volume.readyMs),
  };
}
