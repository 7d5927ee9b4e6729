/**
 * `drover replica ...` on the command line.
 *
 * @module
 */
import type { Command } from "../client/globals.ts";
import { dirOption, outputOption, waitOptions } from "../snapshot/command.ts";
import { addCopy, removeCopy } from "./change.ts";
import { limitCopies } from "./limit.ts";
import { listCopies, rebuildsOf } from "./show.ts";

const HELP = `
Examples:
  drover replica ls data
  drover replica add data --to /disk4             another copy, filled while the volume is used
  drover replica add data --to /disk4 --limit 50MiB --verify
  drover replica limit data 200MiB                change that while it is filled
  drover replica rm data data-r-2                 take a copy out and delete it

Replicas are the copies of a volume: each has all of its data.`;

/** Adds the command with its subcommands. @internal */
export function replicaCommand(parent: Command): void {
  const replica = parent.command("replica").description("the copies of a volume").addHelpText("after", HELP);
  outputOption(dirOption(replica.command("ls <volume>").alias("list")))
    .description("list the copies: state, size, process, directory")
    .action(listCopies);
  outputOption(dirOption(replica.command("rebuild-status <volume>").alias("status")))
    .description("how far copies that are being filled are")
    .action(rebuildsOf);
  outputOption(waitOptions(dirOption(replica.command("add <volume>"))))
    .description("add a copy; a running volume fills it at once")
    .requiredOption("--to <path>", "directory that the copy is to lie in, such as one on another disk")
    .option("--limit <rate>", "bytes per second, such as 50MiB; remembered, see drover replica limit")
    .option("--verify", "read everything back from the new disk at the end and compare, not only a sample")
    .option("--no-verify", "a sample; the default")
    .action(addCopy);
  outputOption(dirOption(replica.command("limit <volume> [rate]")))
    .description(
      "how many bytes per second the filling of copies may take, such as 50MiB or none, also of one under way",
    )
    .action(limitCopies);
  outputOption(dirOption(replica.command("rm <volume> <replica>").alias("remove")))
    .description("take a copy out of the volume and delete it")
    .option("-y, --yes", "do not ask")
    .option("--keep-data", "leave its directory as it is")
    .action(removeCopy);
}
