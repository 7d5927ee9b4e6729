/**
 * Bringing the files of snapshots to a new replica: which replicas they come from, and what is done when one of those
 * fails in the middle.
 *
 * @module
 */
import { getLogger } from "../log/log.ts";
import { type CallOptions, Code, type ptypes, RpcError } from "../rpc/mod.ts";
import { longTimeoutMs } from "./clone.ts";
import { type EngineClient, hostOf, type ReplicaClient, type ReplicaEntry } from "./engine.ts";
import { ClientError, textOf } from "./errors.ts";

/** From this interface number on an engine tells how many sources a rebuild may use at the same time. */
const CONTROLLER_API_WITH_SYNC_LIMIT = 6;

/** How files are brought. */
export interface TransferOptions {
  /** Files whose checksum record says that they are the same are not compared. */
  readonly fastSync?: boolean;
  /** Patience of the file transfer with one request, seconds; default 5. */
  readonly httpTimeoutSeconds?: number;
  /** Patience with the whole transfer, seconds; 0 or less, and by default: 24 hours. */
  readonly grpcTimeoutSeconds?: number;
  /** Files that are on the target's machine: copied there instead of over the network. */
  readonly localSync?: { readonly sourcePath: string; readonly targetPath: string };
  /** Bytes per second that the transfer may take; default: what the target was told before, or no limit. */
  readonly bytesPerSecond?: number;
  /** Everything is read back from the target's disk at the end and compared, not only a sample. */
  readonly verify?: boolean;
  /** Gives up waiting. The replica stays WO, and its sync agent goes on. */
  readonly signal?: AbortSignal;
}

/** Patience with who is told that a rebuild begins, milliseconds: nothing depends on it. */
const ANNOUNCE_MS = 5_000;

/**
 * Tells a target and its sources that files are about to travel: their threads start while the engine takes its
 * snapshot. Whoever does not understand that, or is gone, is no matter here. Waits for nothing.
 */
export function announce(engine: EngineClient, target: ReplicaClient): void {
  const call = { timeoutMs: ANNOUNCE_MS };
  const tell = (agent: ReplicaClient["agent"], request: ptypes.IDroverSyncPrepareRequest) =>
    agent.unary("droverSyncPrepare", request, call);
  const sources = async () => {
    const complete = (await engine.replicas()).filter(({ mode }) => mode === "RW");
    await Promise.all(complete.map(({ address }) => tell(engine.replica(address).agent, { send: true })));
  };
  for (const told of [tell(target.agent, { receive: true }), sources()]) told.catch(() => {});
}

/** How long a call is waited for. */
export type Patience = Pick<TransferOptions, "grpcTimeoutSeconds" | "signal">;

/** Transfers that fail because their source does go on with other sources: this often at most. */
const MAX_TRANSFERS = 4;

/**
 * Has the target fetch the files. What is there already is not fetched twice, so another try costs little.
 *
 * @param first sources of the first try
 * @throws {RpcError} the failure of the last try
 */
export async function copyFiles(
  engine: EngineClient,
  target: ReplicaClient,
  first: readonly string[],
  files: ptypes.ISyncFileInfo[],
  options: TransferOptions,
): Promise<void> {
  const log = getLogger({ replica: target.address });
  for (let sources = first, left = MAX_TRANSFERS - 1;; left--) {
    log.info("copying files", { files: files.length, from: sources });
    try {
      // The limit may be changed while it runs: another try does not take that back.
      const limit = sources === first ? options.bytesPerSecond : undefined;
      return await fetchFiles(target, sources, files, options, limit);
    } catch (error) {
      const others = left > 0 && !options.signal?.aborted ? await otherSources(engine, target, sources) : [];
      if (others.length === 0) throw error;
      log.warn("a source failed; others are tried", { reason: textOf(error) });
      sources = others;
    }
  }
}

/** Complete replicas beside those that were tried; none when the target is the one that failed. */
async function otherSources(
  engine: EngineClient,
  target: ReplicaClient,
  tried: readonly string[],
): Promise<string[]> {
  try {
    await target.get();
    return await findSources(engine, target.address, tried);
  } catch {
    return [];
  }
}

async function fetchFiles(
  target: ReplicaClient,
  sources: readonly string[],
  files: ptypes.ISyncFileInfo[],
  options: TransferOptions,
  limit: number | undefined,
): Promise<void> {
  const { sourcePath = "", targetPath = "" } = options.localSync ?? {};
  await target.agent.unary("filesSync", {
    fromAddress: sources[0] ?? "",
    toHost: hostOf(target.address),
    syncFileInfoList: files,
    fastSync: options.fastSync ?? false,
    fileSyncHttpClientTimeout: options.httpTimeoutSeconds ?? 5,
    grpcTimeoutSeconds: options.grpcTimeoutSeconds ?? 0,
    ...(options.localSync ? { localSync: { sourcePath, targetPath } } : {}),
    fromAddressMap: Object.fromEntries(sources.map((source) => [source, true])),
    ...(limit ? { droverBytesPerSecond: limit } : {}),
    ...(options.verify ? { droverVerify: true } : {}),
  }, longCall(options));
}

/**
 * Addresses of complete replicas to copy from, as many as the engine allows.
 * @param except those that failed @throws {ClientError} when the target does not wait for files
 */
export async function findSources(
  engine: EngineClient,
  target: string,
  except: readonly string[] = [],
): Promise<string[]> {
  const replicas = await engine.replicas();
  checkTarget(replicas, target);
  const complete = replicas.filter(({ address, mode }) => mode === "RW" && !except.includes(address));
  const [limit, ...purging] = await Promise.all([
    sourceLimit(engine),
    ...complete.map(({ address }) => isPurging(engine.replica(address))),
  ]);
  return complete.filter((_, index) => !purging[index]).map(({ address }) => address).slice(0, limit);
}

/** There is no replica to copy from. */
export function noSource(): ClientError {
  return new ClientError("failed to find good replica to copy from");
}

function checkTarget(replicas: readonly ReplicaEntry[], target: string): void {
  const mode = replicas.find(({ address }) => address === target)?.mode;
  if (mode === undefined) throw new ClientError("failed to find target replica to copy to");
  if (mode !== "WO") throw new ClientError(`replica ${target} is not in mode WO: ${mode}`);
}

/** Engines below a certain version do not know such a limit: one source then. */
async function sourceLimit(engine: EngineClient): Promise<number> {
  const { version } = await engine.controller.unary("versionDetailGet", {});
  if ((version?.controllerAPIVersion ?? 0) < CONTROLLER_API_WITH_SYNC_LIMIT) return 1;
  try {
    return Math.max(
      1,
      (await engine.controller.unary("replicaRebuildConcurrentSyncLimitGet", {})).limit ?? 1,
    );
  } catch (error) {
    if (error instanceof RpcError && error.code === Code.UNIMPLEMENTED) return 1;
    throw error;
  }
}

/** One that cannot be asked is no good source either. */
async function isPurging({ agent }: ReplicaClient): Promise<boolean> {
  try {
    return (await agent.unary("snapshotPurgeStatus", {})).isPurging;
  } catch {
    return true;
  }
}

/** How a call is made that lasts as long as the data it moves. */
export function longCall(options: Patience): CallOptions {
  return {
    timeoutMs: longTimeoutMs(options.grpcTimeoutSeconds),
    ...(options.signal ? { signal: options.signal } : {}),
  };
}
