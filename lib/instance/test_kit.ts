/**
 * A machine that is not there, for tests of the process table: time that is moved by hand, processes that start,
 * get healthy, take signals and end as told, records in memory.
 *
 * @module
 */
import { createLogger, Level, type Logger } from "../log/log.ts";
import { Backoff } from "./backoff.ts";
import type { Clock } from "./clock.ts";
import type { Exit } from "./exit.ts";
import type { Launcher, LaunchRequest, LifeSignal, Running } from "./launcher.ts";
import type { Workshop } from "./managed.ts";
import { PortRange } from "./ports.ts";
import type { Prober } from "./probe.ts";
import type { ProcessKey } from "./proc.ts";
import type { ProcessRecord, ProcessSpec, RecordStore } from "./record.ts";
import { ProcessTable, type ProcessView } from "./table.ts";

/** Lets everything run that can run without time passing. */
export async function quiet(): Promise<void> {
  for (let i = 0; i < 50; i++) await Promise.resolve();
}

interface Sleeper {
  readonly atMs: number;
  readonly wake: () => void;
}

/** Time that passes only when a test says so. */
export class FakeClock implements Clock {
  #nowMs = 0;
  readonly #sleepers = new Set<Sleeper>();

  /** See {@linkcode Clock.now}. */
  now(): number {
    return this.#nowMs;
  }

  /** See {@linkcode Clock.sleep}. */
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const sleeper = {
        atMs: this.#nowMs + ms,
        wake: () => {
          this.#sleepers.delete(sleeper);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", sleeper.wake, { once: true });
    });
  }

  /** Lets time pass; who sleeps wakes in order. */
  async advance(ms: number): Promise<void> {
    const end = this.#nowMs + ms;
    await quiet();
    for (;;) {
      const next = [...this.#sleepers].sort((a, b) => a.atMs - b.atMs)[0];
      if (!next || next.atMs > end) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.wake();
      await quiet();
    }
    this.#nowMs = end;
    await quiet();
  }
}

/** One process of the machine. */
export class FakeProcess implements Running {
  readonly #end = Promise.withResolvers<Exit>();
  /** Signals that it got. */
  readonly signals: LifeSignal[] = [];
  /** It is there. */
  alive = true;
  /** What it does upon a signal; by default it ends well, and SIGHUP kills it. */
  onSignal: (signal: LifeSignal) => void = (signal) => {
    if (signal === "SIGINT") this.end({ code: 0, signal: null });
    else this.end({ code: null, signal: signal === "SIGHUP" ? 1 : 9 });
  };

  /** Starts it. */
  constructor(readonly pid: number, readonly startTicks: number, readonly request: LaunchRequest) {}

  /** See {@linkcode Running.ended}. */
  get ended(): Promise<Exit> {
    return this.#end.promise;
  }

  /** See {@linkcode Running.signal}. */
  signal(signal: LifeSignal): void {
    if (!this.alive) return;
    this.signals.push(signal);
    this.onSignal(signal);
  }

  /** Ends it. */
  end(exit: Exit): void {
    this.alive = false;
    this.#end.resolve(exit);
  }
}

/** The machine: its processes live longer than managers do. */
export class FakeMachine implements Launcher {
  /** All that were ever started. */
  readonly processes: FakeProcess[] = [];
  /** Ports that are healthy. */
  readonly healthy = new Set<number>();
  /** Text of the error of the next start. */
  failure = "";
  /** Number of the present manager: those before it are dead and send no signals. */
  manager = 0;

