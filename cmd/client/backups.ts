/**
 * Client commands about backups: of the volume of an engine, and of what is on a backup target. Access data comes
 * from the environment, under the names that Longhorn gives it.
 *
 * @module
 */
import {
  backupUrl,
  deleteBackingImage,
  deleteBackup,
  deleteVolume,
  inspectBackingImage,
  inspectBackup,
  inspectVolume,
  listBackingImages,
  longhornBackup,
  longhornList,
  longhornVolume,
  NoSuchBackupError,
  parseBackupUrl,
  restoreToFile,
} from "../../lib/backup/mod.ts";
import { backupPath, volumePath } from "../../lib/backup/names.ts";
import { Credentials } from "../../lib/backup/target/credentials.ts";
import { MOUNT_DIRECTORY } from "../../lib/backup/target/share.ts";
import type { Target } from "../../lib/backup/target/target.ts";
import { decodeBackupUrl } from "../../lib/backup/target/url.ts";
import { ReplicasError } from "../../lib/client/errors.ts";
import { SystemRunner } from "../../lib/host/command.ts";
import { ShareMounts } from "../../lib/host/share_mounts.ts";
import {
  backupStatus,
  createBackup,
  restoreBackup,
  restoreStatus,
} from "../../lib/instance/proxy/backups.ts";
import { imrpc } from "../../lib/rpc/imrpc.ts";
import { open } from "../backup/settings.ts";
import { restoreOverImage } from "./backup_file.ts";
import { UsageError } from "../support/program.ts";
import {
  type ClientFlags,
  collect,
  type Command,
  integer,
  parseLabels,
  printJson,
  sorted,
  withEngine,
} from "./globals.ts";

const MIB = 1024 * 1024;

/** Access data as a request carries it. */
function environment(): string[] {
  // Engines know Longhorn's names only, and reject requests with others.
  return Object.entries(Credentials.fromEnvironment().reveal()).filter(([name]) =>
    name !== "AWS_SESSION_TOKEN"
  )
    .map(([name, value]) => `${name}=${value}`);
}

/** Scripts pass addresses out of JSON, where Go writes `&` in another way. */
function plainUrl(url: string): string {
  return url.replaceAll("\\u0026", "&");
}

/** The parts of an address that must name a volume. @throws {UsageError} */
function volumeOf(url: string): { target: string; volume: string; backup: string } {
  const parts = decodeBackupUrl(plainUrl(url));
  if (parts.volume === "") {
    throw new UsageError(`${url}: names no volume; write TARGET?backup=NAME&volume=NAME`);
  }
  return parts;
}

/** @throws {UsageError} when it names no backup */
function backupOf(url: string): { target: string; volume: string; backup: string } {
  const parts = volumeOf(url);
  if (parts.backup === "") {
    throw new UsageError(`${url}: names no backup; write TARGET?backup=NAME&volume=NAME`);
  }
  return parts;
}

async function onTarget<T>(url: string, work: (target: Target) => Promise<T>): Promise<T> {
  await using target = await open({}, url);
  return await work(target);
}

/** Leaves keys out whose values are empty, as Go does where it is told so. */
function without(empty: readonly string[], value: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value).filter(([key, one]) => !empty.includes(key) || (one !== "" && one !== 0)),
  );
}

interface CreateFlags extends ClientFlags {
  readonly dest: string;
  readonly backingImageName: string;
  readonly backingImageChecksum: string;
  readonly label: readonly string[];
  readonly backupName: string;
  readonly compressionMethod: string;
  readonly concurrentLimit: string;
  readonly storageClassName: string;
  readonly backupBlockSize: string;
}

async function create(snapshotName: string, flags: CreateFlags): Promise<void> {
  if (flags.dest === "") throw new UsageError("missing required parameter --dest");
  const blockBytes = integer("--backup-block-size", flags.backupBlockSize, 1) * MIB;
  const request = imrpc.EngineSnapshotBackupRequest.create({
    snapshotName,
    backupName: flags.backupName,
    backupTarget: flags.dest,
    backingImageName: flags.backingImageName,
    backingImageChecksum: flags.backingImageChecksum,
    labels: parseLabels(flags.label),
    envs: environment(),
    compressionMethod: flags.compressionMethod,
    concurrentLimit: integer("--concurrent-limit", flags.concurrentLimit, 1),
    storageClassName: flags.storageClassName,
    parameters: { "backup-block-size": String(blockBytes) },
  });
  const { backupId, isIncremental, replica } = await withEngine(
    flags,
    (engine) => createBackup(engine, request),
  );
  console.log(JSON.stringify({ backupID: backupId, isIncremental, replicaAddress: replica }));
}

