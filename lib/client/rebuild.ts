/**
 * Adding a replica to a running volume: the rebuild.
 *
 * The driver is the client, not the engine, so that a rebuild that takes hours does not depend on one call to the
 * engine. The order matters; what a client that dies in between leaves behind is in the last column.
 *
 * | # | step                                                               | if the client dies after it            |
 * |---|--------------------------------------------------------------------|----------------------------------------|
 * | 1 | the new replica gets the volume's size                              | nothing                                |
 * | 2 | a mark of an earlier rebuild is taken off it                        | nothing                                |
 * | 3 | the engine snapshots the volume and sends it all new writes (WO)    | it stays WO: remove and add again      |
 * | 4 | it is marked as rebuilding: until step 8 nobody takes it for a copy | the same                               |
 * | 5 | the engine tells which files it lacks, and gives it the head's      | the same                               |
 * | 6 | its sync agent fetches them from complete replicas                  | the agent goes on; then verifyRebuild  |
 * | 7 | it reads its directory anew; the engine compares and makes it RW    | the mark stays; it counts as complete  |
 * | 8 | the mark is taken off                                               | done                                   |
 *
 * @module
 */
import { HEAD_PSEUDO_NAME } from "../disk/names.ts";
import { getLogger } from "../log/log.ts";
import { Code, ptypes, RpcError } from "../rpc/mod.ts";
import { type CopyProgress, type EngineClient, replicaAddress, type ReplicaClient } from "./engine.ts";
import { ClientError, textOf } from "./errors.ts";
import {
  announce,
  copyFiles,
  findSources,
  longCall,
  noSource,
  type Patience,
  type TransferOptions,
} from "./transfer.ts";

/** How a replica is added. */
export interface AddReplicaOptions extends TransferOptions {
  /** Whom the caller means at the replica's address; "" = not checked. */
  readonly instanceName?: string;
  /** Nominal size of the volume, bytes: needed when it has no replica at all yet. */
  readonly size?: number;
  /** Its size before an expansion that was not finished, bytes; default: `size`. */
  readonly currentSize?: number;
}

/** How far the rebuild of one replica is. The keys are those of Longhorn's JSON. */
export interface RebuildStatus {
  /** Why it failed, or "". */
  readonly error: string;
  /** It is at work. */
  readonly isRebuilding: boolean;
  /** Percent. */
  readonly progress: number;
  /** `in_progress`, `complete`, `error`, or "" when there was none. */
  readonly state: string;
  /** The first source. */
  readonly fromReplicaAddress: string;
  /** All sources. */
  readonly fromReplicaAddressList: readonly string[];
  /** How fast it is; only Drover's replicas and engines tell. */
  readonly pace?: RebuildPace;
}

/** How fast a rebuild is. */
export interface RebuildPace {
  /** Bytes of data in all files. */
  readonly bytesTotal: number;
  /** How many of them are in place. */
  readonly bytesDone: number;
  /** Data put in place lately; 0 = not known. */
  readonly bytesPerSecond: number;
  /** What the rest takes at this rate; 0 = not known. */
  readonly secondsLeft: number;
  /** Bytes per second that it may take; 0 = no limit. */
  readonly limit: number;
}

/**
 * Adds a replica and returns when it is complete; see the module text. A volume without replicas is started with it.
 *
 * @param address of the replica's control service
 * @throws {ClientError} when it does not fit, or there is no replica to copy from
 * @throws {RpcError}
 */
export async function addReplica(
  engine: EngineClient,
  address: string,
  options: AddReplicaOptions = {},
): Promise<void> {
  const to = replicaAddress(address), target = engine.replica(to, options.instanceName);
  const { replicaCount, size } = await engine.volume();
  if (replicaCount === 0) return await startInstead(engine, to, size, options);
  const log = getLogger({ replica: to });
  announce(engine, target);
  const found = await target.get();
  await giveSize(size, target, found);
  await takeOldMark(target, found);
  log.info("adding the replica", { mode: "WO" });
  // Where little was missed there are no files to copy: the engine copies that by itself.
  if (options.bytesPerSecond !== undefined) await limitEngine(engine, options.bytesPerSecond);
  await engine.controller.unary("controllerReplicaCreate", {
    address: to,
    snapshotRequired: true,
    mode: ptypes.ReplicaMode.WO,
  });
  const sources = await findSources(engine, to);
  if (sources.length === 0) throw noSource();
  await target.replica.unary("rebuildingSet", { rebuilding: true });
  const prepared = await engine.controller.unary("replicaPrepareRebuild", {
    address: to,
    instanceName: options.instanceName ?? "",
  });
  const files = prepared.syncFileInfoList ?? [];
  if (files.some(({ fromFileName }) => (fromFileName ?? "").includes(HEAD_PSEUDO_NAME))) {
    throw new ClientError("sync file list shouldn't contain volume head");
  }
  // An engine that copies by itself what the replica lacks names no files.
  if (files.length > 0) {
    await copyFiles(engine, target, sources, files, options);
    await target.replica.unary("replicaReload", {});
  }
  await verifyRebuild(engine, to, options.instanceName, options);
  log.info("the replica is complete");
}

