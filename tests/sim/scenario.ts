/**
 * One seed: a volume lives through several lives of its engine, with faults drawn at random, and every answer
 * is checked. At the end all copies that count must be equal.
 *
 * @module
 */
import { Controller } from "../../lib/engine/controller.ts";
import type { ThreadEvent } from "../../lib/engine/thread.ts";
import { REPLICA_TIMEOUT_MS } from "../../lib/engine/limits.ts";
import { drawOptions, type Random, SimCluster, type SimHost } from "../../lib/io/sim/mod.ts";
import { createLogger, Level, type Logger } from "../../lib/log/log.ts";
import type { ptypes } from "../../lib/rpc/gen/ptypes.js";
import type { Takeover } from "../../lib/engine/controller_options.ts";
import { Client } from "./client.ts";
import { Calls, contents, simBackend, SimEngine, SimReplica } from "./machine.ts";
import { Faults, type FaultScene } from "./faults.ts";
import { LINGER_MS, Operator, type OperatorScene } from "./operator.ts";
import { Model, SECTOR } from "./model.ts";
import { upgrade, type UpgradeScene } from "./upgrade.ts";

/** Size of the volume: small, so that requests meet. */
const VOLUME_BYTES = 1024 * 1024;
/** After this a replica has noticed that its engine is gone, virtual ms. */
const PATIENCE_MS = 80_000;
/** A life ends after this, virtual ms, whatever hangs. */
const LIFE_MS = 200 * REPLICA_TIMEOUT_MS;

/** What a seed did, for the campaign's summary. */
export interface Outcome {
  /** Requests answered well. */
  readonly good: number;
  /** Requests answered with an error. */
  readonly failed: number;
  /** Lives of the engine. */
  readonly lives: number;
  /** Faults drawn. */
  readonly faults: number;
  /** Copies that were filled anew. */
  readonly rebuilt: number;
  /** Snapshots taken. */
  readonly snapshots: number;
  /** Live upgrades of the engine. */
  readonly upgraded: number;
  /** Expansions. */
  readonly grown: number;
  /** Purges of a copy. */
  readonly purged: number;
  /** Copies that came back and got what they missed. */
  readonly returned: number;
  /** Of those, the ones that came back to an engine that had taken the volume over meanwhile. */
  readonly handed: number;
  /** Copies that were rebuilt with their snapshots. */
  readonly layered: number;
  /** Events of the world. */
  readonly events: number;
}

/** Runs one seed. @param traceEvents how many events a failure shows @throws {SimFailure} with the trace */
export async function runSeed(seed: number, traceEvents = 4096): Promise<Outcome> {
  using cluster = new SimCluster(seed, drawOptions(seed, { traceEvents }));
  try {
    return await new Scenario(cluster).run();
  } catch (error) {
    throw cluster.failure(error);
  }
}

class Scenario implements FaultScene, OperatorScene, UpgradeScene {
  readonly random: Random;
  readonly model = new Model(VOLUME_BYTES / SECTOR);
  readonly calls: Calls;
  readonly engineHost: SimHost;
  readonly replicas: SimReplica[];
  engine: SimEngine;
  readonly log: Logger;
  /** Replicas whose machine lost power since the volume was last started. */
  readonly cut: Set<SimReplica> = new Set();
  readonly faults: Faults;
  readonly operator: Operator;
  controller: Controller | undefined;
  client: Client | undefined;
  /** The engine that is to take over, while it does. */
  coming: SimEngine | undefined;
  /** Live upgrades so far. */
  upgraded = 0;
  readonly #lost: Set<string> = new Set();
  /** The main thread of each engine process. */
  readonly #controllers: Map<SimEngine, Controller> = new Map();
  #good = 0;
  #failed = 0;
  #rebuilt = 0;

  constructor(readonly cluster: SimCluster) {
    this.random = cluster.random;
    this.calls = new Calls(cluster);
    this.engineHost = cluster.host("e");
    const count = this.random.between(1, 3);
    this.replicas = Array.from(
      { length: count },
      (_, i) =>
        new SimReplica(cluster, cluster.host(`r${i + 1}`), {
          ioMode: this.random.pick(["direct", "cached"]),
          revisionCounter: this.random.chance(0.3),
        }),
    );
    const counter = this.random.chance(0.3);
    for (const replica of this.replicas) Object.assign(replica.options, { revisionCounter: counter });
    this.revisionCounter = counter;
    const engine: SimEngine = new SimEngine(
      this.calls,
      this.engineHost,
      VOLUME_BYTES,
      (event) => this.onEvent(event, engine),
    );
    this.engine = engine;
    this.faults = new Faults(this);
    this.operator = new Operator(this, VOLUME_BYTES);
    this.log = createLogger({ level: Level.ERROR, format: "text", wallClock: () => 0, write: () => {} });
  }
  readonly revisionCounter: boolean;