async function status(
  backupName: string,
  flags: ClientFlags & { readonly replica: string; readonly replicaInstanceName: string },
): Promise<void> {
  const request = imrpc.EngineSnapshotBackupStatusRequest.create({
    backupName,
    replicaAddress: flags.replica,
    replicaName: flags.replicaInstanceName,
  });
  const { progress, backupUrl, error, snapshotName, state, replicaAddress } = await withEngine(
    flags,
    (engine) => backupStatus(engine, request),
  );
  const told = { progress, backupURL: backupUrl, error, snapshotName, state, replicaAddress };
  console.log(JSON.stringify(without(["backupURL", "error"], told)));
}

async function restore(
  url: string,
  flags: ClientFlags & { readonly concurrentLimit: string; readonly needCorrectEncryptedVolumeSize: boolean },
): Promise<void> {
  const request = imrpc.EngineBackupRestoreRequest.create({
    url: plainUrl(url),
    envs: environment(),
    concurrentLimit: integer("--concurrent-limit", flags.concurrentLimit, 1),
    needCorrectEncryptedVolumeSize: flags.needCorrectEncryptedVolumeSize,
  });
  try {
    await withEngine(flags, (engine) => restoreBackup(engine, request));
  } catch (error) {
    // Managers read the reasons of single replicas from standard output.
    if (error instanceof ReplicasError) printJson(error);
    throw error;
  }
}

async function printRestoreStatus(flags: ClientFlags): Promise<void> {
  const states = Object.entries(await withEngine(flags, restoreStatus)).map(([address, one]) =>
    [
      address,
      without(["progress", "error", "filename"], {
        isRestoring: one.isRestoring ?? false,
        progress: one.progress ?? 0,
        error: one.error ?? "",
        filename: one.filename ?? "",
        state: one.state ?? "",
        backupURL: one.backupUrl ?? "",
        lastRestored: one.lastRestored ?? "",
        currentRestoringBackup: one.currentRestoringBackup ?? "",
      }),
    ] as const
  );
  console.log(JSON.stringify(sorted(Object.fromEntries(states))));
}

async function toFile(
  url: string,
  flags: {
    readonly backingFile: string;
    readonly outputFile: string;
    readonly outputFormat: string;
    readonly concurrentLimit: string;
  },
): Promise<void> {
  const { target: where, volume, backup } = backupOf(url), { outputFile: path, outputFormat: format } = flags;
  if (path === "") throw new UsageError("missing required parameter --output-file");
  if (format !== "raw" && format !== "qcow2") {
    throw new UsageError(`--output-format ${format}: expected raw or qcow2`);
  }
  const concurrency = integer("--concurrent-limit", flags.concurrentLimit, 1);
  const options = { volume, backup, path, format, concurrency } as const;
  await onTarget(where, async (target) => {
    if (flags.backingFile === "") await restoreToFile(target, options);
    else await restoreOverImage(target, options, flags.backingFile);
  });
}

async function remove(url: string, flags: { readonly volume: string }): Promise<void> {
  if (flags.volume !== "") {
    return await onTarget(plainUrl(url), (target) => deleteVolume(target, flags.volume));
  }
  const { target: where, volume, backup } = backupOf(url);
  await onTarget(where, (target) => deleteBackup(target, { volume, backup }, { whenBusy: "fail" }));
}

async function inspect(url: string): Promise<void> {
  const { target: where, volume, backup } = backupOf(url);
  await onTarget(where, async (target) => {
    const record = await inspectBackup(target, { volume, backup });
    if (!record) {
      throw new NoSuchBackupError(`cannot find ${backupUrl(where, { volume, backup })} in backupstore`);
    }
    const { blocks: _, ...rest } = record;
    printJson(longhornBackup(rest, await inspectVolume(target, volume), where));
  });
}

async function head(url: string): Promise<void> {
  const { target: where, volume, backup } = volumeOf(url);
  const path = backup === "" ? volumePath(volume) : backupPath(volume, backup);
  await onTarget(where, async (target) => {
    const entry = await target.head(path);
    if (!entry) throw new NoSuchBackupError(`cannot find ${path} in backupstore`);
    printJson({ ModificationTime: new Date(entry.modifiedMs).toISOString() });
  });
}

function imageOf(url: string): { target: string; name: string } {
  const { target, backingImage: name } = parseBackupUrl(plainUrl(url));
  if (!name) throw new UsageError(`${url}: names no backing image; write TARGET?backingImage=NAME`);
  return { target, name };
}

