/**
 * Backups through the engine's replicas: one complete replica makes a backup, all of them take part in a restore.
 * The sync agents do the work; this starts it and asks how far it is.
 *
 * @module
 */
import { type EngineClient, onAll, type ReplicaEntry, statusOfAll } from "../../client/engine.ts";
import { ClientError } from "../../client/errors.ts";
import { purgeSnapshots } from "../../client/purge.ts";
import { inMode, refuseWhileRebuilding, snapshotsOfReplica } from "../../client/snapshots.ts";
import { HEAD_PSEUDO_NAME, snapshotDiskName } from "../../disk/names.ts";
import type { imrpc } from "../../rpc/imrpc.ts";
import { LONG_CALL_TIMEOUT_MS } from "../../rpc/limits.ts";
import { credentialsOf } from "./credentials.ts";
import { required } from "./engine_call.ts";
import { checkRestoreSize } from "./restore_size.ts";

/** Has a complete replica make a backup. @throws {ClientError} @throws {RpcError} */
export async function createBackup(
  engine: EngineClient,
  request: imrpc.EngineSnapshotBackupRequest,
): Promise<imrpc.IEngineSnapshotBackupProxyResponse> {
  const snapshot = required(request.snapshotName, "snapshot_name");
  const target = required(request.backupTarget, "backup_target");
  const credential = credentialsOf(request.envs);
  if (snapshot === HEAD_PSEUDO_NAME) throw new ClientError("cannot backup the head disk in the chain");
  const complete = inMode(await engine.replicas(), "RW");
  const replica = complete[0];
  if (!replica) throw new ClientError("cannot find a suitable replica for backup");
  const client = engine.replica(replica.address);
  const { disks, rebuilding } = await client.get();
  if (rebuilding) throw new ClientError("cannot backup while rebuilding is in progress");
  if (!Object.hasOwn(disks, snapshotDiskName(snapshot))) {
    throw new ClientError(
      `snapshot disk ${snapshotDiskName(snapshot)} not found on replica ${replica.address}`,
    );
  }
  const { name: volumeName } = await engine.volume();
  const { backup, isIncremental } = await client.agent.unary("backupCreate", {
    snapshotFileName: snapshot,
    backupTarget: target,
    volumeName,
    labels: Object.entries(request.labels).map(([key, value]) => `${key}=${value}`),
    credential,
    backingImageName: request.backingImageName,
    backingImageChecksum: request.backingImageChecksum,
    backupName: request.backupName,
    compressionMethod: request.compressionMethod,
    concurrentLimit: request.concurrentLimit,
    storageClassName: request.storageClassName,
    parameters: request.parameters,
  }, { timeoutMs: LONG_CALL_TIMEOUT_MS });
  return { backupId: backup, replica: replica.address, isIncremental };
}

/** How far a backup is. @throws {ClientError} when its replica is not complete @throws {RpcError} */
export async function backupStatus(
  engine: EngineClient,
  request: imrpc.EngineSnapshotBackupStatusRequest,
): Promise<imrpc.IEngineSnapshotBackupStatusProxyResponse> {
  const backup = required(request.backupName, "backup_name");
  const replicas = await engine.replicas();
  // Without an address the one is asked that knows the backup.
  const asked = request.replicaAddress === ""
    ? inMode(replicas, "RW")
    : replicas.filter(({ address }) => address === request.replicaAddress);
  const first = asked[0];
  if (!first) throw new ClientError(`replica ${request.replicaAddress} is not found`);
  if (first.mode !== "RW") {
    throw new ClientError(
      `failed to get backup status on unknown mode replica ${first.address}: ${first.mode}`,
    );
  }
  let problem: unknown;
  for (const { address } of asked) {
    try {
      const status = await engine.replica(address, request.replicaName).agent.unary("backupStatus", {
        backup,
      });
      const { backupUrl, error, progress, snapshotName, state } = status;
      return { backupUrl, error, progress, snapshotName, state, replicaAddress: address };
    } catch (error) {
      problem ??= error;
    }
  }
  throw problem;
}

/**
 * Has all replicas restore a backup.
 *
 * @throws {ReplicasError} for those that did not begin
 * @throws {ClientError} when the volume is in no state for it @throws {RpcError}
 */
export async function restoreBackup(
  engine: EngineClient,
  request: imrpc.EngineBackupRestoreRequest,
): Promise<void> {
  const backup = required(request.url, "url"), credential = credentialsOf(request.envs);
  const { frontendState, size } = await engine.volume();
  if (frontendState === "up") throw new ClientError("volume frontend enabled, aborting restore");
  const replicas = await engine.replicas();
  if (replicas.length === 0 || replicas.some(({ mode }) => mode === "ERR")) {
    throw new ClientError("not all replicas are fit for a restore");
  }
  const restoring = inMode(replicas, "RW", "WO");
  const disk = await restoreDisk(engine, restoring);
  const held = await onAll(
    engine,
    restoring,
    async ({ agent }) => (await agent.unary("restoreStatus", {})).lastRestored ?? "",
  );
  await checkRestoreSize({
    url: backup,
    credential,
    volumeBytes: Number(size ?? 0),
    largerByHeader: request.needCorrectEncryptedVolumeSize,
    standBy: [...held.values()].some((last) => last !== ""),
  });
  await onAll(engine, restoring, ({ agent }) =>
    agent.unary("backupRestore", {
      backup,
      snapshotDiskName: disk,
      credential,
      concurrentLimit: request.concurrentLimit,
    }));
}

/** The snapshot's file that takes the content: the only one there is, or a new one. @throws {ClientError} */
async function restoreDisk(engine: EngineClient, replicas: readonly ReplicaEntry[]): Promise<string> {
  const complete = inMode(replicas, "RW");
  if (complete.length > 0) await refuseWhileRebuilding(engine, complete, "restore a backup");
  const purging = await onAll(
    engine,
    replicas,
    async ({ agent }) => (await agent.unary("snapshotPurgeStatus", {})).isPurging,
  );
  for (const [address, busy] of purging) {
    if (busy) throw new ClientError(`cannot restore a backup because ${address} is purging snapshots`);
  }
  const names = new Set<string>();
  const found = await onAll(engine, replicas, async (client) => snapshotsOfReplica(await client.get()));
  for (const disks of found.values()) {
    for (const name of Object.keys(disks)) if (name !== HEAD_PSEUDO_NAME) names.add(name);
  }
  if (names.size > 1) {
    await purgeSnapshots(engine, { skipIfInProgress: true });
    throw new ClientError(
      "found more than 1 snapshot in the replicas, hence started to purge snapshots before the restore",
    );
  }
  const [only = crypto.randomUUID()] = names;
  return snapshotDiskName(only);
}

/** How far a restore is, by address of the replica. @throws {RpcError} */
export async function restoreStatus(
  engine: EngineClient,
): Promise<Record<string, imrpc.IEngineBackupRestoreStatus>> {
  const replicas = inMode(await engine.replicas(), "RW", "WO");
  return await statusOfAll<imrpc.IEngineBackupRestoreStatus>(
    engine,
    replicas,
    async ({ agent }) => {
      const {
        isRestoring,
        lastRestored,
        currentRestoringBackup,
        progress,
        error,
        destFileName,
        state,
        backupUrl,
      } = await agent.unary("restoreStatus", {});
      return {
        isRestoring,
        lastRestored,
        currentRestoringBackup,
        progress,
        error,
        filename: destFileName,
        state,
        backupUrl,
      };
    },
    (text, { address }) => ({ error: `failed to get restore status of ${address}: ${text}`, state: "error" }),
  );
}
