/**
 * The processes of a volume on this machine: its replicas and its engine. Starts them in order, tells what happens
 * to them, and ends them in order: the engine first, so that no copy looks failed.
 *
 * @module
 */
import { EngineClient } from "../../lib/client/engine.ts";
import { addReplica } from "../../lib/client/rebuild.ts";
import { cleanLeftovers, LoopAliveError } from "../../lib/frontend/loop/leftovers.ts";
import { SystemRunner } from "../../lib/host/command.ts";
import { connect, controllerService, ptypes, type RpcClient } from "../../lib/rpc/mod.ts";
import type { ControllerMethods } from "../../lib/rpc/services.ts";
import { CHAP_VARIABLES } from "../support/chap.ts";
import { Child, type ChildEvent, describeStatus } from "../support/child.ts";
import { freePorts } from "../support/free_ports.ts";
import { readDeviceRecord } from "../../lib/host/device_record.ts";
import { isDeviceFrontend } from "../support/frontends.ts";
import { DEVICE_DIRECTORY, runDirectory } from "../support/loop_host.ts";
import type { FrontendChoice } from "./frontend_choice.ts";
import { lookAt, type VolumeHealth } from "./health.ts";
import type { LogFile } from "./log_file.ts";
import type { RebuildSettings, ReplicaPlace, VolumeRecord } from "./record.ts";

/** How a volume is to run. */
export interface StackOptions {
  /** What is remembered of the volume. */
  readonly record: VolumeRecord;
  /** Copies whose directories are there. */
  readonly present: readonly ReplicaPlace[];
  /** How it is shown. */
  readonly frontend: FrontendChoice;
  /** `direct` or `cached`. */
  readonly ioMode: string;
  /** See `chap.ts`. */
  readonly chapFile: string | undefined;
  /** Start although complete copies are missing. */
  readonly degraded: boolean;
  /** Takes the logs of all processes. */
  readonly log: LogFile;
  /** Told when a process ends by itself. */
  readonly onEnd: (name: string, how: string) => void;
}

/** A volume that does not start: the message is for people. `portTaken`: another try may succeed. */
export class StackError extends Error {
  /** For checks. */
  override readonly name = "StackError";
  /** Says why. @param portTaken somebody took a port in between */
  constructor(message: string, readonly portTaken = false) {
    super(message);
  }
}

/** Files that a replica takes from other copies at the same time: a port each. */
const RECEIVERS = 4;
/** Ports in a row that a replica needs: control, data, long jobs, files. */
const REPLICA_PORTS = 3 + RECEIVERS;
/** Time to end in order, milliseconds: a flush of everything that is not on stable storage yet. */
const STOP_MS = 60_000;
/** The same for a copy that is out: it is erased anyway; milliseconds. */
const OUT_STOP_MS = 10_000;
/** Time limit for a change of the copies, milliseconds: the engine itself gives up after 60 s. */
const CHANGE_MS = 75_000;
/** Time limit of a look at the engine, milliseconds. */
const LOOK_MS = 5_000;
/** Looks at an engine that was just started, until it counts as hanging. */
const FIRST_LOOKS = 24;
/** Time limit for taking the frontend down, milliseconds: caches of the host are written first. */
const FRONTEND_STOP_MS = 120_000;

/** See the module text. */
export class VolumeStack {
  /** Processes and control addresses of the copies, by name. */
  readonly replicas = new Map<string, { readonly child: Child; readonly address: string }>();
  /** Undefined until it was started. */
  engine: Child | undefined;
  /** Control address of the engine. */
  control = "";
  #client: RpcClient<ControllerMethods> | undefined;
  #stopping = false;
  /** Processes that are ended on purpose. */
  readonly #ending = new Set<Child>();
  /** Size of the volume, as the engine told it last. */
  #bytes: number;

  /** Nothing is started yet. */
  constructor(readonly options: StackOptions) {
    this.#bytes = options.record.bytes;
  }

