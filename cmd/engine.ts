/**
 * `engine`: one attached volume. `engine controller` has the flags of `longhorn controller`.
 *
 * @module
 */
import "../lib/rpc/setup.ts";
import { replicaBackend } from "../lib/engine/backend.ts";
import { controllerHandlers } from "../lib/engine/control_service.ts";
import { Controller, type ControllerOptions, StartError } from "../lib/engine/controller.ts";
import { HandoverGiver } from "../lib/engine/handover_giver.ts";
import { HandoverTaker } from "../lib/engine/handover_taker.ts";
import { MAX_REPLICAS, REPLICA_TIMEOUT_MS, SNAPSHOT_MAX_COUNT } from "../lib/engine/limits.ts";
import type { ThreadEvent } from "../lib/engine/thread.ts";
import type { VolumeOptions } from "../lib/engine/volume_options.ts";
import { VolumeThread } from "../lib/io/mailbox.ts";
import { getLogger, Level, type Logger, setLogLevel } from "../lib/log/log.ts";
import { controllerService, implement, parseAddress, serve } from "../lib/rpc/mod.ts";
import { clientCommands } from "./client/commands.ts";
import { parseDataAddress } from "./support/addresses.ts";
import { readChap } from "./support/chap.ts";
import {
  CARRIER_CHOICES,
  CARRIER_VARIABLE,
  type CarrierChoice,
  isCarrierChoice,
} from "./support/carriers/choice.ts";
import { engineHost } from "./support/carriers/mod.ts";
import type { DeviceHost } from "./support/device_host.ts";
import { type FrontendOptions, FRONTENDS, isFrontend } from "./support/frontends.ts";
import { hostFreezer } from "./support/freezer.ts";
import { handoverPath, listenForHandover, removeHandoverPlace } from "./support/handover_place.ts";
import { main, program, untilSignal, UsageError } from "./support/program.ts";
import { parseSize } from "./support/sizes.ts";

/** Longhorn's rule for volume names. */
const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
const MAX_VOLUME_NAME = 64;
/** Accepted replica timeouts, seconds; others silently mean the default, as in Longhorn. */
const TIMEOUT_SECONDS = { least: 8, most: 30 };

/** How long a process whose volume was taken over waits to be ended, milliseconds. */
const LINGER_MS = 60_000;

interface Flags {
  readonly listen: string;
  readonly size: string;
  readonly currentSize: string;
  readonly frontend: string;
  readonly frontendListen?: string;
  readonly chapFile?: string;
  readonly enableBackend: readonly string[];
  readonly replica: readonly string[];
  readonly upgrade: boolean;
  readonly disableRevCounter: boolean;
  readonly salvageRequested: boolean;
  readonly engineReplicaTimeout: string;
  readonly dataServerProtocol: string;
  readonly allowMissingReplicas: boolean;
  readonly unmapMarkSnapChainRemoved: boolean;
  readonly snapshotMaxCount: string;
  readonly rebuildSyncConcurrentLimit: string;
  readonly snapshotMaxSize: string;
  readonly localReplica?: string;
  readonly deviceCarrier?: string;
}

interface GlobalFlags {
  readonly engineInstanceName: string;
  readonly debug: boolean;
}

/** Settings that a call can change later. */
type GivenSettings = Pick<ControllerOptions, "limits" | "unmapMark" | "rebuildSources">;

const collect = (value: string, list: readonly string[]) => [...list, value];

