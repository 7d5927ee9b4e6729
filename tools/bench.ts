/**
 * `deno task bench`: how fast Drover is on this machine, beside programs that do a part of its work.
 *
 * Everything runs in one go and on one file system, by default an ext4 image in memory, so that the disk is not what
 * is measured and the ratios mean something.
 *
 * @module
 */
import { existingPrograms, WORKERS } from "./programs.ts";
import { makeDist } from "./shipping/dist.ts";
import { main, program, UsageError } from "../cmd/support/program.ts";
import { parseSize } from "../cmd/support/sizes.ts";
import { inRepository, ROOT } from "../tests/support/repository.ts";
import { missing } from "../tests/support/needs.ts";
import { reportText } from "./bench/report.ts";
import { runBenchmark } from "./bench/run.ts";

interface Flags {
  readonly quick: boolean;
  readonly seconds?: string;
  readonly ramp: string;
  readonly rounds?: string;
  readonly size: string;
  readonly dir?: string;
  readonly only?: string;
  readonly idleSeconds: string;
  readonly spike: string;
  readonly json?: string;
}

/** Seconds per measurement and rounds, of a quick and of a full run. */
const QUICK = { seconds: 2, rounds: 2 };
const FULL = { seconds: 2.5, rounds: 1 };

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new UsageError(`${name} ${text}: expected a number above 0`);
  return value;
}

/** The spike's directory if it is there. */
function spikePrograms(path: string): string | undefined {
  const directory = inRepository(path);
  try {
    return Deno.statSync(`${directory}/engine.ts`).isFile ? directory : undefined;
  } catch {
    return undefined;
  }
}

function pattern(text: string | undefined): RegExp | undefined {
  try {
    return text === undefined ? undefined : new RegExp(text);
  } catch (cause) {
    throw new UsageError(`--only ${text}: not a regular expression`, { cause });
  }
}

async function bench(flags: Flags): Promise<void> {
  const defaults = flags.quick ? QUICK : FULL;
  if (flags.dir === undefined) {
    const reasons = ["root", "loop", "mkfs.ext4"].map(missing).filter((reason) => reason !== null);
    if (reasons.length > 0) {
      throw new UsageError(`no file system in memory can be made (${reasons.join("; ")}); name a --dir`);
    }
  }
  const abort = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => abort.abort(new Error(`ended by ${signal}`)));
  }
  using dist = await shipped((text) => console.error(text));
  void dist;
  const report = await runBenchmark({
    quick: flags.quick,
    seconds: flags.seconds === undefined ? defaults.seconds : positive("--seconds", flags.seconds),
    rampSeconds: positive("--ramp", flags.ramp),
    rounds: flags.rounds === undefined ? defaults.rounds : positive("--rounds", flags.rounds),
    diskBytes: parseSize(flags.size),
    directory: flags.dir,
    only: pattern(flags.only),
    idleSeconds: positive("--idle-seconds", flags.idleSeconds),
    spikePrograms: spikePrograms(flags.spike),
    signal: abort.signal,
    progress: (text) => console.error(text),
  });
  const path = flags.json ?? inRepository(`bench-${report.date.slice(0, 19).replaceAll(":", "")}.json`);
  Deno.writeTextFileSync(path, `${JSON.stringify(report, null, 2)}\n`);
  console.log(`${reportText(report)}\n\n${path}`);
}

/** Measures what is shipped, not the sources: `DROVER_BIN` names it, or it is made for the time of the run. */
async function shipped(progress: (text: string) => void): Promise<Disposable> {
  if (Deno.env.get("DROVER_BIN")) return { [Symbol.dispose]: () => {} };
  progress("making the programs as they are shipped (deno task dist)");
  const directory = Deno.makeTempDirSync({ prefix: "drover-bench-" });
  await makeDist({ root: ROOT, programs: existingPrograms(ROOT), workers: WORKERS }, `${directory}/dist`);
  Deno.env.set("DROVER_BIN", `${directory}/dist/bin`);
  return { [Symbol.dispose]: () => Deno.removeSync(directory, { recursive: true }) };
}

const command = program("bench", "How fast Drover is on this machine, beside other programs.")
  .option("--quick", "only what the goals speak of (about eight minutes)", false)
  .option(
    "--only <pattern>",
    "only measurements whose `SUBJECT LOAD` matches, such as 'socket.*qd1$|idle|life snapshot'",
  )
  .option("--seconds <s>", `seconds per measurement (default: ${FULL.seconds}, quick ${QUICK.seconds})`)
  .option("--ramp <s>", "seconds before that", "0.5")
  .option(
    "--rounds <n>",
    `measure so often, the best counts (default: ${FULL.rounds}, quick ${QUICK.rounds})`,
  )
  .option("--size <size>", "size of each disk", "512m")
  .option("--dir <directory>", "where all files are (default: an ext4 image in memory)")
  .option("--idle-seconds <s>", "how long to watch an idle volume", "10")
  .option("--spike <directory>", "programs of the first trial, relative to the repository", "../shared/spike")
  .option("--json <file>", "where the figures go (default: bench-DATE.json)")
  .action(bench);

if (import.meta.main) await main(command);