  onEvent(event: ThreadEvent, engine: SimEngine): void {
    this.cluster.note(JSON.stringify(event));
    if (event.event === "equal") this.model.equal();
    this.#controllers.get(engine)?.onEvent(event);
    const replica = "name" in event ? this.replicas.find((r) => r.name === event.name) : undefined;
    if (!replica) return;
    if (event.event === "failed" && !event.reason.includes("being closed")) this.#lost.add(replica.name);
    if (event.event === "filled" && event.failure === "") {
      this.cut.delete(replica);
      this.#rebuilt++;
    }
    if (event.event === "failed" && this.random.chance(0.6)) {
      this.cluster.schedule(this.random.unit() * 50, () => void this.operator.bringBack(replica));
      // An engine that comes while it is away is to know what it missed.
      if (this.random.chance(0.3)) {
        this.cluster.schedule(this.random.unit() * 200, () => void upgrade(this));
      }
    }
  }

  calm(replica: SimReplica): void {
    replica.host.disk.setFree(2 ** 40);
    this.faults.disarm();
  }

  async run(): Promise<Outcome> {
    for (const replica of this.replicas) replica.start(VOLUME_BYTES);
    const lives = this.random.between(1, 4);
    for (let life = 1; life <= lives; life++) {
      if (!await this.live(life === lives)) break;
    }
    return {
      good: this.#good,
      failed: this.#failed,
      lives,
      faults: this.faults.count,
      rebuilt: this.#rebuilt,
      ...this.operator.done,
      upgraded: this.upgraded,
      events: this.cluster.events,
    };
  }

  /** Lets the world go on until a condition holds, and promises with it. */
  async drive(over: () => boolean, limit: number): Promise<void> {
    while (!over() && this.cluster.now < limit) {
      this.calls.moved = 0;
      this.cluster.runUntil(() => over() || this.calls.moved > 0, limit);
      if (this.calls.moved === 0) return;
      for (let i = 0; i < 40; i++) await null;
    }
  }

