/**
 * `instance-manager daemon`: the services of a node.
 *
 * @module
 */
import type { Command } from "commander";
import { SystemRunner } from "../../lib/host/command.ts";
import { ENGINE_BINARIES, type Program } from "../../lib/instance/binaries.ts";
import { type Manager, type ManagerOptions, startManager } from "../../lib/instance/manager.ts";
import { IoError } from "../../lib/io/errno.ts";
import { getLogger, Level, type Logger, setLogLevel } from "../../lib/log/log.ts";
import { formatAddress, parseAddress } from "../../lib/rpc/mod.ts";
import { TlsIdentity } from "../../lib/rpc/tls.ts";
import { Echo } from "./echo.ts";
import { CHAP_VARIABLES } from "../support/chap.ts";
import { runDirectory } from "../support/loop_host.ts";
import { LIFELINE_VARIABLE, untilSignal, UsageError } from "../support/program.ts";
import { locateProgram } from "../support/programs.ts";

/** Drover's programs that may be started, by the names under which callers know them. */
const OWN_PROGRAMS: ReadonlySet<string> = new Set(["engine", "replica", "longhorn"]);

/** Where the host's procfs is in a pod. */
const HOST_PROC = "/host/proc";

/** How long processes that are stopped with the manager may take, milliseconds. A second signal cuts it short. */
const STOP_ALL_MS = 60_000;

interface Flags {
  readonly listen: string;
  readonly logsDir: string;
  readonly stateDir: string;
  readonly portRange: string;
  readonly allowBinary?: readonly string[];
  readonly spdkEnabled: boolean;
  readonly insecurePlaintext: boolean;
  readonly stopInstancesOnExit: boolean;
  readonly echoLogs: boolean;
}

interface GlobalFlags {
  readonly tlsDir: string;
  readonly debug: boolean;
}

const HELP = `
The services listen on four ports in a row: process manager, proxy, disks, instances.

Without --tls-dir they listen on the loopback interface only, in plain text. To serve a network in plain text, ask
for it: --insecure-plaintext. A TLS directory whose files cannot be used is an error, unless that is given.

The end of this program stops no volume: what it started goes on, and the next start with the same --state-dir finds
it again. With --stop-instances-on-exit everything is stopped at SIGINT or SIGTERM.`;

/**
 * Adds the command.
 * @internal
 */
export function daemonCommand(root: Command): void {
  const collect = (value: string, list: readonly string[] = []) => [...list, value];
  root.command("daemon")
    .description("offer the services of this node until SIGTERM")
    .option("--listen <address>", "process manager (gRPC); the others listen above", "localhost:8500")
    .option("--logs-dir <path>", "one log file per process", "/var/log/instances")
    .option(
      "--state-dir <path>",
      "records of processes; gone after a boot is fine",
      `${runDirectory()}/instances`,
    )
    .option("--port-range <range>", "ports for processes", "10000-20000")
    .option(
      "--allow-binary <path>",
      `directory (or file) that other programs may be in; repeat. Always: Drover's own and ${
        ENGINE_BINARIES[0]
      }`,
      collect,
    )
    .option("--insecure-plaintext", "serve the network without TLS", false)
    .option("--stop-instances-on-exit", "stop all processes with this one", false)
    .option("--no-echo-logs", "do not repeat the logs of processes on standard output")
    .option("--spdk-enabled", "accepted for compatibility; there is only data engine v1", false)
    .option("--spdk-port-range <range>", "accepted for compatibility", "20001-30000")
    .addHelpText("after", HELP)
    .action((flags: Flags, command: Command) => daemon(flags, command.optsWithGlobals()));
}

/** One of Drover's programs; undefined for other names, and where it is not installed. */
function ownProgram(name: string): Program | undefined {
  if (!OWN_PROGRAMS.has(name)) return undefined;
  try {
    return locateProgram(name);
  } catch {
    return undefined;
  }
}

