/**
 * `longhorn`: the command line of Longhorn's engine, for scripts and managers that call it by that name.
 *
 * `longhorn controller` becomes the program `engine`, `longhorn replica` the program `replica` (those have their own
 * settings of the runtime); everything else is a client command.
 *
 * @module
 */
import "../lib/rpc/setup.ts";
import { backupCommands } from "./client/backups.ts";
import { clientCommands } from "./client/commands.ts";
import { systemBackupCommands } from "./client/system_backups.ts";
import { become } from "./support/exec.ts";
import { main, pointToOwnHelp, program, UsageError } from "./support/program.ts";
import { locateProgram } from "./support/programs.ts";

/** Flags before the command, with a value. */
const VALUE_FLAGS = ["--url", "--volume-name", "--engine-instance-name"];

/** The parts of a command line: flags of the program, the command, and what belongs to it. */
export interface SplitLine {
  /** Each with its value, as `--flag=value`, or alone. */
  readonly globals: readonly string[];
  /** The first word that is no flag; "" when there is none. */
  readonly command: string;
  /** What follows it. */
  readonly rest: readonly string[];
}

/** Finds the command among flags that may take a value. */
export function splitLine(args: readonly string[]): SplitLine {
  const globals: string[] = [];
  for (let i = 0; i < args.length; i++) {
    if (!args[i].startsWith("-")) return { globals, command: args[i], rest: args.slice(i + 1) };
    if (VALUE_FLAGS.includes(args[i]) && i + 1 < args.length) globals.push(`${args[i]}=${args[++i]}`);
    else globals.push(args[i]);
  }
  return { globals, command: "", rest: [] };
}

function commandLine() {
  const root = program("longhorn", "The command line of Longhorn's engine.")
    .option("--volume-name <name>", "the volume that is meant; checked when given", "")
    .option("--engine-instance-name <name>", "the engine's instance that is meant; checked when given", "")
    .option("--debug", "log everything", false);
  root.command("controller").description("serve a volume; see engine controller --help").action(() => {});
  root.command("replica").description("serve one copy; see replica --help").action(() => {});
  clientCommands(root);
  backupCommands(root);
  systemBackupCommands(root);
  pointToOwnHelp(root);
  return root;
}

/** Becomes another program where the command is one. @throws {UsageError} @throws {Error} */
function dispatch(args: readonly string[]): void {
  const { globals, command, rest } = splitLine(args);
  switch (command) {
    case "controller":
      become(locateProgram("engine"), [...globals, command, ...rest]);
      break;
    case "replica":
      become(locateProgram("replica"), [
        ...globals.filter((flag) => !/^--(url|engine-instance-name)=/.test(flag)),
        ...rest,
      ]);
      break;
    case "sync-agent":
      throw new UsageError("sync-agent: that is part of the process of a replica; start longhorn replica");
  }
}

if (import.meta.main) {
  const root = commandLine();
  try {
    dispatch(Deno.args);
  } catch (error) {
    console.error(`longhorn: ${error instanceof Error ? error.message : String(error)}`);
    Deno.exit(error instanceof UsageError ? error.exitCode : 1);
  }
  await main(root);
}
