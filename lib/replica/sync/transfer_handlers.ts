/**
 * The calls of the sync agent that move data between replicas.
 *
 * @module
 */
import { FilesLibc } from "../../io/files_libc.ts";
import { getLogger } from "../../log/log.ts";
import { Code, RpcError } from "../../rpc/errors.ts";
import type { Handlers } from "../../rpc/service.ts";
import type { SyncAgentMethods } from "../../rpc/services.ts";
import type { SyncAgent } from "./agent.ts";
import type { ExportParams } from "./export_job.ts";
import { syncRequest } from "./files_sync.ts";
import { launch } from "./launch.ts";
import { readableName, snapshotDisk } from "./names.ts";
import type { SendParams } from "./sender.ts";
import { textOf } from "./status.ts";

/** Names of these calls. */
export type TransferMethodName =
  | "droverSyncLimitSet"
  | "droverSyncPrepare"
  | "fileSend"
  | "filesSync"
  | "receiverLaunch"
  | "replicaRebuildStatus"
  | "snapshotClone"
  | "snapshotCloneStatus"
  | "volumeExport";

/** The handlers. */
export function transferHandlers(agent: SyncAgent): Pick<Handlers<SyncAgentMethods>, TransferMethodName> {
  const { directory, volumeName } = agent.options, log = getLogger({ replica: directory });
  return {
    fileSend: async (request, { signal }) => {
      const path = `${directory}/${readableName(request.fromFileName)}`;
      if (!new FilesLibc().exists(path)) throw new RpcError(Code.NOT_FOUND, `there is no ${path}`);
      using _ = agent.use(`sending ${request.fromFileName}`);
      const params: SendParams = {
        directory,
        file: request.fromFileName,
        host: request.host,
        port: request.port,
        timeoutS: request.fileSyncHttpClientTimeout,
        fastSync: request.fastSync,
        shared: request.droverShared,
      };
      await agent.workers.run("send", "send", params, { signal }).result;
      return {};
    },
    filesSync: async (request) => {
      if (request.droverBytesPerSecond > 0) agent.rebuild.setLimit(request.droverBytesPerSecond);
      await agent.syncFiles(syncRequest(request, volumeName));
      return {};
    },
    receiverLaunch: async ({ toFileName }) => {
      const { port, result } = await launch(agent, toFileName);
      result.catch((error) => log.warn("a receiver ended", { file: toFileName, error: textOf(error) }));
      return { port };
    },
    replicaRebuildStatus: () => agent.rebuild.describe(),
    droverSyncLimitSet: ({ bytesPerSecond }) => {
      agent.rebuild.setLimit(bytesPerSecond);
      return {};
    },
    droverSyncPrepare: ({ receive, send }) => {
      if (receive) agent.workers.prepare("receive");
      if (send) agent.workers.prepare("send");
      return {};
    },
    snapshotClone: async (request, { signal }) => {
      await agent.cloneFrom(request, signal);
      return {};
    },
    snapshotCloneStatus: () => agent.clone.describe(),
    volumeExport: async (request, { signal }) => {
      if (request.exportBackingImageIfExist) {
        const text = "a backing image is not exported: make the new volume with the same backing image";
        throw new RpcError(Code.UNIMPLEMENTED, text);
      }
      const disk = snapshotDisk(request.snapshotFileName);
      using _ = agent.use(`exporting ${disk}`);
      const params: ExportParams = {
        directory,
        disk,
        host: request.host,
        port: request.port,
        timeoutS: request.fileSyncHttpClientTimeout,
        shared: false,
      };
      await agent.workers.run("send", "export", params, { signal }).result;
      return {};
    },
  };
}
