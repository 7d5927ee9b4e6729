/**
 * Volumes of real processes for tests: replicas, an engine with the socket frontend, control calls, and a load that
 * knows what must be on the disk.
 *
 * @module
 */
import assert from "node:assert/strict";
import { connect, controllerService, ptypes, replicaService, type RpcClient } from "../../lib/rpc/mod.ts";
import type { ControllerMethods, ReplicaMethods } from "../../lib/rpc/services.ts";
import { freePortRange } from "../support/ports.ts";
import { type LoggedProcess, spawnDeno } from "../support/process.ts";
import { tempDir } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { Frames } from "./frames.ts";

/** Size of the volumes, bytes. */
export const VOLUME_BYTES = 64 * 1024 * 1024;
const READY = { timeoutMs: 60_000 };

/** Options of a volume. */
export interface ClusterOptions {
  /** How many; default 3. */
  readonly replicas?: number;
  /** Further flags of every replica. */
  readonly replicaFlags?: readonly string[];
  /** Further flags of every engine. */
  readonly engineFlags?: readonly string[];
  /** With the revision counter; default: without. */
  readonly revisionCounter?: boolean;
}

/** One replica, through several lives of its process. */
export class TestReplica {
  /** Its present process, or the last one. */
  process: LoggedProcess | undefined;
  /** Port of its control service. */
  readonly port: number = freePortRange(13);

  /** Starts nothing yet. */
  constructor(readonly directory: string, readonly flags: readonly string[]) {}

  /** `tcp://...` as engines are told. */
  get address(): string {
    return `tcp://127.0.0.1:${this.port}`;
  }

  /** Port of the data server. */
  get dataPort(): number {
    return this.port + 1;
  }

  /** Starts the process and waits until it listens. */
  async start(flags: readonly string[] = []): Promise<LoggedProcess> {
    this.process = this.spawn(flags);
    await this.process.waitForOutput(/replica ready/, READY);
    return this.process;
  }

  /** Starts the process. */
  spawn(flags: readonly string[] = [], directory = this.directory): LoggedProcess {
    const args = [
      "--listen",
      `127.0.0.1:${this.port}`,
      "--volume-name",
      "vol",
      "--size",
      String(VOLUME_BYTES),
    ];
    return spawnDeno("cmd/replica.ts", [directory, ...args, ...this.flags, ...flags]);
  }

  /** Content of volume.meta. */
  meta(): { Dirty: boolean; Size: number } {
    return JSON.parse(Deno.readTextFileSync(`${this.directory}/volume.meta`));
  }

  /** Allocated bytes of the head. */
  headBytes(): number {
    return (Deno.statSync(`${this.directory}/volume-head-000.img`).blocks ?? 0) * 512;
  }

  /** Calls the replica. */
  async call<T>(work: (client: RpcClient<ReplicaMethods>) => Promise<T>): Promise<T> {
    const client = connect(replicaService, this.address, { identity: { volumeName: "vol" } });
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }
}

/** One life of an engine. */
export class TestEngine {
  /** Port of its control service. */
  readonly port: number = freePortRange(1);
  /** Its process. */
  readonly process: LoggedProcess;

  /** Starts it. @param socket path of its frontend */
  constructor(readonly socket: string, args: readonly string[]) {
    this.process = spawnDeno("cmd/engine.ts", [
      "--volume-name",
      "vol",
      "--engine-instance-name",
      "vol-e-0",
      "controller",
      "vol",
      "--listen",
      `127.0.0.1:${this.port}`,
      "--size",
      String(VOLUME_BYTES),
      "--current-size",
      "0",
      "--frontend",
      "socket",
      "--frontend-listen",
      `unix:${socket}`,
      ...args,
    ]);
  }

  /** Waits until it serves. */
  async ready(): Promise<this> {
    await this.process.waitForOutput(/engine ready/, READY);
    return this;
  }

  /** Address of the control service. */
  get address(): string {
    return `tcp://127.0.0.1:${this.port}`;
  }

  /** Calls the engine. */
  async call<T>(work: (client: RpcClient<ControllerMethods>) => Promise<T>): Promise<T> {
    const client = connect(controllerService, this.address, { identity: { volumeName: "vol" } });
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }

  /** Modes and notes of the replicas, by address. */
  async modes(): Promise<Map<string, { mode: string; note: string }>> {
    const { replicas } = await this.call((client) => client.unary("replicaList", {}));
    return new Map((replicas ?? []).map((replica) => [replica.address?.address ?? "", {
      mode: ptypes.ReplicaMode[replica.mode ?? 0],
      note: replica.droverNote ?? "",
    }]));
  }
}

/** A volume of processes; everything ends with its scope. */
export class Cluster implements AsyncDisposable {
  readonly #directory = tempDir("v-");
  /** All its replicas. */
  readonly replicas: TestReplica[];
  /** All its engines, oldest first. */
  readonly engines: TestEngine[] = [];
  readonly #frames: Frames[] = [];

  /** Starts nothing yet. */
  constructor(readonly options: ClusterOptions) {
    const counter = options.revisionCounter ? [] : ["--disableRevCounter"];
    this.replicas = Array.from(
      { length: options.replicas ?? 3 },
      (_, i) => new TestReplica(this.path(`r${i}`), [...counter, ...options.replicaFlags ?? []]),
    );
  }

