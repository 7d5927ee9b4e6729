/**
 * Loads of the rows on a volume's life: our own generator in a process of its own, and a host that asks seldom.
 *
 * @module
 */
import type { BenchResult } from "../../lib/bench/bench.ts";
import { type LoggedProcess, run, spawnLogged } from "../../tests/support/process.ts";
import { inRepository } from "../../tests/support/repository.ts";
import { sleep, waitFor } from "../../tests/support/wait.ts";
import { Frames } from "../../tests/worlds/frames.ts";
import type { LifeVolume } from "./life_volume.ts";

/** What a load does. */
export interface LifeLoad {
  /** As `drover bench` calls it. */
  readonly rw: "write" | "randwrite";
  /** Bytes of an operation. */
  readonly blockBytes: number;
  /** Operations under way. */
  readonly depth: number;
  /** Bytes from the start of the volume. */
  readonly range: number;
  /** How long, at most; seconds. */
  readonly seconds: number;
  /** So many operations, at most. */
  readonly operations?: number;
  /** Of the offsets. */
  readonly seed?: number;
}

function loadArgs({ socket }: LifeVolume, load: LifeLoad): string[] {
  const { rw, blockBytes, depth, range, seconds, operations, seed = 1 } = load;
  const script = ["run", "-A", "--no-check", inRepository("tools/bench/load.ts"), "bench", "--yes"];
  const what = ["--rw", rw, "--bs", String(blockBytes), "--qd", String(depth), "--size", String(range)];
  const times = ["--seconds", String(seconds), "--ramp", "0", "--seed", String(seed)];
  if (operations !== undefined) times.push("--operations", String(operations));
  return [...script, "--target", `unix:${socket}`, ...what, ...times, "-o", "json"];
}

/** Runs a load to its end. */
export async function runLoad(volume: LifeVolume, load: LifeLoad): Promise<BenchResult["total"]> {
  const { stdout } = await run(Deno.execPath(), loadArgs(volume, load));
  return (JSON.parse(stdout) as BenchResult).total;
}

/** Starts a load and waits until it writes. */
export async function startLoad(volume: LifeVolume, load: LifeLoad): Promise<LoggedProcess> {
  const [first] = volume.replicas, before = first ? first.allocated() : 0;
  const process = spawnLogged(Deno.execPath(), loadArgs(volume, load));
  await waitFor(() => (first?.allocated() ?? 0) > before || !process.running, {
    what: "the load to begin",
    timeoutMs: 30_000,
  });
  return process;
}

/** The figures of a load that {@linkcode startLoad} started, at its end. @throws {Error} when it failed */
export async function endOfLoad(load: LoggedProcess): Promise<BenchResult["total"]> {
  const { code } = await load.status;
  if (code !== 0) throw new Error(`a load failed:\n${load.output}`);
  return (JSON.parse(load.output) as BenchResult).total;
}

/** Writes under way while a pattern is written. */
const PATTERN_LANES = 32;
const BLOCK = 4096;

/** Writes every other block of a range. @returns bytes of data */
export async function writeEveryOther(volume: LifeVolume, range: number): Promise<number> {
  using frames = await Frames.connect(volume.socket);
  const block = crypto.getRandomValues(new Uint8Array(BLOCK));
  let next = 0, bytes = 0;
  const lane = async () => {
    while (next < range) {
      const offset = next;
      next += 2 * BLOCK;
      await frames.write(offset, block);
      bytes += BLOCK;
    }
  };
  await Promise.all(Array.from({ length: PATTERN_LANES }, lane));
  return bytes;
}

/** Between two operations of a host that asks seldom, milliseconds. */
const SELDOM_MS = 4;

/** Milliseconds that single blocks took, read and written in turn all over a range, until `over` says so. */
export async function seldom(volume: LifeVolume, range: number, over: () => boolean): Promise<number[]> {
  using frames = await Frames.connect(volume.socket);
  const block = crypto.getRandomValues(new Uint8Array(BLOCK)), took: number[] = [];
  for (let i = 0; !over(); i++) {
    const offset = Math.floor(Math.random() * (range / BLOCK)) * BLOCK, began = performance.now();
    await (i % 2 === 0 ? frames.read(offset, BLOCK) : frames.write(offset, block));
    took.push(performance.now() - began);
    await sleep(SELDOM_MS);
  }
  return took;
}

/** The value that 99 % do not exceed. @throws {Error} when there are too few for that to mean anything */
export function p99(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b), value = sorted[Math.ceil(sorted.length * 0.99) - 1];
  if (value === undefined || sorted.length < 100) throw new Error(`${sorted.length} values are too few`);
  return value;
}