/**
 * Adds a replica to a volume that is being restored from a backup: it gets no data from the others, and becomes
 * complete with the first restore.
 *
 * @throws {ClientError} when its size is not the volume's
 * @throws {RpcError}
 */
export async function addReplicaForRestore(
  engine: EngineClient,
  address: string,
  options: AddReplicaOptions = {},
): Promise<void> {
  const to = replicaAddress(address), target = engine.replica(to, options.instanceName);
  const { replicaCount, size } = await engine.volume();
  if (replicaCount === 0) return await startInstead(engine, to, size, options);
  const own = Number((await target.get()).size);
  if (own !== size) {
    throw new ClientError(`rebuilding replica size ${own} is not the same as volume size ${size}`);
  }
  await engine.controller.unary("controllerReplicaCreate", {
    address: to,
    snapshotRequired: false,
    mode: ptypes.ReplicaMode.WO,
  });
}

/**
 * Ends a rebuild whose files were all copied: the engine compares and makes the replica RW, and its mark is taken
 * off. Also for a rebuild whose client died. An engine that copies by itself is waited for.
 *
 * @throws {RpcError}
 */
export async function verifyRebuild(
  engine: EngineClient,
  address: string,
  instanceName = "",
  patience: Patience = {},
): Promise<void> {
  const to = replicaAddress(address);
  await engine.controller.unary("replicaVerifyRebuild", { address: to, instanceName }, longCall(patience));
  const target = engine.replica(to, instanceName);
  if ((await target.get()).rebuilding) await target.replica.unary("rebuildingSet", { rebuilding: false });
}

/** How far rebuilds are, by address of the replica; empty while the volume is restored. @throws {RpcError} */
export async function rebuildStatus(engine: EngineClient): Promise<Record<string, RebuildStatus>> {
  const result: Record<string, RebuildStatus> = {};
  for (const { address, mode, copy } of await engine.replicas()) {
    if (mode !== "WO") continue;
    const { agent } = engine.replica(address);
    try {
      if (await isRestoring(agent)) return {};
      if (copy) {
        result[address] = statusOfCopy(copy);
        continue;
      }
      const status = await agent.unary("replicaRebuildStatus", {});
      result[address] = {
        error: status.error,
        isRebuilding: status.isRebuilding,
        progress: status.progress,
        state: status.state,
        fromReplicaAddress: status.fromReplicaAddress,
        fromReplicaAddressList: [...status.fromReplicaAddressList],
        ...(status.droverBytesTotal > 0 ? { pace: paceOf(status) } : {}),
      };
    } catch (error) {
      result[address] = {
        error: `failed to get replica rebuild status of ${address}: ${textOf(error)}`,
        isRebuilding: false,
        progress: 0,
        state: "",
        fromReplicaAddress: "",
        fromReplicaAddressList: [],
      };
    }
  }
  return result;
}

/** The engine copies blocks by itself, from whatever copy it reads. */
function statusOfCopy({ done, total, perSecond, limitPerSecond }: CopyProgress): RebuildStatus {
  return {
    error: "",
    isRebuilding: true,
    progress: total > 0 ? Math.floor(done / total * 100) : 0,
    state: "in_progress",
    fromReplicaAddress: "",
    fromReplicaAddressList: [],
    pace: {
      bytesTotal: total,
      bytesDone: done,
      bytesPerSecond: perSecond,
      secondsLeft: perSecond > 0 ? (total - done) / perSecond : 0,
      limit: limitPerSecond,
    },
  };
}

function paceOf(status: ptypes.ReplicaRebuildStatusResponse): RebuildPace {
  return {
    bytesTotal: status.droverBytesTotal,
    bytesDone: status.droverBytesDone,
    bytesPerSecond: status.droverBytesPerSecond,
    secondsLeft: status.droverSecondsLeft,
    limit: status.droverLimit,
  };
}

