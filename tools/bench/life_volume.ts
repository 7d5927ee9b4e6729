/**
 * A volume of real processes whose engine and replicas are killed and started again, for the rows on a volume's life.
 *
 * @module
 */
import { EngineClient } from "../../lib/client/engine.ts";
import { connect, ptypes, replicaService } from "../../lib/rpc/mod.ts";
import { freePortRange } from "../../tests/support/ports.ts";
import type { LoggedProcess } from "../../tests/support/process.ts";
import { waitFor } from "../../tests/support/wait.ts";
import { startProgram } from "./drover.ts";

/** Ports of a replica: control, data, sync agent, and ten for files that come from other copies. */
const PORTS_PER_REPLICA = 13;
/** Patience with a start, and with a state that must come; milliseconds. */
const READY = { timeoutMs: 60_000, everyMs: 5 };
const REPLICAS = 3;

/** One copy, through several lives of its process. */
export class LifeReplica {
  /** Its process. */
  process: LoggedProcess | undefined;
  readonly #control = `127.0.0.1:${freePortRange(PORTS_PER_REPLICA)}`;

  /** Starts nothing yet. @param bytes size of the volume */
  constructor(readonly directory: string, readonly bytes: number) {}

  /** As engines list it. */
  get address(): string {
    return `tcp://${this.#control}`;
  }

  /** Starts the process and waits until it listens. */
  async start(): Promise<void> {
    const args = [this.directory, "--listen", this.#control, "--size", String(this.bytes)];
    this.process = startProgram("replica", [...args, "--io-mode", "direct", "--disableRevCounter"]);
    await this.process.waitForOutput(/replica ready/, READY);
  }

  /** Ends the process as a crash does. */
  async kill(): Promise<void> {
    this.process?.signal("SIGKILL");
    await this.process?.status;
  }

  /** Waits until it has noticed that its engine is gone. */
  async closed(): Promise<void> {
    const client = connect(replicaService, this.address, {});
    try {
      const look = async () => (await client.unary("replicaGet", {})).replica?.state === "closed";
      await waitFor(look, { ...READY, what: `${this.address} to be closed` });
    } finally {
      client.close();
    }
  }

  /** Bytes that its files take on the disk. */
  allocated(): number {
    const files = [...Deno.readDirSync(this.directory)].filter(({ name }) => name.endsWith(".img"));
    return files.reduce((sum, { name }) => {
      return sum + (Deno.statSync(`${this.directory}/${name}`).blocks ?? 0) * 512;
    }, 0);
  }
}

/** A volume with three copies; dispose with `await using`. */
export class LifeVolume implements AsyncDisposable {
  /** Its copies. */
  readonly replicas: readonly LifeReplica[];
  /** Its engine's process. */
  engine: LoggedProcess | undefined;
  #client: EngineClient | undefined;

  /** Starts nothing yet. @param directory exists @param bytes size of the volume */
  constructor(readonly directory: string, readonly bytes: number) {
    this.replicas = Array.from(
      { length: REPLICAS },
      (_, i) => new LifeReplica(`${directory}/replica-${i}`, bytes),
    );
  }

  /** Makes a new directory below a given one; starts nothing. */
  static make(parent: string, bytes: number): LifeVolume {
    return new LifeVolume(Deno.makeTempDirSync({ dir: parent, prefix: "v-" }), bytes);
  }

  /** Starts a volume in a new directory below a given one. */
  static async start(parent: string, bytes: number): Promise<LifeVolume> {
    const volume = LifeVolume.make(parent, bytes);
    try {
      await volume.startReplicas();
      await volume.startEngine();
    } catch (error) {
      await volume[Symbol.asyncDispose]();
      throw error;
    }
    return volume;
  }

  /** Path of the socket that hosts connect to. */
  get socket(): string {
    return `${this.directory}/host`;
  }

  /** The engine's control service, with its replicas'. @throws {Error} while no engine runs */
  get client(): EngineClient {
    if (!this.#client) throw new Error("the volume has no engine");
    return this.#client;
  }

  /** Starts all replicas. */
  async startReplicas(): Promise<void> {
    await Promise.all(this.replicas.map((replica) => replica.start()));
  }

  /** Starts the engine and waits until it serves. */
  async startEngine(): Promise<void> {
    const control = `127.0.0.1:${freePortRange(1)}`, { socket, bytes } = this;
    const args = ["controller", "bench-life", "--listen", control, "--size", String(bytes)];
    args.push("--disableRevCounter", "--frontend", "socket", "--frontend-listen", `unix:${socket}`);
    args.push(...this.replicas.flatMap(({ address }) => ["--replica", address]));
    this.engine = startProgram("engine", args, { DROVER_RUN: `${this.directory}/run` });
    await this.engine.waitForOutput(/engine ready/, READY);
    this.#client = new EngineClient(control);
  }

  /** Waits for a line of the engine's log. */
  async logged(pattern: RegExp, timeoutMs = READY.timeoutMs): Promise<RegExpMatchArray> {
    if (!this.engine) throw new Error("the volume has no engine");
    return await this.engine.waitForOutput(pattern, { timeoutMs, everyMs: READY.everyMs });
  }

  /** Ends the engine as a crash does. */
  async killEngine(): Promise<void> {
    this.engine?.signal("SIGKILL");
    await this.engine?.status;
    this.#client?.[Symbol.dispose]();
    this.#client = undefined;
  }

  /** Kills a copy and waits until the engine goes on without it. */
  async lose(replica: LifeReplica): Promise<void> {
    await replica.kill();
    const gone = async () =>
      (await this.client.replicas()).some(({ address, mode }) =>
        address === replica.address && mode === "ERR"
      );
    await waitFor(gone, { ...READY, what: `${replica.address} to be out` });
    await this.client.controller.unary("replicaDelete", { address: replica.address });
  }

  /** Brings a copy back that was out for a short while; returns when it is complete. */
  async bringBack(replica: LifeReplica): Promise<void> {
    await replica.start();
    const { address } = replica, mode = ptypes.ReplicaMode.WO, { controller } = this.client;
    await controller.unary("controllerReplicaCreate", { address, mode, snapshotRequired: true });
    await controller.unary("replicaVerifyRebuild", { address }, { timeoutMs: 600_000 });
  }

  /** Stops everything in order: all copies are clean then. */
  async stop(): Promise<void> {
    this.#client?.[Symbol.dispose]();
    this.#client = undefined;
    await this.engine?.stop();
    await Promise.all(this.replicas.map(({ process }) => process?.stop()));
  }

  /** Stops everything and removes the files. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await Deno.remove(this.directory, { recursive: true });
  }
}
