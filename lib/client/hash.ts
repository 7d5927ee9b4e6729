/**
 * Hashes of snapshots: every replica reads a snapshot's file and records its checksum. Different checksums mean that
 * the replicas differ; a checksum that changed although nobody wrote means that a disk lost data.
 *
 * @module
 */
import { type EngineClient, onAll, statusOfAll } from "./engine.ts";
import { ClientError } from "./errors.ts";
import { refuseWhileRebuilding } from "./snapshots.ts";

/** How far hashing on one replica is. The keys are those of Longhorn's JSON. */
export interface HashStatus {
  /** `in_progress`, `complete`, `error`, or "" when it was not asked for. */
  readonly state: string;
  /** 16 hexadecimal digits, when complete. */
  readonly checksum: string;
  /** Why it failed, or "". */
  readonly error: string;
  /** The file changed although its change time did not. */
  readonly silentlyCorrupted: boolean;
}

/**
 * Starts hashing a snapshot on all replicas.
 *
 * @param rehash also where a checksum is recorded and the file was not changed since
 * @throws {ClientError} when a replica is not complete, or is hashing already
 * @throws {ReplicasError} {@linkcode RpcError}
 */
export async function hashSnapshot(engine: EngineClient, name: string, rehash = false): Promise<void> {
  const replicas = await engine.replicas();
  for (const { address, mode } of replicas) {
    if (mode !== "RW") {
      throw new ClientError(`cannot request hashing snapshot because ${address} is in ${mode} mode`);
    }
  }
  await refuseWhileRebuilding(engine, replicas, "request hashing snapshot");
  const locked = await onAll(
    engine,
    replicas,
    async ({ agent }) => (await agent.unary("snapshotHashLockState", {})).isLocked,
  );
  for (const { address } of replicas) {
    if (locked.get(address)) {
      throw new ClientError(`cannot request hashing snapshot because ${address} is hashing snapshot`);
    }
  }
  await onAll(engine, replicas, ({ agent }) => agent.unary("snapshotHash", { snapshotName: name, rehash }));
}

/** How far hashing is, by address of the replica. @throws {RpcError} */
export async function hashStatus(engine: EngineClient, name: string): Promise<Record<string, HashStatus>> {
  return await statusOfAll(engine, await engine.replicas(), async ({ agent }) => {
    const { state, checksum, error, silentlyCorrupted } = await agent.unary("snapshotHashStatus", {
      snapshotName: name,
    });
    return { state, checksum, error, silentlyCorrupted };
  }, (text) => ({ state: "error", checksum: "", error: text, silentlyCorrupted: false }));
}

/** Ends hashing a snapshot. @throws {ReplicasError} {@linkcode RpcError} */
export async function cancelHash(engine: EngineClient, name: string): Promise<void> {
  await onAll(
    engine,
    await engine.replicas(),
    ({ agent }) => agent.unary("snapshotHashCancel", { snapshotName: name }),
  );
}
