/**
 * Hours of a volume's life in minutes: fio writes and verifies through NBD or a loop device while copies are killed and
 * rebuilt, snapshots are taken, removed and purged, in an order drawn from a seed.
 *
 * ```text
 * deno task soak [--seconds N] [--frontend nbd|loop] [--seed N] [--dir DIRECTORY]
 * ```
 *
 * At the end fio must have verified everything it wrote, all copies must be complete, and their content equal. The last
 * line is `N passed, N failed`.
 *
 * @module
 */
import { ReplicaDisk } from "../lib/disk/replica_disk.ts";
import { openIo } from "../lib/io/open.ts";
import { settleOne } from "../lib/io/test_kit.ts";
import { drover, type ServedVolume, serveVolume, volumeReport } from "../tests/cli_kit.ts";
import { readArguments, wholeNumber } from "../tests/support/arguments.ts";
import { spawnLogged } from "../tests/support/process.ts";
import { sleep, waitFor } from "../tests/support/wait.ts";

const USAGE = `deno task soak [--seconds N] [--frontend nbd|loop] [--seed N] [--dir DIRECTORY]

  --seconds N       how long (600)
  --frontend NAME   what fio works through: nbd or loop (nbd)
  --seed N          of the order in which things happen (another one each time; it is printed)
  --dir DIRECTORY   where the volume is made (the system's place for temporary files)`;

/** Size of the volume, and of what fio writes to; MiB. */
const VOLUME_MIB = 256, FILE_MIB = 128;
/** Time for a copy to come back at the end, milliseconds. */
const REPAIR_MS = 180_000;
/** Most snapshots at once. */
const MOST_SNAPSHOTS = 6;

/** What is done to the volume. */
export interface SoakOptions {
  /** How long. */
  readonly seconds: number;
  /** `nbd` or `loop`. */
  readonly frontend: string;
  /** Of the order. */
  readonly seed: number;
  /** An empty directory. */
  readonly directory: string;
  /** Told what happens. */
  readonly say: (text: string) => void;
}

/** What came of it. */
export interface SoakResult {
  /** How often each thing was done. */
  readonly done: Readonly<Record<string, number>>;
  /** What is wrong; empty when all is well. */
  readonly problems: readonly string[];
}

/** A small generator: the order must be the same for the same seed. */
function draws(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Disturbs one volume. */
class Disturber {
  readonly done: Record<string, number> = { kill: 0, snapshot: 0, remove: 0, purge: 0 };
  readonly #snapshots: string[] = [];
  readonly #random: () => number;
  #count = 0;

  constructor(readonly volume: ServedVolume, readonly options: SoakOptions) {
    this.#random = draws(options.seed);
  }

  async #command(...args: string[]): Promise<void> {
    const { code, stderr } = await drover("snapshot", ...args, "--dir", this.options.directory);
    if (code !== 0) this.options.say(`snapshot ${args.join(" ")}: ${stderr.trim()}`);
  }

  async #kill(): Promise<void> {
    const { replicas } = await this.volume.report();
    if (!replicas.every(({ state }) => state === "complete")) return;
    const victim = replicas[Math.floor(this.#random() * replicas.length)];
    if (!victim?.pid) return;
    this.options.say(`killing ${victim.name}`);
    Deno.kill(victim.pid, "SIGKILL");
    this.done.kill++;
  }

  async #snapshot(): Promise<void> {
    if (this.#snapshots.length >= MOST_SNAPSHOTS) return await this.#remove();
    const name = `s${++this.#count}`;
    await this.#command("create", "soak", name);
    this.#snapshots.push(name);
    this.done.snapshot++;
  }

  async #remove(): Promise<void> {
    const [name] = this.#snapshots.splice(Math.floor(this.#random() * this.#snapshots.length), 1);
    if (name === undefined) return;
    await this.#command("rm", "soak", name, "--yes");
    this.done.remove++;
  }

  async #purge(): Promise<void> {
    await this.#command("purge", "soak");
    this.done.purge++;
  }

  /** One thing, drawn. */
  async next(): Promise<void> {
    const draw = this.#random();
    if (draw < 0.25) await this.#kill();
    else if (draw < 0.6) await this.#snapshot();
    else if (draw < 0.8) await this.#remove();
    else await this.#purge();
    await sleep(500 + this.#random() * 2000);
  }
}

