/**
 * Clone: the content of one volume's snapshot becomes the content of another volume. Every replica of the new volume
 * asks one complete replica of the old one for it.
 *
 * @module
 */
import { LONG_CALL_TIMEOUT_MS } from "../rpc/mod.ts";
import { type EngineClient, hostOf, onAll, statusOfAll } from "./engine.ts";
import { ClientError } from "./errors.ts";

/** How far the clone of one replica is. The keys are those of Longhorn's JSON. */
export interface CloneStatus {
  /** It is at work. */
  readonly isCloning: boolean;
  /** Why it failed, or "". */
  readonly error: string;
  /** Percent. */
  readonly progress: number;
  /** `in_progress`, `complete`, `error`, or "" when there was none. */
  readonly state: string;
  /** Where the content comes from. */
  readonly fromReplicaAddress: string;
  /** What is cloned. */
  readonly snapshotName: string;
}

/** What is cloned, and how. */
export interface CloneOptions {
  /** The snapshot's name in the source volume. */
  readonly snapshot: string;
  /** Also copy what is only in the backing image. */
  readonly exportBackingImage?: boolean;
  /** Patience of the file transfer with one request, seconds; default 5. */
  readonly httpTimeoutSeconds?: number;
  /** Patience with the whole, seconds; 0 or less, and by default: 24 hours. */
  readonly grpcTimeoutSeconds?: number;
  /** Gives up waiting. The replicas go on. */
  readonly signal?: AbortSignal;
}

/** Deadline of a call that lasts as long as the data it moves, milliseconds. */
export function longTimeoutMs(seconds: number | undefined): number {
  return seconds !== undefined && seconds > 0 ? seconds * 1000 : LONG_CALL_TIMEOUT_MS;
}

/**
 * Clones a snapshot into a volume, and returns when all replicas have it. A replica that failed may say so only in
 * {@linkcode cloneStatus}.
 *
 * @param target the engine of the new volume
 * @param source the engine of the old one
 * @throws {ClientError} when the source has no complete replica, or the target one that is not
 * @throws {ReplicasError} {@linkcode RpcError}
 */
export async function cloneSnapshot(
  target: EngineClient,
  source: EngineClient,
  options: CloneOptions,
): Promise<void> {
  const from = (await source.replicas()).find(({ mode }) => mode === "RW");
  if (!from) throw new ClientError("cannot find a RW replica in the source volume for cloning");
  const replicas = await target.replicas();
  for (const { address, mode } of replicas) {
    if (mode !== "RW") {
      throw new ClientError(
        `cannot do snapshot clone because replica ${address} in ${mode} mode. ` +
          `All replicas in the target volume must be in RW mode`,
      );
    }
  }
  const call = {
    timeoutMs: longTimeoutMs(options.grpcTimeoutSeconds),
    ...(options.signal ? { signal: options.signal } : {}),
  };
  await onAll(target, replicas, ({ agent, address }) =>
    agent.unary("snapshotClone", {
      fromAddress: from.address,
      toHost: hostOf(address),
      snapshotFileName: options.snapshot,
      exportBackingImageIfExist: options.exportBackingImage ?? false,
      fileSyncHttpClientTimeout: options.httpTimeoutSeconds ?? 5,
      fromVolumeName: source.identity.volumeName ?? "",
    }, call));
}

/** How far the clone into a volume is, by address of the replica. @throws {RpcError} */
export async function cloneStatus(engine: EngineClient): Promise<Record<string, CloneStatus>> {
  return await statusOfAll(engine, await engine.replicas(), async ({ agent }) => {
    const status = await agent.unary("snapshotCloneStatus", {});
    const { isCloning, error, progress, state, fromReplicaAddress, snapshotName } = status;
    return { isCloning, error, progress, state, fromReplicaAddress, snapshotName };
  }, (text, { address }) => ({
    isCloning: false,
    error: `failed to get snapshot clone status of ${address}: ${text}`,
    progress: 0,
    state: "",
    fromReplicaAddress: "",
    snapshotName: "",
  }));
}
