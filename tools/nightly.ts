/**
 * `deno task nightly`: what takes too long for every change. All of it runs, whatever fails; the last line is
 * `N passed, N failed`.
 *
 * Each night looks at other seeds of the simulation, and at another order of the soak.
 *
 * @module
 */
import { readArguments, wholeNumber } from "../tests/support/arguments.ts";
import { ROOT } from "../tests/support/repository.ts";

const USAGE = `deno task nightly [--night N]

  --night N   whose seeds to take (days since 1970)`;

/** Seeds of the simulation in one night. */
const SEEDS = 1000;
const DAY_MS = 86_400_000;

/** A task and its arguments. */
type Step = readonly [task: string, ...args: string[]];

/** What is run in a night. */
function stepsOf(night: number): readonly Step[] {
  return [
    ["sim", "--seeds", String(SEEDS), "--first", String(1 + night * SEEDS)],
    ["mutants"],
    ["crashpoints"],
    ["soak", "--frontend", "nbd", "--seed", String(night)],
    ["soak", "--frontend", "loop", "--seed", String(night)],
    ["e2e:vm", "--all"],
  ];
}

async function main(): Promise<number> {
  const { values } = readArguments(USAGE, { options: { night: { type: "string" } } });
  const night = wholeNumber(USAGE, "night", values.night ?? String(Math.floor(Date.now() / DAY_MS)));
  const lines: string[] = [];
  let failed = 0;
  const steps = stepsOf(night);
  for (const step of steps) {
    console.log(`\n${step.join(" ")}`);
    const begin = performance.now();
    const { success } = await new Deno.Command(`${ROOT}/denow`, { args: ["task", ...step], cwd: ROOT })
      .spawn()
      .status;
    if (!success) failed++;
    const minutes = ((performance.now() - begin) / 60_000).toFixed(1);
    lines.push(`${success ? "ok    " : "FAILED"} ${step.join(" ")} (${minutes} min)`);
  }
  console.log(`\n${lines.join("\n")}\n${steps.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
