/**
 * A node for tests: an instance manager from source, with directories and ports of its own, that can be killed and
 * started again. What it started is gone when the node is disposed of.
 *
 * @module
 */
import { decodeRecord } from "../lib/instance/record.ts";
import { type ProcessManagerMethods, processManagerService, type ProcessResponse } from "../lib/rpc/imrpc.ts";
import { connect, type RpcClient } from "../lib/rpc/mod.ts";
import { type LoggedProcess, spawnDeno } from "./support/process.ts";
import { freePortRange } from "./support/ports.ts";
import { inRepository } from "./support/repository.ts";
import { type TempDir, tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

/** Ports of the services. */
const SERVICE_PORTS = 4;

/** Whether a process is there, and not only waited for by nobody yet. */
export function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX] /s.test(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch {
    return false;
  }
}

/** See the module text. */
export class TestNode implements AsyncDisposable {
  readonly #directory: TempDir = tempDir();
  readonly #clients: RpcClient<ProcessManagerMethods>[] = [];
  /** First port of its services. */
  readonly port: number = freePortRange(SERVICE_PORTS);
  /** First port of its processes. */
  readonly processPort: number;
  /** A program that sleeps for as many seconds as its argument says, and another one. */
  readonly sleepers: readonly [string, string];
  /** The engine under another path: a program to replace it with. */
  readonly engine2: string;
  /** The manager. */
  manager: LoggedProcess;
  /** A client of the manager. */
  processes: RpcClient<ProcessManagerMethods>;

  private constructor(readonly processPorts: number, readonly flags: readonly string[]) {
    this.processPort = freePortRange(processPorts);
    this.sleepers = [this.path("sleeper-1"), this.path("sleeper-2")];
    for (const sleeper of this.sleepers) Deno.copyFileSync("/bin/sleep", sleeper);
    this.engine2 = this.path("engine-2");
    const command = `exec "${Deno.execPath()}" run -A --no-check "${inRepository("cmd/engine.ts")}" "$@"`;
    Deno.writeTextFileSync(this.engine2, `#!/bin/sh\n${command}\n`, { mode: 0o755 });
    [this.manager, this.processes] = this.#start();
  }

  /** Starts one. @param flags of the manager, besides those for its places */
  static async start(flags: readonly string[] = [], processPorts = 60): Promise<TestNode> {
    const node = new TestNode(processPorts, flags);
    try {
      await node.ready();
    } catch (error) {
      await node[Symbol.asyncDispose]();
      throw error;
    }
    return node;
  }

  #start(): [LoggedProcess, RpcClient<ProcessManagerMethods>] {
    const manager = spawnDeno("cmd/instance_manager.ts", this.arguments(), {
      // Engines of one volume meet there; those of other tests are none of ours.
      env: { DROVER_RUN: this.path("run") },
    });
    const client = connect(processManagerService, `127.0.0.1:${this.port}`);
    this.#clients.push(client);
    return [manager, client];
  }

  /** The command line of its manager. */
  arguments(): string[] {
    const last = this.processPort + this.processPorts - 1;
    const places = ["--logs-dir", this.path("logs"), "--state-dir", this.path("state")];
    const ports = ["--listen", `127.0.0.1:${this.port}`, "--port-range", `${this.processPort}-${last}`];
    const allowed = [...this.sleepers, this.engine2].flatMap((path) => ["--allow-binary", path]);
    return ["daemon", ...places, ...ports, ...allowed, ...this.flags];
  }

  /** A path in its directory. */
  path(name: string): string {
    return this.#directory.join(name);
  }

  /** Waits until the manager serves. */
  async ready(): Promise<void> {
    await this.manager.waitForOutput(/instance manager ready/, { timeoutMs: 30_000 });
  }

  /** Ends the manager, with or without a chance to say farewell, and starts the next one. */
  async restart(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    this.manager.signal(signal);
    await this.manager.status;
    [this.manager, this.processes] = this.#start();
    await this.ready();
  }

  /** Starts a process that sleeps. */
  async sleep(name: string, sleeper = this.sleepers[0]): Promise<ProcessResponse> {
    return await this.processes.unary("processCreate", {
      spec: { name, binary: sleeper, args: ["1000"], portCount: 0, portArgs: [] },
    }) as ProcessResponse;
  }

  /** State of a process, with its error. */
  async state(name: string): Promise<string> {
    const { status } = await this.processes.unary("processGet", { name });
    return status?.errorMsg ? `${status.state}: ${status.errorMsg}` : status?.state ?? "";
  }

  /** Waits for a state. */
  async until(name: string, state: RegExp): Promise<void> {
    let last = "";
    await waitFor(async () => state.test(last = await this.state(name)), {
      what: `${name} to be ${state}`,
      timeoutMs: 60_000,
    }).catch((cause) => {
      throw new Error(`${name} is ${last}\n${this.log(name)}\n${this.manager.output}`, { cause });
    });
  }

  /** The log of a process. */
  log(name: string): string {
    try {
      return Deno.readTextFileSync(this.path(`logs/${name}.log`));
    } catch {
      return "";
    }
  }

  /** Process ids by name, as they are noted. */
  pids(): Map<string, number> {
    const found = new Map<string, number>();
    for (const { name } of Deno.readDirSync(this.path("state"))) {
      if (!name.endsWith(".json")) continue;
      const record = decodeRecord(Deno.readFileSync(this.path(`state/${name}`)));
      if (record.pid > 0) found.set(record.name, record.pid);
    }
    return found;
  }

  /** Ends everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    this.manager.signal("SIGKILL");
    await this.manager.status;
    const pids = [...this.pids().values()];
    for (const pid of pids) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // It is gone.
      }
    }
    await waitFor(() => !pids.some(isAlive), { what: "the end of the processes" });
    this.#directory[Symbol.dispose]();
  }
}
