/**
 * The client commands: names, flags and output of `longhorn`, so that scripts go on working.
 *
 * @module
 */
import { type Command, urlOption } from "./globals.ts";
import { replicaCommands } from "./replicas.ts";
import { snapshotCommands } from "./snapshots.ts";
import { volumeCommands } from "./volume.ts";

/**
 * Adds the client commands, and `--url`; those about backups are in `backups.ts`, because the process of an engine
 * has no use for a backup store. The program itself has `--volume-name` and `--engine-instance-name`.
 *
 * @internal
 */
export function clientCommands(root: Command): void {
  urlOption(root);
  replicaCommands(root);
  snapshotCommands(root);
  volumeCommands(root);
}
