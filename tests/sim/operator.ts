/**
 * The operator of a simulated volume: takes snapshots, removes them, lets it grow, and brings copies back that failed,
 * in each of the ways there are.
 *
 * @module
 */
import type { Controller } from "../../lib/engine/controller.ts";
import type { ptypes } from "../../lib/rpc/gen/ptypes.js";
import { purge } from "../../lib/replica/sync/purge.ts";
import type { Random, SimCluster, SimHost } from "../../lib/io/sim/mod.ts";
import { copyFile } from "./files.ts";
import { type Calls, type SimReplica, snapshotContents } from "./machine.ts";
import { type Model, SECTOR, type Snapshot } from "./model.ts";

/** Snapshots that a volume has at most: its chains are read through over and over. */
const MOST_SNAPSHOTS = 5;
/** Growth at once, bytes. */
const GROWTH = 128 * 1024;
/** Bytes per second that the engine may copy to a copy that joins; 0 = no limit. */
const COPY_LIMITS = [0, 1024 * 1024, 16 * 1024 * 1024] as const;
/** A copy comes back after at most this long, virtual ms. */
const OUTAGE_MS = 400;
/** What a killed process held is free after this, virtual ms. */
export const LINGER_MS = 60;

/** What the operator works with. */
export interface OperatorScene {
  /** Draws of the test. */
  readonly random: Random;
  /** The world. */
  readonly cluster: SimCluster;
  /** Control calls. */
  readonly calls: Calls;
  /** The engine's machine. */
  readonly engineHost: SimHost;
  /** All replicas. */
  readonly replicas: readonly SimReplica[];
  /** What the disk may hold. */
  readonly model: Model;
  /** The engine's main thread, while it lives. */
  readonly controller: Controller | undefined;
  /** Faults of disks end. */
  calm(replica: SimReplica): void;
}

/** See the module text. */
export class Operator {
  /** Snapshots that must be there. */
  readonly snapshots: Map<string, Snapshot> = new Map();
  /** Snapshots that were being taken or removed when something died: they may be there. */
  readonly doubtful: Map<string, Snapshot> = new Map();
  /** Size that was last wanted, and last known to be reached; bytes. */
  wanted: number;
  /** See {@linkcode Operator.wanted}. */
  reached: number;
  /** What it did, for the summary. */
  done = {
    snapshots: 0,
    grown: 0,
    purged: 0,
    returned: 0,
    handed: 0,
    layered: 0,
  };
  #count = 0;

  /** Does nothing yet. @param bytes of the volume */
  constructor(readonly scene: OperatorScene, bytes: number) {
    this.wanted = this.reached = bytes;
  }

  /** Draws what is done during a life, and when. */
  plan(): void {
    const { random, cluster } = this.scene;
    for (let i = random.pick([0, 0, 2, 4, 7]); i > 0; i--) {
      const act = random.pick([
        () => this.snapshot(),
        () => this.snapshot(),
        () => this.snapshot(),
        () => this.removeAndPurge(),
        () => this.remove(),
        () => this.purge(),
        () => this.grow(),
        () => this.limit(),
      ]);
      cluster.schedule(random.unit() * random.pick([10, 100, 600]), () => void act());
    }
  }

