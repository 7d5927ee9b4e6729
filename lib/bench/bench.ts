/**
 * A measurement from its options to its figures: connect, run, and, when asked for, check the data.
 *
 * @module
 */
import { PAGE_BYTES } from "../io/arena.ts";
import type { Io, World } from "../io/io.ts";
import { FileTarget } from "./file.ts";
import { FramesTarget } from "./frames.ts";
import { Histogram, type Latency } from "./histogram.ts";
import { IscsiTarget } from "./iscsi.ts";
import { ClosedLoop, type Plan } from "./loop.ts";
import { NbdTarget } from "./nbd.ts";
import type { Place } from "./place.ts";
import { BenchError, type Target } from "./target.ts";
import { Walk } from "./walk.ts";

/** What a load does. */
export const WORKLOADS = ["read", "write", "randread", "randwrite", "randrw"] as const;

/** One of {@linkcode WORKLOADS}. */
export type Workload = typeof WORKLOADS[number];

/** Largest block, bytes: what frontends take in one piece. */
export const MAX_BLOCK_BYTES = 4 * 1024 * 1024;
/** Most operations under way. */
export const MAX_DEPTH = 1024;
/** Most connections of one load. */
export const MAX_BENCH_CONNECTIONS = 64;
/** Most memory for data under way, bytes. */
const MAX_BUFFER_BYTES = 1024 * 1024 * 1024;
/** Address space for the buffers of a connection; only what is used costs memory. */
const CONNECTION_BYTES = 4 * 1024 * 1024;
/** Share of writes of a mixed load, percent. */
const MIXED_WRITE_PERCENT = 30;
const SECTOR_BYTES = 512;

/** Options of a measurement. */
export interface BenchOptions {
  /** Where the load goes. */
  readonly place: Place;
  /** What it does. */
  readonly workload: Workload;
  /** Bytes of an operation, a multiple of 512. */
  readonly blockBytes: number;
  /** Operations under way at any time, over all connections. */
  readonly depth: number;
  /** Connections; for files, descriptors. */
  readonly connections: number;
  /** Bytes from the start of the disk that are used; 0: the whole disk. */
  readonly rangeBytes: number;
  /** Time to count, seconds. */
  readonly seconds: number;
  /** Time before that, seconds. */
  readonly rampSeconds: number;
  /** End after so many operations, if that is earlier. */
  readonly operations?: number;
  /** Share of writes of `randrw`, percent. Default 30. */
  readonly writePercent?: number;
  /** Instead of a load for some time: write the whole range once with known data, then read and compare. */
  readonly verify: boolean;
  /** For files: through the page cache. */
  readonly cached: boolean;
  /** Seed of offsets and data. */
  readonly seed: number;
}

/** Figures of one direction, or of both. */
export interface Figures {
  /** Operations that ended in the counted time. */
  readonly operations: number;
  /** Bytes of them. */
  readonly bytes: number;
  /** Operations per second. */
  readonly iops: number;
  /** Bytes per second. */
  readonly bytesPerSecond: number;
  /** Microseconds from submission to end. */
  readonly latencyUs: Latency;
}

/** What the comparison of a verify run found. */
export interface Verification {
  /** Blocks that were written and read back. */
  readonly blocks: number;
  /** Blocks whose data was not what had been written. */
  readonly wrong: number;
  /** Offset of the first wrong word on the disk; null when all is right. */
  readonly firstWrongOffset: number | null;
}

/** Result of a measurement; this is the JSON that the command prints. */
export interface BenchResult {
  /** What was done. */
  readonly workload: Workload | "verify";
  /** Bytes of an operation. */
  readonly blockBytes: number;
  /** Operations under way at any time. */
  readonly depth: number;
  /** Connections they were spread over. */
  readonly connections: number;
  /** Bytes of the disk that were used, from its start. */
  readonly rangeBytes: number;
  /** Which world of the Io the load ran in. */
  readonly world: World;
  /** Counted time. */
  readonly seconds: number;
  /** Reads alone. */
  readonly read: Figures;
  /** Writes alone. */
  readonly write: Figures;
  /** Both. */
  readonly total: Figures;
  /** Only of a verify run. */
  readonly verification: Verification | null;
}

