/**
 * Snapshots of a volume, over all of its replicas.
 *
 * The engine creates snapshots and reverts to them, because I/O has to stand still on all replicas at once. The rest
 * is the client's: reading the list from replicas, and marking a snapshot as removed on each of them. Marking frees
 * nothing; purge.ts does.
 *
 * @module
 */
import { HEAD_PSEUDO_NAME, headNumber, snapshotName } from "../disk/names.ts";
import { Code, type ptypes, RpcError } from "../rpc/mod.ts";
import { type EngineClient, onAll, type ReplicaEntry } from "./engine.ts";
import { ClientError } from "./errors.ts";

/** One snapshot, or the head under the name `volume-head`. The keys are those of Longhorn's JSON. */
export interface SnapshotInfo {
  /** Without `volume-snap-` and `.img`. */
  readonly name: string;
  /** The snapshot below it, or "". */
  readonly parent: string;
  /** What stands on it; the values are all true. */
  readonly children: Readonly<Record<string, boolean>>;
  /** Marked for deletion. */
  readonly removed: boolean;
  /** False for those that the engine made, for instance for a rebuild. */
  readonly usercreated: boolean;
  /** RFC 3339. */
  readonly created: string;
  /** Allocated bytes of its own, in decimal. */
  readonly size: string;
  /** What its maker noted. */
  readonly labels: Readonly<Record<string, string>>;
}

/** What a new snapshot is made with. */
export interface SnapshotOptions {
  /** Its name; the engine chooses one if absent or "". */
  readonly name?: string;
  /** Notes. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Freeze the file system on the volume's disk meanwhile. */
  readonly freezeFilesystem?: boolean;
}

/** Makes a snapshot. @returns its name @throws {RpcError} */
export async function createSnapshot(engine: EngineClient, options: SnapshotOptions = {}): Promise<string> {
  const { name } = await engine.controller.unary("volumeSnapshot", {
    name: options.name ?? "",
    labels: { ...options.labels },
    freezeFilesystem: options.freezeFilesystem ?? false,
  });
  return name ?? "";
}

/** Takes the volume back to a snapshot. Only while its frontend is down. @throws {RpcError} */
export async function revertToSnapshot(engine: EngineClient, name: string): Promise<void> {
  await engine.controller.unary("volumeRevert", { name });
}

/** The replicas in a mode. */
export function inMode(replicas: readonly ReplicaEntry[], ...modes: ReplicaEntry["mode"][]): ReplicaEntry[] {
  return replicas.filter(({ mode }) => modes.includes(mode));
}

/** The disks of a chain without the head: names of snapshots. */
function snapshotsOf(chain: readonly string[]): string[] {
  return chain.slice(1).map((disk) => snapshotName(disk) ?? disk);
}

/**
 * The snapshots below the head, the newest first: those that every complete replica has, without removed ones.
 *
 * @throws {ReplicasError} {@linkcode RpcError}
 */
export async function listSnapshots(engine: EngineClient): Promise<string[]> {
  const complete = inMode(await engine.replicas(), "RW");
  const chains = await onAll(engine, complete, async (client) => snapshotsOf((await client.get()).chain));
  // A replica that is just starting has no chain yet: it must not hide the others' snapshots.
  const [first = [], ...others] = [...chains.values()].filter((chain) => chain.length > 0);
  return first.filter((name) => others.every((chain) => chain.includes(name)));
}

/**
 * Every disk of the volume: all snapshots, also removed ones and other branches, and the head as `volume-head`.
 * Replicas may differ while one of them still frees a snapshot; the one with the most disks tells the truth then,
 * since there is still something to be done.
 *
 * @throws {ReplicasError} {@linkcode RpcError}
 * @throws {ClientError} when no replica is complete
 */
export async function snapshotInfo(engine: EngineClient): Promise<Record<string, SnapshotInfo>> {
  const complete = inMode(await engine.replicas(), "RW");
  if (complete.length === 0) throw new ClientError("cannot find suitable replica for snapshot info");
  const all = await onAll(engine, complete, async (client) => snapshotsOfReplica(await client.get()));
  let best: Record<string, SnapshotInfo> = {};
  for (const { address } of complete) {
    const one = all.get(address) ?? {};
    if (Object.keys(one).length > Object.keys(best).length) best = one;
  }
  return best;
}

function publicName(disk: string): string {
  return headNumber(disk) === undefined ? snapshotName(disk) ?? disk : HEAD_PSEUDO_NAME;
}

/** The disks of one replica, by the names that users know. */
export function snapshotsOfReplica(replica: ptypes.Replica): Record<string, SnapshotInfo> {
  const result: Record<string, SnapshotInfo> = {};
  for (const [disk, info] of Object.entries(replica.disks)) {
    if (disk === replica.backingFile) continue;
    const name = publicName(disk);
    const children = Object.keys(info.children ?? {}).map((child): [string, true] => [
      publicName(child),
      true,
    ]);
    result[name] = {
      name,
      parent: info.parent && info.parent !== replica.backingFile ? publicName(info.parent) : "",
      children: Object.fromEntries(children),
      removed: info.removed,
      usercreated: info.userCreated,
      created: info.created,
      size: info.size || "0",
      labels: { ...info.labels },
    };
  }
  return result;
}

/** Refuses while a replica is being rebuilt: what it copies must not change. @throws {ClientError} */
export async function refuseWhileRebuilding(
  engine: EngineClient,
  replicas: readonly ReplicaEntry[],
  what: string,
): Promise<void> {
  const rebuilding = await onAll(engine, replicas, async (client) => (await client.get()).rebuilding);
  for (const { address, mode } of replicas) {
    if (rebuilding.get(address) || mode === "WO") {
      throw new ClientError(`cannot ${what} because ${address} is rebuilding`);
    }
  }
}

/**
 * Marks a snapshot as removed on every replica, and ends its hash jobs. Its space is freed by a purge. A snapshot
 * that does not exist is removed already. Replicas that were given up are left out: they are filled anew.
 *
 * @throws {ClientError} while a replica is being rebuilt
 * @throws {ReplicasError} {@linkcode RpcError}
 */
export async function removeSnapshot(engine: EngineClient, name: string): Promise<void> {
  const replicas = inMode(await engine.replicas(), "RW", "WO");
  await refuseWhileRebuilding(engine, replicas, "remove a snapshot");
  await onAll(engine, replicas, async (client) => {
    await client.replica.unary("diskMarkAsRemoved", { name });
    try {
      await client.agent.unary("snapshotHashCancel", { snapshotName: name });
    } catch (error) {
      // Without a sync agent nothing can be hashing.
      if (!(error instanceof RpcError) || !NO_AGENT.has(error.code)) throw error;
    }
  });
}

/** What a call to a sync agent that is not there ends with. */
const NO_AGENT: ReadonlySet<number> = new Set([Code.UNIMPLEMENTED, Code.UNAVAILABLE]);
