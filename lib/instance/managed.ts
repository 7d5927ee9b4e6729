/**
 * One process under management: its states, from the request to the end.
 *
 * | state | entered |
 * |---|---|
 * | `starting` | it was asked for |
 * | `running` | it is healthy; without ports: as soon as it was started |
 * | `stopping` | it was told to end |
 * | `stopped` | it ended with status 0 |
 * | `error` | it ended otherwise, could not be started, or never became healthy; `error` says how |
 *
 * The record on disk follows every step, before anybody is told of it.
 *
 * @module
 */
import type { Logger } from "../log/log.ts";
import type { Backoff } from "./backoff.ts";
import { type Clock, within } from "./clock.ts";
import { describeExit, endedWell, type Exit } from "./exit.ts";
import type { Launcher, LifeSignal, Running } from "./launcher.ts";
import { HEALTHY_MS, KILL_MS, PROBE_MS, STOP_MS } from "./limits.ts";
import type { Prober } from "./probe.ts";
import type { ProcessRecord, RecordStore } from "./record.ts";

/** What all processes of a manager share. */
export interface Workshop {
  /** Time. */
  readonly clock: Clock;
  /** Milliseconds since 1970. */
  readonly wallClock: () => number;
  /** Starts and finds processes. */
  readonly launcher: Launcher;
  /** Asks after their health. */
  readonly prober: Prober;
  /** Keeps their records. */
  readonly records: RecordStore;
  /** Pauses for names that crash. */
  readonly backoff: Backoff;
  /** Opens the log of a name for appending. @returns a descriptor, closed by the caller */
  readonly openLog: (name: string) => number;
  /** Closes it. */
  readonly closeLog: (fd: number) => void;
  /** What is executed for a binary. @throws {RpcError} when it is not allowed */
  readonly locate: (binary: string) => { readonly command: string; readonly args: readonly string[] };
  /** Events. */
  readonly log: Logger;
}

/** See the module text. */
export class ManagedProcess {
  readonly #shop: Workshop;
  readonly #changed: (managed: ManagedProcess) => void;
  readonly #ended = Promise.withResolvers<void>();
  readonly #stop = new AbortController();
  #record: ProcessRecord;
  #running: Running | undefined;
  #stopSinceMs: number | undefined;
  #startedMs = 0;
  /** Why it is made to end, when that is not a caller's wish. */
  #doom = "";
  /** Conditions, Longhorn's names. */
  readonly conditions = new Map<string, boolean>();
  /** Its end is not told: another process is taking its place. */
  quiet = false;

  /**
   * Makes one; nothing is started.
   *
   * @param changed told of every change
   */
  constructor(shop: Workshop, record: ProcessRecord, changed: (managed: ManagedProcess) => void) {
    this.#shop = shop;
    this.#record = record;
    this.#changed = changed;
    if (this.hasEnded) this.#ended.resolve();
  }

  /** What is known of it. */
  get record(): ProcessRecord {
    return this.#record;
  }

  /** True in the states `stopped` and `error`. */
  get hasEnded(): boolean {
    return this.#record.state === "stopped" || this.#record.state === "error";
  }

  /** Resolves when it has ended. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Changes the record, durably, and tells of it. */
  update(change: Partial<ProcessRecord>): void {
    this.#record = { ...this.#record, ...change };
    try {
      this.#shop.records.save(this.#record);
    } catch (error) {
      // The process is what matters. A later manager may know less of it.
      const problem = error instanceof Error ? error.message : String(error);
      const name = this.#record.name;
      this.#shop.log.error("the record of a process cannot be written", { process: name, problem });
    }
    if (this.hasEnded) this.#ended.resolve();
    if (!this.quiet) this.#changed(this);
  }

