/**
 * The figures of a measurement for people.
 *
 * @module
 */
import type { BenchResult, Figures } from "../../lib/bench/bench.ts";
import { formatSize } from "../support/sizes.ts";
import { formatTable } from "../support/table.ts";

/** A time for people: `87.4 us`, `1.25 ms`. */
export function formatMicroseconds(us: number): string {
  if (us < 100) return `${us.toFixed(1)} us`;
  if (us < 1000) return `${us.toFixed(0)} us`;
  if (us < 1_000_000) return `${(us / 1000).toPrecision(3)} ms`;
  return `${(us / 1_000_000).toPrecision(3)} s`;
}

const HEADINGS = ["", "ops/s", "per second", "mean", "p50", "p90", "p99", "p99.9", "max"];
const RIGHT: ReadonlySet<number> = new Set(HEADINGS.keys().drop(1));

function row(name: string, { iops, bytesPerSecond, latencyUs: l }: Figures): string[] {
  const times = [l.mean, l.p50, l.p90, l.p99, l.p999, l.max].map(formatMicroseconds);
  return [name, iops.toFixed(0), formatSize(bytesPerSecond), ...times];
}

/** The text that the command prints. */
export function benchTable(target: string, result: BenchResult, notes: readonly string[]): string {
  const { read, write, total, verification } = result;
  const rows: string[][] = [];
  if (read.operations > 0) rows.push(row("read", read));
  if (write.operations > 0) rows.push(row("write", write));
  if (rows.length !== 1) rows.push(row("total", total));
  const lines = [
    `${target}`,
    `${result.workload} of ${formatSize(result.blockBytes)}, queue depth ${result.depth}, ` +
    `${result.connections} connection${result.connections === 1 ? "" : "s"}, ` +
    `${formatSize(result.rangeBytes)} of the disk, ${result.seconds.toFixed(1)} s, ${result.world}`,
    formatTable(HEADINGS, rows, RIGHT),
    ...notes.map((note) => `note: ${note}`),
  ];
  if (verification) {
    const { blocks, wrong } = verification;
    lines.push(
      wrong === 0 ? `verified: ${blocks} blocks, all right` : `verified: ${blocks} blocks, ${wrong} WRONG`,
    );
  }
  return lines.join("\n");
}
