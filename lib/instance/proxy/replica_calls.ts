/**
 * Calls of the proxy about replicas. The rebuild of a replica is driven from here: the call lasts as long as it does.
 *
 * @module
 */
import {
  addReplica,
  addReplicaForRestore,
  type AddReplicaOptions,
  rebuildStatus,
  removeReplica,
  verifyRebuild,
} from "../../client/rebuild.ts";
import { replicaAddress } from "../../client/engine.ts";
import type { imrpc, ProxyEngineMethods } from "../../rpc/imrpc.ts";
import { type Handlers, type ptypes, unimplemented } from "../../rpc/mod.ts";
import { required, withEngine } from "./engine_call.ts";

/** The methods of this file. */
export type ReplicaCall =
  | "replicaAdd"
  | "replicaList"
  | "replicaRebuildingStatus"
  | "replicaRebuildingQosSet"
  | "replicaVerifyRebuild"
  | "replicaRemove"
  | "replicaModeUpdate"
  | "replicaRebuildConcurrentSyncLimitSet"
  | "replicaRebuildConcurrentSyncLimitGet";

function addOptions(request: imrpc.EngineReplicaAddRequest): AddReplicaOptions {
  const { size, currentSize, localSync } = request;
  // No signal: when the caller goes away, a rebuild that is under way still has to be ended in order.
  return {
    instanceName: request.replicaName,
    ...(size > 0 ? { size } : {}),
    ...(currentSize > 0 ? { currentSize } : {}),
    fastSync: request.fastSync,
    ...(request.fileSyncHttpClientTimeout > 0
      ? { httpTimeoutSeconds: request.fileSyncHttpClientTimeout }
      : {}),
    grpcTimeoutSeconds: request.grpcTimeoutSeconds,
    ...(localSync
      ? { localSync: { sourcePath: localSync.sourcePath ?? "", targetPath: localSync.targetPath ?? "" } }
      : {}),
  };
}

/** The handlers. */
export const replicaCalls: Pick<Handlers<ProxyEngineMethods>, ReplicaCall> = {
  replicaAdd: (request) =>
    withEngine(request.proxyEngineRequest, async (engine) => {
      const address = required(request.replicaAddress, "replica_address");
      if (request.restore) await addReplicaForRestore(engine, address, addOptions(request));
      else await addReplica(engine, address, addOptions(request));
      return {};
    }),
  replicaList: (request) =>
    withEngine(
      request,
      async ({ controller }) => ({ replicaList: await controller.unary("replicaList", {}) }),
    ),
  replicaRebuildingStatus: (request) =>
    withEngine(request, async (engine) => {
      const status: Record<string, ptypes.IReplicaRebuildStatusResponse> = {};
      for (const [address, one] of Object.entries(await rebuildStatus(engine))) {
        status[address] = { ...one, fromReplicaAddressList: [...one.fromReplicaAddressList] };
      }
      return { status };
    }),
  replicaRebuildingQosSet: unimplemented,
  replicaVerifyRebuild: (request) =>
    withEngine(request.proxyEngineRequest, async (engine) => {
      await verifyRebuild(engine, required(request.replicaAddress, "replica_address"), request.replicaName);
      return {};
    }),
  replicaRemove: (request) =>
    withEngine(request.proxyEngineRequest, async (engine) => {
      await removeReplica(engine, required(request.replicaAddress, "replica_address"), request.replicaName);
      return {};
    }),
  replicaModeUpdate: ({ proxyEngineRequest, replicaAddress: replica, mode }) =>
    withEngine(proxyEngineRequest, async ({ controller }) => {
      const address = replicaAddress(required(replica, "replica_address"));
      await controller.unary("replicaUpdate", { address: { address }, mode });
      return {};
    }),
  replicaRebuildConcurrentSyncLimitSet: ({ proxyEngineRequest, limit }) =>
    withEngine(proxyEngineRequest, async ({ controller }) => {
      await controller.unary("replicaRebuildConcurrentSyncLimitSet", { limit });
      return {};
    }),
  replicaRebuildConcurrentSyncLimitGet: (request) =>
    withEngine(request, async ({ controller }) => ({
      limit: (await controller.unary("replicaRebuildConcurrentSyncLimitGet", {})).limit ?? 0,
    })),
};
