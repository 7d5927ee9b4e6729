/**
 * What Drover has to reach, as ratios to what was measured beside it: absolute figures mean nothing on a machine
 * that others use too.
 *
 * @module
 */
import type { Idle } from "./idle.ts";
import { lifeVerdicts } from "./life_goals.ts";
import type { Life } from "./life.ts";
import type { Measurement } from "./measure.ts";
import { Names } from "./plan.ts";

/** A goal and what was found. */
export interface Verdict {
  /** What it is about. */
  readonly goal: string;
  /** What it has to be, in words. */
  readonly wanted: string;
  /** What it is; null: not measured in this run. */
  readonly found: number | null;
  /** Unit of `found`, or empty for a ratio. */
  readonly unit: string;
  /** Whether it is reached; null: not measured, or only told. */
  readonly ok: boolean | null;
}

const MIB = 1024 * 1024;
const SOCKET_3 = "drover/socket/3/cached";
const DIRECT_3 = "drover/socket/3/direct";
const DIRECT_1 = "drover/socket/1/direct";

type Value = (m: Measurement) => number | null;
const iops: Value = (m) => m.iops;
const p50: Value = (m) => m.p50Us;
const speed: Value = (m) => m.bytesPerSecond;

/** Rounds to three digits: more is noise. */
function short(value: number): number {
  return Number(value.toPrecision(3));
}

/** The verdicts on a run. */
export function verdicts(all: readonly Measurement[], idle: Idle | null, life: Life | null): Verdict[] {
  const find = (subject: string, cell: string) => all.find((m) => m.subject === subject && m.cell === cell);
  const ratio = (a: string, b: string, cell: string, value: Value): number | null => {
    const one = find(a, cell), other = find(b, cell);
    const x = one && value(one), y = other && value(other);
    return x && y ? short(x / y) : null;
  };
  const atLeast = (goal: string, found: number | null, least: number, unit = ""): Verdict => ({
    goal,
    wanted: `>= ${least}${unit === "" ? "" : ` ${unit}`}`,
    found,
    unit,
    ok: found === null ? null : found >= least,
  });
  const atMost = (goal: string, found: number | null, most: number, unit = ""): Verdict => ({
    goal,
    wanted: `<= ${most}${unit === "" ? "" : ` ${unit}`}`,
    found,
    unit,
    ok: found === null ? null : found <= most,
  });
  const told = (verdict: Verdict): Verdict => ({ ...verdict, ok: null });
  const cell = (rw: string, depth: number) => `${rw} 4k qd${depth}`;
  const frames = ["randwrite", "randread"].flatMap((rw) => [
    atLeast(
      `3 replicas, ${cell(rw, 32)}: ops/s / spike`,
      ratio(SOCKET_3, Names.SPIKE, cell(rw, 32), iops),
      0.9,
    ),
    atMost(`3 replicas, ${cell(rw, 1)}: p50 / spike`, ratio(SOCKET_3, Names.SPIKE, cell(rw, 1), p50), 1.2),
  ]);
  const direct = ([["randwrite", 11_800], ["randread", 29_900]] as const).flatMap(([rw, least]) => {
    const found = find(DIRECT_3, cell(rw, 32));
    const value = found ? Math.round(found.iops) : null;
    const beside = ratio(DIRECT_3, Names.SPIKE, cell(rw, 32), iops);
    return [
      atLeast(`3 replicas direct, ${cell(rw, 32)}`, value, least, "ops/s"),
      told({ ...atLeast(`3 replicas direct, ${cell(rw, 32)}: ops/s / spike cached`, beside, 0), wanted: "" }),
    ];
  });
  const peer = (goal: string, a: string, b: string, load: string, value: Value, least: number) =>
    atLeast(goal, ratio(a, b, load, value), least);
  const nbd = "drover/nbd/1/cached", iscsi = "drover/iscsi/1/cached";
  return [
    ...frames,
    ...direct,
    peer(`iSCSI, ${cell("randread", 32)}: ops/s / tgtd`, iscsi, Names.TGT, cell("randread", 32), iops, 0.7),
    peer(`NBD, ${cell("randread", 32)}: ops/s / qemu-nbd`, nbd, Names.QEMU, cell("randread", 32), iops, 0.5),
    peer(
      `NBD, ${cell("randwrite", 32)}: ops/s / qemu-nbd`,
      nbd,
      Names.QEMU,
      cell("randwrite", 32),
      iops,
      0.5,
    ),
    ...largeVerdicts(peer, told),
    ...idleVerdicts(idle, atMost),
    ...lifeVerdicts(life),
  ];
}

/** CPU time that an idle process may use in ten seconds for its pings, milliseconds. */
const IDLE_CPU_MS = 20;

function idleVerdicts(
  idle: Idle | null,
  atMost: (goal: string, found: number | null, most: number, unit: string) => Verdict,
): Verdict[] {
  const per10 = (ms: number | undefined) =>
    ms === undefined || idle === null ? null : short(ms / idle.seconds * 10);
  const mib = (bytes: number | undefined) => bytes === undefined ? null : short(bytes / MIB);
  return [
    atMost("idle engine: CPU time in 10 s", per10(idle?.engineCpuMs), IDLE_CPU_MS, "ms"),
    atMost("idle replica: CPU time in 10 s", per10(idle?.replicaCpuMs), IDLE_CPU_MS, "ms"),
    atMost("idle engine of 1 TiB: private memory", mib(idle?.engineBytes), 45, "MiB"),
    atMost("idle replica of 1 TiB: private memory", mib(idle?.replicaBytes), 35, "MiB"),
    atMost("engine ready after its replicas", idle?.readyMs ?? null, 1000, "ms"),
  ];
}

type Peer = (goal: string, a: string, b: string, load: string, value: Value, least: number) => Verdict;

/** Megabytes: a goal where a disk sets the pace, told only where memory does. */
function largeVerdicts(peer: Peer, told: (verdict: Verdict) => Verdict): Verdict[] {
  return ["read", "write"].flatMap((rw) => [
    peer(
      `1 replica direct, ${rw} 1m qd32 on a disk / file`,
      DIRECT_1,
      Names.RAW,
      `${rw} 1m qd32`,
      speed,
      0.7,
    ),
    told({
      ...peer(
        `1 replica direct, ${rw} 1m qd4 in memory / file`,
        DIRECT_1,
        Names.RAW,
        `${rw} 1m qd4`,
        speed,
        0,
      ),
      wanted: "",
    }),
  ]);
}
