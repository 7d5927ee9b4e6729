/**
 * The arguments of the project's own tasks: `--help` prints how a task is called, and what cannot be understood is said
 * with the same text beside it.
 *
 * @module
 */
import { parseArgs, type ParseArgsConfig } from "node:util";

/** Exit code for arguments that cannot be. */
export const BAD_ARGUMENTS = 2;

/**
 * Reads the arguments. Ends the process after `--help`, and when an argument is not known.
 *
 * @param usage how the task is called: one line per form, and one per flag
 */
export function readArguments<T extends ParseArgsConfig>(
  usage: string,
  config: T,
): ReturnType<typeof parseArgs<T>> {
  if (Deno.args.includes("--help") || Deno.args.includes("-h")) {
    console.log(usage);
    Deno.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return refuse(error.message, usage);
  }
}

/** A flag that is a whole number. Ends the process when it is not, or when it is too small. */
export function wholeNumber(usage: string, flag: string, text: string, least = 0): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isSafeInteger(value) && value >= least) return value;
  return refuse(`--${flag} ${text}: expected a whole number, at least ${least}`, usage);
}

function refuse(problem: string, usage: string): never {
  console.error(`${problem}\n\n${usage}`);
  Deno.exit(BAD_ARGUMENTS);
}
