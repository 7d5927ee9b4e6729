/**
 * The engine's main thread: starts a volume from its replicas, knows their modes, starts and stops the
 * frontend. Everything on the data path happens in the volume thread; this side talks to it through calls.
 *
 * @module
 */
import { Code, RpcError } from "../rpc/mod.ts";
import { type Backend, plainReason } from "./backend.ts";
import { type Candidate, elect, type Election } from "./election.ts";
import {
  type ControllerHand,
  type ControllerOptions,
  type KnownReplica,
  type Opened,
  StartError,
  type Takeover,
  type VolumeCalls,
} from "./controller_options.ts";
import type { Mode } from "./link.ts";
import type { DialBody, StartBody, ThreadEvent, ThreadInfo } from "./thread.ts";

export {
  type ControllerOptions,
  type FrontendHost,
  StartError,
  type VolumeCalls,
} from "./controller_options.ts";

/** ENODATA: no replica can be used. Callers mark all replicas failed on it. */
const EXIT_NO_DATA = 61;

/** Time for the volume thread to dial, to record members, to start a frontend; milliseconds. */
const THREAD_TIMEOUT_MS = 60_000;

/** See the module text. */
export class Controller {
  readonly #replicas = new Map<string, KnownReplica>();
  #bytes: number;
  #started = false;
  #frontend: string;
  #endpoint = "";
  #frontendUp = false;
  #leaving = false;
  #generation = 0;

  /** Starts nothing yet. */
  constructor(readonly thread: VolumeCalls, readonly options: ControllerOptions) {
    this.#bytes = options.bytes;
    this.#frontend = options.frontend;
  }

  /** Size of the volume, bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** True between a start and a shutdown. */
  get started(): boolean {
    return this.#started;
  }

