/**
 * A whole cluster in one thread from one seed: clock, events, hosts, network.
 *
 * @module
 */
import { SimHost, type SimHostOptions } from "./host.ts";
import { SimNetwork } from "./network.ts";
import { type SimOptions, simOptions, type SimOverrides } from "./options.ts";
import { EventQueue, type Target } from "./queue.ts";
import { Random } from "./random.ts";
import { Trace } from "./trace.ts";

/** Lines of the trace that a failure's message carries. */
const MESSAGE_LINES = 40;

/** Arena buffers kept for reuse over all worlds, by size; 64 MiB at most. */
const MAX_SPARE_BYTES = 64 * 1024 * 1024;
const spareBuffers = new Map<number, ArrayBuffer[]>();
let spareBytes = 0;

/** A run failed: code of a process or a check threw. The seed and the options replay it. */
export class SimFailure extends Error {
  /** The class's name. */
  override readonly name = "SimFailure";

  /**
   * Puts the seed, the cause and the end of the trace into the message.
   *
   * @param seed of the world
   * @param atMs virtual time
   * @param trace all lines that were kept, oldest first
   */
  constructor(
    readonly seed: number,
    readonly atMs: number,
    readonly trace: readonly string[],
    cause: unknown,
  ) {
    const what = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
    const tail = trace.slice(-MESSAGE_LINES).map((line) => `\n  ${line}`).join("");
    super(`seed ${seed} failed at ${atMs.toFixed(4)} ms: ${what}\nlast events:${tail}`, { cause });
  }
}

/** A closure as the target of an event; for tests, not for the hot path. */
class Task implements Target {
  constructor(readonly run: () => void) {}

  fire(): void {
    this.run();
  }
}

/** See the module. */
export class SimCluster {
  /** Draws that belong to the test: what to do next, when to cut the power. */
  readonly random: Random;
  /** What happened last. */
  readonly trace: Trace;
  /** What this world is like. */
  readonly options: SimOptions;
  /** The network. */
  readonly network: SimNetwork;
  /** Events so far. */
  events = 0;
  #now = 0;
  readonly #queue = new EventQueue();
  #hosts = new Map<string, SimHost>();
  #buffers: ArrayBuffer[] = [];
  readonly #hostRandom: Random;
  #inside = false;

  /**
   * An empty world at time 0.
   *
   * @param seed everything follows from it
   * @param overrides what differs from the default world; see also `drawOptions`
   */
  constructor(readonly seed: number, overrides: SimOverrides | SimOptions = {}) {
    this.options = simOptions(overrides);
    this.random = new Random(seed);
    this.trace = new Trace(this.options.traceEvents);
    this.#hostRandom = this.random.fork();
    this.network = new SimNetwork(this, this.options.network, this.random.fork());
  }

  /** Virtual time since the world began, ms. */
  get now(): number {
    return this.#now;
  }

  /** The same, for the parts. */
  get time(): number {
    return this.#now;
  }

  /** Adds an event at a virtual time; one in the past happens next. */
  push(time: number, target: Target, code: number, value: number): void {
    this.#queue.push(time < this.#now ? this.#now : time, target, code, value);
  }

  /** The host of that name; made on first use. */
  host(name: string, options: SimHostOptions = {}): SimHost {
    const known = this.#hosts.get(name);
    if (known !== undefined) return known;
    const host = new SimHost(this, name, options, this.#hostRandom.fork());
    this.#hosts.set(name, host);
    for (const address of options.addresses ?? []) this.#hosts.set(address, host);
    return host;
  }

  /** The host that has a name or address. */
  lookUp(name: string): SimHost | undefined {
    return this.#hosts.get(name);
  }

  /** Calls `task` from the world, outside any process, after a delay. */
  schedule(delayMs: number, task: () => void): void {
    this.push(this.#now + delayMs, new Task(task), 0, 0);
  }

  /** Adds a line to the trace. */
  note(text: string): void {
    this.trace.note(this.#now, text);
  }

  /** Lets the next event happen. @returns false when there is none. @throws SimFailure */
  step(): boolean {
    const queue = this.#queue;
    if (this.#inside) throw new Error("the world cannot be driven from inside one of its events");
    if (!queue.pop()) return false;
    this.#now = queue.time;
    this.events++;
    this.#inside = true;
    try {
      queue.target?.fire(queue.code, queue.value);
    } catch (error) {
      throw this.failure(error);
    } finally {
      this.#inside = false;
    }
    return true;
  }

  /** Lets everything happen up to a virtual time, ms; the clock then stands there. @throws SimFailure */
  run(untilMs: number): void {
    while (this.#queue.nextTime <= untilMs) this.step();
    this.#now = Math.max(this.#now, untilMs);
  }

  /** Runs until the condition holds. @returns false when it does not by `untilMs`, or nothing can happen */
  runUntil(condition: () => boolean, untilMs: number): boolean {
    while (!condition()) {
      if (this.#queue.nextTime > untilMs) return false;
      this.step();
    }
    return true;
  }

  /** Runs until nothing can happen any more. @throws SimFailure after `mostEvents` events */
  runToEnd(mostEvents = 10_000_000): void {
    for (let count = 0; this.step(); count++) {
      if (count >= mostEvents) throw this.failure(new Error(`no end after ${mostEvents} events`));
    }
  }

  /** Wraps an error with the seed and the trace. */
  failure(error: unknown): SimFailure {
    return error instanceof SimFailure
      ? error
      : new SimFailure(this.seed, this.#now, this.trace.lines(), error);
  }

  /** Zeroed memory for an arena. */
  takeBuffer(bytes: number): ArrayBuffer {
    const known = spareBuffers.get(bytes)?.pop();
    if (known !== undefined) {
      spareBytes -= bytes;
      new Uint8Array(known).fill(0);
    }
    const buffer = known ?? new ArrayBuffer(bytes);
    this.#buffers.push(buffer);
    return buffer;
  }

  /** Gives the memory of all arenas back for the next world. */
  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) {
      if (spareBytes + buffer.byteLength > MAX_SPARE_BYTES) continue;
      spareBytes += buffer.byteLength;
      const known = spareBuffers.get(buffer.byteLength);
      if (known === undefined) spareBuffers.set(buffer.byteLength, [buffer]);
      else known.push(buffer);
    }
    this.#buffers = [];
  }
}
