/**
 * Runs one test file in a process of its own: a crash or a hang is the failure of that file and of no other.
 *
 * @module
 */
import { SKIP_FILE_VARIABLE, type SkipRecord } from "../../tests/support/conditional.ts";
import { PORT_LANE_VARIABLE } from "../../tests/support/ports.ts";
import { parseJunit } from "./junit.ts";
import { releaseBelow } from "./leftovers.ts";
import { runProcess } from "./run_process.ts";

/** One file to run, once. */
export interface Job {
  /** The file, relative to the top directory. */
  readonly path: string;
  /** Told apart from other runs of the same file by this; may be empty. */
  readonly variant: string;
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Stopped after this many milliseconds. */
  readonly timeoutMs: number;
}

/** A test that did not run. */
export interface Skip {
  /** Where it stands. */
  readonly path: string;
  /** Its name. */
  readonly name: string;
  /** Why. */
  readonly reason: string;
}

/** What became of a job. */
export interface JobResult {
  /** The job. */
  readonly job: Job;
  /** Number of tests that passed. */
  readonly passed: number;
  /** Number of tests that failed; one more for problems beside the tests. */
  readonly failed: number;
  /** The tests that did not run. */
  readonly skips: readonly Skip[];
  /** What went wrong beside the tests: a crash, a time-out, something left behind. */
  readonly problems: readonly string[];
  /** All that the file printed. */
  readonly output: string;
  /** Milliseconds from start to end. */
  readonly tookMs: number;
}

/** `path (variant)`. */
export function jobName(job: Job): string {
  return job.variant === "" ? job.path : `${job.path} (${job.variant})`;
}

function readSkips(file: string): Map<string, string> {
  const lines = readOrEmpty(file).split("\n").filter((line) => line !== "");
  return new Map(
    lines.map((line) => JSON.parse(line) as SkipRecord).map(({ name, reason }) => [name, reason]),
  );
}

/** Reason of a skip that did not say why; such a skip counts as a failure. */
const NO_REASON = "no reason given";

/** What a job has for itself. */
export interface JobPlace {
  /** An empty directory of its own, its TMPDIR. */
  readonly directory: string;
  /** Unique word for what it starts, see `killSurvivors`. */
  readonly mark: string;
  /** Its part of the ports, see {@linkcode PORT_LANE_VARIABLE}. */
  readonly lane: number;
}

/** Runs a file of tests. */
export async function runJob(job: Job, { directory, mark, lane }: JobPlace): Promise<JobResult> {
  const started = performance.now();
  const temporary = `${directory}/t`;
  const report = `${directory}/junit.xml`;
  const skipFile = `${directory}/skips`;
  Deno.mkdirSync(temporary);
  const args = [
    "test",
    "-A",
    "--no-check",
    "--sanitize-ops",
    "--sanitize-resources",
    `--junit-path=${report}`,
  ];
  const env = {
    NO_COLOR: "1",
    TMPDIR: temporary,
    [SKIP_FILE_VARIABLE]: skipFile,
    [PORT_LANE_VARIABLE]: String(lane),
    ...job.env,
  };
  const { output, ending, left } = await runProcess({
    args: [...args, job.path],
    env,
    mark,
    timeoutMs: job.timeoutMs,
  });
  const cases = parseJunit(readOrEmpty(report));
  const count = (outcome: string): number => cases.filter((test) => test.outcome === outcome).length;
  const reasons = readSkips(skipFile);
  const skips = cases.filter(({ outcome }) => outcome === "skipped")
    .map(({ name }) => ({ path: jobName(job), name, reason: reasons.get(name) ?? NO_REASON }));
  const problems = [...left, ...releaseBelow(temporary)];
  problems.push(
    ...skips.filter(({ reason }) => reason === NO_REASON).map(({ name }) =>
      `skipped without a reason: ${name}`
    ),
  );
  if (ending !== null && count("failed") === 0) problems.push(`failed outside of its tests: ${ending}`);
  if (ending === null && cases.length === 0) problems.push("has no tests");
  const failed = count("failed") + (problems.length > 0 ? 1 : 0);
  return {
    job,
    passed: count("passed"),
    failed,
    skips,
    problems,
    output,
    tookMs: performance.now() - started,
  };
}

function readOrEmpty(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}
