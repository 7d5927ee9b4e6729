/**
 * `drover volume serve`: a replicated volume on this machine without a control plane, in the foreground.
 *
 * @module
 */
import { FilesLibc } from "../../lib/io/files_libc.ts";
import { readChap } from "../support/chap.ts";
import { quietLog, UsageError } from "../support/program.ts";
import { formatSize, parseRate } from "../support/sizes.ts";
import {
  checkSame,
  exists,
  grownRecord,
  newRecord,
  prepareDirectories,
  sharedFileSystems,
} from "./creation.ts";
import { Display, stateOf } from "./display.ts";
import { RecordFollower } from "./follow.ts";
import { chooseFrontend, type FrontendChoice, usageHints, withAnotherPort } from "./frontend_choice.ts";
import { LogFile } from "./log_file.ts";
import { checkVolumeName, resolveDirectories } from "./names.ts";
import { directoriesOf, logPath, readRecord, type VolumeRecord, withRebuild, writeRecord } from "./record.ts";
import { FIRST_PAUSE_MS, Repair } from "./repair.ts";
import { Signals } from "./signals.ts";
import { SpaceWatch } from "./space.ts";
import type { VolumeHealth } from "./health.ts";
import { StackError, VolumeStack } from "./stack.ts";
import { VolumeUse } from "./use.ts";

/** The options of the command line. */
export interface ServeFlags {
  /** Of a new volume, as written. */
  readonly size?: string;
  /** Copies of a new volume, as written. */
  readonly replicas?: string;
  /** Where the copies lie. */
  readonly dir?: readonly string[];
  /** Kind, or `auto`. */
  readonly frontend: string;
  /** Where the frontend listens. */
  readonly listen?: string;
  /** `direct` or `cached`. */
  readonly ioMode: string;
  /** See `chap.ts`. */
  readonly chapFile?: string;
  /** Start although complete copies are missing. */
  readonly degraded?: boolean;
  /** The same. */
  readonly allowMissingReplicas?: boolean;
  /** Copies that failed are filled anew. */
  readonly repair: boolean;
  /** Seconds from the failure of a copy to its repair, as written. */
  readonly repairPause?: string;
  /** Bytes per second that rebuilds may take, as written. */
  readonly rebuildLimit?: string;
  /** Rebuilds read everything back. */
  readonly verifyRebuild?: boolean;
  /** Copies of a new volume do not count their writes. */
  readonly disableRevisionCounter: boolean;
}

/** A volume that could not go on; everything of it was ended. */
export class ServeError extends Error {
  /** For checks. */
  override readonly name = "ServeError";
}

/** How often the engine is asked how it is, milliseconds. */
const LOOK_EVERY_MS = 1000;
/** The same while a copy is being filled, milliseconds. */
const REPAIR_LOOK_EVERY_MS = 250;
/** Longest pause before a repair that can be chosen, seconds. */
const MAX_REPAIR_PAUSE_S = 3600;
/** Looks without an answer before the engine counts as hanging. */
const SILENT_LOOKS = 30;
/** Starts until ports are found that nobody took in between. */
const ATTEMPTS = 3;

/** The command. @returns when the volume has ended in order */
export async function serveVolume(name: string, flags: ServeFlags): Promise<void> {
  checkVolumeName(name);
  quietLog();
  if (flags.ioMode !== "direct" && flags.ioMode !== "cached") {
    throw new UsageError(`--io-mode ${flags.ioMode}: expected direct or cached`);
  }
  repairPause(flags);
  const directories = resolveDirectories(flags.dir);
  const found = readRecord(name, directories);
  if (found) checkSame(grownRecord(found), flags);
  const record = withRebuild(found ? grownRecord(found) : newRecord(name, flags, directories), {
    ...(flags.rebuildLimit === undefined ? {} : { bytesPerSecond: parseRate(flags.rebuildLimit) }),
    ...(flags.verifyRebuild === undefined ? {} : { verify: flags.verifyRebuild }),
  });
  const chap = readChap(flags.chapFile) !== undefined;
  const frontend = await chooseFrontend(flags.frontend, flags.listen, {
    volume: name,
    directory: directoriesOf(record)[0],
    chap,
  });
  if (!found) prepareDirectories(record);
  using use = new VolumeUse(record);
  if (record !== found) writeRecord(record);
  using log = new LogFile(logPath(record));
  await new Serving(record, flags, frontend, use, log).run();
}

/** Milliseconds. @throws {UsageError} */
function repairPause({ repairPause: text }: ServeFlags): number {
  if (text === undefined) return FIRST_PAUSE_MS;
  const seconds = text.trim() === "" ? NaN : Number(text);
  if (!(seconds >= 0 && seconds <= MAX_REPAIR_PAUSE_S)) {
    throw new UsageError(`--repair-pause ${text}: expected 0 to ${MAX_REPAIR_PAUSE_S} seconds`);
  }
  return seconds * 1000;
}