async function inspectImage(url: string): Promise<void> {
  const { target: where, name } = imageOf(url);
  printJson(await onTarget(where, (target) => inspectBackingImage(target, name)));
}

async function removeImage(url: string): Promise<void> {
  const { target: where, name } = imageOf(url);
  await onTarget(where, (target) => deleteBackingImage(target, name, { whenBusy: "fail" }));
}

function engineCommands(parent: Command): void {
  parent.command("create <snapshot>").description("begin a backup of a snapshot")
    .option("--dest <url>", "the target, such as s3://bucket@region/path/", "")
    .option("--backing-image-name <name>", "noted with the volume", "")
    .option("--backing-image-checksum <sum>", "noted with the volume", "")
    .option("--label <key=value>", "a note; repeat", collect, [])
    .option("--backup-name <name>", "its name; one is chosen if absent", "")
    .option(
      "--compression-method <name>",
      "none, lz4, gzip or zstd; the volume's first backup decides",
      "lz4",
    )
    .option("--concurrent-limit <n>", "blocks under way at the same time", "1")
    .option("--storage-class-name <name>", "noted with the volume", "")
    .option("--backup-block-size <mib>", "size of a block, MiB", "2")
    .action((snapshot: string, _flags, command: Command) => create(snapshot, command.optsWithGlobals()));
  parent.command("status <backup>").description("how far a backup is, as JSON")
    .option("--replica <address>", "the replica that makes it", "")
    .option("--replica-instance-name <name>", "its identity, checked when given", "")
    .action((backup: string, _flags, command: Command) => status(backup, command.optsWithGlobals()));
  parent.command("restore <url>").description("begin to restore a backup into this volume")
    .option("--concurrent-limit <n>", "blocks under way at the same time", "1")
    .option(
      "--need-correct-encrypted-volume-size",
      "the volume has a LUKS header that the backup has not",
      false,
    )
    .action((url: string, _flags, command: Command) => restore(url, command.optsWithGlobals()));
  parent.command("restore-status").description("how far that is, as JSON")
    .action((_flags, command: Command) => printRestoreStatus(command.optsWithGlobals()));
}

function targetCommands(parent: Command): void {
  parent.command("restore-to-file <url>").description("restore a backup into a file")
    .option("--backing-file <path>", "the image below the volume, in any format that qemu-img knows", "")
    .option("--output-file <path>", "the file", "")
    .option("--output-format <format>", "raw or qcow2", "")
    .option("--concurrent-limit <n>", "blocks under way at the same time", "5")
    .action(toFile);
  parent.command("remove <url>").aliases(["rm", "delete"]).description(
    "remove a backup, or all of a volume's",
  )
    .option("--volume <name>", "all backups of this volume; the address is that of the target then", "")
    .action(remove);
  parent.command("list <dest>").alias("ls").description("volumes and names of backups on a target, as JSON")
    .option("--volume <name>", "only this volume", "")
    .option("--volume-only", "no backups", false)
    .action(async (dest: string, flags: { readonly volume: string; readonly volumeOnly: boolean }) => {
      const { volume, volumeOnly } = flags;
      const wanted = { volumeOnly, ...(volume === "" ? {} : { volume }) };
      printJson(await onTarget(plainUrl(dest), (target) => longhornList(target, wanted)));
    });
  parent.command("inspect-volume <url>").description("a volume on a target, as JSON")
    .action(async (url: string) => {
      const { target: where, volume } = volumeOf(url);
      printJson(longhornVolume(await onTarget(where, (target) => inspectVolume(target, volume))));
    });
  parent.command("inspect <url>").description("a backup on a target, as JSON").action(inspect);
  parent.command("cleanup-all-mounts").description("unmount the shares of backup targets")
    .action(async () => {
      await new ShareMounts({ runner: new SystemRunner() }).unmountAll(MOUNT_DIRECTORY);
    });
  parent.command("head <url>").description("when a record on a target was written, as JSON").action(head);
  parent.command("ls-backing-image <dest>").description("names of the backing images on a target, as JSON")
    .action(async (dest: string) => printJson(await onTarget(plainUrl(dest), listBackingImages)));
  parent.command("inspect-backing-image <url>").description("a backing image on a target, as JSON")
    .action(inspectImage);
  parent.command("rm-backing-image <url>").description("remove the backup of a backing image")
    .action(removeImage);
}

/** Adds the commands about backups. @internal */
export function backupCommands(root: Command): void {
  const parent = root.command("backups").alias("backup").description(
    "backups of this volume, and on targets",
  );
  engineCommands(parent);
  targetCommands(parent);
}
