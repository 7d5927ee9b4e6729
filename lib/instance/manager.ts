/**
 * The instance manager: a table of processes, and four services on four ports in a row.
 *
 * | port | service |
 * |---|---|
 * | P | ProcessManagerService |
 * | P + 1 | ProxyEngineService |
 * | P + 2 | DiskService |
 * | P + 3 | InstanceService |
 *
 * Its end stops nothing: what it started goes on, and the next manager on the same state directory finds it again.
 *
 * @module
 */
import { MOUNT_DIRECTORY } from "../backup/target/share.ts";
import type { Runner } from "../host/command.ts";
import { FilesLibc } from "../io/files_libc.ts";
import type { Logger } from "../log/log.ts";
import { Code, formatAddress, implement, type Implementation, parseAddress } from "../rpc/mod.ts";
import { RpcError, type RpcServer, serve } from "../rpc/mod.ts";
import { diskService, instanceService, processManagerService, proxyEngineService } from "../rpc/imrpc.ts";
import type { TlsIdentity } from "../rpc/tls.ts";
import { Backoff } from "./backoff.ts";
import { Binaries, type Program } from "./binaries.ts";
import { systemClock } from "./clock.ts";
import { diskHandlers } from "./disk_service.ts";
import { unmountBelow, VolumeMounts } from "./filesystems.ts";
import { keepHouse } from "./housekeeping.ts";
import { instanceHandlers } from "./instance_service.ts";
import { SystemLauncher } from "./launcher.ts";
import { LogEcho } from "./log_echo.ts";
import { LogDirectory } from "./log_file.ts";
import { volumeOfEngine } from "./names.ts";
import { PortRange } from "./ports.ts";
import { systemProber } from "./probe.ts";
import { hostKey } from "./proc.ts";
import { processHandlers } from "./process_service.ts";
import { proxyHandlers } from "./proxy/service.ts";
import { DirectoryRecordStore } from "./record.ts";
import { ProcessTable } from "./table.ts";

/** How to run a manager. */
export interface ManagerOptions {
  /** Where the first service listens, `HOST:PORT`. */
  readonly listen: string;
  /** Mutual TLS; plain text without it. */
  readonly tls?: TlsIdentity;
  /** Logs of processes. */
  readonly logsDirectory: string;
  /** Records of processes. */
  readonly stateDirectory: string;
  /** Ports for processes, `FIRST-LAST`. */
  readonly portRange: string;
  /** Finds one of Drover's programs; undefined when a name is none. */
  readonly ownProgram: (name: string) => Program | undefined;
  /** Directories or files that other programs may be in. */
  readonly allowedBinaries: readonly string[];
  /** Variables of the environment that processes do not get. */
  readonly withheld: readonly string[];
  /** Runs commands of the host. */
  readonly runner: Runner;
  /** Runs commands where this process is; backups mount their targets there. */
  readonly localRunner: Runner;
  /** The host's /proc/mounts. */
  readonly mountsFile: string;
  /** Takes what processes write into their logs, `[name] line` each; nobody, if absent. */
  readonly echo?: (text: string) => void;
  /** Events. */
  readonly log: Logger;
}

/** A manager that runs. */
export interface Manager {
  /** Its processes. */
  readonly table: ProcessTable;
  /** Where the services listen, in the order of the table in the module text. */
  readonly addresses: readonly string[];
  /** Ends the services. @param stopInstances makes the processes end, too */
  close(stopInstances: boolean): Promise<void>;
}

/** Whether a port can be listened on now. */
function isFree(port: number): boolean {
  try {
    Deno.listen({ hostname: "0.0.0.0", port }).close();
    return true;
  } catch {
    return false;
  }
}

