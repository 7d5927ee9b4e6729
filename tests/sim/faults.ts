/**
 * The faults that are drawn during a life of the engine.
 *
 * @module
 */
import type { Controller } from "../../lib/engine/controller.ts";
import { REPLICA_TIMEOUT_MS } from "../../lib/engine/limits.ts";
import { Errno } from "../../lib/io/errno.ts";
import type { Random, SimCluster, SimHost } from "../../lib/io/sim/mod.ts";
import type { SimEngine, SimReplica } from "./machine.ts";

/** Names of the faults, for the trace. */
const FAULTS = [
  "kill",
  "power",
  "power everywhere",
  "reset",
  "partition",
  "pause",
  "disk error",
  "disk full",
  "all disks full",
];

/** What faults need of a scenario. */
export interface FaultScene {
  /** Draws of the test. */
  readonly random: Random;
  /** The world. */
  readonly cluster: SimCluster;
  /** The engine's machine. */
  readonly engineHost: SimHost;
  /** The engine. */
  readonly engine: SimEngine;
  /** All replicas. */
  readonly replicas: readonly SimReplica[];
  /** Replicas whose machine lost power. */
  readonly cut: Set<SimReplica>;
  /** The engine's main thread, while it lives. */
  controller: Controller | undefined;
}

/** See the module text. */
export class Faults {
  /** Faults so far. */
  count = 0;
  readonly #armed: (() => void)[] = [];

  /** None yet. */
  constructor(readonly scene: FaultScene) {}

  /** Disks err no more. */
  disarm(): void {
    for (const stop of this.#armed.splice(0)) stop();
  }

  /** Draws the faults of a life and when they come. */
  plan(): void {
    const { random, cluster } = this.scene;
    const count = random.pick([0, 1, 1, 2, 3]);
    for (let i = 0; i < count; i++) {
      cluster.schedule(random.unit() * random.pick([5, 50, 500]), () => this.fault());
    }
    if (random.chance(0.4)) {
      cluster.schedule(random.unit() * random.pick([5, 50, 500]), () => this.killEngine());
    }
  }

  /** Something dies while a volume is started for the first time: it has no record of members yet. */
  creation(): void {
    const { random, cluster, replicas, engineHost } = this.scene;
    const act = random.pick([
      () => this.killEngine(),
      () => replicas[random.between(0, replicas.length - 1)].kill(),
      () => this.powerCut([replicas[random.between(0, replicas.length - 1)]]),
      () => {
        this.killEngine();
        engineHost.powerCut();
        this.powerCut(replicas);
      },
    ]);
    cluster.schedule(random.unit() * random.pick([3, 10, 20]), () => {
      this.count++;
      cluster.note("fault at the creation");
      act();
    });
  }

  /** SIGKILL of the engine. */
  killEngine(): void {
    if (!this.scene.engine.process?.alive) return;
    this.count++;
    this.scene.cluster.note("kill engine");
    this.scene.engine.process.kill();
    this.scene.controller = undefined;
  }

  /** One fault, drawn. */
  fault(): void {
    const { random, engineHost, replicas } = this.scene;
    const replica = replicas[random.between(0, replicas.length - 1)];
    this.count++;
    const kind = random.between(0, 8);
    this.scene.cluster.note(`fault ${FAULTS[kind]} ${replica.host.name}`);
    switch (kind) {
      case 0:
        return replica.kill();
      case 1:
        return this.powerCut([replica]);
      case 2:
        // The whole rack: engine and replicas together.
        this.killEngine();
        engineHost.powerCut();
        return this.powerCut(replicas);
      case 3:
        this.scene.cluster.network.cut(engineHost, replica.host);
        return;
      case 4:
        this.scene.cluster.network.partition([engineHost], [replica.host]);
        this.scene.cluster.schedule(
          random.unit() * 3 * REPLICA_TIMEOUT_MS,
          () => this.scene.cluster.network.heal(random.unit()),
        );
        return;
      case 5:
        replica.callee.process?.pause(random.unit() * 3 * REPLICA_TIMEOUT_MS);
        return;
      case 6:
        this.#armed.push(replica.host.disk.inject({
          on: random.pick(["read", "write", "sync"]),
          errno: Errno.EIO,
          chance: 0.3,
          times: random.between(1, 3),
          path: ".img",
        }));
        return;
      case 7:
        return this.fillDisks([replica]);
      default:
        return this.fillDisks(replicas);
    }
  }

  /** Disks are full for a while. */
  fillDisks(replicas: readonly SimReplica[]): void {
    for (const { host } of replicas) {
      host.disk.setFree(0);
      this.scene.cluster.schedule(
        this.scene.random.unit() * 2 * REPLICA_TIMEOUT_MS,
        () => host.disk.setFree(2 ** 40),
      );
    }
  }

  /** The machines of these replicas lose power. */
  powerCut(replicas: readonly SimReplica[]): void {
    for (const replica of replicas) {
      replica.powerCut();
      this.scene.cut.add(replica);
    }
  }
}
