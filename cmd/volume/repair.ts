/**
 * Makes copies of a running volume complete again. A copy that was out for a short while gets what it missed. Any
 * other is erased, its process is started anew, and it is filled while the volume serves.
 *
 * The order is what keeps data safe. The process ends first, so nobody writes into the directory any more. Then the
 * engine takes the copy out, and answers only when the others have recorded that it is no member: from here on no
 * start waits for it or believes it. Only then it is erased, and only while another copy is complete. A stop at any
 * point leaves a copy that is no member, which the next start finds and repairs.
 *
 * One copy at a time. A copy that fails again waits twice as long before the next try, up to a limit: its disk may
 * be at its end.
 *
 * @module
 */
import { readVolumeMeta } from "../../lib/disk/directory.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";
import { eraseReplica } from "../../lib/replica/remove.ts";
import {
  parentOf,
  type RebuildSettings,
  rebuildSettings,
  recordName,
  type ReplicaPlace,
  type VolumeRecord,
} from "./record.ts";
import type { VolumeHealth } from "./health.ts";

/** From the failure of a copy to its repair, the first time, unless another time is chosen; milliseconds. */
export const FIRST_PAUSE_MS = 5_000;
/** The same at most, after doubling; milliseconds. */
const LAST_PAUSE_MS = 5 * 60_000;
/** The same at least, after the first time; milliseconds. */
const MIN_DOUBLED_MS = 1_000;
/** A copy that was complete for so long has not failed "again"; milliseconds. */
const STEADY_MS = 10 * 60_000;

/** What a repair needs of the processes; a {@linkcode VolumeStack}. */
export interface RepairStack {
  /** Ends the process of a copy, if it runs. */
  endReplica(name: string): Promise<void>;
  /** Takes a copy out of the engine's set, durably. @throws {RpcError} */
  forgetReplica(name: string): Promise<void>;
  /** Starts the process of a copy that is not there: it makes an empty one. @throws {StackError} */
  startEmpty(place: ReplicaPlace): Promise<void>;
  /** Starts the process of a copy with what it has. @throws {StackError} */
  startAgain(place: ReplicaPlace): Promise<void>;
  /**
   * Has the engine fill a copy, or give it what it missed, in this way. Returns when the copy gets all writes.
   * @param layers what exists is copied as files of snapshots @throws {RpcError}
   */
  fillReplica(name: string, settings: RebuildSettings, layers: boolean): Promise<void>;
  /** How the volume is. @throws {RpcError} */
  look(): Promise<VolumeHealth>;
}

/** What the owner is told. */
export interface RepairEvents {
  /** News. */
  say(text: string): void;
  /** News that should not be missed. */
  warn(text: string): void;
  /** A copy has a new process. */
  changed(name: string): void;
}

/** One copy that is out, or was. */
interface Patient {
  /** Before the next try, milliseconds. */
  pause: number;
  /** When it is tried; undefined while it is not out. */
  due: number | undefined;
  /** When it became complete; Infinity when it did not since its last failure. */
  completeAt: number;
  /** Why it was not tried the last time. */
  told: string;
  /** It was tried with what it has, since it was complete the last time. */
  cameBack: boolean;
}

/** A repair that cannot be done now: the reason. */
class Postponed extends Error {}

/** See the module text. */
export class Repair {
  readonly #patients = new Map<string, Patient>();
  #current: { readonly name: string; readonly begin: number; fillingSince: number } | undefined;
  #work: Promise<void> = Promise.resolve();
  #stopping = false;

  /** Does nothing until {@linkcode observe}. @param clock monotonic milliseconds */
  constructor(
    /** May be replaced while no copy is being repaired. */
    public record: VolumeRecord,
    readonly stack: RepairStack,
    readonly events: RepairEvents,
    readonly clock: () => number = () => performance.now(),
    /** See {@linkcode FIRST_PAUSE_MS}. */
    readonly firstPauseMs: number = FIRST_PAUSE_MS,
  ) {}

  /** The copy that is being repaired. */
  get current(): string | undefined {
    return this.#current?.name;
  }

  /** Seconds until a copy is tried; undefined when it is not out or is being repaired. */
  secondsUntil(name: string): number | undefined {
    const due = this.#patients.get(name)?.due;
    return due === undefined ? undefined : Math.max(0, Math.ceil((due - this.clock()) / 1000));
  }

  /**
   * Takes note of how the volume is, and begins what is due.
   * @param lookedAt when the look at the engine began
   */
  observe(health: VolumeHealth, lookedAt: number): void {
    const modes = new Map(health.replicas.map(({ name, mode }) => [name, mode]));
    const now = this.clock(), current = this.#current;
    if (current && lookedAt >= current.fillingSince) this.#follow(current, modes.get(current.name), now);
    for (const { name } of this.record.replicas) {
      const mode = modes.get(name);
      if (mode !== "RW" && mode !== "WO" && name !== this.#current?.name) this.#schedule(name, now);
    }
    if (this.#current || this.#stopping || !isSafe(health)) return;
    const place = this.record.replicas.find(({ name }) => (this.#patients.get(name)?.due ?? Infinity) <= now);
    if (!place) return;
    this.#patient(place.name).due = undefined;
    const begun = { name: place.name, begin: now, fillingSince: Infinity };
    this.#current = begun;
    this.#work = this.#repair(place).then(() => {
      begun.fillingSince = this.clock();
    }, (error) => {
      this.#current = undefined;
      this.#schedule(place.name, this.clock());
      this.#tell(place.name, error);
    });
  }

  /** A copy is new: there is no reason to wait. To be called before the next {@linkcode observe}. */
  welcome(name: string): void {
    const patient = this.#patient(name);
    patient.due = this.clock();
    patient.cameBack = true;
  }

  /** Begins nothing any more. */
  stop(): void {
    this.#stopping = true;
  }

  /** Waits for the step at hand. The processes must be ending. */
  async settled(): Promise<void> {
    await this.#work;
  }

  #patient(name: string): Patient {
    let patient = this.#patients.get(name);
    if (!patient) {
      patient = { pause: this.firstPauseMs, due: undefined, completeAt: Infinity, told: "", cameBack: false };
      this.#patients.set(name, patient);
    }
    return patient;
  }

  #schedule(name: string, now: number): void {
    const patient = this.#patient(name);
    if (patient.due !== undefined) return;
    if (now - patient.completeAt >= STEADY_MS) patient.pause = this.firstPauseMs;
    patient.completeAt = Infinity;
    patient.due = now + patient.pause;
    const next = Math.max(MIN_DOUBLED_MS, patient.pause * 2);
    patient.pause = Math.max(this.firstPauseMs, Math.min(next, LAST_PAUSE_MS));
  }

