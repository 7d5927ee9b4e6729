/**
 * `replica`: one copy of a volume, in a directory. `replica DIRECTORY` has the flags of `longhorn replica`.
 *
 * @module
 */
import "../lib/rpc/setup.ts";
import { VolumeThread } from "../lib/io/mailbox.ts";
import { getLogger, Level, type Logger, setLogLevel } from "../lib/log/log.ts";
import type { ReplicaOptions } from "../lib/replica/host.ts";
import { replicaHandlers } from "../lib/replica/service.ts";
import { SyncAgent } from "../lib/replica/sync/agent.ts";
import { lockDirectory } from "../lib/replica/sync/node_lock.ts";
import { syncAgentHandlers } from "../lib/replica/sync/service.ts";
import {
  formatAddress,
  implement,
  parseAddress,
  replicaService,
  type RpcServer,
  serve,
  type ServerIdentity,
  syncAgentService,
} from "../lib/rpc/mod.ts";
import { main, program, untilSignal, UsageError } from "./support/program.ts";
import { parseSize } from "./support/sizes.ts";

interface Flags {
  readonly listen: string;
  readonly backingFile: string;
  readonly size: string;
  readonly disableRevCounter: boolean;
  readonly dataServerProtocol: string;
  readonly unmapMarkDiskChainRemoved: boolean;
  readonly volumeName: string;
  readonly replicaInstanceName: string;
  readonly snapshotMaxCount: string;
  readonly encrypted: boolean;
  readonly acceptFault: boolean;
  readonly ioMode: string;
  readonly syncAgent: boolean | string;
  readonly syncAgentPortCount: string;
  readonly debug: boolean;
}

/** Time to close a directory at the end: everything is synced; milliseconds. */
const STOP_TIMEOUT_MS = 5 * 60_000;

/**
 * How long a replica that is told to end waits for its engine to leave, milliseconds: an engine gives users of its
 * device five seconds, and writes back what file systems hold. The second signal ends it at once.
 */
const LEAVE_MS = 15_000;
/** The same for one whose parent has died: its engine is told by that only, and nobody waits for the end. */
const ORPHAN_MS = 60_000;
/** How late the answer to that may come, milliseconds. */
const LEAVE_SLACK_MS = 10_000;

/** The command line. */
function commandLine() {
  return program("replica", "One copy of a volume, kept in a directory.")
    .argument("<directory>", "the replica directory")
    .option(
      "--listen <address>",
      "control service (gRPC); the data server listens one port above",
      "localhost:9502",
    )
    .option("--size <size>", "create the replica with this size if there is none", "")
    .option(
      "--backing-file <path>",
      "raw or qcow2 image below all snapshots, or a directory with exactly one",
      "",
    )
    .option("--io-mode <mode>", "direct (past the page cache) or cached", "direct")
    .option("--disableRevCounter", "keep no revision counter", false)
    .option("--volume-name <name>", "identity of the volume; calls that mean another one are refused", "")
    .option("--replica-instance-name <name>", "identity of this replica", "")
    .option(
      "--unmap-mark-disk-chain-removed",
      "an unmap marks the snapshots below the head as removed",
      false,
    )
    .option("--snapshot-max-count <n>", "limit for snapshots", "250")
    .option("--snapshot-max-size <size>", "accepted for compatibility", "")
    .option("--data-server-protocol <kind>", "tcp is the only one", "tcp")
    .option(
      "--accept-fault",
      "use the directory though it noted a fault: what was flushed may be lost",
      false,
    )
    .option("--encrypted", "the volume is encrypted by its user", false)
    .option("--sync-agent [yes]", "serve long jobs two ports above; =false: do not", true)
    .option("--sync-agent-port-count <n>", "ports above that, for files that come from other copies", "10")
    .option("--restore-from <url>", "accepted for compatibility", "")
    .option("--restore-name <name>", "accepted for compatibility", "")
    .option("--debug", "log everything", false)
    .action(replica);
}