/** The identity of the services; undefined = plain text. @throws {TlsError} */
async function identity(
  flags: Flags,
  { tlsDir }: GlobalFlags,
  log: Logger,
): Promise<TlsIdentity | undefined> {
  if (tlsDir === "") return undefined;
  try {
    return await TlsIdentity.load(tlsDir, log);
  } catch (error) {
    if (!flags.insecurePlaintext) throw error;
    log.warn("no TLS: its files cannot be used, and --insecure-plaintext allows to go on without", {
      problem: error instanceof Error ? error.message : String(error),
    });
    return undefined;
  }
}

const LOOPBACK: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "::1"]);

/** Where to listen: without TLS not on a network, unless that was asked for. */
function listenAddress(flags: Flags, tls: boolean, log: Logger): string {
  const address = parseAddress(flags.listen);
  if (address.kind !== "tcp") throw new UsageError(`--listen ${flags.listen}: expected HOST:PORT`);
  if (tls || LOOPBACK.has(address.host)) return flags.listen;
  if (flags.insecurePlaintext) {
    log.warn("serves the network in plain text: whoever reaches it controls all volumes of this node", {
      listen: flags.listen,
    });
    return flags.listen;
  }
  const local = formatAddress({ ...address, host: "127.0.0.1" });
  log.warn("listens on the loopback interface only: give --tls-dir, or --insecure-plaintext", {
    asked: flags.listen,
    listen: local,
  });
  return local;
}

function hostHasProc(): boolean {
  try {
    return Deno.statSync(`${HOST_PROC}/1/ns/mnt`) !== null;
  } catch {
    return false;
  }
}

async function start(flags: Flags, global: GlobalFlags, log: Logger): Promise<Manager> {
  const tls = await identity(flags, global, log);
  // In a pod the mounts of volumes are in the host's namespace.
  const inPod = hostHasProc();
  const report = (
    { argv, milliseconds, code }: { argv: readonly string[]; milliseconds: number; code: unknown },
  ) =>
    log.info("ran a command", {
      command: argv.join(" "),
      milliseconds: Math.round(milliseconds),
      code: String(code),
    });
  const options: ManagerOptions = {
    listen: listenAddress(flags, tls !== undefined, log),
    ...(tls ? { tls } : {}),
    logsDirectory: flags.logsDir,
    stateDirectory: flags.stateDir,
    portRange: flags.portRange,
    ownProgram,
    allowedBinaries: [...ENGINE_BINARIES, ...flags.allowBinary ?? []],
    withheld: [LIFELINE_VARIABLE, ...CHAP_VARIABLES],
    runner: new SystemRunner(report, inPod ? ["nsenter", `--mount=${HOST_PROC}/1/ns/mnt`, "--"] : []),
    localRunner: new SystemRunner(report),
    ...(flags.echoLogs ? { echo: new Echo().take } : {}),
    mountsFile: inPod ? `${HOST_PROC}/1/mounts` : "/proc/mounts",
    log,
  };
  try {
    return await startManager(options);
  } catch (cause) {
    if (!(cause instanceof IoError)) throw cause;
    throw new Error(
      `${cause.message}; --state-dir ${flags.stateDir} and --logs-dir ${flags.logsDir} must be writable`,
      { cause },
    );
  }
}

async function daemon(flags: Flags, global: GlobalFlags): Promise<void> {
  if (global.debug) setLogLevel(Level.DEBUG);
  const log = getLogger({ program: "instance-manager" });
  if (flags.spdkEnabled) log.warn("there is no data engine v2 here; --spdk-enabled has no effect");
  const ending = untilSignal();
  const manager = await start(flags, global, log);
  const [processes, proxy, disks, instances] = manager.addresses;
  log.info("instance manager ready", { processes, proxy, disks, instances } as Record<string, string>);
  const signal = await ending;
  const running = [...manager.table.all()].filter((one) => !one.hasEnded).length;
  log.info(flags.stopInstancesOnExit ? "closing, and stops all processes" : "closing; the processes go on", {
    signal,
    running,
  });
  const late = setTimeout(() => {
    log.warn("processes did not end in time");
    Deno.exit(1);
  }, STOP_ALL_MS + 10_000);
  await manager.close(flags.stopInstancesOnExit);
  clearTimeout(late);
}
