/**
 * `deno task bench:backup`: how fast backups go to an S3 service on this machine and come back, beside `rclone copy`
 * of the same bytes in files as large as the blocks, with as many transfers at once.
 *
 * The data compresses to half. Both move it to the same service in turns, and the best round of each counts. An
 * incremental backup follows, with one block in a hundred changed.
 *
 * | goal | is |
 * |---|---|
 * | create, restore | at least 0.8 of rclone's speed |
 * | incremental | at most 1.1 % of the bytes, in under 5 % of the time of a full backup |
 *
 * @module
 */
import { main, program, UsageError } from "../../cmd/support/program.ts";
import { formatSize, parseSize } from "../../cmd/support/sizes.ts";
import { formatTable } from "../../cmd/support/table.ts";
import { createBackup, type CreateResult, restoreToFile, type Target } from "../../lib/backup/mod.ts";
import { Credentials } from "../../lib/backup/target/credentials.ts";
import { openTarget } from "../../lib/backup/target/open.ts";
import { encodeDiskRecord } from "../../lib/disk/disk_record.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";
import { SnapshotSource } from "../../lib/replica/sync/snapshot_source.ts";
import { loopImage } from "../../tests/support/loop_image.ts";
import { missing } from "../../tests/support/needs.ts";
import { run } from "../../tests/support/process.ts";
import { type S3Server, s3Server } from "../../tests/support/s3_server.ts";

const BLOCK_BYTES = 2 * 1024 ** 2;
/** One block in this many changes before the incremental backup. */
const CHANGED_EVERY = 100;
/** Bytes of random data at the front of each of these; the rest is zeros. */
const GRAIN_BYTES = 1024, RANDOM_BYTES = GRAIN_BYTES / 2;

/** Copies of the data that there are at once: the volume, its pieces, the store, what was restored. */
const COPIES = 4;
/** Room for the file system's own data, bytes. */
const SPARE_BYTES = 512 * 1024 ** 2;

interface Flags {
  readonly size: string;
  readonly concurrency: string;
  readonly rounds: string;
  readonly dir?: string;
  readonly json?: string;
}

/** Fills a block with data that compresses to half and is like no other block. */
function fillBlock(block: Uint8Array): void {
  for (let at = 0; at < block.length; at += GRAIN_BYTES) {
    crypto.getRandomValues(block.subarray(at, at + RANDOM_BYTES));
  }
}

/** A chain of two snapshots, and the older one's content in files. */
function prepare(directory: string, bytes: number): void {
  const replica = `${directory}/replica`, split = `${directory}/split`;
  for (const path of [replica, split]) Deno.mkdirSync(path);
  const block = new Uint8Array(BLOCK_BYTES);
  for (const [name, parent] of [["a", ""], ["b", "volume-snap-a.img"]] as const) {
    const disk = `volume-snap-${name}.img`;
    using file = Deno.openSync(`${replica}/${disk}`, { write: true, create: true });
    file.truncateSync(bytes);
    const step = name === "a" ? BLOCK_BYTES : BLOCK_BYTES * CHANGED_EVERY;
    for (let offset = 0; offset < bytes; offset += step) {
      fillBlock(block);
      file.seekSync(offset, Deno.SeekMode.Start);
      file.writeSync(block);
      if (name === "a") {
        Deno.writeFileSync(`${split}/${String(offset / BLOCK_BYTES).padStart(6, "0")}`, block);
      }
    }
    file.syncSync();
    const created = "2026-01-01T00:00:00Z";
    const record = {
      name: disk,
      parent,
      removed: false,
      userCreated: true,
      created,
      labels: null,
      unknown: {},
    };
    Deno.writeFileSync(`${replica}/${disk}.meta`, encodeDiskRecord(record));
  }
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1000;
}

/** One of the measured programs: seconds of an upload and of a download, the best of all rounds. */
interface Best {
  create: number;
  restore: number;
}

class Benchmark {
  readonly best = {
    drover: { create: Infinity, restore: Infinity },
    rclone: { create: Infinity, restore: Infinity },
  };
  incrementalSeconds = Infinity;
  full: CreateResult | undefined;
  incremental: CreateResult | undefined;
  readonly #directory: string;
  readonly #concurrency: number;
  readonly #server: S3Server;
  readonly #target: Target;

  constructor(directory: string, concurrency: number, server: S3Server, target: Target) {
    this.#directory = directory;
    this.#concurrency = concurrency;
    this.#server = server;
    this.#target = target;
  }

  async round(index: number): Promise<void> {
    await this.#rclone(index);
    await this.#drover(`v${index}`);
  }

