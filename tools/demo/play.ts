/**
 * The acts of the demonstration: a volume with three copies as a disk, files on it, a copy that is killed under
 * load and made complete under load, a restart, and the proof that everything is there.
 *
 * @module
 */
import { whyNoLoop } from "../../cmd/volume/frontend_choice.ts";
import { formatSize } from "../../cmd/support/sizes.ts";
import { isMountPoint } from "../../lib/host/mounts.ts";
import { RunningLoad } from "./run_load.ts";
import type { Stage } from "./stage.ts";
import { count, rate, seconds, type Story } from "./story.ts";
import { compareTree, copyTree, findTree, type Tree } from "./tree.ts";
import { DemoError, ServedVolume } from "./volume.ts";

/** Where to find files to copy, besides this repository's own. */
const TREES = ["/usr/share/doc", "/usr/share", "/etc"];
/** Bytes that the load writes on, and for how long at most, in seconds. */
const LOAD_BYTES = 64 * 1024 * 1024, LOAD_SECONDS = 120;
/** When a copy is killed, after the load has begun; milliseconds. */
const KILL_AFTER_MS = 1_500;
/** After the kill, so long counts as its consequences; milliseconds. */
const AFTERMATH_MS = 2_500;
/** The load goes on so long after the copy is complete again; milliseconds. */
const AFTER_REPAIR_MS = 500;
const SIZE = "512MiB";

/** See the module text. */
export class Play {
  readonly #name = `demo-${crypto.randomUUID().slice(0, 4)}`;
  readonly #mount: string;
  readonly #state: string;
  #frontend: "loop" | "socket" = "loop";
  #volume: ServedVolume | undefined;
  #sums = new Map<string, string>();
  #bytes = 0;

  /** Prepares. @param directory empty, on a file system that can hold copies, without symbolic links in its path */
  constructor(
    readonly stage: Stage,
    readonly story: Story,
    readonly directory: string,
    readonly repository: string,
  ) {
    this.#mount = `${directory}/mnt`;
    this.#state = `${directory}/load.state`;
  }

  /** All acts. @throws {DemoError} when something is not as it must be */
  async run(): Promise<void> {
    await this.#begin();
    if (this.#frontend === "loop") {
      await this.#makeFileSystem();
      await this.#copyFiles();
    }
    await this.#killUnderLoad();
    await this.#restart();
    await this.#verify();
    await this.#end();
  }

  get #disk(): ServedVolume {
    if (!this.#volume) throw new DemoError("no volume is running");
    return this.#volume;
  }

