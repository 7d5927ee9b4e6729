/**
 * A replica as the engine's main thread sees it: its control service.
 *
 * @module
 */
import type { Address } from "../io/io.ts";
import {
  Code,
  connect,
  parseAddress,
  type ptypes,
  replicaService,
  type RpcClient,
  RpcError,
} from "../rpc/mod.ts";
import type { ReplicaMethods } from "../rpc/services.ts";
import { DIFFERS_KEY, GENERATION_KEY } from "../wire/frame.ts";
import type { Candidate } from "./election.ts";

/** Control calls to one replica; the only part of a start that differs between production and tests. */
export interface Backend {
  /** Address people know it by, such as `tcp://127.0.0.1:10000`. */
  readonly name: string;
  /** Where its data server listens. */
  readonly data: Address;
  /** What it tells about itself in any state. */
  get(): Promise<BackendInfo>;
  /**
   * Opens it.
   * @param bytes expected size; 0 = not checked
   * @param copies identifiers of all copies that the volume is started with; one that has no record yet notes them
   * @returns as {@linkcode get}
   */
  open(upgrade: boolean, bytes: number, copies?: readonly string[]): Promise<BackendInfo>;
  /** Of the engine, once it is known: a replica that serves a newer one by then is not closed. */
  generation: number;
  /** It was opened by an engine whose place this one takes: from now on {@linkcode close} closes it. */
  inherit(): void;
  /**
   * Closes it if it was opened through this object; somebody else's is left alone.
   * @param differs it may differ from other copies where writes were under way: it stays marked as not cleanly closed
   */
  close(differs?: boolean): Promise<void>;
  /** Notes durably that a rebuild was begun or ended. A copy with the note is not used at a start. */
  setRebuilding(rebuilding: boolean): Promise<void>;
  /** Everything it tells about itself, with all disks. */
  describe(): Promise<ptypes.IReplica>;
  /** Takes a snapshot. */
  snapshot(snapshot: SnapshotRequest): Promise<void>;
  /** Grows. */
  expand(bytes: number): Promise<void>;
  /** Goes back to a disk. @param created time of the new head */
  revert(disk: string, created: string): Promise<void>;
  /** Tells it the volume's settings. */
  configure(settings: ReplicaSettings): Promise<void>;
  /** Sets its count of writes. */
  setRevisionCounter(count: number): Promise<void>;
  /** Removes a disk with its files, whatever depends on it. */
  removeDisk(disk: string): Promise<void>;
  /** Its files were changed by others: it looks at them anew. */
  reload(): Promise<void>;
  /** Frees the connection. */
  dispose(): void;
}

/** A snapshot to be taken. */
export interface SnapshotRequest {
  /** Its name, without prefix and suffix. */
  readonly name: string;
  /** Wanted by a user, not by the system. */
  readonly userCreated: boolean;
  /** RFC 3339, UTC. */
  readonly created: string;
  /** Labels. */
  readonly labels: Readonly<Record<string, string>>;
}

/** Settings of the volume that replicas act on. */
export interface ReplicaSettings {
  /** An unmap marks the snapshots below the head as removed. */
  readonly unmapMark: boolean;
  /** Limit for snapshots. */
  readonly snapshotMaxCount: number;
  /** Limit for their allocated bytes; 0 = none. */
  readonly snapshotMaxSize: number;
}

/** What a replica tells. */
export interface BackendInfo extends Omit<Candidate, "name" | "unclean"> {
  /** Snapshots that are not marked as removed, and their allocated bytes. */
  readonly snapshotCountUsage: number;
  /** See {@linkcode BackendInfo.snapshotCountUsage}. */
  readonly snapshotSizeUsage: number;
  /** Written to since it was opened, or not closed in order before. */
  readonly dirty: boolean;
  /** Bits of `Feature`; 0 from Longhorn. */
  readonly features: number;
}

/** Who the calls are meant for; replicas refuse others'. */
export interface BackendIdentity {
  /** Name of the volume. */
  readonly volumeName: string;
  /** Name of the replica's process, where it is known. */
  readonly instanceName?: string;
}

/** Longest time for the calls of a start, milliseconds. Opening a long chain takes a while. */
const CALL_TIMEOUT_MS = 30_000;

/** Makes the backend of a replica at `tcp://host:port`; its data server is one port above. */
export function replicaBackend(address: string, identity: BackendIdentity, unixDirectory?: string): Backend {
  const parsed = parseAddress(address);
  if (parsed.kind !== "tcp") throw new RangeError(`replica address "${address}": expected tcp://HOST:PORT`);
  const data: Address = unixDirectory === undefined
    ? { kind: "tcp", host: parsed.host, port: parsed.port + 1 }
    : { kind: "unix", path: `${unixDirectory}/${identity.volumeName}.sock` };
  return new ReplicaBackend(`tcp://${parsed.host}:${parsed.port}`, data, identity);
}

