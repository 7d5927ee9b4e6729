/**
 * Runs the benchmark: group by group, each on a fresh file system, round by round.
 *
 * @module
 */
import { ROOT } from "../../tests/support/repository.ts";
import { VERSION } from "../../lib/engine/version.ts";
import { loopImage } from "../../tests/support/loop_image.ts";
import { missing } from "../../tests/support/needs.ts";
import { verdicts } from "./goals.ts";
import { type Idle, watchIdle } from "./idle.ts";
import { type Life, measureLife } from "./life.ts";
import { fill, measure, type Measurement } from "./measure.ts";
import { type Group, groups, type Row } from "./plan.ts";
import { machine } from "./proc.ts";
import type { Comparison, Report } from "./report.ts";
import { type Cell, cellName, type Subject } from "./subject.ts";

/** Options of a run. */
export interface RunOptions {
  /** Only what the goals speak of. */
  readonly quick: boolean;
  /** Seconds per measurement. */
  readonly seconds: number;
  /** Seconds before that. */
  readonly rampSeconds: number;
  /** How often each cell is measured. */
  readonly rounds: number;
  /** Bytes of each disk. */
  readonly diskBytes: number;
  /** Directory for all files; undefined: an ext4 image in memory. */
  readonly directory: string | undefined;
  /** Only measurements whose `SUBJECT LOAD` matches; `idle` for the idle volume, `life ROW` for those. */
  readonly only: RegExp | undefined;
  /** Seconds to watch an idle volume. */
  readonly idleSeconds: number;
  /** Directory of the spike's programs; undefined: leave them out. */
  readonly spikePrograms: string | undefined;
  /** Aborts between two measurements. */
  readonly signal?: AbortSignal;
  /** Told what is being done. */
  readonly progress: (text: string) => void;
}

/** Room for a file system's own data, and for the files of one more subject. */
const IMAGE_SPARE_BYTES = 1024 ** 3;
/** Copies of the disk that the subjects of one group may have, at most. */
const COPIES = 12;

/** A directory for files that goes away with the scope: on an image in memory, or in a given directory. */
async function place(
  options: RunOptions,
  onDisk = false,
): Promise<{ path: string } & AsyncDisposable> {
  const { diskBytes } = options, directory = options.directory ?? (onDisk ? ROOT : undefined);
  if (directory === undefined) {
    return await loopImage({ bytes: COPIES * diskBytes + IMAGE_SPARE_BYTES });
  }
  const path = await Deno.makeTempDir({ dir: directory, prefix: ".bench-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

function wanted(row: Row, cell: Cell, options: RunOptions): boolean {
  if (row.takes?.(cell) === false) return false;
  return options.only === undefined || options.only.test(`${row.maker.name} ${cellName(cell)}`);
}

/** The best of several measurements: what else runs on the machine only takes away. */
function best(rounds: readonly Measurement[]): Measurement | undefined {
  return rounds.reduce<Measurement | undefined>(
    (a, b) => a === undefined || b.iops > a.iops ? b : a,
    undefined,
  );
}

async function runGroup(group: Group, options: RunOptions, skipped: string[]): Promise<Measurement[]> {
  const rows = group.rows.filter((row) => group.cells.some((cell) => wanted(row, cell, options)));
  if (rows.length === 0) return [];
  await using files = await place(options, group.onDisk);
  await using stack = new AsyncDisposableStack();
  const up: { row: Row; subject: Subject }[] = [];
  for (const [i, row] of rows.entries()) {
    const reasons = row.maker.needs.map(missing).filter((reason) => reason !== null);
    if (reasons.length > 0) {
      skipped.push(`${row.maker.name}: ${reasons.join("; ")}`);
      continue;
    }
    options.progress(`${group.name}: starting ${row.maker.name}`);
    const directory = `${files.path}/${i}`;
    await Deno.mkdir(directory);
    const subject = stack.use(await row.maker.start(directory, options.diskBytes));
    await fill(subject, options.diskBytes);
    up.push({ row, subject });
  }
  const results: Measurement[] = [];
  for (const cell of group.cells) {
    const found = new Map<Subject, Measurement[]>();
    for (let round = 0; round < options.rounds; round++) {
      for (const { row, subject } of up) {
        if (!wanted(row, cell, options) || cell.blockBytes > subject.maxBlockBytes) continue;
        options.signal?.throwIfAborted();
        const measured = await measure(subject, cell, options.diskBytes, options);
        found.set(subject, [...found.get(subject) ?? [], measured]);
        options.progress(`${subject.name} ${cellName(cell)}: ${measured.iops.toFixed(0)} ops/s`);
      }
    }
    for (const measured of found.values()) results.push(...[best(measured)].filter((m) => m !== undefined));
  }
  return results;
}

async function runIdle(options: RunOptions): Promise<Idle | null> {
  if (options.only !== undefined && !options.only.test("idle")) return null;
  options.progress(`watching an idle volume for ${options.idleSeconds} s`);
  await using files = await place(options);
  return await watchIdle(files.path, options.idleSeconds);
}

async function runLife(options: RunOptions): Promise<Life | null> {
  const rows = ["snapshot", "regions", "recovery", "outage", "rebuild", "users"];
  const wanted = (row: string) => options.only === undefined || options.only.test(`life ${row}`);
  if (!rows.some(wanted)) return null;
  await using files = await place(options, true);
  return await measureLife(files.path, { ...options, wanted });
}

function compare(all: readonly Measurement[], planned: readonly Group[]): (Measurement & Comparison)[] {
  const against = new Map(
    planned.flatMap(({ rows }) => rows.map(({ maker, against }) => [maker.name, against] as const)),
  );
  return all.map((m) => {
    const peer = against.get(m.subject) ?? null;
    const other = all.find(({ subject, cell }) => subject === peer && cell === m.cell);
    return { ...m, against: peer, ratio: other ? Number((m.iops / other.iops).toPrecision(3)) : null };
  });
}

/** Runs everything that the options name. */
export async function runBenchmark(options: RunOptions): Promise<Report> {
  const date = new Date().toISOString(), where = machine();
  const planned = groups(options.quick, options.spikePrograms);
  const skipped: string[] = [];
  if (options.spikePrograms === undefined) {
    skipped.push("spike: its programs are not there (--spike DIRECTORY)");
  }
  const measured: Measurement[] = [];
  for (const group of planned) measured.push(...await runGroup(group, options, skipped));
  const idle = await runIdle(options);
  const life = await runLife(options);
  const { quick, seconds, rounds, diskBytes, directory } = options;
  return {
    date,
    version: VERSION,
    machine: where,
    settings: {
      quick,
      seconds,
      rounds,
      diskBytes,
      fileSystem: directory === undefined ? "ext4 in memory" : directory,
    },
    measurements: compare(measured, planned),
    idle,
    life,
    verdicts: verdicts(measured, idle, life),
    skipped,
  };
}
