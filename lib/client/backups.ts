/**
 * A backup of a running volume: one complete replica makes it, from its own files.
 *
 * @module
 */
import { LONG_CALL_TIMEOUT_MS, type ptypes } from "../rpc/mod.ts";
import type { EngineClient } from "./engine.ts";
import { ClientError } from "./errors.ts";
import { inMode, refuseWhileRebuilding } from "./snapshots.ts";

/** What is backed up, and how. */
export interface VolumeBackupOptions {
  /** Name of the snapshot. */
  readonly snapshot: string;
  /** URL of the target. */
  readonly target: string;
  /** What the target needs beside. */
  readonly credentials: Readonly<Record<string, string>>;
  /** Name of the volume in the target. */
  readonly volume: string;
  /** Name of the backup; "" lets the replica choose one. */
  readonly name?: string;
  /** Labels. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Compression of a new volume's blocks. */
  readonly compression?: string;
  /** Size of a block in bytes. */
  readonly blockBytes?: number;
  /** Everything anew. */
  readonly full?: boolean;
  /** Blocks under way at the same time. */
  readonly concurrency?: number;
}

/** A backup that has begun. */
export interface StartedBackup {
  /** Its name. */
  readonly backup: string;
  /** The replica that makes it. */
  readonly replica: string;
  /** Only changes are looked at. */
  readonly isIncremental: boolean;
}

/**
 * Begins a backup; it goes on without its caller.
 *
 * @throws {ClientError} when no replica can make it
 * @throws {RpcError} when the replica refuses, or the target cannot be used
 */
export async function startBackup(
  engine: EngineClient,
  options: VolumeBackupOptions,
): Promise<StartedBackup> {
  const replicas = await engine.replicas();
  const replica = inMode(replicas, "RW")[0];
  if (!replica) throw new ClientError("cannot back up: the volume has no complete copy");
  await refuseWhileRebuilding(engine, replicas, "back up");
  const { blockBytes, full = false } = options;
  const parameters = {
    ...(blockBytes !== undefined && { "backup-block-size": String(blockBytes) }),
    ...(full && { "backup-mode": "full" }),
  };
  const { backup, isIncremental } = await engine.replica(replica.address).agent.unary("backupCreate", {
    snapshotFileName: options.snapshot,
    backupTarget: options.target,
    volumeName: options.volume,
    labels: Object.entries(options.labels ?? {}).map(([key, value]) => `${key}=${value}`),
    credential: { ...options.credentials },
    backupName: options.name ?? "",
    compressionMethod: options.compression ?? "",
    concurrentLimit: options.concurrency ?? 4,
    parameters,
  }, { timeoutMs: LONG_CALL_TIMEOUT_MS });
  return { backup, replica: replica.address, isIncremental };
}

/** How far a backup is. @throws {RpcError} when its replica does not know it any more */
export async function startedBackupStatus(
  engine: EngineClient,
  { backup, replica }: StartedBackup,
): Promise<ptypes.IBackupStatusResponse> {
  return await engine.replica(replica).agent.unary("backupStatus", { backup });
}

/** Ends a backup that is under way. @throws {RpcError} when its replica does not know it any more */
export async function cancelBackup(engine: EngineClient, { backup, replica }: StartedBackup): Promise<void> {
  await engine.replica(replica).agent.unary("backupRemove", { backup });
}