/** The command line. */
function commandLine() {
  const root = program(
    "engine",
    "One attached volume: replicates every write to its replicas and shows it as a disk.",
  )
    .option("--volume-name <name>", "identity of the volume, for client commands", "")
    .option(
      "--engine-instance-name <name>",
      "identity of this engine; callers that mean another one are refused",
      "",
    )
    .option("--debug", "log everything", false);
  root.command("controller <volume>")
    .description("start the volume from its replicas and serve it until SIGTERM")
    .option("--listen <address>", "control service (gRPC)", "localhost:9501")
    .requiredOption("--size <size>", "size of the volume, such as 10GiB")
    .option("--current-size <size>", "size before an expansion that was not finished; 0 = none", "0")
    .option("--frontend <kind>", `${FRONTENDS.join(", ")}; none if absent`, "")
    .option("--frontend-listen <address>", "where the frontend listens: HOST:PORT or unix:/path")
    .option(
      "--chap-file <path>",
      "who may log in over iscsi: lines user = NAME, secret = SECRET; or DROVER_CHAP_USER, DROVER_CHAP_SECRET",
    )
    .option(
      "--device-carrier <kind>",
      `how the host gets the device of tgt-blockdev: ${CARRIER_CHOICES.join(", ")}; or ${CARRIER_VARIABLE}`,
    )
    .option("--enable-backend <kind>", "tcp is the only one", collect, [])
    .option("--replica <address>", "tcp://HOST:PORT of a replica's control service; repeat", collect, [])
    .option("--upgrade", "take over from a running engine", false)
    .option("--disableRevCounter", "the replicas keep no revision counter", false)
    .option("--salvageRequested", "choose the replica with the newest head", false)
    .option(
      "--engine-replica-timeout <seconds>",
      "time without an answer before a replica is given up, 8 to 30",
      "8",
    )
    .option("--data-server-protocol <kind>", "tcp or unix", "tcp")
    .option("--local-replica <address>", "replica on this machine: reads prefer it")
    .option("--allow-missing-replicas", "start though replicas that were complete are not given", false)
    .option(
      "--unmap-mark-snap-chain-removed",
      "an unmap marks the snapshots below the head as removed",
      false,
    )
    .option("--file-sync-http-client-timeout <seconds>", "accepted for compatibility", "5")
    .option("--snapshot-max-count <n>", "limit for snapshots, 1 to 250", "250")
    .option("--snapshot-max-size <size>", "limit for the space of all snapshots together; 0 = none", "0")
    .option(
      "--rebuild-sync-concurrent-limit <n>",
      "copies that a rebuild reads from at the same time, at most",
      String(MAX_REPLICAS),
    )
    .action((volume: string, flags: Flags, command) => {
      const given = (flag: keyof Flags) => command.getOptionValueSource(flag) !== "default";
      return controller(volume, flags, command.optsWithGlobals(), settings(flags, given));
    });
  clientCommands(root);
  return root;
}

function checkFlags(volume: string, flags: Flags): void {
  if (!VOLUME_NAME.test(volume) || volume.length > MAX_VOLUME_NAME) {
    throw new UsageError(
      `volume name "${volume}": 2 to ${MAX_VOLUME_NAME} letters, digits, "_", "." or "-", the first a letter or digit`,
    );
  }
  if (flags.frontend !== "" && !isFrontend(flags.frontend)) {
    throw new UsageError(`frontend "${flags.frontend}" does not exist; choose ${FRONTENDS.join(", ")}`);
  }
  const backend = flags.enableBackend.find((kind) => kind !== "tcp");
  if (backend !== undefined) throw new UsageError(`backend "${backend}" is not supported; use tcp`);
  if (flags.dataServerProtocol !== "tcp") {
    throw new UsageError(`data server protocol "${flags.dataServerProtocol}" is not supported; use tcp`);
  }
}

/** The carrier for `tgt-blockdev`: as the flag says, else the environment, else what the host has. */
function carrierChoice({ deviceCarrier }: Flags): CarrierChoice {
  const word = deviceCarrier ?? (Deno.env.get(CARRIER_VARIABLE) || "auto");
  if (isCarrierChoice(word)) return word;
  throw new UsageError(`device carrier "${word}" does not exist; choose ${CARRIER_CHOICES.join(", ")}`);
}

/** Where a frontend listens when nothing is said. */
function defaultListen(kind: string, volume: string): string {
  switch (kind) {
    case "nbd":
      return "127.0.0.1:10809";
    case "iscsi":
      return "127.0.0.1:3260";
    default:
      return `unix:/var/run/longhorn-${volume}.sock`;
  }
}

