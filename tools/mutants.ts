/**
 * Plants known bugs one by one and shows that the simulation finds each.
 *
 * ```text
 * deno task mutants [--seeds N] [--only TEXT]
 * ```
 *
 * Every bug gets a copy of the sources of its own in a temporary directory. The last line is `N passed, N failed`: a
 * bug that is not found is a failure of the simulation.
 *
 * @module
 */
import { readArguments, wholeNumber } from "../tests/support/arguments.ts";
import { ROOT } from "../tests/support/repository.ts";
import { type Mutant, MUTANTS } from "./mutants/list.ts";

const USAGE = `deno task mutants [--seeds N] [--only TEXT]

  --seeds N     give up after so many seeds (1000)
  --only TEXT   only bugs whose name holds the text`;

/** What the simulation is made of. */
const SOURCES = ["lib", "tests", "cmd", "tools", "proto", "deno.json", "deno.lock"];

/** Puts a bug into a text. @throws {Error} when its place is not there exactly once */
export function planted(text: string, mutant: Mutant): string {
  const parts = text.split(mutant.from);
  if (parts.length !== 2) {
    throw new Error(
      `${mutant.file}: the place of "${mutant.name}" is there ${parts.length - 1} times, not once`,
    );
  }
  return parts.join(mutant.to);
}

async function copyOf(directory: string): Promise<void> {
  const { success } = await new Deno.Command("cp", {
    args: ["-r", ...SOURCES.map((name) => `${ROOT}/${name}`), directory],
  }).output();
  if (!success) throw new Error(`the sources cannot be copied to ${directory}`);
  Deno.symlinkSync(Deno.realPathSync(`${ROOT}/node_modules`), `${directory}/node_modules`);
}

/** @returns the first seed that fails, with what it says; undefined when none does */
async function findWith(directory: string, seeds: number): Promise<string | undefined> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "tests/sim/campaign.ts", "--seeds", String(seeds), "--until-failure"],
    cwd: directory,
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stderr) + new TextDecoder().decode(stdout);
  return /^(seed \d+ failed at .*)$/m.exec(text)?.[1];
}

async function main(): Promise<number> {
  const { values } = readArguments(USAGE, {
    options: { seeds: { type: "string", default: "1000" }, only: { type: "string", default: "" } },
  });
  const seeds = wholeNumber(USAGE, "seeds", values.seeds, 1);
  let passed = 0, failed = 0;
  for (const mutant of MUTANTS.filter(({ name }) => name.includes(values.only))) {
    const directory = Deno.makeTempDirSync({ prefix: "mutant-" }), begin = performance.now();
    try {
      await copyOf(directory);
      const path = `${directory}/${mutant.file}`;
      Deno.writeTextFileSync(path, planted(Deno.readTextFileSync(path), mutant));
      const found = await findWith(directory, seeds), took = ((performance.now() - begin) / 1000).toFixed(1);
      if (found === undefined) failed++;
      else passed++;
      console.log(`${found === undefined ? "NOT FOUND" : "found"} in ${took} s: ${mutant.name}`);
      console.log(`    ${found?.slice(0, 160) ?? `${seeds} seeds passed`}`);
    } finally {
      Deno.removeSync(directory, { recursive: true });
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
