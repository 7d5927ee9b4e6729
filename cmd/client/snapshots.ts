/**
 * Client commands about snapshots.
 *
 * @module
 */
import { cloneSnapshot, cloneStatus } from "../../lib/client/clone.ts";
import { EngineClient } from "../../lib/client/engine.ts";
import { textOf } from "../../lib/client/errors.ts";
import { cancelHash, hashSnapshot, hashStatus } from "../../lib/client/hash.ts";
import { purgeSnapshots, purgeStatus } from "../../lib/client/purge.ts";
import {
  createSnapshot,
  listSnapshots,
  removeSnapshot,
  revertToSnapshot,
  type SnapshotInfo,
  snapshotInfo,
} from "../../lib/client/snapshots.ts";
import { UsageError } from "../support/program.ts";
import {
  type ClientFlags,
  collect,
  type Command,
  engineAddress,
  integer,
  parseLabels,
  printJson,
  sorted,
  withEngine,
} from "./globals.ts";

async function create(
  name: string | undefined,
  flags: ClientFlags & { readonly label: readonly string[]; readonly freezeFs: boolean },
): Promise<void> {
  const labels = parseLabels(flags.label);
  console.log(
    await withEngine(
      flags,
      (engine) => createSnapshot(engine, { name: name ?? "", labels, freezeFilesystem: flags.freezeFs }),
    ),
  );
}

async function list(flags: ClientFlags): Promise<void> {
  console.log(["ID", ...await withEngine(flags, listSnapshots)].join("\n"));
}

async function info(flags: ClientFlags): Promise<void> {
  const found = await withEngine(flags, snapshotInfo);
  const ordered = Object.entries(found).map(([name, one]): [string, SnapshotInfo] => [name, {
    ...one,
    children: sorted(one.children),
    labels: sorted(one.labels),
  }]);
  printJson(sorted(Object.fromEntries(ordered)));
}

/** Goes on after a failure, as scripts that remove many expect. */
async function remove(names: readonly string[], flags: ClientFlags): Promise<void> {
  await withEngine(flags, async (engine) => {
    let last: unknown;
    for (const name of names) {
      try {
        await removeSnapshot(engine, name);
      } catch (error) {
        last = error;
        console.error(`Failed to delete ${name}: ${textOf(error)}`);
      }
    }
    if (last !== undefined) throw last;
  });
}

interface CloneFlags extends ClientFlags {
  readonly snapshotName: string;
  readonly fromControllerAddress: string;
  readonly fromVolumeName: string;
  readonly fromControllerInstanceName: string;
  readonly exportBackingImageIfExist: boolean;
  readonly fileSyncHttpClientTimeout: string;
  readonly grpcTimeoutSeconds: string;
}

async function clone(flags: CloneFlags): Promise<void> {
  if (flags.snapshotName === "") throw new UsageError("missing required parameter --snapshot-name");
  if (flags.fromControllerAddress === "") {
    throw new UsageError("missing required parameter --from-controller-address");
  }
  using source = new EngineClient(engineAddress(flags.fromControllerAddress), {
    volumeName: flags.fromVolumeName,
    instanceName: flags.fromControllerInstanceName,
  });
  await withEngine(flags, (engine) =>
    cloneSnapshot(engine, source, {
      snapshot: flags.snapshotName,
      exportBackingImage: flags.exportBackingImageIfExist,
      httpTimeoutSeconds: integer("--file-sync-http-client-timeout", flags.fileSyncHttpClientTimeout),
      grpcTimeoutSeconds: integer("--grpc-timeout-seconds", flags.grpcTimeoutSeconds, -Infinity),
    }));
}

/** The three commands that exist both below `snapshots` and at the top. */
function hashCommands(parent: Command): void {
  parent.command("hash <name>").description("have every replica compute and record a snapshot's checksum")
    .option("--rehash", "also where the recorded checksum is still valid", false)
    .action((name: string, flags: { readonly rehash: boolean }, command: Command) =>
      withEngine(command.optsWithGlobals(), (engine) => hashSnapshot(engine, name, flags.rehash))
    );
  parent.command("hash-cancel <name>").description("end that")
    .action((name: string, _flags, command: Command) =>
      withEngine(command.optsWithGlobals(), (engine) => cancelHash(engine, name))
    );
  parent.command("hash-status <name>").description("how far that is, as JSON")
    .action(async (name: string, _flags, command: Command) =>
      printJson(sorted(await withEngine(command.optsWithGlobals(), (engine) => hashStatus(engine, name))))
    );
}

function cloneCommands(parent: Command): void {
  parent.command("clone").description("fill this volume with the content of another volume's snapshot")
    .option("--snapshot-name <name>", "the snapshot", "")
    .option("--from-controller-address <address>", "the engine of the other volume", "")
    .option("--from-volume-name <name>", "the other volume, checked when given", "")
    .option("--from-controller-instance-name <name>", "its engine's instance, checked when given", "")
    .option("--export-backing-image-if-exist", "also what is only in its backing image", false)
    .option("--file-sync-http-client-timeout <seconds>", "patience with one request of the transfer", "5")
    .option("--grpc-timeout-seconds <seconds>", "patience with the whole transfer; 0 = 24 hours", "0")
    .action((_flags, command: Command) => clone(command.optsWithGlobals()));
  parent.command("clone-status").description("how far that is, as JSON")
    .action(async (_flags, command: Command) =>
      printJson(sorted(await withEngine(command.optsWithGlobals(), cloneStatus)))
    );
}

/** Adds the commands about snapshots. @internal */
export function snapshotCommands(root: Command): void {
  const parent = root.command("snapshots").alias("snapshot")
    .description("create, list, revert to, remove, purge, clone and hash snapshots");
  parent.command("create [name]").description("make a snapshot and print its name")
    .option("--label <key=value>", "a note; repeat", collect, [])
    .option("--freeze-fs", "freeze the file system on the volume's disk meanwhile", false)
    .action((name: string | undefined, _flags, command: Command) => create(name, command.optsWithGlobals()));
  parent.command("revert <name>").description("take the volume back to a snapshot; its frontend must be down")
    .action((name: string, _flags, command: Command) =>
      withEngine(command.optsWithGlobals(), (engine) => revertToSnapshot(engine, name))
    );
  parent.command("rm <names...>").description("mark snapshots as removed; purge frees their space")
    .action((names: string[], _flags, command: Command) => remove(names, command.optsWithGlobals()));
  parent.command("ls", { isDefault: true }).description("list the snapshots below the head, the newest first")
    .action((_flags, command: Command) => list(command.optsWithGlobals()));
  parent.command("info").description("all snapshots and the head, as JSON")
    .action((_flags, command: Command) => info(command.optsWithGlobals()));
  parent.command("purge").description("start freeing the space of removed snapshots")
    .option("--skip-if-in-progress", "a purge that is under way is no error", false)
    .action((flags: { readonly skipIfInProgress: boolean }, command: Command) =>
      withEngine(command.optsWithGlobals(), (engine) => purgeSnapshots(engine, flags))
    );
  parent.command("purge-status").description("how far that is, as JSON")
    .action(async (_flags, command: Command) =>
      printJson(sorted(await withEngine(command.optsWithGlobals(), purgeStatus)))
    );
  cloneCommands(parent);
  hashCommands(parent);
  hashCommands(root);
}
