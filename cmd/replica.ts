/**
 * `replica`: one copy of a volume, in a directory. `replica DIRECTORY` has the flags of `longhorn replica`.
 *
 * @module
 */
import "../lib/rpc/setup.ts";
import { VolumeThread } from "../lib/io/mailbox.ts";
import { getLogger, Level, setLogLevel } from "../lib/log/log.ts";
import type { ReplicaOptions } from "../lib/replica/host.ts";
import { replicaHandlers } from "../lib/replica/service.ts";
import { implement, parseAddress, replicaService, serve } from "../lib/rpc/mod.ts";
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
  readonly debug: boolean;
}

/** Time to close a directory at the end: everything is synced; milliseconds. */
const STOP_TIMEOUT_MS = 5 * 60_000;

/** How long an orphaned replica waits for its engine to leave, and how often it looks; milliseconds. */
const ORPHAN_MS = 60_000, ORPHAN_LOOK_MS = 100;

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
    .option("--backing-file <path>", "raw file below all snapshots", "")
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
    .option("--sync-agent", "accepted for compatibility")
    .option("--sync-agent-port-count <n>", "accepted for compatibility", "10")
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

/** The kernel's identifier of the present boot (random(4)). */
function bootId(): string {
  return Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim();
}

/** Lets the engine, which is orphaned too, leave first: a copy that goes before it counts as failed. */
async function untilClosed(thread: VolumeThread): Promise<void> {
  const deadline = performance.now() + ORPHAN_MS;
  while (performance.now() < deadline) {
    const { state } = await thread.call("get") as { state?: string };
    if (state === "closed") return;
    await new Promise((resolve) => setTimeout(resolve, ORPHAN_LOOK_MS));
  }
}

async function replica(directory: string, flags: Flags): Promise<void> {
  if (flags.debug) setLogLevel(Level.DEBUG);
  const options = threadOptions(directory, flags);
  const bytes = flags.size === "" ? 0 : parseSize(flags.size);
  const log = getLogger({ replica: directory });
  const thread = await VolumeThread.start(new URL("./replica_worker.ts", import.meta.url), {
    init: options,
    name: "volume",
  });
  const ending = untilSignal();
  try {
    if (bytes > 0) await thread.call("create", { bytes });
    const server = await serve({
      address: flags.listen,
      services: [implement(replicaService, replicaHandlers(thread))],
      identity: {
        role: "replica",
        volumeName: flags.volumeName,
        instanceName: flags.replicaInstanceName,
      },
    });
    log.info("replica ready", { control: server.address });
    const died = thread.ended.then((reason) => {
      throw new Error(`the replica cannot go on: ${reason.message}`, { cause: reason });
    });
    const signal = await Promise.race([ending, died]);
    died.catch(() => {});
    log.info("closing", { signal });
    if (signal === "orphaned") await untilClosed(thread);
    await thread.call("stop", {}, STOP_TIMEOUT_MS);
    await server.close();
  } finally {
    await thread.stop();
  }
}

if (import.meta.main) await main(commandLine());
