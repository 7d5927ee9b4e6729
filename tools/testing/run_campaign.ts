/**
 * Runs the simulation over many seeds, as one job of the test run.
 *
 * @module
 */
import { parseTotals } from "./report.ts";
import type { Job, JobPlace, JobResult } from "./run_file.ts";
import { runProcess } from "./run_process.ts";

/** The program. It takes `--seeds N`, and its last line is `N passed, N failed`. */
export const CAMPAIGN = "tests/sim/campaign.ts";

/** Its time limit, milliseconds. */
const CAMPAIGN_TIMEOUT_MS = 480_000;

/**
 * Runs the campaign; every seed counts as a test.
 *
 * @param job names it
 */
export async function runCampaign(job: Job, seeds: number, { mark }: JobPlace): Promise<JobResult> {
  const started = performance.now();
  const args = ["run", "-A", "--no-check", job.path, "--seeds", String(seeds)];
  const { output, ending, left } = await runProcess({
    args,
    env: { NO_COLOR: "1", ...job.env },
    mark,
    timeoutMs: CAMPAIGN_TIMEOUT_MS,
  });
  const totals = parseTotals(output) ?? { passed: 0, failed: 0, skipped: 0 };
  const problems = [...left];
  if (ending !== null && totals.failed === 0) problems.push(`failed: ${ending}`);
  if (totals.passed + totals.failed === 0) problems.push("its last line is not `N passed, N failed`");
  return {
    job,
    passed: totals.passed,
    failed: totals.failed + (problems.length > 0 ? 1 : 0),
    skips: [],
    problems,
    output,
    tookMs: performance.now() - started,
  };
}
