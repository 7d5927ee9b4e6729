/**
 * `drover backup ...` on the command line.
 *
 * @module
 */
import { importImage } from "./create.ts";
import { activateCommand, followCommand } from "./follow.ts";
import {
  createImageCommand,
  inspectImageCommand,
  listImagesCommand,
  removeImageCommand,
  restoreImageCommand,
} from "./image.ts";
import { garbageCommand, removeCommand, retainCommand } from "./remove.ts";
import { restoreCommand, restoreToFileCommand } from "./restore.ts";
import { type Command, CREDENTIALS_VARIABLE, TARGET_VARIABLE, withTarget } from "./settings.ts";
import { inspectCommand, listCommand, verifyCommand } from "./show.ts";
import { backUpVolume } from "./snapshot.ts";

const HELP = `
Targets:
  s3://BUCKET@REGION/PATH/       AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; AWS_ENDPOINTS for other services than
                                 AWS, AWS_CERT for their certificate, VIRTUAL_HOSTED_STYLE=true
  nfs://HOST:/EXPORT             mounted by the kernel
  cifs://HOST/SHARE              likewise; CIFS_USERNAME, CIFS_PASSWORD
  azblob://CONTAINER@SUFFIX/     AZBLOB_ACCOUNT_NAME, AZBLOB_ACCOUNT_KEY, AZBLOB_ENDPOINT, AZBLOB_CERT
  vfs:///DIRECTORY               a directory of this machine

Credentials come from the environment or from a file that only you can read (--credentials FILE with lines
NAME=VALUE), never from the command line. HTTP_PROXY, HTTPS_PROXY and NO_PROXY are honoured.

Examples:
  export ${TARGET_VARIABLE}=s3://backups@eu-west-1/ ${CREDENTIALS_VARIABLE}=~/.backup-keys
  drover backup create data                        snapshot the volume data and back that up
  drover backup create data before-upgrade         back up a snapshot that is there
  drover backup ls                                 volumes in the target
  drover backup ls data                            backups of data
  drover backup restore data latest --into data2   the newest backup into a volume that is being served
  drover backup restore-to-file data disk.qcow2 --format qcow2
  drover backup verify data                        read and check every block
  drover backup follow data --into standby         a stand-by volume; later: drover backup activate standby
  drover backup retain data --keep 7 --keep-for 30d --dry-run
  drover backup image create debian debian.qcow2   a backing image: the file that volumes lie on

Longhorn reads what Drover writes and the other way round (but not blocks compressed with zstd).
Where VOLUME and BACKUP are expected, one URL TARGET?backup=NAME&volume=NAME will do.`;

/** Flags of {@linkcode withTarget} and others, as they come. */
// deno-lint-ignore no-explicit-any
type Flags = any;

const collect = (value: string, list: readonly string[]): readonly string[] => [...list, value];

function words(...given: (string | undefined)[]): string[] {
  return given.filter((word) => word !== undefined);
}

/**
 * Adds the command with its subcommands.
 * @internal
 */
export function backupCommand(parent: Command): void {
  const backup = parent.command("backup").description(
    "backups of volumes in S3, NFS, CIFS, Azure or a directory",
  )
    .addHelpText("after", HELP);
  creates(backup);
  shows(backup);
  restores(backup);
  follows(backup);
  removes(backup);
  images(backup);
}

function withCreateFlags(command: Command): Command {
  return command
    .option("--name <backup>", "name of the backup; the name of one that was interrupted goes on with it")
    .option("--label <key=value>", "a label, kept with the backup; may be repeated", collect, [])
    .option("--full", "upload every block anew", false)
    .option(
      "--compression <method>",
      "lz4, gzip, none, zstd (Longhorn does not read zstd); fixed by the first backup",
      "lz4",
    )
    .option("--block-size <size>", "size of a block; the same for all backups of a volume", "2MiB")
    .option("--concurrency <n>", "blocks under way at the same time");
}

function creates(backup: Command): void {
  withCreateFlags(withTarget(backup.command("create <volume> [snapshot]")))
    .description("back up a snapshot of a volume that is being served (default: a new snapshot)")
    .option("--dir <path...>", "where to look for the volume")
    .option("--no-wait", "return when the backup has begun; it goes on")
    .action(backUpVolume);
  withCreateFlags(withTarget(backup.command("import <volume> <file>")))
    .description("back up an image file or a disk, as a volume of that name")
    .action(importImage);
}