/** Bytes of arena that {@linkcode runBench} needs for these options. */
export function arenaBytes(options: BenchOptions): number {
  const slots = Math.ceil(options.depth / options.connections) * options.connections;
  return slots * options.blockBytes + (options.connections + 1) * CONNECTION_BYTES;
}

/**
 * Refuses options that cannot be met.
 * @throws {BenchError} naming the option, its value and what is possible
 */
export function checkOptions(options: BenchOptions): void {
  const { blockBytes, depth, connections, rangeBytes, place } = options;
  const whole = (what: string, value: number, low: number, high: number) => {
    if (Number.isInteger(value) && value >= low && value <= high) return;
    throw new BenchError(`${what} of ${value}: expected a whole number from ${low} to ${high}`);
  };
  whole("a block size", blockBytes, SECTOR_BYTES, MAX_BLOCK_BYTES);
  if (blockBytes % SECTOR_BYTES !== 0) {
    throw new BenchError(`a block size of ${blockBytes} bytes: expected a multiple of ${SECTOR_BYTES}`);
  }
  const direct = place.kind === "file" && !options.cached;
  if (direct && blockBytes % PAGE_BYTES !== 0) {
    throw new BenchError(`a block size of ${blockBytes} bytes past the page cache: use a multiple of 4096`);
  }
  whole("a queue depth", depth, 1, MAX_DEPTH);
  whole("a number of connections", connections, 1, MAX_BENCH_CONNECTIONS);
  if (connections > depth) {
    throw new BenchError(`${connections} connections with a queue depth of ${depth}: some would idle`);
  }
  if (depth * blockBytes > MAX_BUFFER_BYTES) {
    throw new BenchError(`a queue depth of ${depth} with blocks of ${blockBytes} bytes: that is above 1 GiB`);
  }
  if (rangeBytes !== 0 && rangeBytes < blockBytes) {
    throw new BenchError(`a range of ${rangeBytes} bytes is less than one block of ${blockBytes}`);
  }
  if (!(options.seconds > 0) || !(options.rampSeconds >= 0)) {
    throw new BenchError("the time to measure must be above 0 seconds, the ramp 0 or more");
  }
}

function makeTarget(io: Io, index: number, options: BenchOptions, loop: ClosedLoop): Target {
  const { place } = options, depth = loop.depthOf(index);
  switch (place.kind) {
    case "frames":
      return new FramesTarget(io, index, place.address, depth, loop);
    case "nbd":
      return new NbdTarget(io, index, place, depth, loop);
    case "iscsi":
      return new IscsiTarget(io, index, place, depth, loop);
    case "file":
      return new FileTarget(io, index, place.path, { write: writes(options), direct: !options.cached }, loop);
  }
}

/** Whether a measurement destroys data. */
export function writes(options: Pick<BenchOptions, "workload" | "verify">): boolean {
  return options.verify || options.workload === "write" || options.workload === "randwrite" ||
    options.workload === "randrw";
}

function rangeOf(options: BenchOptions, diskBytes: number): number {
  const { rangeBytes, blockBytes } = options;
  if (diskBytes === 0 && rangeBytes === 0) {
    throw new BenchError("frames do not tell how large the disk is: say how much of it to use (--size)");
  }
  if (diskBytes !== 0 && rangeBytes > diskBytes) {
    throw new BenchError(`a range of ${rangeBytes} bytes is more than the disk's ${diskBytes}`);
  }
  const blocks = Math.floor((rangeBytes || diskBytes) / blockBytes);
  if (blocks === 0) throw new BenchError(`the disk of ${diskBytes} bytes has no block of ${blockBytes}`);
  return blocks * blockBytes;
}

