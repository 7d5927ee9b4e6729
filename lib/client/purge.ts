/**
 * Purge: frees the space of removed snapshots, on all replicas at the same time. Each replica's sync agent does the
 * work on its own; this starts it and tells how far it is.
 *
 * @module
 */
import { type EngineClient, onAll, statusOfAll } from "./engine.ts";
import { ClientError, ReplicasError, textOf } from "./errors.ts";
import { inMode, refuseWhileRebuilding } from "./snapshots.ts";

/** How far the purge of one replica is. The keys are those of Longhorn's JSON. */
export interface PurgeStatus {
  /** Why it failed, or "". */
  readonly error: string;
  /** It is at work. */
  readonly isPurging: boolean;
  /** Percent. */
  readonly progress: number;
  /** `in_progress`, `complete`, `error`, or "" when there was none. */
  readonly state: string;
}

/** How a purge is started. */
export interface PurgeOptions {
  /** A purge that is under way is no error. */
  readonly skipIfInProgress?: boolean;
}

/**
 * Starts a purge. It also removes all snapshots that the engine made for itself.
 *
 * @throws {ClientError} while a replica is being rebuilt, or purged already
 * @throws {ReplicasError} {@linkcode RpcError}
 */
export async function purgeSnapshots(engine: EngineClient, options: PurgeOptions = {}): Promise<void> {
  const replicas = inMode(await engine.replicas(), "RW", "WO");
  await refuseWhileRebuilding(engine, replicas, "purge snapshots");
  const purging = await onAll(
    engine,
    replicas,
    async ({ agent }) => (await agent.unary("snapshotPurgeStatus", {})).isPurging,
  );
  for (const { address } of replicas) {
    if (!purging.get(address)) continue;
    if (options.skipIfInProgress) return;
    throw new ClientError(`cannot purge snapshots because ${address} is already purging snapshots`);
  }
  try {
    await onAll(engine, replicas, ({ agent }) => agent.unary("snapshotPurge", {}));
  } catch (error) {
    if (!options.skipIfInProgress || !(error instanceof ReplicasError)) throw error;
    const others = error.failures.filter(({ message }) => !message.includes("already purging"));
    if (others.length > 0) throw new ReplicasError(others);
  }
}

/** How far the purge is, by address of the replica. @throws {RpcError} */
export async function purgeStatus(engine: EngineClient): Promise<Record<string, PurgeStatus>> {
  return await statusOfAll(engine, inMode(await engine.replicas(), "RW", "WO"), async ({ agent }) => {
    const { error, isPurging, progress, state } = await agent.unary("snapshotPurgeStatus", {});
    return { error, isPurging, progress, state };
  }, (text, { address }) => ({
    error: `failed to get snapshot purge status of ${address}: ${text}`,
    isPurging: false,
    progress: 0,
    state: "",
  }));
}

/** Starts nothing and forgets the states of jobs that ended, on every replica. @throws {ReplicasError} */
export async function resetSyncAgents(engine: EngineClient): Promise<void> {
  const replicas = await engine.replicas();
  try {
    await onAll(engine, inMode(replicas, "RW", "WO"), ({ agent }) => agent.unary("reset", {}));
  } catch (error) {
    throw error instanceof ReplicasError ? error : new ClientError(textOf(error), { cause: error });
  }
}