function frontendOptions(volume: string, flags: Flags): FrontendOptions {
  const chap = flags.frontend === "iscsi" ? readChap(flags.chapFile) : undefined;
  const listen = parseDataAddress(flags.frontendListen ?? defaultListen(flags.frontend, volume));
  return { listen, ...(chap ? { chap } : {}) };
}

function snapshotCount(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= SNAPSHOT_MAX_COUNT) return count;
  throw new UsageError(`--snapshot-max-count ${text}: expected 1 to ${SNAPSHOT_MAX_COUNT}`);
}

function rebuildSources({ rebuildSyncConcurrentLimit: text }: Flags): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1) return count;
  throw new UsageError(`--rebuild-sync-concurrent-limit ${text}: expected a whole number from 1`);
}

/** What the command line says, and no defaults: in a live upgrade the rest stays as it is. */
function settings(flags: Flags, given: (flag: keyof Flags) => boolean): GivenSettings {
  const count = snapshotCount(flags.snapshotMaxCount), sources = rebuildSources(flags);
  return {
    limits: {
      ...(given("snapshotMaxCount") ? { count } : {}),
      ...(given("snapshotMaxSize") ? { bytes: parseSize(flags.snapshotMaxSize || "0") } : {}),
    },
    ...(given("unmapMarkSnapChainRemoved") ? { unmapMark: flags.unmapMarkSnapChainRemoved } : {}),
    ...(given("rebuildSyncConcurrentLimit") ? { rebuildSources: sources } : {}),
  };
}

function timeoutMs(text: string): number {
  const seconds = Number(text);
  const good = Number.isInteger(seconds) && seconds >= TIMEOUT_SECONDS.least &&
    seconds <= TIMEOUT_SECONDS.most;
  return good ? seconds * 1000 : REPLICA_TIMEOUT_MS;
}

function startThread(
  volume: string,
  flags: Flags,
  taker: HandoverTaker | undefined,
  onEvent: (event: ThreadEvent) => void,
): Promise<VolumeThread> {
  const init: VolumeOptions = {
    name: volume,
    bytes: taker?.bytes ?? (parseSize(flags.currentSize) || parseSize(flags.size)),
    timeoutMs: timeoutMs(flags.engineReplicaTimeout),
    ...(flags.localReplica === undefined ? {} : { local: flags.localReplica }),
  };
  return VolumeThread.start(new URL("./engine_worker.ts", import.meta.url), {
    init,
    name: "volume",
    onEvent: (event) => onEvent(event as ThreadEvent),
  });
}

async function controller(
  volume: string,
  flags: Flags,
  global: GlobalFlags,
  settings: GivenSettings,
): Promise<void> {
  checkFlags(volume, flags);
  if (global.debug) setLogLevel(Level.DEBUG);
  const log = getLogger({ volume });
  const options = frontendOptions(volume, flags);
  const host = engineHost({
    volume,
    bytes: () => control.bytes,
    replicaTimeoutMs: timeoutMs(flags.engineReplicaTimeout),
    carrier: carrierChoice(flags),
    generation: () => control.hand().generation,
    log,
  });
  let onEvent: (event: ThreadEvent) => void = () => {};
  const taker = flags.upgrade ? await findTaker(volume, flags, log) : undefined;
  const thread = await startThread(volume, flags, taker, (event) => onEvent(event));
  const identity = { volumeName: volume, instanceName: global.engineInstanceName };
  const freezer = hostFreezer(volume, () => control.frontend.endpoint, log);
  // What a running engine has frozen is no leftover.
  if (!taker) await freezer.thawLeftovers();
  const control: Controller = new Controller(thread, {
    name: volume,
    bytes: taker?.bytes ?? parseSize(flags.size),
    currentBytes: taker ? 0 : parseSize(flags.currentSize),
    revisionCounterDisabled: flags.disableRevCounter,
    salvage: flags.salvageRequested,
    upgrade: flags.upgrade,
    allowMissing: flags.allowMissingReplicas,
    backend: (address) => replicaBackend(address, { volumeName: volume }),
    frontend: flags.frontend,
    frontendOptions: options,
    frontendHost: host,
    ...(taker ? { takeover: taker } : {}),
    log,
    ...settings,
    wallClock: () => Date.now(),
    newName: () => crypto.randomUUID(),
    freezer,
  });
  onEvent = (event) => control.onEvent(event);
  const rules = control.options, { frontend } = flags;
  taker?.use({ thread, rules, frontend, frontendOptions: options, host });
  await serveVolume(control, thread, { flags, identity, log, host, taker });
}