/** Finds the processes of an earlier manager, then offers the services. @throws when it cannot */
export async function startManager(options: ManagerOptions): Promise<Manager> {
  const files = new FilesLibc(), { log } = options;
  const ports = PortRange.parse(options.portRange, isFree);
  const records = new DirectoryRecordStore(files, options.stateDirectory);
  const launcher = new SystemLauncher(systemClock, options.withheld);
  const over = new AbortController();
  const servers: RpcServer[] = [];
  try {
    const logs = new LogDirectory(files, options.logsDirectory);
    const binaries = new Binaries(options.ownProgram, options.allowedBinaries);
    const table = new ProcessTable(
      {
        clock: systemClock,
        wallClock: () => Date.now(),
        launcher,
        prober: systemProber,
        records,
        backoff: new Backoff(systemClock),
        openLog: (name) => logs.openForProcess(name),
        closeLog: (fd) => files.close(fd),
        locate: (binary) => binaries.locate(binary),
        log,
      },
      ports,
      hostKey(),
    );
    const mounts = new VolumeMounts(() => Deno.readTextFileSync(options.mountsFile), options.runner);
    table.adopt();
    // A device that hangs must not keep the node from its services.
    const thawing = thaw(table, mounts, log);
    servers.push(...await offer(options, { table, logs, mounts }));
    const house = keepHouse(table, { logs, mounts }, over.signal);
    const echo = echoLogs(options, logs, over.signal);
    const close = async (stopInstances: boolean): Promise<void> => {
      over.abort();
      if (stopInstances) await table.stopAll();
      table.changes.close();
      await Promise.all(servers.map((server) => server.close()));
      await Promise.all([house, thawing, echo]);
      launcher[Symbol.dispose]();
      records[Symbol.dispose]();
    };
    return { table, addresses: servers.map(({ address }) => address), close };
  } catch (error) {
    over.abort();
    await Promise.all(servers.map((server) => server.close()));
    launcher[Symbol.dispose]();
    records[Symbol.dispose]();
    throw error;
  }
}

async function thaw(table: ProcessTable, mounts: VolumeMounts, log: Logger): Promise<void> {
  const engines = new Set(
    [...table.all()].filter((one) => !one.hasEnded).map(({ record }) => volumeOfEngine(record.name)),
  );
  try {
    const thawed = await mounts.thaw((volume) => engines.has(volume));
    if (thawed.length > 0) log.warn("thawed file systems that were left frozen", { paths: thawed.join(" ") });
  } catch (error) {
    log.warn("cannot look for frozen file systems", { problem: String(error) });
  }
}

/** Replicas mount NFS and CIFS targets and leave them mounted for the next backup. */
async function unmountBackupTargets({ localRunner, log }: ManagerOptions): Promise<void> {
  const mounts = await Deno.readTextFile("/proc/self/mounts");
  const gone = await unmountBelow(MOUNT_DIRECTORY, mounts, localRunner);
  log.info("unmounted backup targets", { count: gone.length });
}

async function echoLogs(options: ManagerOptions, logs: LogDirectory, signal: AbortSignal): Promise<void> {
  if (!options.echo) return;
  try {
    await new LogEcho(logs, options.echo).run(systemClock, signal);
  } catch (error) {
    options.log.warn("logs of processes are not repeated here", { problem: String(error) });
  }
}

interface Parts {
  readonly table: ProcessTable;
  readonly logs: LogDirectory;
  readonly mounts: VolumeMounts;
}

/** Listens on four ports, or on none. */
async function offer(options: ManagerOptions, { table, logs, mounts }: Parts): Promise<RpcServer[]> {
  const first = parseAddress(options.listen);
  if (first.kind !== "tcp" || first.port === 0) {
    throw new RpcError(
      Code.INVALID_ARGUMENT,
      `--listen ${options.listen}: expected HOST:PORT, and three ports above`,
    );
  }
  const services: Implementation[] = [
    implement(processManagerService, processHandlers(table, logs)),
    implement(
      proxyEngineService,
      proxyHandlers({ mounts, unmountBackupTargets: () => unmountBackupTargets(options) }),
    ),
    implement(diskService, diskHandlers()),
    implement(instanceService, instanceHandlers(table, logs)),
  ];
  const servers: RpcServer[] = [];
  try {
    for (const [index, service] of services.entries()) {
      const address = formatAddress({ ...first, port: first.port + index });
      servers.push(
        await serve({ address, services: [service], ...(options.tls ? { tls: options.tls } : {}) }),
      );
    }
  } catch (error) {
    await Promise.all(servers.map((server) => server.close()));
    throw error;
  }
  return servers;
}
