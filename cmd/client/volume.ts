/**
 * Client commands about the volume as a whole and its engine.
 *
 * @module
 */
import type { EngineClient } from "../../lib/client/engine.ts";
import { versionOutput } from "../../lib/engine/version.ts";
import { connect, profilerrpc, profilerService, type ptypes } from "../../lib/rpc/mod.ts";
import { UsageError } from "../support/program.ts";
import {
  type ClientFlags,
  type Command,
  DEFAULT_URL,
  engineAddress,
  integer,
  printJson,
  withEngine,
} from "./globals.ts";

async function info(flags: ClientFlags): Promise<void> {
  const volume = await withEngine(flags, (engine) => engine.volume());
  printJson({
    name: volume.name,
    size: volume.size,
    replicaCount: volume.replicaCount,
    endpoint: volume.endpoint,
    frontend: volume.frontend,
    frontendState: volume.frontendState,
    isExpanding: volume.isExpanding,
    lastExpansionError: volume.lastExpansionError,
    lastExpansionFailedAt: volume.lastExpansionFailedAt,
    unmapMarkSnapChainRemoved: volume.unmapMarkSnapChainRemoved,
    snapshotMaxCount: volume.snapshotMaxCount,
    SnapshotMaxSize: volume.snapshotMaxSize,
  });
}

async function expand(flags: ClientFlags & { readonly size: string }): Promise<void> {
  const size = integer("--size", flags.size, 1);
  await withEngine(flags, ({ controller }) => controller.unary("volumeExpand", { size }));
}

async function unmapMark(
  flags: ClientFlags & { readonly enable: boolean; readonly disable: boolean },
): Promise<void> {
  if (flags.enable === flags.disable) {
    throw new UsageError(
      flags.enable ? "cannot enable and disable this option simultaneously" : "say --enable or --disable",
    );
  }
  await withEngine(
    flags,
    ({ controller }) => controller.unary("volumeUnmapMarkSnapChainRemovedSet", { enabled: flags.enable }),
  );
}

/** The keys in Longhorn's order, without extensions. */
function plainVersion(version: ptypes.IVersionOutput): Record<string, string | number> {
  return {
    version: version.version ?? "",
    gitCommit: version.gitCommit ?? "",
    buildDate: version.buildDate ?? "",
    cliAPIVersion: version.cliAPIVersion ?? 0,
    cliAPIMinVersion: version.cliAPIMinVersion ?? 0,
    controllerAPIVersion: version.controllerAPIVersion ?? 0,
    controllerAPIMinVersion: version.controllerAPIMinVersion ?? 0,
    dataFormatVersion: version.dataFormatVersion ?? 0,
    dataFormatMinVersion: version.dataFormatMinVersion ?? 0,
  };
}

async function version(flags: ClientFlags & { readonly clientOnly: boolean }): Promise<void> {
  const clientVersion = plainVersion(versionOutput());
  const server = flags.clientOnly
    ? undefined
    : await withEngine(flags, ({ controller }) => controller.unary("versionDetailGet", {}));
  printJson({ clientVersion, serverVersion: server ? plainVersion(server.version ?? {}) : null });
}

/** From an engine's port to the one its profiler gets; lower ones belong to engines and replicas. */
const PROFILER_PORT_OFFSET = 20_001, PROFILER_LEAST_PORT = 30_000;

async function profile(op: "SHOW" | "ENABLE" | "DISABLE", flags: ClientFlags, port = 0): Promise<string> {
  const address = engineAddress(flags.url ?? DEFAULT_URL);
  const client = connect(profilerService, address, {
    identity: { volumeName: flags.volumeName ?? "", instanceName: flags.engineInstanceName ?? "" },
  });
  try {
    const request = { requestOp: profilerrpc.Op[op], portNumber: port };
    return (await client.unary("profilerOP", request)).profilerAddr ?? "";
  } finally {
    client.close();
  }
}

async function enableProfiler(flags: ClientFlags & { readonly port: string }): Promise<void> {
  let port = integer("--port", flags.port);
  if (port > 0 && port < PROFILER_LEAST_PORT) {
    throw new UsageError(`--port ${port}: ports below ${PROFILER_LEAST_PORT} belong to engines and replicas`);
  }
  if (port === 0) {
    port = Number(/:(\d+)$/.exec(engineAddress(flags.url ?? DEFAULT_URL))?.[1] ?? NaN) + PROFILER_PORT_OFFSET;
  }
  console.log(`Profiler enabled at Addr: *${await profile("ENABLE", flags, port)}`);
}

function profilerCommands(root: Command): void {
  const parent = root.command("profiler").description("the profiler of the engine's process");
  parent.command("show").description("where it is")
    .action(async (_flags, command: Command) => {
      const address = await profile("SHOW", command.optsWithGlobals());
      console.log(address === "" ? "Profiler is not enabled" : `Profiler enabled at Addr: *${address}`);
    });
  parent.command("enable").description("start it")
    .option("--port <port>", `its port, ${PROFILER_LEAST_PORT} or above; 0 = chosen by the engine's`, "0")
    .action((_flags, command: Command) => enableProfiler(command.optsWithGlobals()));
  parent.command("disable").description("stop it")
    .action(async (_flags, command: Command) => {
      await profile("DISABLE", command.optsWithGlobals());
      console.log("Profiler is disabled!");
    });
}

/** Makes one call that answers nothing of interest. */
async function order(flags: ClientFlags, call: (controller: EngineClient["controller"]) => Promise<unknown>) {
  await withEngine(flags, ({ controller }) => call(controller));
}

function frontendCommands(root: Command): void {
  const parent = root.command("frontend").description("how the volume is shown to its host");
  parent.command("start <kind>").description("start a frontend")
    .action((frontend: string, _flags, command: Command) =>
      order(command.optsWithGlobals(), (controller) => controller.unary("volumeFrontendStart", { frontend }))
    );
  parent.command("shutdown").description("stop the frontend")
    .action((_flags, command: Command) =>
      order(command.optsWithGlobals(), (controller) => controller.unary("volumeFrontendShutdown", {}))
    );
}

/** Adds the commands about the volume. @internal */
export function volumeCommands(root: Command): void {
  root.command("info").description("the volume, as JSON")
    .action((_flags, command: Command) => info(command.optsWithGlobals()));
  root.command("expand").description("make the volume larger; info tells when that is done")
    .option("--size <bytes>", "its new size in bytes", "")
    .action((_flags, command: Command) => expand(command.optsWithGlobals()));
  root.command("unmap-mark-snap-chain-removed").alias("unmap-mark-snap")
    .description("whether a trim marks the snapshots below the head as removed")
    .option("--enable", "it does", false)
    .option("--disable", "it does not", false)
    .action((_flags, command: Command) => unmapMark(command.optsWithGlobals()));
  root.command("journal").description("have the engine log the operations that are under way")
    .option("--limit <n>", "so many at most; 0 = all", "0")
    .action((flags: { readonly limit: string }, command: Command) => {
      const limit = integer("--limit", flags.limit);
      return order(command.optsWithGlobals(), (controller) => controller.unary("journalList", { limit }));
    });
  root.command("version").description("versions of this program and of the engine, as JSON")
    .option("--client-only", "only of this program", false)
    .action((_flags, command: Command) => version(command.optsWithGlobals()));
  frontendCommands(root);
  profilerCommands(root);
}
