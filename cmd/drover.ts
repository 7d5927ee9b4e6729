/**
 * `drover`: the user's command line.
 *
 * @module
 */
import "../lib/rpc/setup.ts";
import { backupCommand } from "./backup/command.ts";
import { benchCommand } from "./bench/command.ts";
import { replicaCommand } from "./replica_cmd/command.ts";
import { snapshotCommand } from "./snapshot/command.ts";
import { checkCommand } from "./support/check.ts";
import { main, pointToOwnHelp, program } from "./support/program.ts";
import { cryptCommand } from "./crypt/command.ts";
import { nodeCommand } from "./node/command.ts";
import { volumeCommand } from "./volume/command.ts";

const HELP = `
Examples:
  drover check                                    can this machine have volumes?
  drover volume serve data --size 10GiB           a volume with 3 copies, as a disk, until Ctrl-C
  drover volume info data
  drover snapshot create data before-upgrade      keep what is in it now
  drover bench --target file:/dev/longhorn/data   how fast is it? (reads only, unless told otherwise)

Environment: DROVER_DIR directories of volumes, separated by colons; DROVER_LOG_LEVEL=debug for fuller
logs; DROVER_IO uring or poll; DROVER_DEBUG=1 shows where errors come from.

Exit status: 0 done; 1 it failed; 2 the command line makes no sense.`;

function commandLine() {
  const root = program("drover", "Replicated block storage.").addHelpText("after", HELP);
  volumeCommand(root);
  snapshotCommand(root);
  replicaCommand(root);
  backupCommand(root);
  checkCommand(root);
  nodeCommand(root);
  cryptCommand(root);
  benchCommand(root);
  pointToOwnHelp(root);
  return root;
}

if (import.meta.main) await main(commandLine());