  /** How the filling goes. */
  #follow(current: { name: string; begin: number }, mode: string | undefined, now: number): void {
    if (mode === "WO") return;
    this.#current = undefined;
    if (mode !== "RW") return; // Out again; scheduled like any other.
    const patient = this.#patient(current.name);
    patient.completeAt = now;
    patient.told = "";
    patient.cameBack = false;
    const seconds = ((now - current.begin) / 1000).toFixed(1);
    this.events.say(`copy ${current.name} is complete again, after ${seconds} s`);
  }

  #tell(name: string, error: unknown): void {
    if (this.#stopping) return;
    const patient = this.#patient(name), text = error instanceof Error ? error.message : String(error);
    if (error instanceof Postponed && patient.told === text) return;
    patient.told = text;
    const seconds = this.secondsUntil(name);
    this.events.warn(`copy ${name} cannot be rebuilt: ${text}\n    It is tried again in ${seconds} s.`);
  }

  #check(): void {
    if (this.#stopping) throw new Postponed("the volume is stopping");
  }

  async #repair(place: ReplicaPlace): Promise<void> {
    const { stack, events } = this, { name } = place;
    this.#checkPlace(place);
    events.say(`rebuilding ${name}`);
    await stack.endReplica(name);
    this.#check();
    await stack.forgetReplica(name);
    if (!isSafe(await stack.look())) throw new Postponed("no other copy is complete");
    this.#check();
    if (await this.#comeBack(place)) return;
    eraseReplica(new FilesLibc(), place.directory);
    try {
      await stack.startEmpty(place);
      events.changed(name);
      this.#check();
      await stack.fillReplica(name, rebuildSettings(this.record), this.#byFiles(place));
    } catch (error) {
      // A copy that waits for files which nobody brings any more would keep all others from being repaired.
      await this.#takeOut(name);
      throw error;
    }
  }

  /** Ends a copy whose filling failed. What went wrong first is what counts. */
  async #takeOut(name: string): Promise<void> {
    try {
      await this.stack.endReplica(name);
      await this.stack.forgetReplica(name);
    } catch {
      // The engine drops a copy whose process is gone by itself.
    }
  }

  /** Tries to go on with what the copy has. @returns false when it has to be filled anew */
  async #comeBack(place: ReplicaPlace): Promise<boolean> {
    const { stack, events } = this, { name } = place;
    const meta = readMeta(new FilesLibc(), place.directory);
    if (!meta || meta.error !== "" || meta.rebuilding || this.#patient(name).cameBack) return false;
    this.#patient(name).cameBack = true;
    try {
      await stack.startAgain(place);
      events.changed(name);
      await stack.fillReplica(name, rebuildSettings(this.record), false);
      events.say(`copy ${name} gets what it missed`);
      return true;
    } catch {
      // The engine does not know what it missed, or its disk is at its end.
      await stack.endReplica(name);
      await stack.forgetReplica(name);
      this.#check();
      return false;
    }
  }

  /**
   * Files are copied where there are snapshots, where all is to be read back, and where it is to be slow: while the
   * engine copies by itself no snapshot can be taken.
   */
  #byFiles(place: ReplicaPlace): boolean {
    const { verify, bytesPerSecond } = rebuildSettings(this.record);
    return verify || bytesPerSecond > 0 || this.#hasSnapshots(place);
  }

  /** The others have more than a head. */
  #hasSnapshots({ directory }: ReplicaPlace): boolean {
    const files = new FilesLibc();
    return this.record.replicas.some((other) =>
      other.directory !== directory && (readMeta(files, other.directory)?.parent ?? "") !== ""
    );
  }

  /** What would fail later is found before anything is erased. */
  #checkPlace({ directory }: ReplicaPlace): void {
    const files = new FilesLibc(), parent = parentOf(directory), file = recordName(this.record.name);
    if (!files.exists(`${parent}/${file}`)) {
      throw new Postponed(
        `there is no ${file} in ${parent}: its disk may be away. If it is a new disk: copy that file to it from ` +
          `another directory of the volume`,
      );
    }
    for (const other of this.record.replicas) {
      const meta = readMeta(files, other.directory);
      if (meta && other.directory !== directory && meta.backingFilePath !== "") {
        throw new Postponed("the volume has a backing file, which this command does not know");
      }
    }
  }
}

/** A copy is complete, and none is being filled. */
function isSafe({ replicas }: VolumeHealth): boolean {
  return replicas.some(({ mode }) => mode === "RW") && !replicas.some(({ mode }) => mode === "WO");
}

/** Undefined also for what cannot be read: that is no complete copy. */
function readMeta(files: FilesLibc, directory: string): ReturnType<typeof readVolumeMeta> {
  try {
    return readVolumeMeta(files, directory);
  } catch {
    return undefined;
  }
}
