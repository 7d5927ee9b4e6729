/**
 * ptypes.ControllerService over a {@linkcode Controller}: what Longhorn's manager and its client commands call.
 *
 * @module
 */
import {
  Code,
  type ControllerMethods,
  type Handlers,
  parseAddress,
  ptypes,
  RpcError,
  unimplemented,
} from "../rpc/mod.ts";
import type { VolumeChanges } from "./changes.ts";
import type { Controller } from "./controller.ts";
import type { Mode } from "./link.ts";
import type { RebuildProgress } from "./rebuild.ts";
import { MetricsWindow } from "./metrics_window.ts";
import { versionOutput } from "./version.ts";

const MODES: Record<Mode, ptypes.ReplicaMode> = {
  WO: ptypes.ReplicaMode.WO,
  RW: ptypes.ReplicaMode.RW,
  ERR: ptypes.ReplicaMode.ERR,
};

/**
 * The handlers.
 *
 * @param clock monotonic milliseconds
 */
export function controllerHandlers(
  controller: Controller,
  clock: () => number,
): Handlers<ControllerMethods> {
  const metrics = new MetricsWindow(clock);
  const volume = () => describe(controller);
  const replica = (name: string) => {
    const found = controller.replicas().find((r) => r.name === normal(name));
    if (!found) throw notFound(name);
    return { address: { address: found.name }, mode: MODES[found.mode], droverNote: found.reason };
  };
  return {
    volumeGet: () => volume(),
    volumeStart: async (request) => {
      await controller.start(request.replicaAddresses);
      return volume();
    },
    volumeShutdown: async () => {
      await controller.shutdown();
      return volume();
    },
    volumeFrontendStart: async (request) => {
      await controller.startFrontend(request.frontend);
      return volume();
    },
    volumeFrontendShutdown: async () => {
      await controller.stopFrontend();
      return volume();
    },
    replicaList: async () => {
      const joining = controller.replicas().some(({ mode }) => mode === "WO");
      // Not asked in vain: that wakes the volume thread. The list is told, too, while that thread is not there.
      const copying = joining ? await controller.info().then(({ rebuild }) => rebuild, () => null) : null;
      const list = controller.replicas();
      return { replicas: list.map(({ name }) => ({ ...replica(name), ...progress(name, copying) })) };
    },
    replicaGet: (request) => replica(request.address),
    replicaDelete: async (request) => {
      await controller.removeReplica(normal(request.address));
      return {};
    },
    replicaUpdate: async (request) => {
      const name = normal(request.address?.address ?? "");
      const mode = (["WO", "RW", "ERR"] as const).find((m) => MODES[m] === request.mode) ?? "ERR";
      await controller.setMode(name, mode);
      return replica(name);
    },
    versionDetailGet: () => ({ version: versionOutput() }),
    metricsGet: async () => ({ metrics: metrics.sample((await controller.info()).totals) }),
    journalList: async () => {
      const info = await controller.info();
      controller.options.log.info("requests under way", { requests: info.requests });
      return {};
    },
    ...changeHandlers(controller.changes, volume),
    volumeIO: unimplemented,
    ...rebuildHandlers(controller, replica),
  };
}

/** The part that changes the volume itself. */
function changeHandlers(
  changes: VolumeChanges,
  volume: () => ptypes.IVolume,
): Pick<Handlers<ControllerMethods>, ChangeMethod> {
  return {
    volumeSnapshot: async ({ name, labels, freezeFilesystem }) => ({
      name: await changes.snapshot(name, { userCreated: true, labels, freeze: freezeFilesystem }),
    }),
    volumeRevert: async ({ name }) => {
      await changes.revert(name);
      return volume();
    },
    volumeExpand: ({ size }) => {
      changes.expand(Number(size));
      return volume();
    },
    volumeUnmapMarkSnapChainRemovedSet: async ({ enabled }) => {
      await changes.setUnmapMark(enabled);
      return volume();
    },
    volumeSnapshotMaxCountSet: async ({ count }) => {
      await changes.setLimits({ count });
      return volume();
    },
    volumeSnapshotMaxSizeSet: async ({ size }) => {
      await changes.setLimits({ bytes: Number(size) });
      return volume();
    },
  };
}

type ChangeMethod =
  | "volumeSnapshot"
  | "volumeRevert"
  | "volumeExpand"
  | "volumeUnmapMarkSnapChainRemovedSet"
  | "volumeSnapshotMaxCountSet"
  | "volumeSnapshotMaxSizeSet";

/** The part that drivers of a rebuild call. */
function rebuildHandlers(
  controller: Controller,
  replica: (name: string) => ptypes.IControllerReplica,
): Pick<Handlers<ControllerMethods>, RebuildMethod> {
  const { additions } = controller;
  return {
    controllerReplicaCreate: async (request) => {
      if (request.mode !== ptypes.ReplicaMode.WO) return unimplemented();
      await additions.add(normal(request.address), request.snapshotRequired);
      return replica(request.address);
    },
    replicaPrepareRebuild: async ({ address }) => {
      const files = await additions.prepare(normal(address));
      return {
        replica: replica(address),
        syncFileInfoList: files.map(({ name, bytes }) => ({
          fromFileName: name,
          toFileName: name,
          actualSize: bytes,
        })),
      };
    },
    replicaVerifyRebuild: async ({ address }) => {
      await additions.verify(normal(address));
      return replica(address);
    },
    replicaRebuildConcurrentSyncLimitSet: ({ limit }) => {
      if (limit <= 0) throw new RpcError(Code.UNKNOWN, `the limit must be above 0, not ${limit}`);
      controller.rebuildSources = limit;
      return {};
    },
    replicaRebuildConcurrentSyncLimitGet: () => ({ limit: controller.rebuildSources }),
    droverCopyLimitSet: async ({ bytesPerSecond }) => {
      await additions.setLimit(Number(bytesPerSecond));
      return {};
    },
  };
}

type RebuildMethod =
  | "controllerReplicaCreate"
  | "replicaPrepareRebuild"
  | "replicaVerifyRebuild"
  | "replicaRebuildConcurrentSyncLimitSet"
  | "replicaRebuildConcurrentSyncLimitGet"
  | "droverCopyLimitSet";

/** How far the engine is with copying to a replica, if that is the one. */
function progress(
  name: string,
  copying: RebuildProgress | null,
): Pick<ptypes.IControllerReplica, "droverCopy"> {
  if (copying?.name !== name) return {};
  const { done, total, perSecond, limit } = copying;
  return { droverCopy: { done, total, perSecond, limitPerSecond: limit } };
}

/** Addresses come as `tcp://h:p` and as bare `h:p`. */
function normal(address: string): string {
  const parsed = parseAddress(address);
  return parsed.kind === "tcp" ? `tcp://${parsed.host}:${parsed.port}` : address;
}

function notFound(address: string): RpcError {
  return new RpcError(Code.NOT_FOUND, `no replica ${address}`);
}

function describe(controller: Controller): ptypes.IVolume {
  const { frontend, changes: { expansion, limits, unmapMark } } = controller;
  return {
    name: controller.options.name,
    size: controller.bytes,
    replicaCount: controller.replicas().length,
    endpoint: frontend.endpoint,
    frontend: frontend.kind,
    frontendState: frontend.kind === "" ? "" : frontend.up ? "up" : "down",
    isExpanding: expansion.running,
    lastExpansionError: expansion.error,
    lastExpansionFailedAt: expansion.failedAt,
    unmapMarkSnapChainRemoved: unmapMark,
    snapshotMaxCount: limits.count,
    snapshotMaxSize: limits.bytes,
  };
}
