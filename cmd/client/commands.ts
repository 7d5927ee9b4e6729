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
 * Adds all client commands, and `--url`. The program itself has `--volume-name` and `--engine-instance-name`.
 *
 * @internal
 */
export function clientCommands(root: Command): void {
  urlOption(root);
  replicaCommands(root);
  snapshotCommands(root);
  volumeCommands(root);
}