function shows(backup: Command): void {
  withTarget(backup.command("ls [volume]").alias("list"))
    .description("list volumes, or the backups of one")
    .action(listCommand);
  withTarget(backup.command("inspect <volume> [backup]"))
    .description("show what is recorded; -o json as Longhorn prints it")
    .action((volume: string, name: string | undefined, flags: Flags) =>
      inspectCommand(words(volume, name), flags)
    );
  withTarget(backup.command("verify <volume> [backups...]"))
    .description("read every block and check it; status 1 when one is damaged")
    .option("--concurrency <n>", "blocks under way at the same time")
    .action((volume: string, names: string[], flags: Flags) => verifyCommand([volume, ...names], flags));
}

function restores(backup: Command): void {
  withTarget(backup.command("restore <volume> [backup]"))
    .description("write a backup (default: the newest) into a volume, once for all of its copies")
    .option("--into <place>", "a volume of drover volume serve, a block device, or nbd://HOST:PORT/NAME")
    .option("--continue", "go on with a restore that was interrupted, when nothing wrote to the volume since")
    .option("--dir <path...>", "where to look for the volume")
    .option("--concurrency <n>", "blocks under way at the same time")
    .option("-y, --yes", "do not ask")
    .action((volume: string, name: string | undefined, flags: Flags) =>
      restoreCommand(words(volume, name), flags)
    );
  withTarget(backup.command("restore-to-file <words...>").usage("[options] <volume> [backup] <file>"))
    .description("write a backup (default: the newest) to a new file; no volume is needed")
    .option("--format <format>", "raw or qcow2", "raw")
    .option("--concurrency <n>", "blocks under way at the same time")
    .action(restoreToFileCommand);
}

function follows(backup: Command): void {
  const where = ["--dir <path...>", "where to look for the volume"] as const;
  const state = ["--state <directory>", "where notes go; default: beside the volume"] as const;
  withTarget(backup.command("follow <volume>"))
    .description("keep a stand-by volume as the newest backup of another volume, until Ctrl-C")
    .option("--into <place>", "the stand-by volume: being served, and used by nobody")
    .option(...where).option(...state)
    .option("--every <seconds>", "how often to look for a new backup", "60")
    .option("--once", "look once, and end")
    .option("-y, --yes", "do not ask before the first time")
    .action(followCommand);
  backup.command("activate <place>")
    .description("end following: the stand-by volume holds the last backup, and can be used")
    .option(...where).option(...state)
    .action(activateCommand);
}

function removes(backup: Command): void {
  withTarget(backup.command("rm <volume> [backups...]").alias("delete"))
    .description("remove backups, and the blocks that no other backup needs")
    .option("--all", "every backup of the volume")
    .option("-y, --yes", "do not ask")
    .action((volume: string, names: string[], flags: Flags) => removeCommand([volume, ...names], flags));
  withTarget(backup.command("retain <volume>"))
    .description("remove old backups; the newest always stays")
    .option("--keep <n>", "this many of the newest stay")
    .option("--keep-for <age>", "younger ones stay: 90m, 12h, 30d, 4w")
    .option("--label <key=value>", "only backups with this label count and go; may be repeated", collect, [])
    .option("--dry-run", "only say what would be removed")
    .option("-y, --yes", "do not ask")
    .action(retainCommand);
  withTarget(backup.command("gc <volume>"))
    .description("remove blocks that no backup needs: what interrupted backups and removals left")
    .action(garbageCommand);
}

function images(backup: Command): void {
  const image = backup.command("image").description(
    "backups of backing images: the files that volumes lie on",
  );
  withTarget(image.command("create <name> <file>"))
    .description("back up a file as it is, under a name")
    .option("--label <key=value>", "a label, kept with the backup; may be repeated", collect, [])
    .option("--compression <method>", "lz4, gzip, none, zstd (Longhorn does not read zstd)", "lz4")
    .option("--concurrency <n>", "blocks under way at the same time")
    .action(createImageCommand);
  withTarget(image.command("ls").alias("list")).description("list them").action(listImagesCommand);
  withTarget(image.command("inspect <name>")).description("show what is recorded").action(
    inspectImageCommand,
  );
  withTarget(image.command("restore <name> <file>"))
    .description("write one to a new file, and compare that with the checksum of the whole")
    .option("--concurrency <n>", "blocks under way at the same time")
    .action(restoreImageCommand);
  withTarget(image.command("rm <name>").alias("delete"))
    .description("remove one, and the blocks that no other one needs")
    .option("-y, --yes", "do not ask")
    .action(removeImageCommand);
}
