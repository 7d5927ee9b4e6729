/**
 * Runs all tests: unit tests, tests of whole processes against real peers, and the simulation. The last line is
 * `N passed, N failed, N skipped`; the exit code is 0 when something passed and nothing failed.
 *
 * ```text
 * deno task test [--no-peers] [--seeds N] [FILE-OR-DIRECTORY...]
 * ```
 *
 * @module
 */
import assert from "node:assert/strict";
import { readArguments, wholeNumber } from "../tests/support/arguments.ts";
import { PORT_LANES } from "../tests/support/ports.ts";
import { inRepository, ROOT } from "../tests/support/repository.ts";
import { installPeers } from "./testing/install_peers.ts";
import { killSurvivors, releaseBelow } from "./testing/leftovers.ts";
import { makePlan } from "./testing/plan.ts";
import {
  describeFailures,
  describeResult,
  describeSkips,
  describeSlowest,
  totalsLine,
} from "./testing/report.ts";
import { type Job, type JobResult, runJob } from "./testing/run_file.ts";
import { CAMPAIGN, runCampaign } from "./testing/run_campaign.ts";

/** Seeds of the simulation in an ordinary run. */
const DEFAULT_SEEDS = 300;

class TestRun {
  readonly results: JobResult[] = [];
  readonly #mark = `${Deno.pid}/`;
  readonly #directory = Deno.makeTempDirSync({ prefix: "dt-" });
  /** Parts of the ports that no job has now. */
  readonly #lanes = Array.from({ length: PORT_LANES }, (_, lane) => lane);
  #jobs = 0;
  #done = 0;

  constructor(readonly total: number) {}

  /** Runs jobs, so many at a time; all calls together at most {@linkcode PORT_LANES}. */
  async run(jobs: readonly Job[], atOnce: number, runOne = runJob): Promise<void> {
    const waiting = [...jobs];
    const row = async (): Promise<void> => {
      const lane = this.#lanes.shift();
      assert.ok(lane !== undefined, "more at once than there are parts of the ports");
      for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
        const index = ++this.#jobs;
        const directory = `${this.#directory}/${index}`;
        Deno.mkdirSync(directory);
        const result = await runOne(job, { directory, mark: `${this.#mark}${index}/`, lane });
        this.results.push(result);
        console.log(`[${++this.#done}/${this.total}] ${describeResult(result)}`);
        Deno.removeSync(directory, { recursive: true });
      }
      this.#lanes.push(lane);
    };
    await Promise.all(Array.from({ length: atOnce }, row));
  }

  /** Removes everything the run made, also after it was interrupted. */
  async clean(): Promise<void> {
    await killSurvivors(this.#mark);
    releaseBelow(this.#directory);
    Deno.removeSync(this.#directory, { recursive: true });
  }
}

const USAGE = `deno task test [--no-peers] [--seeds N] [FILE-OR-DIRECTORY...]

  --no-peers   install no programs of other projects; what needs them is skipped
  --seeds N    seeds of the simulation (${DEFAULT_SEEDS}); 0: none
  FILE...      only these tests, relative to the top directory`;

function readWishes(): { only: string[]; peers: boolean; seeds: number } {
  const { values, positionals } = readArguments(USAGE, {
    options: {
      "no-peers": { type: "boolean", default: false },
      seeds: { type: "string", default: String(DEFAULT_SEEDS) },
    },
    allowPositionals: true,
  });
  return { only: positionals, peers: !values["no-peers"], seeds: wholeNumber(USAGE, "seeds", values.seeds) };
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

async function main(): Promise<number> {
  const { only, peers, seeds } = readWishes();
  Deno.chdir(ROOT);
  if (peers) await installPeers((line) => console.log(line));
  const plan = makePlan(only);
  const wanted = only.length === 0 || only.includes(CAMPAIGN);
  const campaign = wanted && seeds > 0 && exists(inRepository(CAMPAIGN)) ? [CAMPAIGN] : [];
  const run = new TestRun(plan.parallel.length + plan.serial.length + plan.beside.length + campaign.length);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => void run.clean().finally(() => Deno.exit(130)));
  }
  try {
    await run.run(plan.parallel, Math.min(PORT_LANES, Math.max(2, navigator.hardwareConcurrency)));
    const job = (path: string): Job => ({ path, variant: `${seeds} seeds`, env: {}, timeoutMs: 0 });
    const simulate = async () => {
      await run.run(campaign.map(job), 1, (job, place) => runCampaign(job, seeds, place));
      await run.run(plan.beside, 1);
    };
    await Promise.all([run.run(plan.serial, 1), simulate()]);
  } finally {
    await run.clean();
  }
  const sum = (pick: (result: JobResult) => number): number =>
    run.results.reduce((total, result) => total + pick(result), 0);
  const skips = [...plan.skips, ...run.results.flatMap((result) => result.skips)];
  if (run.results.length > 0) console.log(describeSlowest(run.results));
  if (skips.length > 0) console.log(describeSkips(skips));
  const failures = run.results.filter((result) => result.failed > 0);
  if (failures.length > 0) console.log(describeFailures(failures));
  const totals = {
    passed: sum((result) => result.passed),
    failed: sum((result) => result.failed),
    skipped: skips.length,
  };
  console.log(totalsLine(totals));
  return totals.failed === 0 && totals.passed > 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
