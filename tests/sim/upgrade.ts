/**
 * A live upgrade in the simulation: another engine process takes the volume over with the production code of both
 * volume threads and main threads. What sockets carry between real processes is a call here.
 *
 * @module
 */
import type { Controller } from "../../lib/engine/controller.ts";
import type { Opened, Takeover } from "../../lib/engine/controller_options.ts";
import { elect, type Election } from "../../lib/engine/election.ts";
import type { Packed, UnpackBody } from "../../lib/engine/handover_thread.ts";
import { closeAll } from "../../lib/io/passing.ts";
import type { ThreadEvent } from "../../lib/engine/thread.ts";
import type { SimCluster, SimHost } from "../../lib/io/sim/mod.ts";
import type { Client } from "./client.ts";
import { type Calls, SimEngine } from "./machine.ts";

/** How long clients get to take their answers, virtual ms. */
const REST_MS = 3000;

/** The side of the engine that comes. */
export class SimTakeover implements Takeover, Disposable {
  #packed: Packed | undefined;
  #generation = 0;
  readonly #backends: Opened["backend"][] = [];

  /** Between two processes. @param from the controller of the one that runs */
  constructor(readonly from: Controller, readonly old: SimEngine, readonly next: SimEngine) {}

  /** See {@linkcode Takeover.prepare}. */
  async prepare(backend: Opened["backend"]): Promise<Opened> {
    const info = await backend.get();
    this.#backends.push(backend);
    await this.next.call("dial", {
      name: backend.name,
      data: backend.data,
      id: info.id,
      features: info.features,
    });
    return { backend, info, unclean: false };
  }

  /** See {@linkcode Takeover.claim}. */
  async claim(prepared: readonly Opened[], unreachable: number): Promise<Election> {
    const packed = await this.old.call("suspend", { graceMs: REST_MS }) as Packed;
    this.from.hand().leaving(true);
    this.#packed = packed;
    this.#generation = packed.record.generation;
    const now = await Promise.all(
      prepared.map(async ({ backend }) => ({ backend, info: await backend.get() })),
    );
    const order = ({ name }: { readonly name: string }) => packed.complete.indexOf(name);
    const election = elect(
      now.map(({ backend, info }) => ({
        ...info,
        ...packed.record,
        state: "dirty",
        name: backend.name,
        unclean: false,
        lostUnflushed: false,
      })).sort((a, b) => order(a) - order(b)),
      {
        bytes: this.from.bytes,
        currentBytes: 0,
        revisionCounterDisabled: this.from.options.revisionCounterDisabled,
        salvage: false,
        upgrade: true,
        unopened: unreachable,
      },
    );
    return {
      ...election,
      generation: Math.max(election.generation, packed.record.generation + 1),
      unclean: packed.readsFromOne,
    };
  }

  /** There is no frontend; the volume thread takes what was packed. */
  async frontend(): Promise<string> {
    const body: UnpackBody = { kind: "", options: {}, memory: this.#packed?.memory ?? -1, descriptors: [] };
    await this.next.call("unpack", body);
    return "";
  }

  /** The memory that was passed, as processes let go of it at their end. */
  [Symbol.dispose](): void {
    if (this.#packed) closeAll([this.#packed.memory]);
  }

  /** See {@linkcode Takeover.commit}. */
  async commit(): Promise<void> {
    for (const backend of this.#backends) backend.inherit();
    await this.old.call("leave");
    this.from.hand().gone();
  }

  /** See {@linkcode Takeover.fail}. */
  fail(): void {}

  /** The other one failed: the old engine goes on, above whatever generation it may have recorded. */
  async takeBack(): Promise<void> {
    const hand = this.from.hand();
    if (this.#packed) {
      const generation = this.#generation + 2;
      await this.old.call("start", { names: [], generation, readFromOne: this.#packed.readsFromOne });
      hand.regained(generation);
    }
    hand.leaving(false);
    for (const { name, mode, reason } of (await this.from.info()).replicas) {
      if (mode === "ERR") this.from.copies.failed(name, reason);
    }
  }
}

/** What an upgrade needs of a scenario, and changes in it. */
export interface UpgradeScene {
  /** The world. */
  readonly cluster: SimCluster;
  /** Control calls. */
  readonly calls: Calls;
  /** The engine's machine. */
  readonly engineHost: SimHost;
  /** The host's side. */
  readonly client: Client | undefined;
  /** The engine that runs. */
  engine: SimEngine;
  /** Its main thread. */
  controller: Controller | undefined;
  /** The engine that is to take over, while it does. */
  coming: SimEngine | undefined;
  /** Upgrades so far. */
  upgraded: number;
  /** Makes the main thread of an engine. */
  newController(engine: SimEngine, takeover: Takeover): Controller;
  /** Takes what the volume thread tells unasked. */
  onEvent(event: ThreadEvent, engine: SimEngine): void;
}

/** Another engine process takes the volume over, or the old one goes on. */
export async function upgrade(scene: UpgradeScene): Promise<void> {
  const { controller, client, engine: old, calls } = scene;
  if (!controller?.started || !client || !old.process?.alive) return;
  const next: SimEngine = new SimEngine(
    calls,
    scene.engineHost,
    controller.bytes,
    (event) => scene.onEvent(event, next),
  );
  const running = old.process;
  client.pause();
  while (!client.quiet && running.alive) await calls.sleep(1);
  if (!running.alive || scene.controller !== controller) return;
  using takeover = new SimTakeover(controller, old, next);
  const taker = scene.newController(next, takeover);
  try {
    if (controller.replicas().some(({ mode }) => mode === "WO")) throw new Error("a copy is being filled");
    await controller.copies.exclusively(async () => {
      next.spawn();
      scene.coming = next;
      await taker.start(controller.replicas().filter(({ mode }) => mode === "RW").map(({ name }) => name));
    });
    const { thread, pool, process } = next;
    if (scene.controller !== controller || !thread || !pool || !process?.alive) throw new Error("it died");
    scene.engine = next;
    scene.controller = taker;
    old.process.kill();
    scene.upgraded++;
    process.enter(() => client.goOn({ io: process.io, pool, volume: thread.volume }));
  } catch (error) {
    scene.cluster.note(`not upgraded: ${error}`);
    next.process?.kill();
    if (scene.controller !== controller || !old.process.alive) return;
    try {
      await takeover.takeBack();
      old.process.enter(() => client.goOn());
    } catch (problem) {
      // It may go on or not; either way nobody is told anything any more.
      scene.cluster.note(`not taken back: ${problem}`);
      old.process.kill();
      scene.controller = undefined;
    }
  }
}