function threadOptions(directory: string, flags: Flags): ReplicaOptions {
  const listen = parseAddress(flags.listen);
  if (listen.kind !== "tcp" || listen.port < 1 || listen.port > 65534) {
    throw new UsageError(`--listen ${flags.listen}: expected HOST:PORT, and one more port above it`);
  }
  if (flags.ioMode !== "direct" && flags.ioMode !== "cached") {
    throw new UsageError(`--io-mode ${flags.ioMode}: expected direct or cached`);
  }
  if (flags.dataServerProtocol !== "tcp") {
    throw new UsageError(`--data-server-protocol ${flags.dataServerProtocol}: expected tcp`);
  }
  const count = Number(flags.snapshotMaxCount);
  if (!Number.isInteger(count) || count < 1 || count > 250) {
    throw new UsageError(`--snapshot-max-count ${flags.snapshotMaxCount}: expected 1 to 250`);
  }
  return {
    directory: Deno.build.os === "linux" && directory.startsWith("/")
      ? directory
      : `${Deno.cwd()}/${directory}`,
    data: { kind: "tcp", host: listen.host === "" ? "0.0.0.0" : listen.host, port: listen.port + 1 },
    ioMode: flags.ioMode,
    revisionCounter: !flags.disableRevCounter,
    backingFile: flags.backingFile,
    unmapMarkChainRemoved: flags.unmapMarkDiskChainRemoved,
    snapshotMaxCount: count,
    encrypted: flags.encrypted,
    acceptFault: flags.acceptFault,
    boot: bootId(),
  };
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** Whether the agent is wanted, and how many ports it has for receivers. */
function agentPorts(flags: Flags): number | undefined {
  const wanted = String(flags.syncAgent);
  if (wanted !== "true" && wanted !== "false") {
    throw new UsageError(`--sync-agent ${wanted}: expected true or false`);
  }
  const count = Number(flags.syncAgentPortCount);
  const listen = parseAddress(flags.listen), port = listen.kind === "tcp" ? listen.port : 0;
  if (!Number.isInteger(count) || count < 0 || (wanted === "true" && port + 2 + count > 65535)) {
    throw new UsageError(
      `--sync-agent-port-count ${flags.syncAgentPortCount}: expected a number of ports, all below 65536`,
    );
  }
  return wanted === "true" ? count : undefined;
}

/** What does long jobs, when they are wanted. */
function makeAgent(thread: VolumeThread, directory: string, flags: Flags): SyncAgent | undefined {
  const count = agentPorts(flags), listen = parseAddress(flags.listen);
  if (count === undefined || listen.kind !== "tcp") return undefined;
  return new SyncAgent({
    directory,
    thread,
    host: listen.host === "" ? "0.0.0.0" : listen.host,
    ports: { first: listen.port + 3, count },
    locks: lockDirectory(Deno.env.get("LONGHORN_CONTROL_PATH"), isDirectory("/host")),
    volumeName: flags.volumeName,
  });
}

/** Serves it, two ports above the replica's own. */
async function serveAgent(agent: SyncAgent, listen: string, identity: ServerIdentity): Promise<RpcServer> {
  const address = parseAddress(listen), services = [implement(syncAgentService, syncAgentHandlers(agent))];
  if (address.kind !== "tcp") throw new UsageError(`--listen ${listen}: expected HOST:PORT`);
  return await serve({
    address: formatAddress({ ...address, port: address.port + 2 }),
    services,
    identity,
  });
}

/** The kernel's identifier of the present boot (random(4)). */
function bootId(): string {
  return Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim();
}

/** Lets the engine, which is told to end at the same moment as a rule, leave first. */
async function untilLeft(thread: VolumeThread, graceMs: number, log: Logger): Promise<void> {
  if (await thread.call("inUse") !== true) return;
  log.info("waits for the engine to leave", { at_most_ms: graceMs });
  if (await thread.call("awaitLeave", { graceMs }, graceMs + LEAVE_SLACK_MS) === true) {
    log.warn("leaves before its engine, for which it is a failed copy from now on");
  }
}

async function replica(directory: string, flags: Flags): Promise<void> {
  if (flags.debug) setLogLevel(Level.DEBUG);
  const options = threadOptions(directory, flags);
  const bytes = flags.size === "" ? 0 : parseSize(flags.size);
  agentPorts(flags);
  const log = getLogger({ replica: directory });
  const thread = await VolumeThread.start(new URL("./replica_worker.ts", import.meta.url), {
    init: options,
    name: "volume",
  });
  const ending = untilSignal();
  try {
    if (bytes > 0) await thread.call("create", { bytes });
    const identity: ServerIdentity = {
      role: "replica",
      volumeName: flags.volumeName,
      instanceName: flags.replicaInstanceName,
    };
    const agent = makeAgent(thread, options.directory, flags);
    const handlers = replicaHandlers(thread, () => agent?.refuseIncomplete());
    const server = await serve({
      address: flags.listen,
      services: [implement(replicaService, handlers)],
      identity,
    });
    const agentServer = agent && await serveAgent(agent, flags.listen, identity);
    log.info("replica ready", { control: server.address });
    const died = thread.ended.then((reason) => {
      throw new Error(`the replica cannot go on: ${reason.message}`, { cause: reason });
    });
    const signal = await Promise.race([ending, died]);
    died.catch(() => {});
    log.info("closing", { signal });
    await untilLeft(thread, signal === "orphaned" ? ORPHAN_MS : LEAVE_MS, log);
    agent?.close();
    await agentServer?.close();
    await thread.call("stop", {}, STOP_TIMEOUT_MS);
    await server.close();
  } finally {
    await thread.stop();
  }
}

if (import.meta.main) await main(commandLine());
