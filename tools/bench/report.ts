/**
 * The report: tables for people, and one object for the JSON file.
 *
 * @module
 */
import { formatMicroseconds } from "../../cmd/bench/table.ts";
import { formatSize } from "../../cmd/support/sizes.ts";
import { formatTable } from "../../cmd/support/table.ts";
import type { Verdict } from "./goals.ts";
import type { Idle } from "./idle.ts";
import { lifeText } from "./life_goals.ts";
import type { Life } from "./life.ts";
import type { Measurement } from "./measure.ts";
import type { Machine } from "./proc.ts";

/** Everything a run found; the JSON file. */
export interface Report {
  /** When it began, ISO 8601. */
  readonly date: string;
  /** Version of Drover. */
  readonly version: string;
  /** What it ran on. */
  readonly machine: Machine;
  /** How it ran. */
  readonly settings: {
    /** Only what the goals speak of. */
    readonly quick: boolean;
    /** Seconds per measurement. */
    readonly seconds: number;
    /** Each cell was measured so often; the best counts. */
    readonly rounds: number;
    /** Bytes of each disk. */
    readonly diskBytes: number;
    /** File system that all files were on. */
    readonly fileSystem: string;
  };
  /** The figures. */
  readonly measurements: readonly (Measurement & Comparison)[];
  /** An idle volume, if it was watched. */
  readonly idle: Idle | null;
  /** The life of volumes, if any of it was measured. */
  readonly life: Life | null;
  /** The goals. */
  readonly verdicts: readonly Verdict[];
  /** What was left out, and why. */
  readonly skipped: readonly string[];
}

/** A measurement beside its peer. */
export interface Comparison {
  /** The peer's subject, if there is one. */
  readonly against: string | null;
  /** Operations per second divided by the peer's; null when the peer was not measured. */
  readonly ratio: number | null;
}

/** Share of the CPU time from which on a reader is told that it went to others. */
const MUCH_STOLEN = 0.05;

const HEADINGS = ["load", "subject", "ops/s", "per second", "p50", "p99", "CPU per op", "ratio", "against"];
const RIGHT: ReadonlySet<number> = new Set([2, 3, 4, 5, 7]);

function time(us: number | null): string {
  return us === null ? "-" : formatMicroseconds(us);
}

function row(m: Measurement & Comparison): string[] {
  const cpu = Object.entries(m.cpuUs).map(([kind, us]) => `${kind} ${formatMicroseconds(us)}`).join(", ");
  const ratio = m.ratio === null ? "" : m.ratio.toFixed(2);
  const figures = [m.iops.toFixed(0), formatSize(m.bytesPerSecond), time(m.p50Us), time(m.p99Us), cpu];
  return [m.cell, m.subject, ...figures, ratio, m.ratio === null ? "" : m.against ?? ""];
}

/** The order of loads in the table: as measured, all subjects of a load together. */
function byCell(all: readonly (Measurement & Comparison)[]): (Measurement & Comparison)[] {
  const order = [...new Set(all.map(({ cell }) => cell))];
  return order.flatMap((cell) => all.filter((m) => m.cell === cell));
}

function mark({ ok }: Verdict): string {
  return ok === null ? "" : ok ? "pass" : "FAIL";
}

/** The report for people. */
export function reportText(report: Report): string {
  const { machine: m, settings: s, idle, life } = report;
  const found = ({ found, unit }: Verdict) => found === null ? "not measured" : `${found} ${unit}`.trim();
  const parts = [
    `${m.cpu}, ${m.cores} cores, ${formatSize(m.memoryBytes)}, Linux ${m.kernel}, Deno ${m.deno}, load ${
      m.load.toFixed(1)
    }; ` +
    `${s.seconds} s per measurement, best of ${s.rounds}, disks of ${
      formatSize(s.diskBytes)
    } on ${s.fileSystem}`,
    formatTable(HEADINGS, byCell(report.measurements).map(row), RIGHT),
  ];
  const robbed = report.measurements.filter(({ stolen }) => stolen > MUCH_STOLEN);
  if (robbed.length > 0) {
    const most = Math.max(...robbed.map(({ stolen }) => stolen));
    parts.push(
      `in ${robbed.length} of ${report.measurements.length} rows the machine's host took more than ` +
        `${100 * MUCH_STOLEN} % of the CPU time for others, up to ${(100 * most).toFixed(0)} %: ` +
        "their figures are too low",
    );
  }
  if (idle) {
    parts.push(
      `idle volume of 1 TiB over ${idle.seconds} s: engine ${idle.engineCpuMs} ms CPU, ` +
        `${formatSize(idle.engineBytes)} private; replica ${idle.replicaCpuMs} ms CPU, ` +
        `${formatSize(idle.replicaBytes)} private; engine ready after ${idle.readyMs} ms`,
    );
  }
  if (life) parts.push(lifeText(life).join("\n"));
  const goals = report.verdicts.map((v) => [mark(v), v.goal, found(v), v.wanted]);
  parts.push(formatTable(["", "goal", "found", "wanted"], goals, new Set([2])));
  if (report.skipped.length > 0) parts.push(report.skipped.map((text) => `left out: ${text}`).join("\n"));
  return parts.join("\n\n");
}
