/**
 * The engine's main thread: starts a volume from its replicas, knows their modes, starts and stops the
 * frontend. Everything on the data path happens in the volume thread; this side talks to it through calls.
 *
 * @module
 */
import { Code, RpcError } from "../rpc/mod.ts";
import { Additions } from "./additions.ts";
import { type Backend, type BackendInfo, plainReason } from "./backend.ts";
import { type Freezer, VolumeChanges } from "./changes.ts";
import {
  type ControllerHand,
  type ControllerOptions,
  type Opened,
  StartError,
  type Takeover,
} from "./controller_options.ts";
import { CopyTable, type VolumeCalls } from "./copy_table.ts";
import { type Candidate, elect, type Election, missingText } from "./election.ts";
import { adoptSettings } from "./handover_settings.ts";
import { MAX_REPLICAS, THREAD_TIMEOUT_MS } from "./limits.ts";
import type { Mode } from "./link.ts";
import type { DialBody, StartBody, ThreadEvent, ThreadInfo } from "./thread.ts";

export { type ControllerOptions, type FrontendHost, StartError } from "./controller_options.ts";
export { type VolumeCalls } from "./copy_table.ts";

/** ENODATA: no replica can be used. Callers mark all replicas failed on it. */
const EXIT_NO_DATA = 61;

/** See the module text. */
export class Controller {
  readonly #copies: CopyTable;
  #started = false;
  #frontend: string;
  #endpoint = "";
  #frontendUp = false;
  #leaving = false;
  #generation = 0;
  /** Size of the volume, bytes. */
  bytes: number;
  /** Snapshots, growth, limits. */
  readonly changes: VolumeChanges;
  /** Copies that join. */
  readonly additions: Additions;
  /** Copies that a rebuild reads from at the same time, at most. */
  rebuildSources: number;

  /** Starts nothing yet. */
  constructor(readonly thread: VolumeCalls, readonly options: ControllerOptions) {
    this.bytes = options.bytes;
    this.#frontend = options.frontend;
    this.#copies = new CopyTable(options.name, thread, options.log);
    this.changes = new VolumeChanges(this);
    Object.assign(this.changes.limits, options.limits);
    this.changes.unmapMark = options.unmapMark ?? false;
    this.rebuildSources = options.rebuildSources ?? MAX_REPLICAS;
    this.additions = new Additions(this);
  }

  /** The copies. */
  get copies(): CopyTable {
    return this.#copies;
  }

  /** Of this engine; 0 before a start. */
  get generation(): number {
    return this.#generation;
  }

  /** True while a host sees the volume as a disk. */
  get frontendUp(): boolean {
    return this.#frontendUp;
  }

  /** See {@linkcode ControllerOptions.freezer}. */
  get freezer(): Freezer | undefined {
    return this.#frontendUp ? this.options.freezer : undefined;
  }

  /** The copies count their writes. */
  get counting(): boolean {
    return !this.options.revisionCounterDisabled;
  }

  /** Wall clock as records hold times. */
  now(): string {
    return new Date(this.options.wallClock()).toISOString().replace(/\.\d+Z$/, "Z");
  }

  /** A name that no other snapshot has. */
  newName(): string {
    return this.options.newName();
  }

  /** Makes the backend of an address. */
  backend(address: string): Backend {
    return this.options.backend(address);
  }

