/**
 * One measurement of one subject: by `drover bench`, fio or iscsi-perf, each in a process of its own, with the CPU
 * time that the subject's processes took meanwhile.
 *
 * @module
 */
import type { BenchResult } from "../../lib/bench/bench.ts";
import { run } from "../../tests/support/process.ts";
import { inRepository } from "../../tests/support/repository.ts";
import { CpuWatch, stolenSince } from "./proc.ts";
import { type Cell, cellName, type Subject } from "./subject.ts";

/** Figures of one measurement. */
export interface Measurement {
  /** See {@linkcode Subject.name}. */
  readonly subject: string;
  /** See {@linkcode cellName}. */
  readonly cell: string;
  /** Bytes of an operation. */
  readonly blockBytes: number;
  /** Operations per second. */
  readonly iops: number;
  /** Bytes per second. */
  readonly bytesPerSecond: number;
  /** Half of the operations took at most this, microseconds; null where the tool does not tell. */
  readonly p50Us: number | null;
  /** 99 % took at most this, microseconds; null where the tool does not tell. */
  readonly p99Us: number | null;
  /** CPU time per operation, microseconds, by kind of process; all of a kind together. */
  readonly cpuUs: Readonly<Record<string, number>>;
  /** Share of the machine's CPU time that its host gave to other machines meanwhile. */
  readonly stolen: number;
}

/** How long to measure. */
export interface Duration {
  /** Seconds that count. */
  readonly seconds: number;
  /** Seconds before that. */
  readonly rampSeconds: number;
}

/** Bytes of the disk that are used. */
export type Range = number;

type Figures = Pick<Measurement, "iops" | "bytesPerSecond" | "p50Us" | "p99Us">;

/** Arguments of our own load generator. */
function ownArgs(target: string, { rw, blockBytes, depth }: Cell, range: Range): string[] {
  const script = ["run", "-A", "--no-check", inRepository("tools/bench/load.ts"), "bench"];
  const load = ["--rw", rw, "--bs", String(blockBytes), "--qd", String(depth), "--size", String(range)];
  return [...script, "--target", target, ...load, "-o", "json", ...(rw.endsWith("write") ? ["--yes"] : [])];
}

async function own(target: string, cell: Cell, range: Range, duration: Duration): Promise<Figures> {
  const times = ["--seconds", String(duration.seconds), "--ramp", String(duration.rampSeconds)];
  const { stdout } = await run(Deno.execPath(), [...ownArgs(target, cell, range), ...times]);
  const { total } = JSON.parse(stdout) as BenchResult;
  const { iops, bytesPerSecond, latencyUs: { p50, p99 } } = total;
  return { iops, bytesPerSecond, p50Us: p50, p99Us: p99 };
}