class ReplicaBackend implements Backend {
  generation = 0;
  #opened = false;
  readonly #client: RpcClient<ReplicaMethods>;

  constructor(readonly name: string, readonly data: Address, identity: BackendIdentity) {
    this.#client = connect(replicaService, name, { identity, timeoutMs: CALL_TIMEOUT_MS });
  }

  async get(): Promise<BackendInfo> {
    return describeReplica(await this.describe());
  }

  async open(upgrade: boolean, bytes: number, copies: readonly string[] = []): Promise<BackendInfo> {
    const request = { isUpgrade: upgrade, expectedBackendSize: bytes, droverCopies: [...copies] };
    const { replica } = await this.#client.unary("replicaOpen", request);
    this.#opened = true;
    return describeReplica(replica);
  }

  inherit(): void {
    this.#opened = true;
  }

  async close(differs = false): Promise<void> {
    if (!this.#opened) return;
    const metadata: Record<string, string> = {};
    if (this.generation > 0) metadata[GENERATION_KEY] = String(this.generation);
    if (differs) metadata[DIFFERS_KEY] = "1";
    await this.#client.unary("replicaClose", {}, { metadata });
  }

  async setRebuilding(rebuilding: boolean): Promise<void> {
    await this.#client.unary("rebuildingSet", { rebuilding });
  }

  async describe(): Promise<ptypes.IReplica> {
    return described((await this.#client.unary("replicaGet", {})).replica);
  }

  async snapshot({ name, userCreated, created, labels }: SnapshotRequest): Promise<void> {
    await this.#client.unary("replicaSnapshot", { name, userCreated, created, labels: { ...labels } });
  }

  async expand(bytes: number): Promise<void> {
    await this.#client.unary("replicaExpand", { size: bytes });
  }

  async revert(name: string, created: string): Promise<void> {
    await this.#client.unary("replicaRevert", { name, created });
  }

  async configure({ unmapMark, snapshotMaxCount, snapshotMaxSize }: ReplicaSettings): Promise<void> {
    await Promise.all([
      this.#client.unary("unmapMarkDiskChainRemovedSet", { enabled: unmapMark }),
      this.#client.unary("snapshotMaxCountSet", { count: snapshotMaxCount }),
      this.#client.unary("snapshotMaxSizeSet", { size: snapshotMaxSize }),
    ]);
  }

  async setRevisionCounter(counter: number): Promise<void> {
    await this.#client.unary("revisionCounterSet", { counter });
  }

  async removeDisk(name: string): Promise<void> {
    await this.#client.unary("diskRemove", { name, force: true });
  }

  async reload(): Promise<void> {
    await this.#client.unary("replicaReload", {});
  }

  dispose(): void {
    this.#client.close();
  }
}

/** A failed call in the words of a person: what the library says of connections is long and repeats itself. */
export function plainReason(error: unknown): string {
  if (error instanceof RpcError && error.code === Code.UNAVAILABLE) {
    return `cannot be reached${/ECONNREFUSED/.test(error.message) ? ": connection refused" : ""}`;
  }
  return error instanceof Error ? error.message : String(error);
}

/** What a replica tells, in the engine's words. @throws {TypeError} when it told nothing */
export function describeReplica(replica: ptypes.IReplica | null | undefined): BackendInfo {
  return infoOf(described(replica));
}

/** @throws {TypeError} when it told nothing */
function described(replica: ptypes.IReplica | null | undefined): ptypes.IReplica {
  if (!replica) throw new TypeError("the replica answered without describing itself");
  return replica;
}

function infoOf(replica: ptypes.IReplica): BackendInfo {
  return {
    bytes: Number(replica.size ?? 0),
    state: replica.state ?? "",
    sectorBytes: replica.sectorSize ?? 0,
    rebuilding: replica.rebuilding ?? false,
    revisionCounter: replica.revisionCounter ?? 0,
    revisionCounterDisabled: replica.revisionCounterDisabled ?? false,
    headModifiedNs: replica.lastModifyTime ?? 0,
    headBytes: replica.headFileSize ?? 0,
    dirty: replica.dirty ?? false,
    chain: replica.chain ?? [],
    disks: new Map(Object.entries(replica.disks ?? {}).map(([name, disk]) => [name, disk.removed ?? false])),
    snapshotCountUsage: replica.snapshotCountUsage ?? 0,
    snapshotSizeUsage: replica.snapshotSizeUsage ?? 0,
    features: replica.droverFeatures ?? 0,
    id: replica.drover?.id ?? "",
    generation: replica.drover?.generation ?? 0,
    revision: replica.drover?.revision ?? 0,
    members: replica.drover?.members ?? [],
    lostUnflushed: replica.drover?.lostUnflushed ?? false,
  };
}