  /** A path in the cluster's own directory. */
  path(name: string): string {
    return this.#directory.join(name);
  }

  /** Starts the replicas, and an engine. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = new Cluster(options);
    try {
      await cluster.startReplicas();
      await cluster.startEngine();
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  /** Starts the replicas that do not run. */
  async startReplicas(): Promise<void> {
    await Promise.all(
      this.replicas.filter(({ process }) => !process?.running).map((replica) => replica.start()),
    );
  }

  /** Starts an engine, without waiting for it. */
  spawnEngine(replicas: readonly TestReplica[] = this.replicas, flags: readonly string[] = []): TestEngine {
    const counter = this.options.revisionCounter ? [] : ["--disableRevCounter"];
    const engine = new TestEngine(this.path(`s${this.engines.length}`), [
      ...replicas.flatMap(({ address }) => ["--replica", address]),
      ...counter,
      ...this.options.engineFlags ?? [],
      ...flags,
    ]);
    this.engines.push(engine);
    return engine;
  }

  /** Starts an engine that must come up. */
  async startEngine(replicas: readonly TestReplica[] = this.replicas): Promise<TestEngine> {
    return await this.spawnEngine(replicas).ready();
  }

  /** The newest engine. */
  get engine(): TestEngine {
    const engine = this.engines.at(-1);
    assert(engine);
    return engine;
  }

  /** A client of the newest engine's socket. */
  async connect(to: string | number = this.engine.socket): Promise<Frames> {
    const frames = await Frames.connect(to);
    this.#frames.push(frames);
    return frames;
  }

  /** Waits until all replicas are closed, as after an engine that vanished. */
  async replicasClosed(): Promise<void> {
    for (const replica of this.replicas) {
      if (!replica.process?.running) continue;
      await waitFor(
        async () => (await replica.call((c) => c.unary("replicaGet", {}))).replica?.state === "closed",
        { what: `${replica.address} to be closed` },
      );
    }
  }

  /** Ends everything and removes the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const frames of this.#frames) {
      frames[Symbol.dispose]();
      await frames.ended();
    }
    for (const { process } of this.engines) process.signal("SIGCONT");
    await Promise.all(this.engines.map(({ process }) => process.stop()));
    await Promise.all(this.replicas.map(({ process }) => process?.stop()));
    this.#directory[Symbol.dispose]();
  }
}

const BLOCK = 4096;

/** Blocks that are written over and over, each by one writer at a time; knows what each may hold. */
export class Load {
  /** Last version known to be on the disk, and last version sent, by block. */
  readonly #acknowledged: number[];
  readonly #sent: number[];
  /** Writes acknowledged. */
  count = 0;
  /** Why writers ended. */
  readonly ends: unknown[] = [];
  #stop = false;
  #running: Promise<void>[] = [];

  /** Writes nothing yet. @param blocks how many, spread over a quarter of the volume */
  constructor(readonly blocks = 256) {
    this.#acknowledged = new Array(blocks).fill(0);
    this.#sent = new Array(blocks).fill(0);
  }

  #offset(block: number): number {
    return block * Math.floor(VOLUME_BYTES / 4 / this.blocks / BLOCK) * BLOCK;
  }

  #content(block: number, version: number): Uint8Array {
    const words = new Uint32Array(BLOCK / 4);
    for (let i = 0; i < words.length; i += 2) {
      words[i] = block + 1;
      words[i + 1] = version;
    }
    return version === 0 ? new Uint8Array(BLOCK) : new Uint8Array(words.buffer);
  }

  /** Begins to write, until {@linkcode Load.stop} or an error. */
  start(frames: Frames, writers = 8): void {
    this.#stop = false;
    this.#running = Array.from({ length: writers }, async (_, writer) => {
      try {
        for (
          let block = writer;
          !this.#stop;
          block = block + writers < this.blocks ? block + writers : writer
        ) {
          const version = ++this.#sent[block];
          await frames.write(this.#offset(block), this.#content(block, version));
          this.#acknowledged[block] = version;
          this.count++;
        }
      } catch (error) {
        this.ends.push(error);
      }
    });
  }

  /** Waits for so many more acknowledged writes. */
  async progress(writes: number): Promise<void> {
    const until = this.count + writes;
    await waitFor(() => this.count >= until || this.ends.length > 0, {
      what: `${writes} writes`,
      timeoutMs: 60_000,
    });
    assert.deepEqual(this.ends, [], "a writer ended");
  }

  /** Ends the writers, in order or because their connection broke. */
  async stop(): Promise<void> {
    this.#stop = true;
    await Promise.all(this.#running);
  }

  /** Reads everything back: each block is whole, and no older than what was acknowledged. */
  async verify(frames: Frames): Promise<void> {
    await Promise.all(this.#sent.map(async (sent, block) => {
      const bytes = await frames.read(this.#offset(block), BLOCK);
      const version = new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true);
      const want = this.#content(block, version);
      assert.ok(bytes.every((byte, i) => byte === want[i]), `block ${block} is torn`);
      const least = this.#acknowledged[block];
      assert.ok(version >= least && version <= sent, `block ${block}: ${version}, ${least} was acknowledged`);
      this.#acknowledged[block] = this.#sent[block] = version;
    }));
  }
}
