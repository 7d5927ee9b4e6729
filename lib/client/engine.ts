/**
 * The engine of a volume and its replicas, as a client sees them: three services behind one address.
 *
 * | who        | service            | address                                  |
 * |------------|--------------------|------------------------------------------|
 * | engine     | ControllerService  | given                                    |
 * | replica    | ReplicaService     | P, as the engine lists it                |
 * | sync agent | SyncAgentService   | two ports above P, in the same process   |
 *
 * The drivers of this room (snapshots.ts, purge.ts, hash.ts, clone.ts, rebuild.ts) are functions over an
 * {@linkcode EngineClient}. They are what client commands run, and what an instance manager runs for its callers: no
 * engine knows of them.
 *
 * @module
 */
import {
  type ClientOptions,
  connect,
  type ControllerMethods,
  controllerService,
  formatAddress,
  parseAddress,
  ptypes,
  type ReplicaMethods,
  replicaService,
  type RpcClient,
  type SyncAgentMethods,
  syncAgentService,
} from "../rpc/mod.ts";
import { ClientError, type ReplicaFailure, ReplicasError, textOf } from "./errors.ts";

/** From a replica's port to that of its sync agent. */
const AGENT_PORT_OFFSET = 2;

/** How an engine regards a replica: complete, being filled, given up. */
export type ReplicaMode = "RW" | "WO" | "ERR";

/** One replica in an engine's list. */
export interface ReplicaEntry {
  /** `tcp://HOST:PORT`, as the engine has it. */
  readonly address: string;
  /** How the engine regards it. */
  readonly mode: ReplicaMode;
  /** Why it is out, where the engine tells. */
  readonly note: string;
  /** How far the engine is that copies to it by itself, and tells. */
  readonly copy?: CopyProgress;
}

/** How far an engine is with copying to a replica that joins, without files being sent. */
export interface CopyProgress {
  /** Bytes copied. */
  readonly done: number;
  /** Bytes to be copied, together with those. */
  readonly total: number;
  /** Bytes per second of late; 0 = not known yet. */
  readonly perSecond: number;
  /** Bytes per second at most; 0 = no limit. */
  readonly limitPerSecond: number;
}

/** Whom a caller means. Servers that are somebody else refuse; empty = not checked. */
export interface EngineIdentity {
  /** Name of the volume. */
  readonly volumeName?: string;
  /** Name of the engine's instance. */
  readonly instanceName?: string;
}

/** The mode in a list or reply. */
export function modeOf(mode: ptypes.ReplicaMode | null | undefined): ReplicaMode {
  if (mode === ptypes.ReplicaMode.RW) return "RW";
  return mode === ptypes.ReplicaMode.ERR ? "ERR" : "WO";
}

/** The address of a replica's sync agent. @throws {RpcError} when it is no address {@linkcode ClientError} */
export function syncAgentAddress(replica: string): string {
  const address = parseAddress(replica);
  if (address.kind !== "tcp") {
    throw new ClientError(`replica ${replica}: only replicas on TCP have a sync agent that can be reached`);
  }
  return formatAddress({ ...address, port: address.port + AGENT_PORT_OFFSET });
}

/** The host in a replica's address: where its receivers listen. @throws {RpcError} {@linkcode ClientError} */
export function hostOf(replica: string): string {
  const address = parseAddress(replica);
  if (address.kind !== "tcp") throw new ClientError(`replica ${replica}: a host and a port are needed`);
  return address.host;
}

/** The form in which an engine lists an address: `tcp://HOST:PORT`. @throws {RpcError} when it is none */
export function replicaAddress(text: string): string {
  return formatAddress(parseAddress(text));
}

/** One replica and its sync agent. */
export class ReplicaClient implements Disposable {
  /** Its service. */
  readonly replica: RpcClient<ReplicaMethods>;
  /** Its sync agent's. */
  readonly agent: RpcClient<SyncAgentMethods>;

  /** Dials nothing yet. @throws {RpcError} for a bad address */
  constructor(readonly address: string, options: ClientOptions = {}) {
    this.replica = connect(replicaService, address, options);
    this.agent = connect(syncAgentService, syncAgentAddress(address), options);
  }