function fioArguments(frontend: string, endpoint: string, seconds: number): string[] {
  const target = frontend === "nbd"
    ? ["--ioengine=nbd", `--uri=${endpoint}`]
    : ["--ioengine=libaio", "--direct=1", `--filename=${endpoint}`];
  return [
    "--name=soak",
    ...target,
    "--rw=randwrite",
    "--bsrange=4k-64k",
    `--size=${FILE_MIB}m`,
    "--iodepth=8",
    "--verify=crc32c",
    "--verify_fatal=1",
    "--verify_backlog=512",
    "--fsync=256",
    "--rate_iops=400",
    "--time_based",
    `--runtime=${seconds}`,
  ];
}

/** The content of a copy, as one number per block. */
function sums(directory: string): Uint32Array {
  using io = openIo({ arenaBytes: 64 * 1024 * 1024 });
  const disk = ReplicaDisk.open(io, directory, { revisionCounter: false }), piece = 1024 * 1024;
  const at = io.arena.reserve(piece, 4096), result = new Uint32Array(disk.bytes / 4096);
  for (let offset = 0; offset < disk.bytes; offset += piece) {
    const read = settleOne(io, (who, tag) => disk.read(offset, piece, at, who, tag));
    if (read !== piece) throw new Error(`${directory} cannot be read at ${offset}: ${read}`);
    const words = new Int32Array(io.arena.u8.buffer, io.arena.u8.byteOffset + at, piece / 4);
    for (let i = 0; i < words.length; i++) {
      const block = offset / 4096 + (i >> 10);
      result[block] = Math.imul(result[block] ^ words[i], 0x9e3779b1) + i;
    }
  }
  disk.close();
  return result;
}

function compare(directories: readonly string[]): string[] {
  const [first, ...others] = directories.map(sums);
  return others.flatMap((other, i) => {
    const block = other.findIndex((sum, k) => sum !== first?.[k]);
    return block < 0 ? [] : [`copy ${i + 2} differs from the first in block ${block}`];
  });
}

/** Runs it all. @throws {Error} when the volume does not start */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const { directory, frontend, seconds, say } = options, problems: string[] = [];
  const place = frontend === "nbd" ? ["--listen", `unix:${directory}/nbd.sock`] : [];
  let done: Record<string, number>, copies: string[];
  {
    await using volume = await serveVolume("soak", directory, [
      ...["--size", `${VOLUME_MIB}MiB`, "--frontend", frontend, "--io-mode", "cached"],
      ...place,
    ]);
    const endpoint = frontend === "nbd" ? `nbd+unix:///?socket=${directory}/nbd.sock` : volume.endpoint;
    await using fio = spawnLogged("fio", fioArguments(frontend, endpoint, seconds), { cwd: directory });
    const disturber = new Disturber(volume, options), end = Date.now() + seconds * 1000;
    while (Date.now() < end && fio.running) await disturber.next();
    const { code } = await fio.status;
    if (code !== 0) problems.push(`fio ended with ${code}: ${fio.output.slice(-500)}`);
    await waitFor(
      async () => (await volume.report()).replicas.every(({ state }) => state === "complete"),
      { what: "all copies to be complete", timeoutMs: REPAIR_MS },
    ).catch((error) => problems.push(String(error)));
    done = disturber.done;
    const ended = await volume.interrupt();
    if (ended !== 0) problems.push(`volume serve ended with ${ended}: ${volume.process.output.slice(-500)}`);
    copies = (await volumeReport("soak", directory)).replicas.map((replica) => replica.directory);
  }
  if (problems.length === 0) problems.push(...compare(copies));
  say(`${Object.entries(done).map(([what, times]) => `${what} ${times}`).join(", ")}`);
  return { done, problems };
}

async function main(): Promise<number> {
  const { values } = readArguments(USAGE, {
    options: {
      seconds: { type: "string", default: "600" },
      frontend: { type: "string", default: "nbd" },
      seed: { type: "string", default: String(Date.now() % 100_000) },
      dir: { type: "string", default: "" },
    },
  });
  const seconds = wholeNumber(USAGE, "seconds", values.seconds, 1);
  const seed = wholeNumber(USAGE, "seed", values.seed);
  const directory = Deno.makeTempDirSync({ prefix: "soak-", ...(values.dir ? { dir: values.dir } : {}) });
  try {
    const { frontend } = values;
    console.log(`${seconds} s through ${frontend}, seed ${seed}`);
    const { problems } = await soak({ seconds, frontend, seed, directory, say: console.log });
    for (const problem of problems) console.log(`FAILED: ${problem}`);
    console.log(problems.length === 0 ? "1 passed, 0 failed" : "0 passed, 1 failed");
    return problems.length === 0 ? 0 : 1;
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

if (import.meta.main) Deno.exit(await main());