  /** Lets the world go on until a promise is settled. */
  async until<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const watch = promise.then(() => {}, () => {}).then(() => {
      settled = true;
    });
    void watch;
    const limit = this.cluster.now + LIFE_MS;
    while (!settled) {
      // Promises move only when a call ends; a chain of them is shorter than this.
      for (let i = 0; i < 40 && !settled; i++) await null;
      if (settled) break;
      this.calls.moved = 0;
      if (!this.cluster.runUntil(() => this.calls.moved > 0, limit)) {
        throw new Error("a control call never ended");
      }
    }
    return await promise;
  }

  /** One life of the engine. @returns false when the volume cannot be started any more */
  async live(last: boolean): Promise<boolean> {
    const { random, cluster, model } = this;
    this.revive();
    const lost = this.members().every((replica) => this.cut.has(replica));
    const controller = await this.start();
    if (!controller) return false;
    this.cluster.note(`started ${JSON.stringify(controller.replicas())} lost=${lost && this.started}`);
    if (lost && this.started) model.powerLost();
    this.started = true;
    this.operator.started(controller.bytes);
    this.cut.clear();
    this.startClient(random.chance(0.3) ? random.between(500, 1500) : random.between(20, 300));
    this.faults.plan();
    this.operator.plan();
    if (random.chance(0.3)) {
      cluster.schedule(random.unit() * random.pick([10, 100]), () => void upgrade(this));
    }
    const { client } = this;
    await this.drive(() => client?.idle === true || !this.engine.process?.alive, cluster.now + LIFE_MS);
    this.#good += client?.good ?? 0;
    this.#failed += client?.failed ?? 0;
    if (this.engine.process?.alive) {
      if (!client?.idle) throw new Error(`requests hang: ${JSON.stringify(this.engine.thread?.info())}`);
      if (last) this.sweep();
      await this.leave(this.controller ?? controller);
    } else this.died();
    return true;
  }

  started = false;

  /** What a replica says of its state. */
  state(replica: SimReplica): string {
    let state = "";
    replica.callee.process?.enter(() =>
      replica.callee.handlers["get"]({}, {
        ok: (value) => state = (value as ptypes.IReplica).state ?? "",
        error: () => {},
      })
    );
    return state;
  }

  /** The replicas that are complete by the newest record on any disk. */
  members(): SimReplica[] {
    const told = this.replicas.map((replica) => {
      let record: ptypes.IDroverRecord = {};
      replica.callee.process?.enter(() =>
        replica.callee.handlers["get"]({}, {
          ok: (value) => record = (value as ptypes.IReplica).drover ?? {},
          error: () => {},
        })
      );
      return { replica, record };
    });
    const age = (record: ptypes.IDroverRecord) => (record.generation ?? 0) * 1e6 + (record.revision ?? 0);
    const newest = told.reduce((a, b) => age(b.record) > age(a.record) ? b : a).record;
    return told.filter(({ record }) => newest.members?.includes(record.id ?? "")).map(({ replica }) =>
      replica
    );
  }

  /** Starts the engine. A replica that still waits for an engine that vanished is found closed a little later. */
  async start(): Promise<Controller | undefined> {
    for (let attempt = 1;; attempt++) {
      this.engine.spawn();
      if (!this.started && attempt === 1 && this.random.chance(0.4)) this.faults.creation();
      const controller = this.newController(this.engine);
      this.controller = controller;
      try {
        await this.until(controller.start(this.replicas.map((replica) => replica.name)));
        return controller;
      } catch (error) {
        // A copy whose disk failed a sync is not used again; when all have, the volume is lost, and says so.
        if (this.members().some((replica) => this.state(replica) === "error")) return undefined;
        const why = controller.replicas().map((r) => `${r.name} ${r.mode} ${r.reason}`).join("; ");
        if (attempt === 3) {
          throw new Error(`the volume does not start though all replicas are there: ${error} ${why}`, {
            cause: error,
          });
        }
        this.engine.process?.kill();
        this.cluster.run(this.cluster.now + PATIENCE_MS);
        this.revive();
      }
    }
  }

  newController(engine: SimEngine, takeover?: Takeover): Controller {
    const controller = new Controller(engine, {
      ...(takeover ? { takeover } : {}),
      name: "vol",
      bytes: this.operator.wanted,
      currentBytes: this.operator.reached,
      revisionCounterDisabled: !this.revisionCounter,
      salvage: false,
      upgrade: false,
      frontend: "",
      allowMissing: false,
      backend: (address) => {
        const replica = this.replicas.find((r) => r.name === address);
        if (!replica) throw new Error(`no replica ${address}`);
        return simBackend(this.calls, engine, replica);
      },
      log: this.log,
      wallClock: () => 1.7e12 + this.cluster.now,
      newName: () => `auto-${this.random.between(0, 2 ** 31)}`,
    });
    this.#controllers.set(engine, controller);
    return controller;
  }

  startClient(operations: number): void {
    const { engine, random } = this, { thread, pool, process } = engine;
    if (!thread || !pool || !process) throw new Error("no engine");
    const depth = random.pick([1, 4, 16]);
    const client = new Client(process.io, pool, thread.volume, this.model, random, depth, operations);
    this.client = client;
    process.enter(() => client.pump());
  }

  /** Everything that is down comes up again; faults of the last life are over. */
  revive(): void {
    this.cluster.network.heal(0.5);
    this.faults.disarm();
    this.engineHost.boot();
    for (const replica of this.replicas) replica.host.boot();
    if (this.replicas.some((replica) => !replica.alive)) this.cluster.run(this.cluster.now + LINGER_MS);
    for (const replica of this.replicas) {
      replica.host.disk.setFree(2 ** 40);
      if (!replica.alive) replica.start();
    }
  }

  /** Reads everything with the volume at rest. */
  sweep(): void {
    const { engine, cluster } = this;
    if (!engine.thread || !engine.pool || !engine.process) return;
    const client = new Client(
      engine.process.io,
      engine.pool,
      engine.thread.volume,
      this.model,
      this.random,
      1,
      0,
    );
    engine.process.enter(() => client.sweep());
    const over = () => client.idle || !engine.process?.alive;
    if (!cluster.runUntil(over, cluster.now + LIFE_MS)) throw new Error("the last reads hang");
  }

  /** The engine leaves in order, or is killed while it does. */
  async leave(controller: Controller): Promise<void> {
    const complete = controller.replicas().filter((r) => r.mode === "RW").map((r) => r.name);
    // What the operator asked for before ends first, and copies may fail on the way.
    this.#lost.clear();
    const equal = this.engine.thread?.info().readsFromOne === false;
    // With no copy left it is as after a crash: where something failed, they may differ.
    if (complete.length === 0) this.model.engineDied();
    await this.until(controller.shutdown());
    this.engine.process?.kill();
    this.controller = undefined;
    this.cluster.run(this.cluster.now + 1000);
    if (equal) {
      this.compare(
        this.replicas.filter((replica) => complete.includes(replica.name) && !this.#lost.has(replica.name)),
      );
    }
  }

  /** Copies that were closed in order hold the same. */
  compare(replicas: readonly SimReplica[]): void {
    this.faults.disarm();
    const whole = replicas.filter((r) => r.alive && r.host.up && this.state(r) === "closed");
    for (const replica of whole) {
      replica.kill();
      replica.host.disk.setFree(2 ** 40);
    }
    this.cluster.run(this.cluster.now + 1000);
    const copies = whole.map((replica) => contents(this.cluster, replica.host, this.model.sectors * SECTOR));
    for (let sector = 0; sector < this.model.sectors; sector++) {
      if (this.model.loose(sector)) continue;
      const [from, to] = [sector * SECTOR, (sector + 1) * SECTOR];
      copies.forEach((copy, i) => {
        if (copy.subarray(from, to).every((byte, k) => byte === copies[0][from + k])) return;
        throw new Error(`sector ${sector} differs between ${whole[0].name} and ${whole[i].name}`);
      });
    }
    this.operator.compare(whole);
  }

  died(): void {
    // What would become of it is for tests with real processes; here a life ends with its engine.
    this.coming?.process?.kill();
    this.coming = undefined;
    this.model.engineDied();
    this.operator.died();
    this.controller = undefined;
    this.cluster.run(this.cluster.now + 1000);
  }
}