  async #try(what: string, work: (controller: Controller) => Promise<void>): Promise<void> {
    const { controller, cluster } = this.scene;
    if (!controller?.started) return;
    try {
      await work(controller);
      cluster.note(`${what}: done`);
    } catch (error) {
      cluster.note(`${what}: ${error}`);
    }
  }

  /** Takes a snapshot. */
  async snapshot(): Promise<void> {
    const { model } = this.scene;
    if (this.snapshots.size + this.doubtful.size >= MOST_SNAPSHOTS) return;
    const name = `s${++this.#count}`, snapshot = model.beginSnapshot(name);
    this.doubtful.set(name, snapshot);
    await this.#try(`snapshot ${name}`, async (controller) => {
      await controller.changes.snapshot(name, { userCreated: true, labels: {}, freeze: false });
      // An engine that died answers nothing.
      if (this.scene.controller !== controller) return;
      model.endSnapshot(snapshot);
      if (this.doubtful.delete(name)) this.snapshots.set(name, snapshot);
      this.done.snapshots++;
    });
  }

  /** The engine died: what was under way may have happened. */
  died(): void {
    for (const snapshot of this.doubtful.values()) {
      if (snapshot.ended === Infinity) this.scene.model.endSnapshot(snapshot);
    }
  }

  /** Marks a snapshot as removed, on all copies that can be reached. */
  async remove(): Promise<void> {
    const { random, replicas, calls, engineHost } = this.scene;
    const names = [...this.snapshots.keys()];
    if (names.length === 0) return;
    const name = names[random.between(0, names.length - 1)];
    this.snapshots.delete(name);
    await this.#try(`remove ${name}`, async () => {
      for (const { callee, host } of replicas) {
        await calls.call(callee, engineHost, host, "markRemoved", { name }).catch(() => {});
      }
    });
  }

  /** As the drivers do it: marks one, then has every copy purge. */
  async removeAndPurge(): Promise<void> {
    await this.remove();
    await Promise.all(this.scene.replicas.map((replica) => this.purge(replica)));
  }

  /** Purges one copy: each does it by itself. */
  async purge(
    replica: SimReplica = this.scene.replicas[this.scene.random.between(0, this.scene.replicas.length - 1)],
  ): Promise<void> {
    const { calls, engineHost, controller } = this.scene;
    // As the drivers do: not while a copy is being rebuilt.
    if (controller?.replicas().some(({ mode }) => mode === "WO")) return;
    await this.#try(`purge ${replica.host.name}`, async () => {
      await purge({
        call: (kind, body, timeoutMs) =>
          calls.call(replica.callee, engineHost, replica.host, kind, body, timeoutMs),
      }, () => {});
      this.done.purged++;
    });
  }

  /** Changes how fast the engine may copy to copies that join. */
  async limit(): Promise<void> {
    const bytesPerSecond = this.scene.random.pick(COPY_LIMITS);
    await this.#try(`limit ${bytesPerSecond}`, (controller) => controller.additions.setLimit(bytesPerSecond));
  }

  /** Lets the volume grow. */
  async grow(): Promise<void> {
    const { calls, model } = this.scene;
    await this.#try("grow", async (controller) => {
      const look = () => {
        if (controller.bytes <= this.reached) return;
        model.grow(controller.bytes / SECTOR);
        this.reached = controller.bytes;
        this.done.grown++;
      };
      // One that waits for the end of another expansion may not have seen it yet when the next one begins.
      look();
      // One that failed is tried again.
      if (controller.bytes === this.wanted) this.wanted += GROWTH;
      controller.changes.expand(this.wanted);
      while (controller.changes.expansion.running) await calls.sleep(20);
      look();
    });
  }

  /** A volume was started: its size is known. */
  started(bytes: number): void {
    this.scene.model.grow(bytes / SECTOR);
    this.reached = bytes;
  }

  /** A copy failed: it is brought back in one of the ways there are. */
  async bringBack(replica: SimReplica): Promise<void> {
    const { random, calls } = this.scene, before = this.scene.controller;
    if (!before?.started) return;
    try {
      await before.removeReplica(replica.name);
      replica.host.boot();
      this.scene.calm(replica);
      replica.kill();
      const erase = random.chance(0.5);
      await calls.sleep(LINGER_MS + random.unit() * OUTAGE_MS);
      // It may be another one by now: what the copy missed was handed over.
      const { controller } = this.scene;
      if (replica.alive || !replica.host.up || !controller?.started) return;
      // An engine that was started anew has been given all copies.
      if (controller.replicas().some(({ name }) => name === replica.name)) return;
      if (erase) replica.wipe(controller.bytes);
      else replica.start();
      if (random.chance(0.5)) {
        await controller.addReplica(replica.name, false);
        if (!erase) this.done.returned++;
        if (!erase && controller !== before) this.done.handed++;
      } else {
        await this.rebuild(controller, replica);
        this.done.layered++;
      }
    } catch (error) {
      this.scene.cluster.note(`not brought back: ${error}`);
    }
  }

  /** Longhorn's rebuild, as its drivers do it. */
  async rebuild(controller: Controller, replica: SimReplica): Promise<void> {
    const { calls, engineHost, replicas } = this.scene;
    const call = (kind: string, body: unknown) =>
      calls.call(replica.callee, engineHost, replica.host, kind, body);
    if (((await call("get", {})) as ptypes.IReplica).rebuilding) {
      await call("open", { expectedBytes: 0 });
      await call("setRebuilding", { rebuilding: false });
      await call("close", {});
    }
    await controller.addReplica(replica.name, true);
    await call("setRebuilding", { rebuilding: true });
    const files = await controller.additions.prepare(replica.name);
    const complete = controller.replicas().find(({ mode }) => mode === "RW");
    const source = replicas.find(({ name }) => name === complete?.name);
    if (!source) throw new Error("no source");
    for (const { name } of files) await copyFile(calls, source, replica, name);
    await call("reload", {});
    await controller.additions.verify(replica.name);
    await call("setRebuilding", { rebuilding: false });
  }

  /** Snapshots of copies that are at rest hold what they may, the same on all. @throws {Error} */
  compare(replicas: readonly SimReplica[]): void {
    const { snapshots, doubtful } = this, { cluster, model } = this.scene;
    for (const [name, snapshot] of [...snapshots, ...doubtful]) {
      const copies = replicas.map(({ host }) =>
        snapshotContents(cluster, host, name, model.sectors * SECTOR)
      );
      copies.forEach((copy, i) => {
        if (copy === undefined) {
          if (doubtful.has(name)) return;
          throw new Error(`snapshot ${name} is missing on ${replicas[i].name}`);
        }
        model.checkSnapshot(snapshot, copy);
        const other = copies.find((one) => one !== undefined);
        const at = copy.findIndex((byte, k) => byte !== other?.[k]);
        if (at >= 0) {
          throw new Error(
            `snapshot ${name} differs at byte ${at} (sector ${at >> 9}) on ${replicas[i].name}`,
          );
        }
      });
    }
  }
}