  #note(who: Best, what: keyof Best, took: number): void {
    who[what] = Math.min(who[what], took);
  }

  async #rclone(index: number): Promise<void> {
    const keys = this.#server.credentials(),
      remote = `s3:bucket/rclone${index}`,
      back = `${this.#directory}/back`;
    const copy = (from: string, to: string) =>
      run("rclone", [
        "copy",
        from,
        to,
        "--transfers",
        `${this.#concurrency}`,
        "--config",
        "/dev/null",
        "--expect-continue-timeout",
        "0",
      ], {
        env: {
          AWS_CA_BUNDLE: "",
          RCLONE_CONFIG_S3_TYPE: "s3",
          RCLONE_CONFIG_S3_PROVIDER: "Other",
          RCLONE_CONFIG_S3_ACCESS_KEY_ID: keys.AWS_ACCESS_KEY_ID ?? "",
          RCLONE_CONFIG_S3_SECRET_ACCESS_KEY: keys.AWS_SECRET_ACCESS_KEY ?? "",
          RCLONE_CONFIG_S3_ENDPOINT: this.#server.endpoint,
        },
      });
    this.#note(this.best.rclone, "create", await seconds(() => copy(`${this.#directory}/split`, remote)));
    this.#note(this.best.rclone, "restore", await seconds(() => copy(remote, back)));
    Deno.removeSync(back, { recursive: true });
    Deno.removeSync(`${this.#server.files}/rclone${index}`, { recursive: true });
  }

  async #create(volume: string, snapshot: string): Promise<CreateResult> {
    const files = new FilesLibc(), disk = `volume-snap-${snapshot}.img`;
    using source = new SnapshotSource(files, `${this.#directory}/replica`, disk);
    const options = { volume, snapshot, name: `of-${snapshot}`, concurrency: this.#concurrency, settleMs: 0 };
    return await createBackup(this.#target, source, options);
  }

  async #drover(volume: string): Promise<void> {
    const path = `${this.#directory}/restored`, { drover } = this.best;
    this.#note(drover, "create", await seconds(async () => this.full = await this.#create(volume, "a")));
    const options = {
      volume,
      backup: "of-a",
      path,
      format: "raw",
      concurrency: this.#concurrency,
      settleMs: 0,
    } as const;
    this.#note(drover, "restore", await seconds(() => restoreToFile(this.#target, options)));
    await run("cmp", [path, `${this.#directory}/replica/volume-snap-a.img`]);
    Deno.removeSync(path);
    const took = await seconds(async () => this.incremental = await this.#create(volume, "b"));
    this.incrementalSeconds = Math.min(this.incrementalSeconds, took);
    await this.#target.removeTree("");
  }
}

/** A goal and what was found. */
interface Verdict {
  readonly goal: string;
  readonly wanted: string;
  readonly found: number;
  readonly ok: boolean;
}

function verdicts(benchmark: Benchmark): Verdict[] {
  const { drover, rclone } = benchmark.best;
  const moved = (result: CreateResult | undefined): number => result?.record.newlyUploadedBytes ?? NaN;
  const create = rclone.create / drover.create, restore = rclone.restore / drover.restore;
  const bytes = 100 * moved(benchmark.incremental) / moved(benchmark.full);
  const time = 100 * benchmark.incrementalSeconds / drover.create;
  return [
    { goal: "create, of rclone's speed", wanted: ">= 0.8", found: create, ok: create >= 0.8 },
    { goal: "restore, of rclone's speed", wanted: ">= 0.8", found: restore, ok: restore >= 0.8 },
    { goal: "incremental, % of the bytes", wanted: "<= 1.1", found: bytes, ok: bytes <= 1.1 },
    { goal: "incremental, % of the time", wanted: "< 5", found: time, ok: time < 5 },
  ];
}

/** Where the files go: an ext4 in memory, so that no disk is measured, or a directory. */
async function placeFor(bytes: number, dir: string | undefined): Promise<{ path: string } & AsyncDisposable> {
  if (dir !== undefined) return { path: dir, [Symbol.asyncDispose]: () => Promise.resolve() };
  const reasons = ["root", "loop", "mkfs.ext4"].map(missing).filter((reason) => reason !== null);
  if (reasons.length > 0) {
    throw new UsageError(`no file system in memory (${reasons.join("; ")}); name a --dir`);
  }
  return await loopImage({ bytes: COPIES * bytes + SPARE_BYTES });
}

async function bench(flags: Flags): Promise<void> {
  const reasons = ["versitygw", "rclone", "cmp"].map(missing).filter((reason) => reason !== null);
  if (reasons.length > 0) throw new UsageError(reasons.join("; "));
  const bytes = Math.ceil(parseSize(flags.size) / BLOCK_BYTES) * BLOCK_BYTES,
    concurrency = Number(flags.concurrency);
  await using place = await placeFor(bytes, flags.dir);
  const directory = Deno.makeTempDirSync({ prefix: "bench-backup-", dir: place.path });
  try {
    await using server = await s3Server({ place: directory });
    await using target = await openTarget(server.url("drover"), Credentials.from(server.credentials()));
    console.error(`making ${formatSize(bytes)} of data`);
    prepare(directory, bytes);
    const benchmark = new Benchmark(directory, concurrency, server, target);
    for (let round = 0; round < Number(flags.rounds); round++) {
      console.error(`round ${round + 1} of ${flags.rounds}`);
      await benchmark.round(round);
    }
    const rate = (took: number): string => `${formatSize(Math.round(bytes / took))}/s`;
    const rows = Object.entries(benchmark.best).map((
      [name, { create, restore }],
    ) => [name, rate(create), rate(restore)]);
    console.log(formatTable(["PROGRAM", "UPLOAD", "DOWNLOAD"], rows, new Set([1, 2])));
    const found = verdicts(benchmark);
    const cells = found.map((
      { goal, wanted, found, ok },
    ) => [goal, wanted, found.toPrecision(3), ok ? "yes" : "NO"]);
    console.log(`\n${formatTable(["GOAL", "WANTED", "FOUND", "REACHED"], cells)}`);
    if (flags.json) {
      Deno.writeTextFileSync(
        flags.json,
        JSON.stringify({ bytes, concurrency, ...benchmark, verdicts: found }, null, 2),
      );
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

if (import.meta.main) {
  const command = program("bench:backup", "Speed of backups to S3 on this machine, beside rclone.")
    .option("--size <size>", "bytes of the volume", "4GiB")
    .option("--concurrency <n>", "blocks under way at the same time", "8")
    .option("--rounds <n>", "rounds; the best counts", "2")
    .option("--dir <path>", "where the files go; default: a file system in memory, four times the size")
    .option("--json <file>", "write the figures to a file as well")
    .action(bench);
  await main(command);
}