/** A volume that is being served. */
class Serving {
  readonly #display = new Display();
  readonly #signals = new Signals();
  readonly #space = new SpaceWatch((path) => new FilesLibc().space(path), (text) => this.#display.warn(text));
  /** Copies that were reported as lost. */
  readonly #reported = new Set<string>();
  /** How processes ended that were not told to. */
  readonly #ended = new Map<string, string>();
  #wake: () => void = () => {};
  #repair: Repair | undefined;
  #relief = { count: 0, failure: "" };

  constructor(
    /** As it is now: commands may change it while the volume runs. */
    public record: VolumeRecord,
    readonly flags: ServeFlags,
    public frontend: FrontendChoice,
    readonly use: VolumeUse,
    readonly log: LogFile,
  ) {
    this.#signals.onSignal = () => this.#wake();
  }

  /** Starts, serves, stops. @throws {ServeError} {@linkcode StackError} */
  async run(): Promise<void> {
    const { record } = this;
    this.#introduce();
    const begin = performance.now();
    let stack: VolumeStack;
    try {
      stack = await this.#start();
    } catch (error) {
      throw this.#explain(error);
    }
    const health = await stack.firstLook();
    if (record.state === "creating") writeRecord(this.record = { ...record, state: "ready" });
    this.#announce(stack, health);
    this.#display.say(`ready after ${((performance.now() - begin) / 1000).toFixed(1)} s: ${health.endpoint}`);
    for (const hint of usageHints(this.frontend.kind, health.endpoint)) this.#display.say(`    ${hint}`);
    this.#display.say("Ctrl-C stops the volume in order.");
    if (this.flags.repair) this.#repair = this.#makeRepair(stack, health);
    const problem = await this.#serve(stack, this.#makeFollower(stack, health));
    this.#display.say(
      problem === undefined ? "stopping: the engine, then the replicas" : "stopping what is left",
    );
    this.#repair?.stop();
    const left = await stack.stop();
    await this.#repair?.settled();
    for (const text of left) this.#display.warn(`warning: ${text}`);
    if (problem !== undefined) throw new ServeError(`${problem}\nthe log: ${this.log.path}`);
    this.#display.say(
      `volume ${record.name} has stopped; start it again with: drover volume serve ${record.name} ` +
        `--dir ${directoriesOf(record)[0]}`,
    );
  }

  #introduce(): void {
    const { record } = this;
    const say = (text: string) => this.#display.say(text);
    say(
      `volume ${record.name}: ${formatSize(record.bytes)}, ${record.replicas.length} replica${
        record.replicas.length === 1 ? "" : "s"
      }`,
    );
    for (const { directory } of record.replicas) say(`    ${directory}`);
    say(`log: ${this.log.path}`);
    const shared = record.replicas.length > 1 ? sharedFileSystems(record) : undefined;
    for (const note of [...(shared ? [shared] : []), ...this.frontend.notes]) {
      this.#display.warn(`note: ${note}`);
    }
  }

  async #start(): Promise<VolumeStack> {
    const { record, flags, log } = this;
    const present = record.state === "creating"
      ? record.replicas
      : record.replicas.filter(({ directory }) => exists(`${directory}/volume.meta`));
    for (const { name, directory } of record.replicas.filter((place) => !present.includes(place))) {
      this.#reported.add(name);
      this.#display.warn(`replica ${name} is missing: there is no copy in ${directory}`);
    }
    if (present.length === 0) throw new StackError("no copy is left: none of the directories has one");
    for (let attempt = 1;; attempt++) {
      const stack = new VolumeStack({
        record,
        present,
        frontend: this.frontend,
        ioMode: flags.ioMode,
        chapFile: flags.chapFile,
        degraded: flags.degraded === true || flags.allowMissingReplicas === true,
        log,
        onEnd: (name, how) => {
          this.#ended.set(name, how);
          this.#wake();
        },
      });
      try {
        await stack.start();
        return stack;
      } catch (error) {
        if (!(error instanceof StackError) || !error.portTaken || attempt === ATTEMPTS) throw error;
        this.#ended.clear();
        this.frontend = withAnotherPort(this.frontend);
      }
    }
  }

  /** What to do about a volume that does not start. */
  #explain(error: unknown): Error {
    const text = error instanceof Error ? error.message : String(error);
    let advice = "";
    if (/complete when the volume last ran are missing|and the volume was begun with/.test(text)) {
      advice =
        "\nIf they are lost for good: --degraded starts with what is left. What only they had is gone then.";
    }
    return new ServeError(
      `volume ${this.record.name} cannot start: ${text}${advice}\nthe log: ${this.log.path}`,
      { cause: error },
    );
  }

  #announce(stack: VolumeStack, { endpoint }: VolumeHealth): void {
    this.use.announce({
      pid: Deno.pid,
      enginePid: stack.engine?.pid ?? 0,
      control: stack.control,
      frontend: this.frontend.kind,
      endpoint,
      replicas: [...stack.replicas].map(([name, { child, address }]) => ({
        name,
        pid: child.pid,
        address: `tcp://${address}`,
      })),
      relief: this.#relief,
    });
  }

  /** A new engine takes the place of the running one, if it can. */
  async #relieve(stack: VolumeStack): Promise<void> {
    this.#signals.relief = false;
    let failure = "";
    try {
      await stack.relieveEngine();
      this.#display.say("a new engine serves the volume");
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
      this.#display.warn(`the engine was not replaced: ${failure}`);
    }
    this.#relief = { count: this.#relief.count + 1, failure };
    this.#announce(stack, await stack.firstLook());
  }

  /** Takes over copies that commands add or remove, and another size. */
  #makeFollower(stack: VolumeStack, health: VolumeHealth): RecordFollower {
    return new RecordFollower(this.record, stack, {
      say: (text) => this.#display.say(text),
      warn: (text) => this.#display.warn(text),
      busyWith: () => this.#repair?.current,
      adopt: (record) => {
        const known = new Set(this.record.replicas.map(({ name }) => name));
        this.record = record;
        if (this.#repair) this.#repair.record = record;
        for (const { name } of record.replicas) if (!known.has(name)) this.#repair?.welcome(name);
        this.use.follow(record);
        this.#announce(stack, health);
      },
    });
  }

  #makeRepair(stack: VolumeStack, health: VolumeHealth): Repair {
    const events = {
      say: (text: string) => this.#display.say(text),
      warn: (text: string) => this.#display.warn(text),
      changed: (name: string) => {
        this.#reported.delete(name);
        this.#ended.delete(name);
        this.#announce(stack, health);
      },
    };
    return new Repair(this.record, stack, events, undefined, repairPause(this.flags));
  }

  /** Until a signal, or until the volume cannot go on. @returns why it cannot */
  async #serve(stack: VolumeStack, follower: RecordFollower): Promise<string | undefined> {
    let silent = 0;
    for (;;) {
      if (this.#signals.asked && await this.#mayEnd(stack)) return undefined;
      if (this.#signals.relief) await this.#relieve(stack);
      if (this.#ended.has("engine")) {
        return `the engine died (${this.#ended.get("engine")}); the volume is down`;
      }
      try {
        const lookedAt = performance.now(), health = await stack.look();
        silent = 0;
        await follower.look();
        this.#repair?.observe(health, lookedAt);
        this.#space.look(directoriesOf(this.record), lookedAt);
        this.#report(health);
        this.#display.show(this.record.name, health, this.record.replicas.length, performance.now());
        if (stateOf(health, 1) === "faulted") return "no replica is left: every read and write fails";
      } catch (error) {
        if (++silent >= SILENT_LOOKS) return `the engine does not answer: ${error}`;
      }
      await this.#pause();
    }
  }

  /** Takes the disk away. A disk in use stays, unless that is insisted on. */
  async #mayEnd(stack: VolumeStack): Promise<boolean> {
    try {
      const insisted = new Promise<void>((resolve) => {
        this.#wake = () => this.#signals.insisted && resolve();
        this.#wake();
      });
      await Promise.race([stack.stopFrontend(), insisted]);
    } catch (error) {
      if (!this.#signals.insisted) {
        const text = error instanceof Error ? error.message : String(error);
        this.#display.warn(
          `not stopped: ${text}\nThen press Ctrl-C again. (Twice within two seconds stops regardless.)`,
        );
        this.#signals.refuse();
        return false;
      }
    }
    if (this.#signals.insisted) {
      this.#display.warn("stopping whoever uses the disk: its users may see I/O errors");
    }
    return true;
  }

  #report(health: VolumeHealth): void {
    const total = this.record.replicas.length;
    const good = health.replicas.filter(({ mode }) => mode === "RW").length;
    for (const { name, mode, reason } of health.replicas) {
      if (mode !== "ERR" || this.#reported.has(name)) continue;
      this.#reported.add(name);
      const how = this.#ended.has(name) ? `it died: ${this.#ended.get(name)}` : reason;
      const seconds = this.#repair?.secondsUntil(name);
      if (good === 0) {
        this.#display.warn(
          `replica ${name} is out (${how}). It was the last: no copy is left to read or write.`,
        );
        continue;
      }
      this.#display.warn(
        `replica ${name} is out (${how}). The volume goes on with ${good} of ${total} copies.\n    ` +
          (seconds === undefined
            ? "It stays out, because it misses writes from now on. Without --no-repair it is filled anew."
            : `It misses writes from now on, so it is filled anew from a complete copy: in ${seconds} s.`),
      );
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#repair?.current ? REPAIR_LOOK_EVERY_MS : LOOK_EVERY_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
