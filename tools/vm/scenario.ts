/**
 * One thing that is shown in the machine, and how a list of them is run and reported.
 *
 * @module
 */
import { Lab, type LabOptions, Skip } from "./lab.ts";

/** See the module text. The name is a sentence that says what holds. */
export interface Scenario {
  /** For `--only` and the report. */
  readonly name: string;
  /** It is left out unless all are asked for. */
  readonly slow?: boolean;
  /** Shows it. @throws when it does not hold; {@linkcode Skip} when it cannot be shown here */
  run(lab: Lab): Promise<void>;
}

/** How many went how. */
export interface Tally {
  /** It holds. */
  passed: number;
  /** It does not. */
  failed: number;
  /** It could not be shown. */
  skipped: number;
}

/** Lines of what a failure left that are printed; the file has all. */
const EXPLAINED_LINES = 60;

/** How scenarios are run. */
export interface RunLimits {
  /** What has not begun by then is skipped, seconds. */
  readonly seconds: number;
  /** Aborted: the machine is ended, and so is the run. */
  readonly signal: AbortSignal;
  /** Takes the console and what explains a failure. @returns where it is */
  readonly keep: (name: string, text: string) => string;
}

/** Runs scenarios one after the other, in machines of one lab. */
export async function runScenarios(
  scenarios: readonly Scenario[],
  options: LabOptions,
  { seconds, signal, keep }: RunLimits,
): Promise<Tally> {
  const start = performance.now();
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  await using lab = new Lab(options);
  const aborted = Promise.withResolvers<never>();
  // Nobody waits for it between two scenarios.
  aborted.promise.catch(() => {});
  const stop = () => {
    aborted.reject(new Error("the run was ended"));
    void lab.stop();
  };
  signal.addEventListener("abort", stop, { once: true });
  for (const scenario of scenarios) {
    if (signal.aborted) break;
    const begin = performance.now(), processorBegin = lab.processorSeconds;
    const line = (verdict: string, rest = "") => {
      const seconds = ((performance.now() - begin) / 1000).toFixed(1).padStart(6);
      const processor = (lab.processorSeconds - processorBegin).toFixed(0).padStart(4);
      options.say(`${verdict}  ${seconds} s (processor ${processor} s)  ${scenario.name}${rest}`);
    };
    try {
      if (begin - start > seconds * 1000) throw new Skip("the time was used up by those before it");
      // A scenario may wait for minutes for something that the ended machine does not say any more.
      await Promise.race([scenario.run(lab), aborted.promise]);
      tally.passed++;
      line("PASS");
    } catch (error) {
      if (signal.aborted) break;
      if (error instanceof Skip) {
        tally.skipped++;
        line("SKIP", `: ${error.message}`);
        continue;
      }
      tally.failed++;
      line("FAIL");
      const message = error instanceof Error ? error.message : String(error);
      const found = await lab.abandon(), console = Deno.readTextFileSync(lab.console);
      const path = keep(scenario.name, `${message}\n\n${found}\n--- serial console\n${console}`);
      options.say([message, ...found.split("\n").slice(-EXPLAINED_LINES), `all of it: ${path}`].join("\n"));
    }
  }
  signal.removeEventListener("abort", stop);
  return tally;
}