  /**
   * Starts everything and waits until the disk is there.
   * @throws {StackError} everything is ended again then
   */
  async start(): Promise<void> {
    try {
      await this.#startReplicas();
      await this.#startEngine();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  #child(name: string, program: string, args: readonly string[], env: Record<string, string>): Child {
    const { log, onEnd } = this.options;
    const onEvent = (event: ChildEvent) => log.write(name, event);
    const child = new Child(name, { program, args, env, onEvent });
    child.status.then((status) => {
      if (!this.#stopping && !this.#ending.delete(child)) onEnd(name, describeStatus(status));
    });
    return child;
  }

  async #startReplicas(): Promise<void> {
    const { record, present } = this.options;
    const taken = new Set<number>();
    // Empty copies are made at the creation only: later, an empty one would be a lost one.
    const ready = present.map((place) => this.#startReplica(place, record.state === "creating", taken));
    const failures = (await Promise.all(ready)).filter((error) => error !== undefined);
    // A volume that exists runs without a copy that does not start; one that is made needs all.
    const fatal = failures.find((error) => error.portTaken) ??
      (record.state === "creating" || failures.length === present.length ? failures[0] : undefined);
    if (fatal) throw fatal;
  }

  /** Starts the process of a copy. @returns why it does not run */
  async #startReplica(
    { name, directory }: ReplicaPlace,
    create: boolean,
    taken: Set<number> = new Set(),
  ): Promise<StackError | undefined> {
    const { record, ioMode } = this.options;
    const port = freePorts(REPLICA_PORTS, taken);
    for (let i = 0; i < REPLICA_PORTS; i++) taken.add(port + i);
    const address = `127.0.0.1:${port}`;
    const args = [directory, "--listen", address, "--volume-name", record.name, "--io-mode", ioMode];
    args.push("--sync-agent-port-count", String(RECEIVERS));
    if (create) args.push("--size", String(this.#bytes));
    if (!record.revisionCounter) args.push("--disableRevCounter");
    const noSecrets = Object.fromEntries(CHAP_VARIABLES.map((name) => [name, ""]));
    const child = this.#child(name, "replica", args, noSecrets);
    this.replicas.set(name, { child, address });
    return await child.waitFor("replica ready") ? undefined : failure(child);
  }

  /** The process of an engine, which is not ready yet. */
  #spawnEngine(extra: readonly string[]): { readonly engine: Child; readonly control: string } {
    const { record, frontend, chapFile, degraded } = this.options;
    const control = `127.0.0.1:${freePorts(1)}`;
    const args = ["--volume-name", record.name, "controller", record.name, "--listen", control];
    args.push("--size", String(record.bytes), "--frontend", frontend.kind);
    if (frontend.listen !== undefined) args.push("--frontend-listen", frontend.listen);
    if (chapFile !== undefined) args.push("--chap-file", chapFile);
    if (!record.revisionCounter) args.push("--disableRevCounter");
    if (degraded) args.push("--allow-missing-replicas");
    for (const { child, address } of this.replicas.values()) {
      if (child.running) args.push("--replica", `tcp://${address}`);
    }
    return { engine: this.#child("engine", "engine", [...args, ...extra], {}), control: `tcp://${control}` };
  }

  async #startEngine(): Promise<void> {
    ({ engine: this.engine, control: this.control } = this.#spawnEngine([]));
    if (!await this.engine.waitFor("engine ready")) throw failure(this.engine);
    this.#reach();
  }

  #reach(): void {
    const identity = { volumeName: this.options.record.name };
    this.#client = connect(controllerService, this.control, { identity, timeoutMs: LOOK_MS });
  }

  /**
   * A new engine, of whatever version is installed now, takes the place of the running one.
   * @throws {StackError} it could not; the running one goes on
   */
  async relieveEngine(): Promise<void> {
    const { engine: old } = this, next = this.#spawnEngine(["--upgrade"]);
    this.#ending.add(next.engine);
    if (!await next.engine.waitFor("engine ready")) throw failure(next.engine);
    this.#ending.delete(next.engine);
    this.#client?.close();
    ({ engine: this.engine, control: this.control } = next);
    this.#reach();
    if (!old) return;
    this.#ending.add(old);
    old.signal("SIGHUP");
    await old.status;
  }

  /** Looks at the engine. @throws {RpcError} when it does not answer */
  async look(): Promise<VolumeHealth> {
    const health = await lookAt(this.#connected(), (address) => this.#nameOf(address));
    this.#bytes = health.bytes;
    return health;
  }

  /**
   * Looks at an engine that was just started: on a busy machine the first answers may be late.
   * @throws {RpcError} when it ended, or stayed silent; everything is ended then
   */
  async firstLook(): Promise<VolumeHealth> {
    for (let looks = 1;; looks++) {
      try {
        return await this.look();
      } catch (error) {
        if (looks < FIRST_LOOKS && this.engine?.running) continue;
        await this.stop();
        throw error;
      }
    }
  }

  #nameOf(address: string): string {
    for (const [name, replica] of this.replicas) if (address.endsWith(`//${replica.address}`)) return name;
    return address;
  }

  #connected(): RpcClient<ControllerMethods> {
    if (!this.#client) throw new StackError("the volume is not running");
    return this.#client;
  }

  /** Ends the process of a copy, if it runs. */
  async endReplica(name: string): Promise<void> {
    const child = this.replicas.get(name)?.child;
    if (!child?.running) return;
    this.#ending.add(child);
    await child.stop(OUT_STOP_MS);
  }

  /** Takes a copy out of the engine's set; returns when the others have recorded that. @throws {RpcError} */
  async forgetReplica(name: string): Promise<void> {
    const replica = this.replicas.get(name);
    if (!replica) return;
    const address = `tcp://${replica.address}`;
    await this.#connected().unary("replicaDelete", { address }, { timeoutMs: CHANGE_MS });
    this.replicas.delete(name);
  }

  /** Takes a good copy out for ever: first of the engine's set, then its process ends. @throws {RpcError} */
  async dropReplica(name: string): Promise<void> {
    const child = this.replicas.get(name)?.child;
    if (child) this.#ending.add(child);
    try {
      await this.forgetReplica(name);
    } catch (error) {
      if (child) this.#ending.delete(child);
      throw error;
    }
    await child?.stop(OUT_STOP_MS);
  }

  /** Starts the process of a copy that is not there: it makes an empty one. @throws {StackError} */
  async startEmpty(place: ReplicaPlace): Promise<void> {
    await this.#startOne(place, true);
  }

  /** Starts the process of a copy that was out, with what it has. @throws {StackError} */
  async startAgain(place: ReplicaPlace): Promise<void> {
    await this.#startOne(place, false);
  }

  async #startOne(place: ReplicaPlace, create: boolean): Promise<void> {
    this.#connected();
    const error = await this.#startReplica(place, create);
    if (error) throw error;
  }

  /**
   * Has a copy filled that has nothing, or gets only what it missed. Returns when it gets all writes.
   *
   * @param settings the way in which it gets what it lacks
   * @param layers what exists becomes a snapshot, the files of all of them are copied, and the copy is complete at the
   *   end
   * @throws {RpcError}
   */
  async fillReplica(name: string, settings: RebuildSettings, layers: boolean): Promise<void> {
    const address = `tcp://${this.replicas.get(name)?.address}`;
    if (layers) {
      using engine = new EngineClient(this.control, { volumeName: this.options.record.name });
      return await addReplica(engine, address, settings);
    }
    const client = this.#connected(), times = { timeoutMs: CHANGE_MS };
    await client.unary("droverCopyLimitSet", { bytesPerSecond: settings.bytesPerSecond }, times);
    const request = { address, mode: ptypes.ReplicaMode.WO, snapshotRequired: false };
    await client.unary("controllerReplicaCreate", request, times);
  }

  /** Takes the disk away from the host. @throws {RpcError} when it is in use: nothing has changed then */
  async stopFrontend(): Promise<void> {
    await this.#client?.unary("volumeFrontendShutdown", {}, { timeoutMs: FRONTEND_STOP_MS });
  }

  /** Ends everything that runs. @returns what did not end in order, for people */
  async stop(): Promise<string[]> {
    this.#stopping = true;
    this.#client?.close();
    this.#client = undefined;
    const problems: string[] = [];
    const end = async (child: Child) => {
      const ran = child.running, inTime = await child.stop(STOP_MS);
      if (!inTime) problems.push(`${child.name} did not end within ${STOP_MS / 1000} s and was killed`);
      else if (ran && !(await child.status).success) {
        problems.push(`${child.name}: ${child.lastWords || describeStatus(await child.status)}`);
      }
    };
    if (this.engine) await end(this.engine);
    problems.push(...await this.#cleanUp());
    await Promise.all([...this.replicas.values()].map(({ child }) => end(child)));
    return problems;
  }

  /** What an engine that was killed leaves of its frontend. */
  async #cleanUp(): Promise<string[]> {
    const { frontend, record } = this.options;
    try {
      if (frontend.kind === "loop" || frontend.kind === "loop-blockdev") {
        const link = { path: `${DEVICE_DIRECTORY}/${record.name}` };
        const place = { run: runDirectory(), name: record.name };
        const { busy } = await cleanLeftovers(new SystemRunner(), place, { link });
        return busy.map(({ device, users }) =>
          `${device} is dead but in use (${users.join(", ")}): unmount it`
        );
      }
      if (isDeviceFrontend(frontend.kind)) {
        const left = readDeviceRecord(runDirectory(), record.name);
        if (left === undefined) return [];
        return [
          `${DEVICE_DIRECTORY}/${record.name} stays: it goes on when the volume is served again within two minutes; ` +
          "drover node clean removes it",
        ];
      }
      const path = frontend.listen?.startsWith("unix:") ? frontend.listen.slice(5) : undefined;
      if (path !== undefined && Deno.lstatSync(path).isSocket) Deno.removeSync(path);
    } catch (error) {
      // A device that is served belongs to another volume of this name.
      const fine = error instanceof Deno.errors.NotFound || error instanceof LoopAliveError;
      if (!fine) return [String(error)];
    }
    return [];
  }
}

/** Why a program did not come up: its last line about itself. */
function failure(child: Child): StackError {
  const said = [...child.lastWords.matchAll(/^(?:engine|replica): (.+)$/gm)].at(-1)?.[1];
  const words = said ?? (child.lastWords || "it ended without a word; see the log");
  return new StackError(
    `${child.name}: ${words}`,
    /address already in use|EADDRINUSE|No address added/i.test(words),
  );
}
