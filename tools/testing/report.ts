/**
 * What a test run prints: a line per file as it ends, the whole output of files that fail, and at the end the tests
 * that did not run with their reasons, and the totals.
 *
 * @module
 */
import { jobName, type JobResult, type Skip } from "./run_file.ts";

/** Sums of a run. */
export interface Totals {
  /** Tests that passed. */
  passed: number;
  /** Tests that failed. */
  failed: number;
  /** Tests that did not run. */
  skipped: number;
}

/** Files named as the slowest at the end. */
const SLOWEST = 5;

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** The last line of a run; scripts read it. */
export function totalsLine(totals: Totals): string {
  return `${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`;
}

/** Reads a last line as {@linkcode totalsLine} writes it; null when there is none. The number skipped is optional. */
export function parseTotals(output: string): Totals | null {
  const match = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/.exec(
    output.trimEnd().split("\n").at(-1) ?? "",
  );
  if (match === null) return null;
  return { passed: Number(match[1]), failed: Number(match[2]), skipped: Number(match[3] ?? 0) };
}

/** One line for a file that ended; with its output when it failed. */
export function describeResult(result: JobResult): string {
  const counts = totalsLine({ passed: result.passed, failed: result.failed, skipped: result.skips.length })
    .replace(/, 0 \w+/g, "");
  const line = `${result.failed === 0 ? "ok    " : "FAILED"} ${jobName(result.job)}: ${counts} (${
    seconds(result.tookMs)
  })`;
  if (result.failed === 0) return line;
  const problems = result.problems.map((problem) => `FAILED ${jobName(result.job)}: ${problem}`);
  return [line, result.output.trimEnd(), ...problems].join("\n");
}

/** Lines of a failed file that stand at the end once more: its errors, or what it said last. */
const RECALLED_LINES = 40;

/**
 * The failed files with their errors, once more, for the end of a long log: what stands in its middle may have been
 * cut away by whoever keeps it.
 */
export function describeFailures(failures: readonly JobResult[]): string {
  const parts = failures.map((result) => {
    const errors = /^ERRORS *$([\s\S]*?)^FAILURES *$/m.exec(result.output.replace(/^ +/gm, ""))?.[1];
    const lines = (errors ?? result.output).split("\n").filter((line) => line.trim() !== "");
    const recalled = errors === undefined ? lines.slice(-RECALLED_LINES) : lines.slice(0, RECALLED_LINES);
    return [
      `failed: ${jobName(result.job)}`,
      ...[...recalled, ...result.problems].map((line) => `    ${line}`),
    ];
  });
  return [...parts.flat(), `failed: ${failures.map(({ job }) => jobName(job)).join(", ")}`].join("\n");
}

/** The skipped tests, by reason. */
export function describeSkips(skips: readonly Skip[]): string {
  const lines: string[] = [];
  for (const [reason, group] of Map.groupBy(skips, (skip) => skip.reason)) {
    lines.push(`skipped, ${reason}:`, ...group.map(({ path, name }) => `  ${path}: ${name}`));
  }
  return lines.join("\n");
}

/** The slowest files, for whoever wants to make the run faster. */
export function describeSlowest(results: readonly JobResult[]): string {
  const slowest = [...results].sort((a, b) => b.tookMs - a.tookMs).slice(0, SLOWEST);
  return `slowest: ${slowest.map((result) => `${jobName(result.job)} ${seconds(result.tookMs)}`).join(", ")}`;
}
