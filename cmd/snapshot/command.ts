/**
 * `drover snapshot ...` on the command line.
 *
 * @module
 */
import { collect, type Command } from "../client/globals.ts";
import { defaultDirectory } from "../volume/names.ts";
import {
  cloneVolume,
  createVolumeSnapshot,
  hashVolumeSnapshot,
  purgeVolume,
  removeSnapshots,
  revertVolume,
} from "./actions.ts";
import { listVolumeSnapshots, showSnapshots } from "./show.ts";

const HELP = `
Examples:
  drover snapshot create data before-upgrade      keep what is in the volume now
  drover snapshot ls data
  drover snapshot revert data before-upgrade      go back; the disk must not be mounted
  drover snapshot rm data before-upgrade --purge  give its space back

A snapshot costs nothing when it is made, and later the space of what is overwritten. The volume must be running
(drover volume serve).`;

/** Where volumes are looked for. @internal */
export function dirOption(command: Command): Command {
  return command.option(
    "--dir <path...>",
    `where to look for the volume; default: $DROVER_DIR, else ${defaultDirectory()}`,
  );
}

/** The format of what is shown. @internal */
export function outputOption(command: Command): Command {
  return command.option("-o, --output <format>", "table or json", "table");
}

/** Whether to wait for the end. @internal */
export function waitOptions(command: Command): Command {
  return command.option("--wait", "return when it is done; the default").option(
    "--no-wait",
    "return as soon as it has begun",
  );
}

function yesOption(command: Command): Command {
  return command.option("-y, --yes", "do not ask");
}

/** Adds the command with its subcommands. @internal */
export function snapshotCommand(parent: Command): void {
  const snapshot = parent.command("snapshot").description("snapshots of a running volume")
    .addHelpText("after", HELP);
  outputOption(dirOption(snapshot.command("ls <volume>").alias("list")))
    .description("list the snapshots that users made, the newest last")
    .option("-a, --all", "also those of the engine, removed ones, and the head")
    .action(listVolumeSnapshots);
  outputOption(dirOption(snapshot.command("info <volume> [name]")))
    .description("the whole tree, with what each takes and what its removal would free")
    .action(showSnapshots);
  outputOption(dirOption(snapshot.command("create <volume> [name]")))
    .description("make a snapshot and print its name; without a name one is chosen")
    .option("-l, --label <key=value>", "a note; repeat", collect, [])
    .option("--freeze", "freeze the file system on the volume's disk meanwhile")
    .action(createVolumeSnapshot);
  outputOption(waitOptions(yesOption(dirOption(snapshot.command("rm <volume> <names...>").alias("remove")))))
    .description("remove snapshots; purge gives their space back")
    .option("--purge", "purge at once")
    .action(removeSnapshots);
  outputOption(yesOption(dirOption(snapshot.command("revert <volume> <name>"))))
    .description("take the volume back to a snapshot; what was written since is lost")
    .action(revertVolume);
  outputOption(waitOptions(dirOption(snapshot.command("purge <volume>"))))
    .description("give back the space of removed snapshots and of those that the engine made")
    .action(purgeVolume);
  outputOption(waitOptions(dirOption(snapshot.command("hash <volume> <name>"))))
    .description("compare the checksums of a snapshot on all copies")
    .option("--rehash", "read it even where the recorded checksum is still valid")
    .action(hashVolumeSnapshot);
  outputOption(yesOption(dirOption(snapshot.command("clone <volume> <name> <target>"))))
    .description("replace the data of another running volume of the same size by a snapshot's")
    .action(cloneVolume);
}
