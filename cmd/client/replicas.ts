/**
 * Client commands about replicas.
 *
 * @module
 */
import { replicaAddress } from "../../lib/client/engine.ts";
import { resetSyncAgents } from "../../lib/client/purge.ts";
import {
  addReplica,
  addReplicaForRestore,
  rebuildStatus,
  removeReplica,
  startWithReplicas,
  verifyRebuild,
} from "../../lib/client/rebuild.ts";
import { ptypes } from "../../lib/rpc/mod.ts";
import { UsageError } from "../support/program.ts";
import { parseRate, parseSize } from "../support/sizes.ts";
import { type ClientFlags, type Command, integer, printJson, sorted, tabbed, withEngine } from "./globals.ts";

interface AddFlags extends ClientFlags {
  readonly restore: boolean;
  readonly size: string;
  readonly currentSize: string;
  readonly fastSync: boolean;
  readonly fileSyncHttpClientTimeout: string;
  readonly grpcTimeoutSeconds: string;
  readonly replicaInstanceName: string;
  readonly limit: string;
  readonly verify: boolean;
}

function size(flag: string, text: string): number {
  if (text === "") throw new UsageError(`${flag} is required`);
  return parseSize(text);
}

async function add(address: string, flags: AddFlags): Promise<void> {
  const options = {
    instanceName: flags.replicaInstanceName,
    size: size("--size", flags.size),
    currentSize: size("--current-size", flags.currentSize),
    fastSync: flags.fastSync,
    httpTimeoutSeconds: integer("--file-sync-http-client-timeout", flags.fileSyncHttpClientTimeout),
    grpcTimeoutSeconds: integer("--grpc-timeout-seconds", flags.grpcTimeoutSeconds, -Infinity),
    bytesPerSecond: parseRate(flags.limit),
    verify: flags.verify,
  };
  await withEngine(
    flags,
    (engine) =>
      flags.restore ? addReplicaForRestore(engine, address, options) : addReplica(engine, address, options),
  );
}

async function list(flags: ClientFlags): Promise<void> {
  const rows = await withEngine(
    flags,
    async (engine) =>
      await Promise.all((await engine.replicas()).map(async ({ address, mode }) => {
        if (mode === "ERR") return [address, mode, ""];
        try {
          return [address, mode, `[${(await engine.replica(address).get()).chain.join(" ")}]`];
        } catch {
          return [address, mode, ""];
        }
      })),
  );
  console.log(tabbed([["ADDRESS", "MODE", "CHAIN"], ...rows]));
}

const MODES: ReadonlyMap<string, ptypes.ReplicaMode> = new Map([
  ["WO", ptypes.ReplicaMode.WO],
  ["RW", ptypes.ReplicaMode.RW],
  ["ERR", ptypes.ReplicaMode.ERR],
]);

async function update(address: string, flags: ClientFlags & { readonly mode: string }): Promise<void> {
  const mode = MODES.get(flags.mode);
  if (mode === undefined) throw new UsageError(`--mode ${flags.mode}: expected WO, RW or ERR`);
  const to = replicaAddress(address);
  await withEngine(
    flags,
    ({ controller }) => controller.unary("replicaUpdate", { address: { address: to }, mode }),
  );
}

function addCommands(root: Command): void {
  const sizes = (command: Command) =>
    command.option("--size <size>", "size of the volume, such as 10GiB", "")
      .option("--current-size <size>", "its size before an expansion that was not finished; 0 = none", "");
  sizes(root.command("add-replica <address>").alias("add"))
    .description("add a replica and wait until it has all data")
    .option("--restore", "the volume is being restored from a backup: the data comes from there", false)
    .option("--fast-sync", "do not compare files whose recorded checksums are the same", false)
    .option("--sync-local", "accepted for compatibility", false)
    .option("--file-sync-http-client-timeout <seconds>", "patience with one request of the transfer", "5")
    .option("--grpc-timeout-seconds <seconds>", "patience with the whole transfer; 0 = 24 hours", "0")
    .option("--replica-instance-name <name>", "identity of the replica, checked when given", "")
    .option("--limit <rate>", "bytes per second of the transfer, such as 50MiB; none = no limit", "none")
    .option("--verify", "read everything back from the new replica's disk at the end, and compare", false)
    .action((address: string, _flags, command: Command) => add(address, command.optsWithGlobals()));
  root.command("verify-rebuild-replica <address>").alias("verify-rebuild")
    .description("finish adding a replica whose data was copied")
    .option("--replica-instance-name <name>", "identity of the replica, checked when given", "")
    .action((address: string, _flags, command: Command) => {
      const flags: AddFlags = command.optsWithGlobals();
      return withEngine(
        flags,
        (engine) => verifyRebuild(engine, address, flags.replicaInstanceName),
      );
    });
  sizes(root.command("start-with-replicas <addresses...>").alias("start"))
    .description("start a volume that has no replicas yet")
    .action(async (addresses: string[], _flags, command: Command) => {
      const flags: AddFlags = command.optsWithGlobals();
      const [nominal, current] = [size("--size", flags.size), size("--current-size", flags.currentSize)];
      await withEngine(flags, (engine) => startWithReplicas(engine, nominal, current, addresses));
    });
}

/** Adds the commands about replicas. @internal */
export function replicaCommands(root: Command): void {
  addCommands(root);
  root.command("ls-replica").alias("ls").description("list the replicas: address, mode, chain of files")
    .action((_flags, command: Command) => list(command.optsWithGlobals()));
  root.command("rm-replica <address>").alias("rm").description("take a replica out of the volume")
    .action((address: string, _flags, command: Command) =>
      withEngine(command.optsWithGlobals(), (engine) => removeReplica(engine, address))
    );
  root.command("update-replica <address>").alias("update").description("set the mode of a replica")
    .option("--mode <mode>", "RW or ERR", "")
    .action((address: string, _flags, command: Command) => update(address, command.optsWithGlobals()));
  root.command("replica-rebuild-status").alias("rebuild-status")
    .description("how far replicas that are being added are, as JSON")
    .action(async (_flags, command: Command) => {
      const states = Object.entries(await withEngine(command.optsWithGlobals(), rebuildStatus));
      printJson(
        sorted(Object.fromEntries(states.map(([address, { pace: _, ...plain }]) => [address, plain]))),
      );
    });
  root.command("sync-agent-server-reset").description(
    "forget the states of jobs that ended, on every replica",
  )
    .action((_flags, command: Command) => withEngine(command.optsWithGlobals(), resetSyncAgents));
}