  async #serve(size?: string): Promise<void> {
    this.story.progress("starting ...");
    this.#volume = await ServedVolume.start(this.stage, {
      name: this.#name,
      directory: this.directory,
      run: `${this.directory}/run`,
      frontend: this.#frontend,
      ...(size === undefined ? {} : { size }),
    });
  }

  async #begin(): Promise<void> {
    const { story } = this;
    story.step(`A volume of ${formatSize(512 * 1024 ** 2)} with 3 copies`);
    let reason = await this.#whyNoFileSystem();
    const begin = performance.now();
    if (reason === undefined) {
      try {
        await this.#serve(SIZE);
      } catch (error) {
        if (!(error instanceof DemoError)) throw error;
        reason = error.message;
      }
    }
    if (reason !== undefined) {
      story.tell("No disk of the kernel's here, so no file system on it:");
      for (const line of reason.split("\n")) story.tell(`    ${line}`);
      story.tell("The volume is used through its socket instead: a pattern is written and verified.");
      this.#frontend = "socket";
      await this.#serve(SIZE);
    }
    story.tell(`4 processes: an engine and 3 replicas, started in ${seconds(begin)}`);
    story.tell(`the disk: ${this.#disk.endpoint}`);
    story.tell(`the copies: ${this.directory}/${this.#name}-r-{1,2,3}`);
  }

  async #whyNoFileSystem(): Promise<string | undefined> {
    const missing = await whyNoLoop();
    if (missing !== undefined) return missing;
    for (const program of ["mkfs.ext4", "fsck.ext4"]) {
      if (!await this.stage.tryRun(program, "-V")) return `${program} is not installed (package e2fsprogs)`;
    }
    return undefined;
  }

  async #makeFileSystem(): Promise<void> {
    const { stage, story } = this, begin = performance.now();
    story.step("A file system on it");
    await stage.run("mkfs.ext4", "-q", this.#disk.endpoint);
    await Deno.mkdir(this.#mount, { recursive: true });
    await this.#mountIt();
    story.tell(`mkfs.ext4, mount: ${seconds(begin)}`);
  }

  async #mountIt(): Promise<void> {
    this.stage.later("the mount", () => this.#unmount());
    await this.stage.run("mount", this.#disk.endpoint, this.#mount);
  }

  async #unmount(): Promise<void> {
    if (!isMountPoint(this.#mount)) return;
    const { stage } = this;
    if (await stage.tryRun("umount", this.#mount)) return;
    if (!await stage.tryRun("umount", "--lazy", this.#mount)) {
      throw new DemoError(`${this.#mount} stays mounted`);
    }
  }

  async #copyFiles(): Promise<void> {
    const { stage, story } = this;
    const tree: Tree = findTree([`${this.repository}/node_modules`, ...TREES]);
    story.step(`Copying ${count(tree.files.length)} files, ${formatSize(tree.bytes)}, from ${tree.root}`);
    const begin = performance.now();
    this.#sums = await copyTree(stage, tree, `${this.#mount}/files`, (files) => {
      story.progress(`${count(files)} of ${count(tree.files.length)} files`);
    });
    await stage.run("sync", "--file-system", this.#mount);
    this.#bytes = tree.bytes;
    const took = (performance.now() - begin) / 1000;
    story.tell(
      `copied and synced in ${took.toFixed(1)} s, ${rate(tree.bytes, took)} (three times that on the disks)`,
    );
  }

  get #loadPlace(): string {
    return this.#frontend === "loop" ? `file:${this.#mount}/load.bin` : `unix:${this.#disk.endpoint}`;
  }

  async #killUnderLoad(): Promise<void> {
    const { stage, story } = this;
    story.step("A copy is killed under load");
    if (this.#frontend === "loop") {
      using file = await Deno.create(`${this.#mount}/load.bin`);
      await file.truncate(LOAD_BYTES);
    }
    const enough = `${this.directory}/load.stop`;
    const args = ["write", this.#loadPlace, String(LOAD_BYTES), String(LOAD_SECONDS), this.#state, enough];
    const load = new RunningLoad(stage, args);
    story.progress(`writing ${formatSize(LOAD_BYTES)} ...`);
    const filled = await load.whileRunning(load.filled);
    story.tell(`sequential writes of 256 KiB, 16 at a time: ${rate(LOAD_BYTES, filled.seconds)}`);
    story.progress("random writes of 4 KiB ...");
    await stage.sleep(KILL_AFTER_MS);
    const victim = (await this.#disk.report()).replicas[1];
    if (victim?.pid === undefined) throw new DemoError("the second replica does not run");
    const killed = Date.now();
    Deno.kill(victim.pid, "SIGKILL");
    story.tell(`kill -9 ${victim.pid}   (${victim.name})`);
    story.progress("the volume goes on with two copies ...");
    const took = await load.whileRunning(this.#disk.says(/^copy .* is complete again, after ([\d.]+) s$/m));
    const back = Date.now();
    await stage.sleep(AFTER_REPAIR_MS);
    await Deno.writeTextFile(enough, "");
    const written = await load.done("written");
    const { operations, errors } = written;
    const iops = operations / written.seconds;
    story.tell(`random writes of 4 KiB, 16 at a time: ${count(iops)} IOPS, ${rate(iops * 4096, 1)}`);
    const longest = (from: number, to: number) =>
      Math.max(0, ...load.samples.filter(({ at }) => at > from && at <= to).map(({ pauseMs }) => pauseMs));
    story.tell(
      `longest pause of all writes: ${
        longest(killed, killed + AFTERMATH_MS).toFixed(0)
      } ms around the kill, ` +
        `${longest(0, killed).toFixed(0)} ms before; errors: ${errors}`,
    );
    if (errors > 0) throw new DemoError(`${errors} writes failed although two copies were left`);
    const { state, replicas } = await this.#disk.report();
    const copied = formatSize(replicas.find(({ name }) => name === victim.name)?.allocatedBytes ?? 0);
    // A copy that was away so shortly gets only what it missed, unless the engine lost track of that.
    const how = /^copy .* gets what it missed$/m.test(this.#disk.output)
      ? "it got what it missed in"
      : `erased, then ${copied} filled in`;
    story.tell(
      `complete again ${((back - killed) / 1000).toFixed(1)} s after the kill, still under load: ${how} ` +
        `${Number(took).toFixed(1)} s`,
    );
    const good = replicas.filter((replica) => replica.state === "complete").length;
    story.tell(`the volume is ${state}: ${good} of ${replicas.length} copies have every write`);
    if (good !== replicas.length) throw new DemoError("a copy is out");
  }

  async #restart(): Promise<void> {
    const { story } = this;
    story.step("Everything is stopped and started again");
    let begin = performance.now();
    story.progress("stopping ...");
    await this.#unmount();
    await this.#disk.stop();
    story.tell(`stopped in order: ${seconds(begin)}`);
    begin = performance.now();
    await this.#serve();
    const { replicas } = await this.#disk.report();
    const good = replicas.filter((replica) => replica.state === "complete").length;
    story.tell(`started again: ${seconds(begin)}; ${good} of ${replicas.length} copies are in use`);
    if (good !== replicas.length) throw new DemoError("a copy was refused");
  }

  async #verify(): Promise<void> {
    const { stage, story } = this;
    story.step("Is everything there?");
    if (this.#frontend === "loop") {
      await stage.run("fsck.ext4", "-fn", this.#disk.endpoint);
      story.tell("fsck.ext4 -fn: clean");
      await this.#mountIt();
      story.progress("reading all files ...");
      const begin = performance.now();
      const bad = await compareTree(stage, `${this.#mount}/files`, this.#sums);
      if (bad.length > 0) {
        throw new DemoError(`${bad.length} files differ, such as ${bad.slice(0, 3).join(", ")}`);
      }
      const took = (performance.now() - begin) / 1000;
      story.tell(
        `${count(this.#sums.size)} of ${count(this.#sums.size)} files have their SHA-256, read at ` +
          rate(this.#bytes, took),
      );
    }
    const check = new RunningLoad(stage, ["verify", this.#loadPlace, String(LOAD_BYTES), this.#state]);
    const { blocks, bad } = await check.done("verified");
    if (bad > 0) throw new DemoError(`${bad} of ${blocks} blocks of the load are not what was acknowledged`);
    story.tell(`${count(blocks)} of ${count(blocks)} blocks hold what the load was told is written`);
  }

  async #end(): Promise<void> {
    await this.#unmount();
    await this.#disk.stop();
  }
}
