/**
 * Engines that relieve each other: real processes for the tests of live upgrades.
 *
 * @module
 */
import assert from "node:assert/strict";
import { freePortRange, freePorts } from "./support/ports.ts";
import { type LoggedProcess, spawnDeno } from "./support/process.ts";
import { tempDir } from "./support/temp.ts";

const READY_MS = 60_000;

/** How the engine of a test is started. */
export interface StageOptions {
  /** Kind of frontend. */
  readonly frontend: "nbd" | "iscsi" | "loop" | "loop-blockdev" | "socket";
  /** Size of the volume, bytes; default 64 MiB. */
  readonly bytes?: number;
  /** Copies; default 2. */
  readonly replicas?: number;
}

/** A running replica. */
export interface StageReplica {
  /** Its process. */
  readonly process: LoggedProcess;
  /** `tcp://127.0.0.1:PORT`. */
  readonly address: string;
}

/** A volume with its processes; see the module text. */
export class Stage implements AsyncDisposable {
  readonly #temp = tempDir();
  readonly #all: LoggedProcess[] = [];
  /** Where the frontend listens. */
  listen = "";
  /** The copies. */
  replicas: StageReplica[] = [];
  /** The engine that has the volume. */
  engine!: LoggedProcess;
  /** Size of the volume. */
  readonly bytes: number;
  /** Of the volume: names of devices are the machine's. */
  readonly name: string = `up-${crypto.randomUUID().slice(0, 8)}`;

  private constructor(readonly options: StageOptions) {
    this.bytes = options.bytes ?? 64 << 20;
  }

  /** Starts copies and the first engine. */
  static async start(options: StageOptions): Promise<Stage> {
    const stage = new Stage(options);
    try {
      stage.listen = stage.#chooseListen();
      const count = options.replicas ?? 2;
      stage.replicas = await Promise.all(
        Array.from({ length: count }, (_, i) => stage.startReplica(stage.directory(i))),
      );
      stage.engine = stage.startEngine([]);
      await stage.ready(stage.engine);
      return stage;
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The disk as the load names it. */
  place(): string {
    switch (this.options.frontend) {
      case "nbd":
        return `nbd://${this.listen}/${this.name}`;
      case "iscsi":
        return `iscsi://${this.listen}/iqn.2019-10.io.longhorn:${this.name}/1`;
      case "socket":
        return this.listen;
      case "loop":
      case "loop-blockdev":
        return `file:${this.device()}`;
    }
  }

  /** The block device. */
  device(): string {
    const [, path = ""] = this.engine.output.match(/"endpoint":"([^"]+)"/) ?? [];
    // Not by its second name: what is opened must be the device.
    return Deno.realPathSync(path);
  }

  /** A path of the test. */
  path(name: string): string {
    return this.#temp.join(name);
  }

  /** Directory of a copy. */
  directory(i: number): string {
    return this.path(`r${i}`);
  }

  #chooseListen(): string {
    const { frontend } = this.options;
    if (frontend === "socket") return `unix:${this.path("vol.sock")}`;
    const [port = 0] = freePorts(1);
    return `127.0.0.1:${port}`;
  }

  /** Starts a replica process on a directory; it does not open it. */
  async startReplica(directory: string): Promise<StageReplica> {
    const port = freePortRange(4);
    const args = [
      directory,
      "--listen",
      `127.0.0.1:${port}`,
      "--size",
      String(this.bytes),
      "--io-mode",
      "cached",
    ];
    const process = spawnDeno("cmd/replica.ts", args, { env: this.#env() });
    this.#all.push(process);
    await process.waitForOutput(/replica ready/, { timeoutMs: READY_MS });
    return { process, address: `tcp://127.0.0.1:${port}` };
  }

  #env(): Record<string, string> {
    return { DROVER_RUN: this.path("run") };
  }

  /** Starts an engine beside the running one. @param extra arguments such as `--upgrade` */
  startEngine(
    extra: readonly string[],
    replicas: readonly StageReplica[] = this.replicas,
    env: Record<string, string> = {},
  ): LoggedProcess {
    const { frontend } = this.options, [port = 0] = freePorts(1);
    const process = spawnDeno("cmd/engine.ts", [
      "controller",
      this.name,
      "--listen",
      `127.0.0.1:${port}`,
      "--size",
      String(this.bytes),
      "--frontend",
      frontend,
      ...(frontend.startsWith("loop") ? [] : ["--frontend-listen", this.listen]),
      ...replicas.flatMap(({ address }) => ["--replica", address]),
      ...extra,
    ], { env: { ...this.#env(), ...env } });
    this.#all.push(process);
    return process;
  }

  /** Waits until an engine serves. */
  async ready(engine: LoggedProcess): Promise<void> {
    await engine.waitForOutput(/engine ready/, { timeoutMs: READY_MS });
  }

  /** A new engine takes the volume over, and the old one is ended as an instance manager does it. */
  async upgrade(replicas: readonly StageReplica[] = this.replicas): Promise<void> {
    const next = this.startEngine(["--upgrade"], replicas);
    await this.ready(next);
    assert.match(next.output, /took the volume over/);
    await this.engine.waitForOutput(/the volume was handed over/);
    this.engine.signal("SIGHUP");
    await this.engine.status;
    this.engine = next;
  }

  /** How long clients stood still in each handover so far that this engine gave, ms. */
  static stops(engine: LoggedProcess): number[] {
    return [...engine.output.matchAll(/stopped_ms"?[=:] ?(\d+)/g)].map(([, ms]) => Number(ms));
  }

  /** Ends everything: engines, then copies. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#all.toReversed()) await process.stop();
    this.#temp[Symbol.dispose]();
  }
}
