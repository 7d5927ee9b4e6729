/**
 * Calls of the proxy about snapshots and backups.
 *
 * @module
 */
import { cloneSnapshot, cloneStatus } from "../../client/clone.ts";
import { EngineClient } from "../../client/engine.ts";
import { ReplicasError, textOf } from "../../client/errors.ts";
import { hashSnapshot, hashStatus } from "../../client/hash.ts";
import { purgeSnapshots, purgeStatus } from "../../client/purge.ts";
import { removeSnapshot, revertToSnapshot, snapshotInfo } from "../../client/snapshots.ts";
import type { ProxyEngineMethods } from "../../rpc/imrpc.ts";
import { Code, type Handlers, RpcError, unimplemented } from "../../rpc/mod.ts";
import { backupStatus, createBackup, restoreBackup, restoreStatus } from "./backups.ts";
import { required, withEngine } from "./engine_call.ts";

/** The methods of this file. */
export type SnapshotCall =
  | "snapshotList"
  | "snapshotRevert"
  | "snapshotPurge"
  | "snapshotPurgeStatus"
  | "snapshotClone"
  | "snapshotCloneStatus"
  | "snapshotRemove"
  | "snapshotHash"
  | "snapshotHashStatus"
  | "snapshotBackup"
  | "snapshotBackupStatus"
  | "backupRestore"
  | "backupRestoreStatus"
  | "backupRestoreFinish";

async function list(engine: EngineClient) {
  const disks = Object.entries(await snapshotInfo(engine)).map(([name, info]) => {
    const { usercreated: userCreated, children, labels, ...rest } = info;
    return [name, { ...rest, userCreated, children: { ...children }, labels: { ...labels } }] as const;
  });
  return { disks: Object.fromEntries(disks) };
}

/** Removes all that can be removed before it speaks of those that cannot. @throws {RpcError} */
async function removeAll(engine: EngineClient, names: readonly string[]): Promise<void> {
  if (names.length === 0) throw new RpcError(Code.INVALID_ARGUMENT, "missing required argument: names");
  const problems: string[] = [];
  let cause: unknown;
  for (const name of names) {
    try {
      await removeSnapshot(engine, name);
    } catch (error) {
      problems.push(names.length === 1 ? textOf(error) : `${name}: ${textOf(error)}`);
      cause ??= error;
    }
  }
  const code = cause instanceof RpcError ? cause.code : Code.UNKNOWN;
  if (problems.length > 0) throw new RpcError(code, problems.join("; "), { cause });
}

/** The handlers. */
export const snapshotCalls: Pick<Handlers<ProxyEngineMethods>, SnapshotCall> = {
  snapshotList: (request) => withEngine(request, list),
  snapshotRevert: ({ proxyEngineRequest, name }) =>
    withEngine(proxyEngineRequest, async (engine) => {
      await revertToSnapshot(engine, required(name, "name"));
      return {};
    }),
  snapshotPurge: ({ proxyEngineRequest, skipIfInProgress }) =>
    withEngine(proxyEngineRequest, async (engine) => {
      await purgeSnapshots(engine, { skipIfInProgress });
      return {};
    }),
  snapshotPurgeStatus: (request) =>
    withEngine(request, async (engine) => ({ status: await purgeStatus(engine) })),
  snapshotClone: (request) =>
    withEngine(request.proxyEngineRequest, async (engine) => {
      const address = required(request.fromEngineAddress, "from_engine_address");
      using source = new EngineClient(address, {
        volumeName: request.fromVolumeName,
        instanceName: request.fromEngineName,
      });
      await cloneSnapshot(engine, source, {
        snapshot: required(request.snapshotName, "snapshot_name"),
        exportBackingImage: request.exportBackingImageIfExist,
        httpTimeoutSeconds: request.fileSyncHttpClientTimeout,
        grpcTimeoutSeconds: request.grpcTimeoutSeconds,
      });
      return {};
    }),
  snapshotCloneStatus: (request) =>
    withEngine(request, async (engine) => ({ status: await cloneStatus(engine) })),
  snapshotRemove: ({ proxyEngineRequest, names }) =>
    withEngine(proxyEngineRequest, async (engine) => {
      await removeAll(engine, names);
      return {};
    }),
  snapshotHash: ({ proxyEngineRequest, snapshotName, rehash }) =>
    withEngine(proxyEngineRequest, async (engine) => {
      await hashSnapshot(engine, required(snapshotName, "snapshot_name"), rehash);
      return {};
    }),
  snapshotHashStatus: ({ proxyEngineRequest, snapshotName }) =>
    withEngine(proxyEngineRequest, async (engine) => ({
      status: await hashStatus(engine, required(snapshotName, "snapshot_name")),
    })),
  snapshotBackup: (request) =>
    withEngine(request.proxyEngineRequest, (engine) => createBackup(engine, request)),
  snapshotBackupStatus: (request) =>
    withEngine(request.proxyEngineRequest, (engine) => backupStatus(engine, request)),
  backupRestore: (request) =>
    withEngine(request.proxyEngineRequest, async (engine) => {
      try {
        await restoreBackup(engine, request);
        return {};
      } catch (error) {
        // Callers want to know which replicas failed; the call itself is a success then.
        if (!(error instanceof ReplicasError)) throw error;
        return { taskError: new TextEncoder().encode(JSON.stringify(error)) };
      }
    }),
  backupRestoreStatus: (request) =>
    withEngine(request, async (engine) => ({ status: await restoreStatus(engine) })),
  backupRestoreFinish: unimplemented,
};