  /** Kind of frontend, where hosts find it, and whether it is up. */
  get frontend(): { readonly kind: string; readonly endpoint: string; readonly up: boolean } {
    return { kind: this.#frontend, endpoint: this.#endpoint, up: this.#frontendUp };
  }

  /** Replicas with their modes. */
  replicas(): { readonly name: string; readonly mode: Mode; readonly reason: string }[] {
    return [...this.#replicas].map(([name, { mode, reason }]) => ({ name, mode, reason }));
  }

  /** Handles what the volume thread tells unasked. */
  onEvent(event: ThreadEvent): void {
    const { log } = this.options;
    if (event.event === "members") {
      const { generation, revision, members } = event.record;
      log.info("members recorded", { generation, revision, members: members.length });
      return;
    }
    if (event.event === "frontend") return this.options.frontendHost?.onEvent(event);
    if (event.event === "filled") {
      this.#filled(event.name, event.failure).catch((error) => this.#refuse(event.name, plainReason(error)));
      return;
    }
    if (event.event === "equal") {
      log.info("copies are equal again", { bytes: event.bytes });
      return;
    }
    if (this.#leaving) return;
    log.error("replica failed", { replica: event.name, reason: event.reason });
    this.#failed(event.name, event.reason);
  }

  #failed(name: string, reason: string): void {
    const replica = this.#replicas.get(name);
    if (!replica || replica.mode === "ERR") return;
    replica.mode = "ERR";
    replica.reason = reason;
    // It may still be open: closing it lets the next start, or a rebuild, find it in order.
    replica.backend.close().catch(() => {});
  }

  /**
   * Starts the volume; nothing happens when it is started.
   * @throws {StartError} when no replica can be used, or when starting could lose data
   */
  async start(addresses: readonly string[]): Promise<void> {
    if (this.#started) return;
    const twice = addresses.find((address, i) => addresses.indexOf(address) !== i);
    if (twice !== undefined) throw new StartError(`replica ${twice} was given twice`, 1);
    const backends = addresses.map(this.options.backend);
    for (const backend of backends) this.#replicas.set(backend.name, { backend, mode: "WO", reason: "" });
    const { takeover } = this.options;
    let unavailable = false;
    const opened: Opened[] = [];
    await Promise.all(backends.map(async (backend) => {
      try {
        opened.push(
          await (takeover ? takeover.prepare(backend) : this.#open(backend, addresses.length === 1)),
        );
      } catch (error) {
        unavailable ||= error instanceof RpcError && error.code === Code.UNAVAILABLE;
        await this.#refuse(backend.name, plainReason(error));
      }
    }));
    try {
      const election = takeover
        ? await takeover.claim(opened, backends.length - opened.length)
        : this.#elect(backends, opened);
      await this.#begin(election, unavailable);
      if (takeover) await this.#takeOver(takeover);
    } catch (error) {
      await this.shutdown();
      takeover?.fail(plainReason(error));
      throw error;
    }
    this.#started = true;
    if (this.#frontend !== "" && !this.#frontendUp) await this.startFrontend(this.#frontend);
  }

  /** The last steps of a live upgrade. */
  async #takeOver(takeover: Takeover): Promise<void> {
    const endpoint = await takeover.frontend(this.#frontend);
    await takeover.commit();
    this.#endpoint = endpoint;
    this.#frontendUp = endpoint !== "";
  }

  /** For the engine that takes over in a live upgrade. */
  hand(): ControllerHand {
    return {
      replicas: this.#replicas,
      generation: this.#generation,
      leaving: (on) => this.#leaving = on,
      regained: (generation) => {
        this.#generation = generation;
        for (const { backend } of this.#replicas.values()) backend.generation = generation;
      },
      gone: () => {
        for (const { backend } of this.#replicas.values()) backend.dispose();
        this.#replicas.clear();
        this.#started = this.#frontendUp = false;
      },
    };
  }

  /** One replica: must be closed; data connections first, then opened, as Longhorn's engine does. */
  async #open(backend: Backend, only: boolean): Promise<Opened> {
    const before = await backend.get();
    if (before.state !== "closed") {
      throw new RangeError(`replica must be closed, cannot add in state: ${before.state}`);
    }
    const dial: DialBody = {
      name: backend.name,
      data: backend.data,
      id: before.id,
      features: before.features,
    };
    await this.thread.call("dial", dial, THREAD_TIMEOUT_MS);
    let info = await backend.open(this.options.upgrade, this.options.currentBytes || this.options.bytes);
    // An unfilled copy is not the volume, though it be the only one that was named.
    if (only && info.rebuilding && info.headBytes > 0) {
      await backend.setRebuilding(false).catch(() => {});
      info = await backend.get();
    }
    return { backend, info, unclean: before.dirty };
  }

  #elect(backends: readonly Backend[], opened: readonly Opened[]): Election {
    // In the order the caller gave, whatever order they answered in.
    const candidates: Candidate[] = backends.flatMap((backend) =>
      opened.filter((o) => o.backend === backend).map(({ info, unclean }) => ({
        ...info,
        name: backend.name,
        unclean,
      }))
    );
    return elect(candidates, { ...this.options, unopened: backends.length - opened.length });
  }

  async #begin(election: Election, unavailable: boolean): Promise<void> {
    for (const { name, reason } of election.refused) await this.#refuse(name, reason);
    if (election.chosen.length === 0) {
      const why = this.replicas().map(({ name, reason }) => `${name}: ${reason}`).join("; ");
      const text = unavailable ? "service unavailable" : "replica error";
      throw new StartError(`no available backend due to ${text} (${why})`, unavailable ? 1 : EXIT_NO_DATA);
    }
    if (election.missing.length > 0 && !this.options.allowMissing) {
      throw new StartError(
        `${election.missing.length} replica(s) that were complete when the volume last ran are missing ` +
          `(${
            election.missing.join(", ")
          }); they may hold newer data. Bring them back, or allow it explicitly ` +
          `if they are lost`,
        1,
      );
    }
    this.#bytes = election.bytes;
    this.#generation = election.generation;
    for (const { backend } of this.#replicas.values()) backend.generation = election.generation;
    const names = election.chosen.map((c) => c.name);
    const body: StartBody = { names, generation: election.generation, readFromOne: election.unclean };
    await this.thread.call("start", body, THREAD_TIMEOUT_MS);
    for (const name of names) {
      const replica = this.#replicas.get(name);
      if (replica && replica.mode !== "ERR") replica.mode = "RW";
    }
    this.options.log.info("volume started", {
      volume: this.options.name,
      replicas: names.length,
      generation: election.generation,
      unclean: election.unclean,
    });
  }

  async #refuse(name: string, reason: string): Promise<void> {
    this.options.log.warn("replica not used", { replica: name, reason });
    this.#failed(name, reason);
    await this.thread.call("fail", { name, reason }).catch(() => {});
  }

  /** Starts a frontend. @throws {RpcError} when one is up */
  async startFrontend(kind: string): Promise<void> {
    if (kind === "") throw new RpcError(Code.UNKNOWN, "cannot start empty frontend");
    if (this.#frontendUp) throw new RpcError(Code.UNKNOWN, `frontend ${this.#frontend} is up already`);
    const { frontendHost: host, frontendOptions: options = {} } = this.options;
    const inThread = async (options: unknown) =>
      await this.thread.call("frontend", { kind, options }, THREAD_TIMEOUT_MS) as string;
    this.#endpoint = await (host ? host.start(kind, options, inThread) : inThread(options));
    this.#frontend = kind;
    this.#frontendUp = true;
    this.options.log.info("frontend up", { frontend: kind, endpoint: this.#endpoint });
  }

  /** Stops the frontend, if one is up. @throws when a host still uses it: then it stays up */
  async stopFrontend(): Promise<void> {
    if (!this.#frontendUp) return;
    const { frontendHost: host } = this.options;
    const inThread = async () => void await this.thread.call("stopFrontend", null, THREAD_TIMEOUT_MS);
    await (host ? host.stop(this.#frontend, inThread) : inThread());
    this.#frontendUp = false;
    this.#endpoint = "";
  }

  /**
   * Adds an empty copy and begins to fill it; it is WO until it is complete. Returns when it gets all writes.
   * @throws {RpcError} when it is not empty, or the volume has snapshots, or a copy is being filled
   */
  async addReplica(address: string): Promise<void> {
    const backend = this.options.backend(address), { name } = backend;
    if (this.#replicas.has(name)) return backend.dispose();
    const refuse = (why: string) => new RpcError(Code.UNKNOWN, `cannot add replica ${name}: ${why}`);
    try {
      if ([...this.#replicas.values()].some((r) => r.mode === "WO")) {
        throw refuse("can only have one WO replica at a time");
      }
      this.#replicas.set(name, { backend, mode: "WO", reason: "" });
      const { info } = await this.#open(backend, false);
      if (info.bytes !== this.#bytes) throw refuse(`its size is ${info.bytes}, the volume's ${this.#bytes}`);
      if (info.chainLength !== 1 || info.headBytes > 0) {
        throw refuse("it is not empty; delete and create it first");
      }
      await this.#refuseSnapshots(refuse);
      backend.generation = this.#generation;
      await backend.setRebuilding(true);
      await this.thread.call("rebuild", { name }, THREAD_TIMEOUT_MS);
      this.options.log.info("filling a new copy", { replica: name });
    } catch (error) {
      if (this.#replicas.get(name)?.backend === backend) await this.#forget(name, backend);
      else backend.dispose();
      throw error;
    }
  }

  /** A new copy is filled block by block, so it would lack the files of snapshots. */
  async #refuseSnapshots(refuse: (why: string) => RpcError): Promise<void> {
    const source = [...this.#replicas.values()].find((r) => r.mode === "RW");
    if (!source) throw refuse("no replica is complete");
    const { chainLength } = await source.backend.get();
    if (chainLength > 1) throw refuse("the volume has snapshots, which cannot be copied yet");
  }

  /** A new copy holds everything. The note that it does not goes first: a crash in between leaves it incomplete. */
  async #filled(name: string, failure: string): Promise<void> {
    const replica = this.#replicas.get(name), { log } = this.options;
    if (!replica) return;
    if (failure !== "") throw new Error(failure);
    await replica.backend.setRebuilding(false);
    await this.thread.call("promote", { name }, THREAD_TIMEOUT_MS);
    replica.mode = "RW";
    log.info("a new copy is complete", { replica: name });
  }

  /** Sets a replica's mode by order: ERR takes it out. */
  async setMode(name: string, mode: Mode): Promise<void> {
    const replica = this.#find(name);
    if (mode === "WO") throw new RpcError(Code.UNKNOWN, "cannot set to mode WO");
    if (mode === "ERR" && replica.mode !== "ERR") {
      await this.thread.call("fail", { name, reason: "set to ERR by order" });
      this.#failed(name, "set to ERR by order");
    }
  }

  /**
   * Forgets a replica. When this returns, the others have recorded that it is no member: it may be erased.
   * @throws {RpcError} for the last one while the frontend is up
   */
  async removeReplica(name: string): Promise<void> {
    const replica = this.#replicas.get(name);
    if (!replica) return;
    const others = [...this.#replicas.values()].filter((r) => r !== replica && r.mode === "RW");
    if (this.#frontendUp && others.length === 0) {
      throw new RpcError(Code.UNKNOWN, "cannot remove last replica if volume is up");
    }
    if (this.#started) await this.thread.call("remove", { name }, THREAD_TIMEOUT_MS);
    await this.#forget(name, replica.backend);
  }

  async #forget(name: string, backend: Backend): Promise<void> {
    await this.thread.call("remove", { name }).catch(() => {});
    this.#replicas.delete(name);
    await backend.close().catch(() => {});
    backend.dispose();
  }

  #find(name: string): KnownReplica {
    const replica = this.#replicas.get(name);
    if (!replica) {
      throw new RpcError(Code.NOT_FOUND, `replica ${name} is not part of volume ${this.options.name}`);
    }
    return replica;
  }

  /** Counters and modes of the volume thread. */
  async info(): Promise<ThreadInfo> {
    return await this.thread.call("info") as ThreadInfo;
  }

  /** Takes the frontend down, closes all replicas. The process goes on; the volume may be started again. */
  async shutdown(): Promise<void> {
    await this.stopFrontend();
    this.#leaving = true;
    // Retired first: a replica that closes must not look like one that failed.
    await this.thread.call("retire").catch(() => {});
    // Copies that may differ stay marked as not cleanly closed, so that the next start makes them equal.
    const differ = await this.info().then((info) => info.readsFromOne, () => false);
    await Promise.all([...this.#replicas.values()].map(async ({ backend, mode }) => {
      if (!differ || mode !== "RW") {
        await backend.close().catch((error) => {
          if (mode === "RW") {
            this.options.log.warn("replica not closed", { replica: backend.name, reason: String(error) });
          }
        });
      }
      backend.dispose();
    }));
    await this.thread.call("close").catch(() => {});
    for (const name of this.#replicas.keys()) await this.thread.call("remove", { name }).catch(() => {});
    this.#replicas.clear();
    this.#started = this.#leaving = false;
  }
}
