/**
 * One simulated machine: a disk, ports, a clock, and processes.
 *
 * @module
 */
import type { SimCluster } from "./cluster.ts";
import { SimDisk } from "./disk.ts";
import type { SimIo } from "./io.ts";
import type { Listener } from "./listener.ts";
import type { DiskOptions } from "./options.ts";
import { SimProcess, type SimProcessOptions } from "./process.ts";
import type { Random } from "./random.ts";
import { type Trace, Verb } from "./trace.ts";

/** First and last port given to listeners on port 0 (Linux' ip_local_port_range). */
const FIRST_PORT = 32768, LAST_PORT = 60999;

/** When the worlds begin: 2024-01-01T00:00:00Z. */
const EPOCH_MS = 1_704_067_200_000;

/** Options of a host. */
export interface SimHostOptions {
  /** Names and addresses by which others reach it, besides its name. */
  readonly addresses?: readonly string[];
  /** Overrides for its disk. */
  readonly disk?: Partial<DiskOptions>;
}

/** See the module. */
export class SimHost {
  /** Its power is on. */
  up = true;
  /** What its wall clock is wrong by, ms. May be changed: clocks jump. */
  clockSkewMs: number;
  /** Its file system. */
  readonly disk: SimDisk;
  /** TCP listeners by port. */
  readonly ports: Map<number, Listener> = new Map();
  /** Processes that run, or are dead and linger. */
  readonly processes: Set<SimProcess> = new Set();
  /** The subject of its trace events. */
  readonly traceId: number;
  #bootedAt = 0;
  #uptime: number;
  readonly #random: Random;

  /** Made by {@linkcode SimCluster.host}. */
  constructor(readonly cluster: SimCluster, readonly name: string, options: SimHostOptions, random: Random) {
    this.#random = random;
    this.traceId = cluster.trace.id(name);
    this.clockSkewMs = random.between(-5000, 5000);
    this.#uptime = random.unit() * 1e8;
    this.disk = new SimDisk(this, { ...cluster.options.disk, ...options.disk }, random.fork());
  }

  /** See {@linkcode DiskHost.trace}. */
  get trace(): Trace {
    return this.cluster.trace;
  }

  /** Virtual time, ms. */
  get time(): number {
    return this.cluster.now;
  }

  /** Monotonic time as its processes see it, ms: hosts do not agree on it. */
  monotonic(): number {
    return this.#uptime + this.cluster.now - this.#bootedAt;
  }

  /** See {@linkcode DiskHost.wallClock}. */
  wallClock(): number {
    return EPOCH_MS + this.cluster.now + this.clockSkewMs;
  }

  /** A free port. */
  ephemeralPort(): number {
    while (true) {
      const port = this.#random.between(FIRST_PORT, LAST_PORT);
      if (!this.ports.has(port)) return port;
    }
  }

  /**
   * Starts a process: `main` runs at once, in the process, and returns when everything is set up; from then
   * on the process lives in its completions.
   */
  spawn(
    name: string,
    main: (io: SimIo, self: SimProcess) => void,
    options: SimProcessOptions = {},
  ): SimProcess {
    if (!this.up) throw new Error(`${this.name} is down: boot it before starting ${name}`);
    const process = new SimProcess(this, name, options, this.#random.fork());
    this.processes.add(process);
    process.enter(() => main(process.io, process));
    return process;
  }

  /** A process is gone for good. */
  forget(process: SimProcess): void {
    this.processes.delete(process);
  }

  /** The power goes: all processes die without a word to their peers, the disk loses what was not synced. */
  powerCut(): void {
    if (!this.up) return;
    this.trace.record(this.time, Verb.POWER_CUT, this.traceId, this.processes.size, 0);
    this.up = false;
    this.cluster.network.vanish(this);
    for (const process of [...this.processes]) {
      process.kill();
      process.finishDeath();
    }
    this.ports.clear();
    this.disk.powerCut();
  }

  /** The power comes back. */
  boot(): void {
    if (this.up) return;
    this.up = true;
    this.#uptime = this.#random.unit() * 1e5;
    this.#bootedAt = this.cluster.now;
    this.trace.record(this.time, Verb.BOOT, this.traceId, 0, 0);
  }
}