async function limitEngine(engine: EngineClient, bytesPerSecond: number): Promise<void> {
  try {
    await engine.controller.unary("droverCopyLimitSet", { bytesPerSecond });
  } catch (error) {
    // Longhorn's engines copy nothing by themselves.
    if (!(error instanceof RpcError && error.code === Code.UNIMPLEMENTED)) throw error;
  }
}

/**
 * Changes the limit of all rebuilds that are under way, at once, and of what the engine copies by itself, now and later.
 *
 * @param bytesPerSecond 0 = no limit
 * @returns addresses of the replicas that were told
 * @throws {RpcError}
 */
export async function limitRebuilds(engine: EngineClient, bytesPerSecond: number): Promise<string[]> {
  const told: string[] = [];
  await limitEngine(engine, bytesPerSecond);
  for (const { address, mode } of await engine.replicas()) {
    if (mode !== "WO") continue;
    await engine.replica(address).agent.unary("droverSyncLimitSet", { bytesPerSecond });
    told.push(address);
  }
  return told;
}

/**
 * Takes a replica out of the volume. Hash jobs on it are ended first, so that its process can stop.
 *
 * @throws {RpcError}
 */
export async function removeReplica(engine: EngineClient, address: string, instanceName = ""): Promise<void> {
  const to = replicaAddress(address);
  await cancelHashJobs(engine.replica(to, instanceName));
  await engine.controller.unary("replicaDelete", { address: to, instanceName });
}

/** Starts a volume that has no replica. @throws {ClientError} when it has @throws {RpcError} */
export async function startWithReplicas(
  engine: EngineClient,
  size: number,
  currentSize: number,
  addresses: readonly string[],
): Promise<void> {
  if ((await engine.volume()).replicaCount !== 0) {
    throw new ClientError("cannot add multiple replicas if volume is already up");
  }
  const replicaAddresses = addresses.map(replicaAddress);
  await engine.controller.unary("volumeStart", { replicaAddresses, size, currentSize });
}

/** A volume without replicas has nothing to copy: it starts with the new one. */
async function startInstead(
  engine: EngineClient,
  address: string,
  size: number,
  options: AddReplicaOptions,
): Promise<void> {
  const nominal = options.size ?? size;
  await engine.controller.unary("volumeStart", {
    replicaAddresses: [address],
    size: nominal,
    currentSize: options.currentSize ?? nominal,
  });
}

/** Makes a replica as large as the volume. @throws {ClientError} when it is larger */
async function giveSize(size: number, target: ReplicaClient, found: ptypes.Replica): Promise<void> {
  const { size: text, state } = found, own = Number(text);
  if (own === size) return;
  if (own > size) throw new ClientError(`cannot add new replica larger than size ${size}`);
  const closed = state === "closed";
  if (closed) await target.replica.unary("replicaOpen", {});
  try {
    await target.replica.unary("replicaExpand", { size });
  } finally {
    if (closed) await target.replica.unary("replicaClose", {});
  }
}

/** A rebuild that was broken off leaves its mark, which the replica refuses to set twice. */
async function takeOldMark(target: ReplicaClient, { state, rebuilding }: ptypes.Replica): Promise<void> {
  if (state !== "closed" || !rebuilding) return;
  await target.replica.unary("replicaOpen", {});
  try {
    await target.replica.unary("rebuildingSet", { rebuilding: false });
  } finally {
    await target.replica.unary("replicaClose", {});
  }
}

async function isRestoring(agent: ReplicaClient["agent"]): Promise<boolean> {
  try {
    return (await agent.unary("restoreStatus", {})).destFileName !== "";
  } catch (error) {
    if (error instanceof RpcError && error.code === Code.UNIMPLEMENTED) return false;
    throw error;
  }
}

/** Patience with a replica that is about to go, milliseconds. */
const FAREWELL_MS = 5_000;

async function cancelHashJobs({ replica, agent }: ReplicaClient): Promise<void> {
  const call = { timeoutMs: FAREWELL_MS };
  try {
    const { disks = {} } = (await replica.unary("replicaGet", {}, call)).replica ?? {};
    for (const disk of Object.keys(disks ?? {})) {
      const name = /^volume-snap-(.+)\.img$/s.exec(disk)?.[1];
      if (name !== undefined) await agent.unary("snapshotHashCancel", { snapshotName: name }, call);
    }
  } catch {
    // It may be dead: that is why it is removed.
  }
}
