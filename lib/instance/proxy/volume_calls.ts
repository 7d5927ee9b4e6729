/**
 * Calls of the proxy about the volume itself: one call of the engine each.
 *
 * @module
 */
import { createSnapshot } from "../../client/snapshots.ts";
import type { ProxyEngineMethods } from "../../rpc/imrpc.ts";
import type { Handlers } from "../../rpc/mod.ts";
import { required, withEngine } from "./engine_call.ts";

/** The methods of this file. */
export type VolumeCall =
  | "serverVersionGet"
  | "volumeGet"
  | "volumeExpand"
  | "volumeFrontendStart"
  | "volumeFrontendShutdown"
  | "volumeUnmapMarkSnapChainRemovedSet"
  | "volumeSnapshotMaxCountSet"
  | "volumeSnapshotMaxSizeSet"
  | "volumeSnapshot"
  | "metricsGet";

/** The handlers. */
export const volumeCalls: Pick<Handlers<ProxyEngineMethods>, VolumeCall> = {
  serverVersionGet: (request) =>
    withEngine(request, async ({ controller }) => ({
      version: (await controller.unary("versionDetailGet", {})).version ?? null,
    })),
  volumeGet: (request) => withEngine(request, async (engine) => ({ volume: await engine.volume() })),
  volumeExpand: ({ proxyEngineRequest, expand }) =>
    withEngine(proxyEngineRequest, async ({ controller }) => {
      await controller.unary("volumeExpand", { size: required(expand, "expand").size ?? 0 });
      return {};
    }),
  volumeFrontendStart: ({ proxyEngineRequest, frontendStart }) =>
    withEngine(proxyEngineRequest, async ({ controller }) => {
      const frontend = required(required(frontendStart, "frontend_start").frontend, "frontend");
      await controller.unary("volumeFrontendStart", { frontend });
      return {};
    }),
  volumeFrontendShutdown: (request) =>
    withEngine(request, async ({ controller }) => {
      await controller.unary("volumeFrontendShutdown", {});
      return {};
    }),
  volumeUnmapMarkSnapChainRemovedSet: ({ proxyEngineRequest, unmapMarkSnap }) =>
    withEngine(proxyEngineRequest, async ({ controller }) => {
      const enabled = required(unmapMarkSnap, "unmap_mark_snap").enabled ?? false;
      await controller.unary("volumeUnmapMarkSnapChainRemovedSet", { enabled });
      return {};
    }),
  volumeSnapshotMaxCountSet: ({ proxyEngineRequest, count }) =>
    withEngine(proxyEngineRequest, async ({ controller }) => {
      await controller.unary("volumeSnapshotMaxCountSet", { count: required(count, "count").count ?? 0 });
      return {};
    }),
  volumeSnapshotMaxSizeSet: ({ proxyEngineRequest, size }) =>
    withEngine(proxyEngineRequest, async ({ controller }) => {
      await controller.unary("volumeSnapshotMaxSizeSet", { size: required(size, "size").size ?? 0 });
      return {};
    }),
  volumeSnapshot: ({ proxyEngineRequest, snapshotVolume }) =>
    withEngine(proxyEngineRequest, async (engine) => {
      const { name, labels, freezeFilesystem } = required(snapshotVolume, "snapshot_volume");
      const made = await createSnapshot(engine, {
        name: name ?? "",
        labels: labels ?? {},
        freezeFilesystem: freezeFilesystem ?? false,
      });
      return { snapshot: { name: made } };
    }),
  metricsGet: (request) =>
    withEngine(request, async ({ controller }) => ({
      metrics: (await controller.unary("metricsGet", {})).metrics ?? null,
    })),
};
