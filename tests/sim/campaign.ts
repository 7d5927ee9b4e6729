/**
 * The simulation over many seeds.
 *
 * ```text
 * deno task sim [--seeds N] [--first SEED] [--seed SEED] [--until-failure]
 * ```
 *
 * `--seed` runs one seed and, when it fails, prints the whole trace. The last line is `N passed, N failed`.
 *
 * @module
 */
import { SimFailure } from "../../lib/io/sim/mod.ts";
import { readArguments, wholeNumber } from "../support/arguments.ts";
import { type Outcome, runSeed } from "./scenario.ts";

/** Failing seeds that are shown. */
const MOST_SHOWN = 10;

/** Events that the trace of a single seed keeps. */
const WHOLE_TRACE = 200_000;

const USAGE = `deno task sim [--seeds N] [--first SEED] [--seed SEED] [--until-failure]

  --seeds N         so many seeds (300)
  --first SEED      the first of them (1)
  --seed SEED       this one alone, with its whole history when it fails
  --until-failure   no further than to the first that fails`;

const { values } = readArguments(USAGE, {
  options: {
    seeds: { type: "string", default: "300" },
    first: { type: "string", default: "1" },
    seed: { type: "string" },
    "until-failure": { type: "boolean", default: false },
  },
});

const first = values.seed === undefined
    ? wholeNumber(USAGE, "first", values.first)
    : wholeNumber(USAGE, "seed", values.seed),
  count = values.seed === undefined ? wholeNumber(USAGE, "seeds", values.seeds, 1) : 1;

let passed = 0, failed = 0, shown = 0;
const sum = {
  good: 0,
  failed: 0,
  lives: 0,
  faults: 0,
  rebuilt: 0,
  snapshots: 0,
  purged: 0,
  grown: 0,
  upgraded: 0,
  returned: 0,
  handed: 0,
  layered: 0,
  events: 0,
};
const started = performance.now();
for (let seed = first; seed < first + count; seed++) {
  if (failed > 0 && values["until-failure"]) break;
  try {
    const outcome: Outcome = await runSeed(seed, values.seed === undefined ? undefined : WHOLE_TRACE);
    for (const key of Object.keys(sum) as (keyof Outcome)[]) sum[key] += outcome[key];
    passed++;
  } catch (error) {
    failed++;
    if (shown++ >= MOST_SHOWN) continue;
    console.error(`\nseed ${seed} failed; replay it with:  ./denow task sim --seed ${seed}`);
    const lines = String(error instanceof Error ? error.message : error).split("\n");
    console.error(values.seed === undefined ? lines.slice(0, 1).join("\n") : lines.join("\n"));
    if (values.seed !== undefined && error instanceof SimFailure) {
      console.error(error.trace.map((line) => `  ${line}`).join("\n"));
    }
    if (error instanceof Error && error.cause instanceof Error) console.error(error.cause.stack);
  }
}
const seconds = (performance.now() - started) / 1000;
console.log(
  `${count} seeds in ${seconds.toFixed(1)} s: ${sum.lives} lives of the engine, ${sum.faults} faults, ` +
    `${sum.rebuilt} copies rebuilt, ${sum.returned} returned (${sum.handed} after an upgrade), ${sum.layered} rebuilt with snapshots, ` +
    `${sum.snapshots} snapshots, ${sum.purged} purges, ${sum.grown} expansions, ${sum.upgraded} upgrades, ` +
    `${sum.good} requests answered well and ${sum.failed} with an error, ${sum.events} events`,
);
console.log(`${passed} passed, ${failed} failed`);
Deno.exit(failed === 0 ? 0 : 1);