  /** Starts it and follows it to its end. @param args with the ports in them */
  async start(args: readonly string[]): Promise<void> {
    const { name, binary, uuid } = this.#record;
    const pause = this.#shop.backoff.pause(name);
    if (pause) {
      this.#shop.log.warn("a process that crashes again and again has to wait", {
        process: name,
        reason: pause.reason,
      });
      this.update({ error: pause.reason });
      await this.#shop.clock.sleep(pause.ms, this.#stop.signal);
      if (this.#stop.signal.aborted) return this.update({ state: "stopped", error: "" });
    }
    this.#startedMs = this.#shop.clock.now();
    let running: Running;
    try {
      const program = this.#shop.locate(binary);
      const outputFd = this.#shop.openLog(name);
      try {
        const request = { command: program.command, args: [...program.args, ...args], outputFd, uuid };
        running = await this.#shop.launcher.launch(request);
      } finally {
        this.#shop.closeLog(outputFd);
      }
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      this.#shop.backoff.ended(name, 0, problem);
      this.update({ state: "error", error: problem });
      return;
    }
    this.#shop.log.info("started", { process: name, pid: running.pid });
    const state = this.#record.portStart === 0 && this.#record.state === "starting"
      ? "running"
      : this.#record.state;
    this.update({ pid: running.pid, startTicks: running.startTicks, state, error: "" });
    await this.#follow(running);
  }

  /** Goes on with a process that an earlier manager started. */
  async resume(running: Running): Promise<void> {
    this.#startedMs = this.#shop.clock.now();
    await this.#follow(running);
  }

  /** The process of the record is gone: it ended while nobody looked. */
  lost(reason: string): void {
    this.update({ state: "error", error: reason });
  }

  async #follow(running: Running): Promise<void> {
    this.#running = running;
    if (this.#stop.signal.aborted) this.#signal("SIGINT");
    else if (this.#record.state === "starting") void this.#untilHealthy(running);
    this.#onEnd(await running.ended);
  }

  async #untilHealthy(running: Running): Promise<void> {
    const { clock, prober, log } = this.#shop;
    const { portStart: port, name } = this.#record;
    if (port === 0) return this.update({ state: "running" });
    const begin = clock.now();
    const over = new AbortController();
    void running.ended.then(() => over.abort());
    this.#stop.signal.addEventListener("abort", () => over.abort(), { once: true });
    while (!over.signal.aborted && clock.now() - begin < HEALTHY_MS) {
      const healthy = await prober.healthy(port, over.signal);
      if (over.signal.aborted) return;
      if (healthy) {
        log.info("healthy", { process: name, port });
        return this.update({ state: "running", error: "" });
      }
      const pause = clock.now() - begin < PROBE_MS.laterAfter ? PROBE_MS.first : PROBE_MS.later;
      await clock.sleep(pause, over.signal);
    }
    if (over.signal.aborted) return;
    this.#doom = `not healthy within ${HEALTHY_MS / 1000} s after its start; see its log`;
    log.error("not healthy in time", { process: name, port });
    await this.stop();
  }

  #onEnd(exit: Exit): void {
    if (this.hasEnded) return;
    const { name, state } = this.#record;
    const asked = state === "stopping" && this.#doom === "";
    const error = this.#doom !== "" ? this.#doom : describeExit(exit);
    const well = this.#doom === "" && endedWell(exit);
    if (!asked && !this.quiet) {
      this.#shop.backoff.ended(name, this.#shop.clock.now() - this.#startedMs, well ? undefined : error);
    }
    this.#running = undefined;
    const fields = { process: name, status: describeExit(exit) || "exit status 0" };
    if (asked || well) this.#shop.log.info("ended", fields);
    else this.#shop.log.error("ended by itself", fields);
    this.update(well ? { state: "stopped", error: "" } : { state: "error", error });
  }

  #signal(signal: LifeSignal): void {
    this.#shop.log.debug("signal", { process: this.#record.name, signal });
    this.#running?.signal(signal);
  }

  /**
   * Makes it end: SIGINT, and SIGKILL {@linkcode STOP_MS} later. Returns when it has ended, or when it did not even
   * die. Called again, it kills when that time is over.
   */
  async stop(signal: LifeSignal = "SIGINT", patienceMs: number = STOP_MS): Promise<void> {
    if (this.hasEnded) return;
    const { clock } = this.#shop;
    const first = this.#stopSinceMs === undefined;
    this.#stopSinceMs ??= clock.now();
    if (first) {
      this.#stop.abort();
      if (this.#record.state !== "stopping") this.update({ state: "stopping" });
      this.#signal(signal);
    }
    const left = this.#stopSinceMs + patienceMs - clock.now();
    if (left > 0) await within(clock, left, this.#ended.promise);
    if (this.hasEnded) return;
    this.#shop.log.warn("it does not end and is killed", { process: this.#record.name });
    this.#signal("SIGKILL");
    await within(clock, KILL_MS, this.#ended.promise);
  }
}
