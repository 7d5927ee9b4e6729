/**
 * `drover`: the user's command line.
 *
 * @module
 */
import "../lib/rpc/setup.ts";
import { main, program } from "./support/program.ts";
import { volumeCommand } from "./volume/command.ts";

function commandLine() {
  const root = program("drover", "Replicated block storage.");
  volumeCommand(root);
  return root;
}

if (import.meta.main) await main(commandLine());