  #held(one: FakeProcess): Running {
    const holder = this.manager;
    const { pid, startTicks, ended } = one;
    return {
      pid,
      startTicks,
      ended,
      signal: (signal) => {
        if (holder === this.manager) one.signal(signal);
      },
    };
  }

  /** See {@linkcode Launcher.launch}. */
  launch(request: LaunchRequest): Promise<Running> {
    if (this.failure !== "") return Promise.reject(new Error(this.failure));
    const pid = 100 + this.processes.length;
    const started = new FakeProcess(pid, pid * 10, request);
    this.processes.push(started);
    return Promise.resolve(this.#held(started));
  }

  /** See {@linkcode Launcher.adopt}. */
  adopt({ pid, startTicks }: ProcessKey): Running | undefined {
    const found = this.processes.find((one) => one.alive && one.pid === pid && one.startTicks === startTicks);
    return found && this.#held(found);
  }

  /** See {@linkcode Launcher.find}. */
  find(uuids: ReadonlySet<string>): Map<string, ProcessKey> {
    return new Map(
      this.processes.filter((one) => one.alive && uuids.has(one.request.uuid))
        .map(({ request, pid, startTicks }) => [request.uuid, { pid, startTicks }]),
    );
  }

  /** See {@linkcode Prober}. */
  get prober(): Prober {
    return { healthy: (port) => Promise.resolve(this.healthy.has(port)) };
  }

  /** The newest process. */
  get last(): FakeProcess {
    const last = this.processes.at(-1);
    if (!last) throw new Error("nothing was started");
    return last;
  }
}

/** Records in memory. */
export class MemoryRecords implements RecordStore {
  /** By uuid. */
  readonly records = new Map<string, ProcessRecord>();
  /** Text of the error of the next writing. */
  failure = "";
  /** Told before every change; a test takes a copy of the records there. */
  onChange: () => void = () => {};

  /** See {@linkcode RecordStore.save}. */
  save(record: ProcessRecord): void {
    if (this.failure !== "") throw new Error(this.failure);
    this.records.set(record.uuid, record);
    this.onChange();
  }

  /** See {@linkcode RecordStore.remove}. */
  remove(uuid: string): void {
    this.records.delete(uuid);
    this.onChange();
  }

  /** See {@linkcode RecordStore.load}. */
  load(): ProcessRecord[] {
    return [...this.records.values()];
  }
}

const SILENT: Logger = createLogger({
  level: Level.ERROR + 1 as Level,
  format: "json",
  wallClock: () => 0,
  write: () => {},
});

/** A node with a manager that can be replaced by the next one. */
export class FakeNode {
  /** Time. */
  readonly clock: FakeClock = new FakeClock();
  /** Processes. */
  readonly machine: FakeMachine = new FakeMachine();
  /** Records. */
  records: MemoryRecords = new MemoryRecords();
  /** What watchers were told, newest last. */
  readonly told: ProcessView[] = [];
  /** The present manager's table. */
  table: ProcessTable;

  /** Makes a node with a fresh manager. */
  constructor(readonly ports = "1000-1099") {
    this.table = this.#manager("boot");
  }

  #manager(host: string): ProcessTable {
    const shop: Workshop = {
      clock: this.clock,
      wallClock: () => this.clock.now(),
      launcher: this.machine,
      prober: this.machine.prober,
      records: this.records,
      backoff: new Backoff(this.clock),
      openLog: () => 1,
      closeLog: () => {},
      locate: (binary) => ({ command: binary, args: [] }),
      log: SILENT,
    };
    const table = new ProcessTable(shop, PortRange.parse(this.ports), host);
    const watch = table.changes.watch(new AbortController().signal);
    void (async () => {
      for await (const view of watch) this.told.push(view);
    })();
    return table;
  }

  /** Kills the manager and starts the next one. @param records as they were at some moment */
  restart(host = "boot", records: ReadonlyMap<string, ProcessRecord> = this.records.records): void {
    // What the dead manager still does has no effect on the records.
    const next = new MemoryRecords();
    for (const [uuid, record] of records) next.records.set(uuid, record);
    this.records = next;
    this.machine.manager++;
    this.table = this.#manager(host);
    this.table.adopt();
  }

  /** State and error of a process, as callers see them. */
  state(name: string): string {
    const { state, error } = this.table.get(name).record;
    return error === "" ? state : `${state}: ${error}`;
  }
}

/** What to start: a process with a port unless something else is said. */
export function spec(name: string, change: Partial<ProcessSpec> = {}): ProcessSpec {
  return { name, binary: "/bin/one", args: ["run"], portCount: 1, portArgs: ["--listen,:"], ...change };
}
