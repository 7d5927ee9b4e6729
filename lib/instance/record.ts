/**
 * What the manager knows of a process, on disk: one JSON file per process in the state directory, so that a manager
 * that is started again finds its processes. A file is replaced atomically and synced; what it says is always a
 * state that was.
 *
 * | key | content | guards against |
 * |---|---|---|
 * | `version` | 1 | a file that a later version wrote |
 * | `name`, `uuid`, `binary`, `args`, `portCount`, `portArgs` | what the caller asked for | |
 * | `portStart`, `portEnd` | its ports | giving them out twice |
 * | `host` | boot and pid namespace | taking a process of another boot or container for this one |
 * | `pid`, `startTicks` | which process; field 22 of /proc/PID/stat | a pid that was used again |
 * | `state`, `error` | as callers see it | forgetting why a process ended |
 * | `createdMs` | milliseconds since 1970 | |
 * | `deleting` | it is being deleted | a restart in the middle of that |
 * | `replaces` | uuid of the process whose place it is to take | a restart in the middle of a replacement |
 * | `superseded` | another one has its place | likewise |
 *
 * A record is written before its process is started (without a pid), and again with the pid. A manager that dies
 * between the two finds the process by its environment.
 *
 * @module
 */
import { replaceFile } from "../disk/atomic.ts";
import { TEMPORARY_SUFFIX } from "../disk/names.ts";
import type { Files } from "../io/files.ts";
import { isName } from "./names.ts";

/** States, as callers see them (Longhorn's words). */
export type ProcessState = "starting" | "running" | "stopping" | "stopped" | "error";

const STATES: ReadonlySet<string> = new Set<ProcessState>([
  "starting",
  "running",
  "stopping",
  "stopped",
  "error",
]);

/** What a caller asks for. */
export interface ProcessSpec {
  /** Name. */
  readonly name: string;
  /** Program: a path, or the name of one of Drover's. */
  readonly binary: string;
  /** Its arguments. */
  readonly args: readonly string[];
  /** Ports it needs. */
  readonly portCount: number;
  /** See `portArguments`. */
  readonly portArgs: readonly string[];
}

/** See the table in the module text. */
export interface ProcessRecord extends ProcessSpec {
  /** Identity of this process among all that had or will have the name. */
  readonly uuid: string;
  /** First port, 0 = none. */
  readonly portStart: number;
  /** Last port, 0 = none. */
  readonly portEnd: number;
  /** Boot and pid namespace. */
  readonly host: string;
  /** 0 = not started, or not noted. */
  readonly pid: number;
  /** When it was started, clock ticks since the boot. */
  readonly startTicks: number;
  /** State. */
  readonly state: ProcessState;
  /** Why it is in that state, empty if there is nothing to say. */
  readonly error: string;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  /** It is being deleted. */
  readonly deleting: boolean;
  /** uuid of the process whose place it is to take, or empty. */
  readonly replaces: string;
  /** Another one has its place. */
  readonly superseded: boolean;
}

/** A record that cannot be read. */
export class RecordError extends Error {
  /** Name of the class. */
  override readonly name = "RecordError";
}

const VERSION = 1;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const SUFFIX = ".json";
const MAX_RECORD_BYTES = 1024 * 1024;

/** A record as the bytes of its file. */
export function encodeRecord(record: ProcessRecord): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify({ version: VERSION, ...record })}\n`);
}

/** Reads a record. @throws {RecordError} */
export function decodeRecord(bytes: Uint8Array): ProcessRecord {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new RecordError("no JSON", { cause });
  }
  const bad = (key: string): RecordError => new RecordError(`"${key}" is missing or makes no sense`);
  if (typeof value !== "object" || value === null) throw new RecordError("no JSON object");
  if (value["version"] !== VERSION) throw bad("version");
  const text = (key: string): string => {
    const found = value[key];
    if (typeof found !== "string") throw bad(key);
    return found;
  };
  const count = (key: string): number => {
    const found = value[key];
    if (typeof found !== "number" || !Number.isSafeInteger(found) || found < 0) throw bad(key);
    return found;
  };
  const list = (key: string): string[] => {
    const found = value[key];
    if (!Array.isArray(found) || found.some((one) => typeof one !== "string")) throw bad(key);
    return found;
  };
  const record = {
    name: text("name"),
    binary: text("binary"),
    args: list("args"),
    portCount: count("portCount"),
    portArgs: list("portArgs"),
    uuid: text("uuid"),
    portStart: count("portStart"),
    portEnd: count("portEnd"),
    host: text("host"),
    pid: count("pid"),
    startTicks: count("startTicks"),
    state: text("state") as ProcessState,
    error: text("error"),
    createdMs: count("createdMs"),
    deleting: value["deleting"] === true,
    replaces: text("replaces"),
    superseded: value["superseded"] === true,
  };
  if (!isName(record.name)) throw bad("name");
  if (!UUID.test(record.uuid)) throw bad("uuid");
  if (!STATES.has(record.state)) throw bad("state");
  return record;
}

/** The state directory. */
export interface RecordStore {
  /** Writes a record; it is on stable storage when this returns. */
  save(record: ProcessRecord): void;
  /** Removes the record of a process, if it is there. */
  remove(uuid: string): void;
  /** All records. @param problem told of files that cannot be read; they are left alone */
  load(problem: (file: string, error: unknown) => void): ProcessRecord[];
}

/** Records in a directory, which is made if it is not there. */
export class DirectoryRecordStore implements RecordStore, Disposable {
  readonly #files: Files;
  readonly #directory: string;
  readonly #lock: number;

  /**
   * Opens the directory and locks it: two managers with one table would start everything twice.
   *
   * @throws {RecordError} when another manager uses it
   * @throws {IoError}
   */
  constructor(files: Files, directory: string) {
    this.#files = files;
    this.#directory = directory;
    files.makeDirectory(directory, 0o700);
    this.#lock = files.open(directory);
    if (files.tryLock(this.#lock)) return;
    files.close(this.#lock);
    throw new RecordError(
      `${directory}: another instance manager uses it; stop that one or name another directory`,
    );
  }

  /** Lets another manager have the directory. */
  [Symbol.dispose](): void {
    this.#files.close(this.#lock);
  }

  /** See {@linkcode RecordStore.save}. @throws {IoError} */
  save(record: ProcessRecord): void {
    replaceFile(this.#files, this.#directory, record.uuid + SUFFIX, encodeRecord(record));
  }

  /** See {@linkcode RecordStore.remove}. @throws {IoError} */
  remove(uuid: string): void {
    const path = `${this.#directory}/${uuid}${SUFFIX}`;
    if (!this.#files.exists(path)) return;
    this.#files.unlink(path);
    this.#files.syncDirectory(this.#directory);
  }

  /** See {@linkcode RecordStore.load}. */
  load(problem: (file: string, error: unknown) => void): ProcessRecord[] {
    const records: ProcessRecord[] = [];
    for (const name of this.#files.list(this.#directory)) {
      // What a manager left that died while it wrote.
      if (name.endsWith(SUFFIX + TEMPORARY_SUFFIX)) this.#files.unlink(`${this.#directory}/${name}`);
      if (!name.endsWith(SUFFIX)) continue;
      try {
        records.push(decodeRecord(this.#files.readWhole(`${this.#directory}/${name}`, MAX_RECORD_BYTES)));
      } catch (error) {
        problem(`${this.#directory}/${name}`, error);
      }
    }
    return records;
  }
}