/** The plans of a measurement, in their order. */
function plansOf(options: BenchOptions, rangeBytes: number): Plan[] {
  const { workload, seed } = options, blocks = rangeBytes / options.blockBytes;
  const random = workload.startsWith("rand");
  if (options.verify) {
    const pass = (writePercent: number): Plan => ({
      walk: new Walk(random ? "shuffled" : "once", blocks, seed),
      writePercent,
      rampMs: 0,
      durationMs: Infinity,
      operations: Infinity,
      patternSeed: seed | 0,
    });
    return [pass(100), pass(0)];
  }
  const mixed = options.writePercent ?? MIXED_WRITE_PERCENT;
  return [{
    walk: new Walk(random ? "random" : "sequential", blocks, seed),
    writePercent: workload === "randrw" ? mixed : writes(options) ? 100 : 0,
    rampMs: options.rampSeconds * 1000,
    durationMs: options.seconds * 1000,
    operations: options.operations ?? Infinity,
    patternSeed: undefined,
  }];
}

function figures(histogram: Histogram, blockBytes: number, seconds: number): Figures {
  const operations = histogram.count, bytes = operations * blockBytes;
  const per = (n: number) => seconds > 0 ? Math.round(n / seconds * 10) / 10 : 0;
  return {
    operations,
    bytes,
    iops: per(operations),
    bytesPerSecond: Math.round(per(bytes)),
    latencyUs: histogram.latency(),
  };
}

/**
 * Runs a measurement on this thread, which blocks until it is over.
 *
 * @param io with an arena of at least {@linkcode arenaBytes}; nothing else may run in it
 * @throws {BenchError} when an option cannot be met, the target cannot be reached or an operation fails
 */
export function runBench(io: Io, options: BenchOptions): BenchResult {
  checkOptions(options);
  const { blockBytes, depth, connections } = options;
  const slots = Math.ceil(depth / connections) * connections;
  const buffers = io.arena.reserve(slots * blockBytes, PAGE_BYTES);
  fillNoise(io.arena.u8.subarray(buffers, buffers + slots * blockBytes));
  const loop = new ClosedLoop(io, { blockBytes, depth, buffers }, connections);
  for (let i = 0; i < connections; i++) loop.targets.push(makeTarget(io, i, options, loop));
  const reads = new Histogram(), writes = new Histogram();
  let rangeBytes = 0, elapsedMs = 0;
  let failure: unknown;
  const give = (error: unknown) => {
    failure = error;
    io.stop();
  };
  const next = (plans: Plan[]) => {
    const plan = plans.shift();
    if (plan === undefined) return loop.close(() => io.stop());
    loop.begin(plan, () => {
      reads.add(loop.reads);
      writes.add(loop.writes);
      elapsedMs += loop.elapsedMs;
      next(plans);
    });
  };
  loop.open(() => {
    try {
      rangeBytes = rangeOf(options, Math.min(...loop.targets.map((target) => target.bytes)));
      next(plansOf(options, rangeBytes));
    } catch (error) {
      give(error);
    }
  }, give);
  if (failure === undefined) io.run();
  if (failure !== undefined) throw failure;
  const seconds = elapsedMs / 1000, total = new Histogram();
  total.add(reads);
  total.add(writes);
  return {
    workload: options.verify ? "verify" : options.workload,
    blockBytes,
    depth,
    connections,
    rangeBytes,
    world: io.world,
    seconds,
    read: figures(reads, blockBytes, seconds),
    write: figures(writes, blockBytes, seconds),
    total: figures(total, blockBytes, seconds),
    verification: options.verify
      ? {
        blocks: reads.count,
        wrong: loop.mismatches,
        firstWrongOffset: loop.mismatches > 0 ? loop.firstMismatch : null,
      }
      : null,
  };
}

/** Largest request of crypto.getRandomValues, bytes. */
const RANDOM_BYTES = 65536;

/** Data that nothing below can compress. */
function fillNoise(bytes: Uint8Array<ArrayBuffer>): void {
  const noise = crypto.getRandomValues(new Uint8Array(RANDOM_BYTES));
  for (let at = 0; at < bytes.length; at += RANDOM_BYTES) {
    bytes.set(noise.subarray(0, Math.min(RANDOM_BYTES, bytes.length - at)), at);
  }
}
