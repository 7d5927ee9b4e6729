/**
 * `drover bench`: measures a disk, whatever shows it: an engine's socket, NBD, iSCSI, a file or a block device.
 *
 * @module
 */
import {
  arenaBytes,
  type BenchOptions,
  type BenchResult,
  checkOptions,
  runBench,
  type Workload,
  WORKLOADS,
  writes,
} from "../../lib/bench/bench.ts";
import { parsePlace, PLACE_FORMS } from "../../lib/bench/place.ts";
import { openIo } from "../../lib/io/open.ts";
import { type program, UsageError } from "../support/program.ts";
import { parseSize } from "../support/sizes.ts";
import { benchTable } from "./table.ts";

interface Flags {
  readonly target: string;
  readonly rw: Workload;
  readonly bs: string;
  readonly qd: string;
  readonly connections: string;
  readonly size?: string;
  readonly seconds: string;
  readonly ramp: string;
  readonly operations?: string;
  readonly writePercent: string;
  readonly verify: boolean;
  readonly cached: boolean;
  readonly seed: string;
  readonly output: "table" | "json";
  readonly yes: boolean;
}

const HELP = `
Targets:
${PLACE_FORMS.map((form) => `  ${form}`).join("\n")}

A load that writes overwrites what is on the disk. It has to be confirmed with --yes.

Examples:
  drover bench --target unix:/var/run/longhorn-vol.sock --size 1g --rw randread --qd 32
  drover bench --target nbd://127.0.0.1/vol --rw write --bs 1m --qd 8 --yes
  drover bench --target file:/dev/longhorn/vol --rw randwrite --verify --size 64m --yes`;

function number(name: string, text: string): number {
  const value = text.trim() === "" ? NaN : Number(text);
  if (!Number.isFinite(value)) throw new UsageError(`${name} "${text}" is not a number`);
  return value;
}

function optionsOf(flags: Flags): BenchOptions {
  const options: BenchOptions = {
    place: parsePlace(flags.target),
    workload: flags.rw,
    blockBytes: parseSize(flags.bs),
    depth: number("--qd", flags.qd),
    connections: number("--connections", flags.connections),
    rangeBytes: flags.size === undefined ? 0 : parseSize(flags.size),
    seconds: number("--seconds", flags.seconds),
    rampSeconds: number("--ramp", flags.ramp),
    writePercent: number("--write-percent", flags.writePercent),
    verify: flags.verify,
    cached: flags.cached,
    seed: number("--seed", flags.seed),
    ...(flags.operations === undefined ? {} : { operations: number("--operations", flags.operations) }),
  };
  checkOptions(options);
  return options;
}

/** Data was not what had been written. */
export class WrongDataError extends Error {
  /** The class, for logs. */
  override readonly name = "WrongDataError";
}

/** Runs the load and prints its figures. */
function bench(flags: Flags): void {
  const options = optionsOf(flags);
  if (writes(options) && !flags.yes) {
    throw new UsageError(
      `this overwrites data on ${flags.target}; say --yes if that is meant, or use --rw read or randread`,
    );
  }
  const notes: string[] = [];
  using io = openIo({ arenaBytes: arenaBytes(options), note: (reason) => notes.push(reason) });
  const result: BenchResult = runBench(io, options);
  const text = flags.output === "json"
    ? JSON.stringify({ target: flags.target, ...result, notes }, null, 2)
    : benchTable(flags.target, result, notes);
  console.log(text);
  const wrong = result.verification?.wrong ?? 0;
  if (wrong > 0) {
    const first = result.verification?.firstWrongOffset;
    throw new WrongDataError(`${wrong} blocks are not what was written, the first at offset ${first}`);
  }
}

/** Adds the command to a program. It blocks the thread while it measures. */
export function benchCommand(parent: ReturnType<typeof program>): void {
  parent.command("bench")
    .description("measure a disk: a closed loop of operations, with latency percentiles")
    .requiredOption("--target <target>", "what to measure, see below")
    .addOption(parent.createOption("--rw <load>", "what to do").choices(WORKLOADS).default("randread"))
    .option("--bs <size>", "bytes of an operation", "4k")
    .option("--qd <n>", "operations under way at any time, over all connections", "32")
    .option("--connections <n>", "connections to open", "1")
    .option("--size <size>", "use only so much of the disk, from its start (default: all of it)")
    .option("--seconds <s>", "time to measure", "10")
    .option("--ramp <s>", "time before that which does not count", "1")
    .option("--operations <n>", "end after so many operations, if that is earlier")
    .option("--write-percent <n>", "share of writes of --rw randrw", "30")
    .option("--verify", "write the range once, read it back and compare, instead of a timed load", false)
    .option("--cached", "for files: through the page cache", false)
    .option("--seed <n>", "seed of offsets and of the data to verify", "1")
    .addOption(
      parent.createOption("-o, --output <form>", "how to print").choices(["table", "json"]).default("table"),
    )
    .option("--yes", "yes, overwrite the data on the target", false)
    .addHelpText("after", HELP)
    .action(bench);
}