  /** Describes it. @throws {RpcError} */
  async get(): Promise<ptypes.Replica> {
    const { replica } = await this.replica.unary("replicaGet", {});
    return ptypes.Replica.create(replica ?? {});
  }

  /** Ends the connections. */
  [Symbol.dispose](): void {
    this.replica.close();
    this.agent.close();
  }
}

/** The engine of a volume, and through it its replicas. To be disposed of. */
export class EngineClient implements Disposable {
  /** The engine's service. */
  readonly controller: RpcClient<ControllerMethods>;
  readonly #replicas = new Map<string, ReplicaClient>();

  /**
   * Dials nothing yet.
   *
   * @param address of the engine: `HOST:PORT`, `tcp://HOST:PORT` or `unix:PATH`
   * @param identity whom the caller means
   * @throws {RpcError} for a bad address
   */
  constructor(address: string, readonly identity: EngineIdentity = {}) {
    this.controller = connect(controllerService, address, { identity });
  }

  /** Where the engine is. */
  get address(): string {
    return this.controller.address;
  }

  /** Describes the volume. @throws {RpcError} */
  async volume(): Promise<ptypes.Volume> {
    return await this.controller.unary("volumeGet", {}) as ptypes.Volume;
  }

  /** The replicas in the engine's order. @throws {RpcError} */
  async replicas(): Promise<ReplicaEntry[]> {
    const { replicas } = await this.controller.unary("replicaList", {});
    return (replicas ?? []).map(({ address, mode, droverNote, droverCopy }) => ({
      address: address?.address ?? "",
      mode: modeOf(mode),
      note: droverNote ?? "",
      ...(droverCopy ? { copy: ptypes.DroverCopyProgress.create(droverCopy) } : {}),
    }));
  }

  /**
   * A client of one replica; the engine client disposes of it.
   *
   * @param instanceName whom the caller means; "" = not checked
   * @throws {RpcError} for a bad address
   */
  replica(address: string, instanceName = ""): ReplicaClient {
    const key = `${instanceName} ${address}`;
    let client = this.#replicas.get(key);
    if (!client) {
      const volumeName = this.identity.volumeName ?? "";
      client = new ReplicaClient(address, { identity: { volumeName, instanceName } });
      this.#replicas.set(key, client);
    }
    return client;
  }

  /** Ends all connections. */
  [Symbol.dispose](): void {
    this.controller.close();
    for (const client of this.#replicas.values()) client[Symbol.dispose]();
    this.#replicas.clear();
  }
}

/**
 * Does something on every replica at the same time (an engine has at most 16).
 *
 * @throws {ReplicasError} when it failed on some, after all have answered
 */
export async function onAll<T>(
  engine: EngineClient,
  replicas: readonly ReplicaEntry[],
  work: (client: ReplicaClient, entry: ReplicaEntry) => Promise<T>,
): Promise<Map<string, T>> {
  const results = new Map<string, T>(), failures: ReplicaFailure[] = [];
  await Promise.all(replicas.map(async (entry) => {
    try {
      results.set(entry.address, await work(engine.replica(entry.address), entry));
    } catch (error) {
      failures.push({ address: entry.address, message: textOf(error) });
    }
  }));
  if (failures.length > 0) throw new ReplicasError(failures);
  return results;
}

/**
 * Asks every replica for a state. One that does not answer gets a state that says so: a watcher wants to see the
 * others nevertheless.
 *
 * @param onError the state of a replica that could not be asked
 */
export async function statusOfAll<T>(
  engine: EngineClient,
  replicas: readonly ReplicaEntry[],
  ask: (client: ReplicaClient) => Promise<T>,
  onError: (text: string, entry: ReplicaEntry) => T,
): Promise<Record<string, T>> {
  const states = await Promise.all(replicas.map(async (entry): Promise<[string, T]> => {
    try {
      return [entry.address, await ask(engine.replica(entry.address))];
    } catch (error) {
      return [entry.address, onError(textOf(error), entry)];
    }
  }));
  return Object.fromEntries(states);
}