/** The running engine that this one is to relieve. Without one this is a start after which the old one is fenced. */
async function findTaker(volume: string, flags: Flags, log: Logger): Promise<HandoverTaker | undefined> {
  // What can be wrong with this process must be wrong now, not when the volume is its own.
  const { hostname, port } = splitListen(flags.listen);
  if (port > 0) Deno.listen({ hostname, port }).close();
  const taker = await HandoverTaker.connect(handoverPath(volume), volume, log);
  if (taker) return taker;
  log.warn("no running engine hands over; starting beside whatever serves the volume");
  const { listen } = frontendOptions(volume, flags);
  // Its clients stay connected to it until they are told to come here (EXCHANGE MEDIUM); new ones come here.
  if (listen.kind === "unix") removeSocket(listen.path);
  return undefined;
}

function removeSocket(path: string): void {
  try {
    if (Deno.lstatSync(path).isSocket) Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function splitListen(address: string): { hostname: string; port: number } {
  const parsed = parseAddress(address);
  return parsed.kind === "tcp"
    ? { hostname: parsed.host || "0.0.0.0", port: parsed.port }
    : { hostname: "", port: 0 };
}

/** Starts, serves until a signal, and leaves in order. */
async function serveVolume(
  control: Controller,
  thread: VolumeThread,
  { flags, identity, log, host, taker }: {
    taker: HandoverTaker | undefined;
    flags: Flags;
    identity: { volumeName: string; instanceName: string };
    log: Logger;
    host: DeviceHost;
  },
): Promise<void> {
  // From here on: a process that is told to end while it starts must not leave a mounted disk behind.
  const ending = untilSignal();
  try {
    if (flags.replica.length > 0) await control.start(flags.replica);
  } catch (error) {
    host.leaving = true;
    await control.shutdown().catch(() => {});
    throw error;
  }
  const server = await serve({
    address: flags.listen,
    services: [
      implement(
        controllerService,
        controllerHandlers(control, () => performance.now()),
      ),
    ],
    identity: { role: "controller", ...identity },
  });
  log.info("engine ready", { control: server.address });
  const died = thread.ended.then((reason) => {
    throw new StartError(`the volume cannot go on: ${reason.message}`, 1, { cause: reason });
  });
  const volume = identity.volumeName, listener = taker?.listener ?? listenForHandover(volume, log);
  const giver = listener === undefined
    ? undefined
    : new HandoverGiver(control, thread, { volume, listener, log });
  const handedOver = giver?.given.then(() => "handed over" as const) ?? new Promise<never>(() => {});
  let signal: string = await Promise.race([ending, died, handedOver]);
  await giver?.stop();
  if (giver?.handedOver) {
    // Whoever started the other engine ends this one when it has seen that all is well.
    const linger = new Promise<string>((resolve) => setTimeout(() => resolve("nobody ended it"), LINGER_MS));
    signal = await Promise.race([ending, linger]);
  } else if (giver) removeHandoverPlace(volume);
  log.info("closing", { signal });
  died.catch(() => {});
  host.leaving = true;
  await server.close();
  await control.shutdown();
  await thread.stop();
}

if (import.meta.main) await main(commandLine());
