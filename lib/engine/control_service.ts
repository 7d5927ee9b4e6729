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
import { ALL_FEATURES } from "../wire/frame.ts";
import type { Controller } from "./controller.ts";
import type { Mode } from "./link.ts";
import { MetricsWindow } from "./metrics_window.ts";
import { API, VERSION } from "./version.ts";

const MODES: Record<Mode, ptypes.ReplicaMode> = {
  WO: ptypes.ReplicaMode.WO,
  RW: ptypes.ReplicaMode.RW,
  ERR: ptypes.ReplicaMode.ERR,
};

/** Limits that the API reports; the features behind them are not part of the engine yet. */
const SNAPSHOT_MAX_COUNT = 250;

/** The handlers. @param clock monotonic milliseconds */
export function controllerHandlers(controller: Controller, clock: () => number): Handlers<ControllerMethods> {
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
    replicaList: () => ({ replicas: controller.replicas().map((r) => replica(r.name)) }),
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
    volumeSnapshot: unimplemented,
    volumeRevert: unimplemented,
    volumeExpand: unimplemented,
    volumeUnmapMarkSnapChainRemovedSet: unimplemented,
    volumeSnapshotMaxCountSet: unimplemented,
    volumeSnapshotMaxSizeSet: unimplemented,
    volumeIO: unimplemented,
    controllerReplicaCreate: async (request) => {
      if (request.mode !== ptypes.ReplicaMode.WO || request.snapshotRequired) return unimplemented();
      await controller.addReplica(normal(request.address));
      return replica(request.address);
    },
    replicaPrepareRebuild: unimplemented,
    replicaVerifyRebuild: unimplemented,
    replicaRebuildConcurrentSyncLimitSet: unimplemented,
    replicaRebuildConcurrentSyncLimitGet: unimplemented,
  };
}

/** Addresses come as `tcp://h:p` and as bare `h:p`. */
function normal(address: string): string {
  const parsed = parseAddress(address);
  return parsed.kind === "tcp" ? `tcp://${parsed.host}:${parsed.port}` : address;
}

function notFound(address: string): RpcError {
  return new RpcError(Code.NOT_FOUND, `no replica ${address}`);
}

/** What VersionDetailGet and `version` report. */
export function versionOutput(): ptypes.IVersionOutput {
  return {
    version: VERSION,
    gitCommit: "",
    buildDate: "",
    cliAPIVersion: API.cli,
    cliAPIMinVersion: API.cliMin,
    controllerAPIVersion: API.controller,
    controllerAPIMinVersion: API.controllerMin,
    dataFormatVersion: API.dataFormat,
    dataFormatMinVersion: API.dataFormatMin,
    droverFeatures: ALL_FEATURES,
  };
}

function describe(controller: Controller): ptypes.IVolume {
  const { frontend } = controller;
  return {
    name: controller.options.name,
    size: controller.bytes,
    replicaCount: controller.replicas().length,
    endpoint: frontend.endpoint,
    frontend: frontend.kind,
    frontendState: frontend.kind === "" ? "" : frontend.up ? "up" : "down",
    snapshotMaxCount: SNAPSHOT_MAX_COUNT,
  };
}