/** What we read of fio's JSON. */
interface FioDirection {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

async function fio(target: string, cell: Cell, range: Range, duration: Duration): Promise<Figures> {
  const { rw, blockBytes, depth } = cell;
  const isNbd = target.startsWith("--uri=");
  const engine = isNbd ? ["--ioengine=nbd"] : ["--ioengine=io_uring", "--direct=1"];
  const { stdout } = await run("fio", [
    "--name=bench",
    ...engine,
    target,
    `--rw=${rw}`,
    `--bs=${blockBytes}`,
    `--iodepth=${depth}`,
    `--size=${range}`,
    `--runtime=${duration.seconds}`,
    `--ramp_time=${duration.rampSeconds}`,
    "--time_based=1",
    "--norandommap=1",
    "--randrepeat=0",
    "--allow_file_create=0",
    "--output-format=json",
  ]);
  // Some engines print notes before the JSON.
  const [job] = JSON.parse(stdout.slice(stdout.indexOf("{"))).jobs as Record<string, FioDirection>[];
  const side = job?.[rw.endsWith("read") ? "read" : "write"];
  if (side === undefined) throw new Error(`fio has no figures in:\n${stdout}`);
  const us = (percent: string) => (side.clat_ns.percentile?.[percent] ?? 0) / 1000;
  return {
    iops: side.iops,
    bytesPerSecond: side.bw_bytes,
    p50Us: us("50.000000"),
    p99Us: us("99.000000"),
  };
}

/** iscsi-perf of libiscsi reads only, and prints a line per second and an average. */
async function iscsiPerf(target: string, cell: Cell, duration: Duration): Promise<Figures> {
  if (!cell.rw.endsWith("read")) throw new Error("iscsi-perf reads only");
  const blocks = String(cell.blockBytes / 512);
  const random = cell.rw === "randread" ? ["-r"] : [];
  const args = ["-b", blocks, "-m", String(cell.depth), "-t", String(Math.ceil(duration.seconds)), ...random];
  const { stdout } = await run("iscsi-perf", [...args, target]);
  const average = [...stdout.matchAll(/iops average (\d+)/g)].at(-1)?.[1];
  if (average === undefined) throw new Error(`iscsi-perf has no average in:\n${stdout}`);
  const iops = Number(average);
  return { iops, bytesPerSecond: iops * cell.blockBytes, p50Us: null, p99Us: null };
}

/** A program that puts load on is up after this, seconds; CPU time is counted from then on. */
const START_SECONDS = 0.4;

/** A measurement during which the host took more than this share of the CPU time away is made again. */
const MOST_STOLEN = 0.02;
/** So often at most; what lost least counts. */
const TRIES = 4;

/** Measures something until the machine had its processors for itself, if that can be had; what lost least counts. */
export async function undisturbed<T>(
  once: () => Promise<T>,
  tries: number = TRIES,
): Promise<{ found: T; stolen: number }> {
  let least: { found: T; stolen: number } | undefined;
  for (let tried = 0; tried < tries && (least?.stolen ?? 1) > MOST_STOLEN; tried++) {
    const stolenSoFar = stolenSince(), found = await once(), stolen = stolenSoFar();
    if (least === undefined || stolen < least.stolen) least = { found, stolen };
  }
  if (least === undefined) throw new TypeError("it is measured at least once");
  return least;
}

/** Measures a cell, see {@linkcode undisturbed}. */
export async function measure(
  subject: Subject,
  cell: Cell,
  range: Range,
  duration: Duration,
): Promise<Measurement> {
  const { found, stolen } = await undisturbed(() => measureOnce(subject, cell, range, duration));
  return { ...found, stolen };
}

async function measureOnce(
  subject: Subject,
  cell: Cell,
  range: Range,
  duration: Duration,
): Promise<Omit<Measurement, "stolen">> {
  await subject.prepare?.();
  using watch = new CpuWatch(subject.pids);
  const { tool, target } = subject;
  const figures = tool === "fio"
    ? await fio(target, cell, range, duration)
    : tool === "iscsi-perf"
    ? await iscsiPerf(target, cell, duration)
    : await own(target, cell, range, duration);
  const { seconds, rampSeconds } = duration;
  const shares = watch.stop(START_SECONDS + rampSeconds, rampSeconds + seconds);
  const cpuUs = Object.fromEntries(
    Object.entries(shares).map(([kind, share]) => [kind, share / figures.iops * 1e6]),
  );
  return {
    subject: subject.name,
    cell: cellName(cell),
    blockBytes: cell.blockBytes,
    ...figures,
    cpuUs,
  };
}

/** Operations under way while a disk is filled, and their size. */
const FILL: Cell = { rw: "write", blockBytes: 1024 * 1024, depth: 4 };
/** Time for filling a disk, at most; seconds. */
const FILL_SECONDS = 600;

/** Writes the whole range once, so that reads find data and writes need no allocation. */
export async function fill(subject: Subject, range: Range): Promise<void> {
  if (subject.isFilled) return;
  if (subject.tool === "fio") {
    const engine = subject.target.startsWith("--uri=") ? "--ioengine=nbd" : "--ioengine=io_uring";
    const args = ["--name=fill", engine, subject.target, "--rw=write", "--bs=1m", "--iodepth=4"];
    await run("fio", [...args, `--size=${range}`, "--direct=1"]);
    return;
  }
  const count = ["--operations", String(Math.ceil(range / FILL.blockBytes))];
  const times = ["--seconds", String(FILL_SECONDS), "--ramp", "0"];
  await run(Deno.execPath(), [...ownArgs(subject.target, FILL, range), ...count, ...times]);
}