  /** Connects to a copy that joins, and opens it. */
  async open(backend: Backend): Promise<BackendInfo> {
    return (await this.#open(backend, false, [])).info;
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
    return [...this.#copies.entries()].map(([name, { mode, reason }]) => ({ name, mode, reason }));
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
      void this.additions.filled(event.name, event.failure, event.bytes);
      return;
    }
    if (event.event === "equal") {
      log.info("copies are equal again", { bytes: event.bytes, copied: event.copied });
      return;
    }
    if (this.#leaving) return;
    log.error("replica failed", { replica: event.name, reason: event.reason });
    this.#copies.failed(event.name, event.reason);
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
    for (const backend of backends) this.#copies.add(backend);
    const { takeover } = this.options;
    let unavailable = false;
    const ids = takeover ? [] : await identities(backends);
    const opened: Opened[] = [];
    await Promise.all(backends.map(async (backend) => {
      try {
        opened.push(
          await (takeover ? takeover.prepare(backend) : this.#open(backend, addresses.length === 1, ids)),
        );
      } catch (error) {
        unavailable ||= error instanceof RpcError && error.code === Code.UNAVAILABLE;
        await this.#copies.fail(backend.name, plainReason(error));
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
    const endpoint = await takeover.frontend(this.#frontend), { settings } = takeover;
    if (settings) await adoptSettings(this, settings);
    await takeover.commit();
    this.#endpoint = endpoint;
    this.#frontendUp = endpoint !== "";
    await Promise.all(this.#copies.in("RW").map(({ backend }) => this.#configure(backend)));
  }

  /** For the engine that takes over in a live upgrade. */
  hand(): ControllerHand {
    const { copies } = this;
    return {
      replicas: new Map(copies.entries()),
      generation: this.#generation,
      leaving: (on) => this.#leaving = on,
      regained: (generation) => {
        this.#generation = generation;
        for (const [, { backend }] of copies.entries()) backend.generation = generation;
      },
      gone: () => {
        for (const [, { backend }] of copies.entries()) backend.dispose();
        copies.clear();
        this.#started = this.#frontendUp = false;
      },
    };
  }

  /** One replica: must be closed; data connections first, then opened, as Longhorn's engine does. */
  async #open(backend: Backend, only: boolean, ids: readonly string[]): Promise<Opened> {
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
    const { upgrade, currentBytes, bytes } = this.options;
    let info = await backend.open(upgrade, currentBytes || bytes, ids);
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
    for (const { name, reason } of election.refused) await this.#copies.fail(name, reason);
    if (election.chosen.length === 0) {
      const why = this.replicas().map(({ name, reason }) => `${name}: ${reason}`).join("; ");
      const text = unavailable ? "service unavailable" : "replica error";
      throw new StartError(`no available backend due to ${text} (${why})`, unavailable ? 1 : EXIT_NO_DATA);
    }
    if (election.missing.length > 0 && !this.options.allowMissing) {
      throw new StartError(missingText(election), 1);
    }
    this.bytes = election.bytes;
    await this.thread.call("resize", { bytes: election.bytes });
    this.#generation = election.generation;
    for (const [, { backend }] of this.#copies.entries()) backend.generation = election.generation;
    // In a live upgrade clients wait: after it. The running engine has given them these settings, or will again.
    if (!this.options.takeover) {
      await Promise.all(election.chosen.map(({ name }) => this.#configure(this.#copies.find(name).backend)));
    }
    const names = election.chosen.map((c) => c.name).filter((name) => this.#copies.get(name)?.mode === "WO");
    if (names.length === 0) throw new StartError("no available backend due to replica error", EXIT_NO_DATA);
    const body: StartBody = { names, generation: election.generation, readFromOne: election.unclean };
    await this.thread.call("start", body, THREAD_TIMEOUT_MS);
    for (const name of names) {
      const copy = this.#copies.get(name);
      if (copy && copy.mode !== "ERR") copy.mode = "RW";
    }
    this.options.log.info("volume started", {
      volume: this.options.name,
      replicas: names.length,
      generation: election.generation,
      unclean: election.unclean,
    });
  }

  /** A copy that does not take the settings would act on others than the rest. */
  async #configure(backend: Backend): Promise<void> {
    try {
      await this.changes.push(backend);
    } catch (error) {
      await this.#copies.fail(backend.name, plainReason(error));
    }
  }

  /** Starts a frontend. @throws {RpcError} when one is up */
  async startFrontend(kind: string): Promise<void> {
    if (kind === "") throw new RpcError(Code.UNKNOWN, "cannot start empty frontend");
    if (this.#frontendUp) throw new RpcError(Code.UNKNOWN, `frontend ${this.#frontend} is up already`);
    if (this.changes.expansion.running) throw new RpcError(Code.UNKNOWN, "an expansion is under way");
    const { frontendHost: host, frontendOptions: options = {} } = this.options;
    const inThread = async (options: unknown) =>
      await this.thread.call("frontend", { kind, options }, THREAD_TIMEOUT_MS) as string;
    const stop = async () => void await this.thread.call("stopFrontend", null, THREAD_TIMEOUT_MS);
    try {
      this.#endpoint = await (host ? host.start(kind, options, inThread, stop) : inThread(options));
    } catch (error) {
      // The host's share failed: nobody is to find the volume through the other one.
      await stop().catch(() => {});
      throw error;
    }
    this.#frontend = kind;
    this.#frontendUp = true;
    this.options.log.info("frontend up", { frontend: kind, endpoint: this.#endpoint });
  }

  /** See {@linkcode ChangeHost}. */
  async growFrontend(bytes: number): Promise<void> {
    if (this.#frontendUp) await this.options.frontendHost?.grow?.(this.#frontend, bytes);
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
   * Adds a copy; see {@linkcode Additions.add}.
   * @throws {RpcError} when it cannot join
   */
  addReplica(address: string, layers = false): Promise<void> {
    return this.additions.add(address, layers);
  }

  /** Sets a replica's mode by order: ERR takes it out. */
  async setMode(name: string, mode: Mode): Promise<void> {
    const replica = this.#copies.find(name);
    if (mode === "WO") throw new RpcError(Code.UNKNOWN, "cannot set to mode WO");
    if (mode === "ERR" && replica.mode !== "ERR") {
      await this.thread.call("fail", { name, reason: "set to ERR by order" });
      this.#copies.failed(name, "set to ERR by order");
    }
  }

  /**
   * Forgets a replica. When this returns, the others have recorded that it is no member: it may be erased.
   * @throws {RpcError} for the last one while the frontend is up
   */
  async removeReplica(name: string): Promise<void> {
    const replica = this.#copies.get(name);
    if (!replica) return;
    const others = this.#copies.in("RW").filter((copy) => copy !== replica);
    if (this.#frontendUp && others.length === 0) {
      throw new RpcError(Code.UNKNOWN, "cannot remove last replica if volume is up");
    }
    if (this.#started) await this.thread.call("remove", { name }, THREAD_TIMEOUT_MS);
    await this.#copies.forget(name, replica.backend);
  }

  /** Counters and modes of the volume thread. */
  async info(): Promise<ThreadInfo> {
    return await this.thread.call("info") as ThreadInfo;
  }

  /** Takes the frontend down, closes all replicas. The process goes on; the volume may be started again. */
  async shutdown(): Promise<void> {
    // A snapshot that is being taken ends first: what it decides about copies must be recorded.
    await this.#copies.exclusively(() => this.#shutdown());
  }

  async #shutdown(): Promise<void> {
    await this.stopFrontend();
    this.#leaving = true;
    // Retired first: a replica that closes must not look like one that failed.
    await this.thread.call("retire").catch(() => {});
    // Copies that may differ stay marked as not cleanly closed, so that the next start makes them equal. So do those
    // of which nothing is known, for the volume thread is gone.
    const differ = await this.info().then((info) => info.readsFromOne || !info.settled, () => true);
    await Promise.all([...this.#copies.entries()].map(async ([, { backend, mode }]) => {
      if (!differ || mode !== "RW") {
        const begun = backend.generation > 0;
        await backend.close(begun && (differ || mode === "ERR")).catch((error) => {
          if (mode === "RW") {
            this.options.log.warn("replica not closed", { replica: backend.name, reason: String(error) });
          }
        });
      }
      backend.dispose();
    }));
    await this.thread.call("close").catch(() => {});
    for (const [name] of this.#copies.entries()) await this.thread.call("remove", { name }).catch(() => {});
    this.#copies.clear();
    this.#started = this.#leaving = false;
  }
}

/** Identifiers of the copies that answer and have one. */
async function identities(backends: readonly Backend[]): Promise<string[]> {
  const told = await Promise.all(backends.map((backend) => backend.get().then(({ id }) => id, () => "")));
  return told.filter((id) => id !== "");
}
