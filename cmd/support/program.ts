/**
 * What all programs do alike: parse their command line, turn errors into one clear line and an exit status.
 *
 * @module
 */
import { Command, CommanderError } from "commander";
import { Level, setLogLevel } from "../../lib/log/log.ts";
import { VERSION } from "../../lib/engine/version.ts";

/** Status of a process that did not do what was asked. */
export const EXIT_FAILURE = 1;
/** Status of a process whose command line makes no sense. */
export const EXIT_USAGE = 2;

/** Commands for people say themselves what came out; the log shows only what is worse, unless it is asked for. */
export function quietLog(): void {
  if (!Deno.env.get("DROVER_LOG_LEVEL")) setLogLevel(Level.WARN);
}

/** A mistake of the user: message only, no stack. */
export class UsageError extends Error {
  /** The class, for logs. */
  override readonly name = "UsageError";
  /** See {@linkcode EXIT_USAGE}. */
  readonly exitCode: number = EXIT_USAGE;
}

/** An error that carries the status the process ends with. */
interface Exits {
  readonly exitCode: number;
}

function exits(error: unknown): error is Exits {
  return typeof error === "object" && error !== null && "exitCode" in error &&
    typeof error.exitCode === "number";
}

/**
 * A command with the manners of all: suggestions, help on errors, version.
 * @internal
 */
export function program(name: string, summary: string): Command {
  return new Command(name)
    .description(summary)
    .version(VERSION, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .showSuggestionAfterError()
    .showHelpAfterError(`(${name} --help shows what there is)`)
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, `${name}: `)) })
    .exitOverride();
}

/**
 * Makes the errors of all subcommands point to the help of the command that was meant.
 * @internal
 */
export function pointToOwnHelp(command: Command, path: string = command.name()): void {
  command.showHelpAfterError(`(${path} --help shows what there is)`);
  for (const one of command.commands) pointToOwnHelp(one, `${path} ${one.name()}`);
}

/**
 * Runs a program to its end and exits. One line per error on standard error; `DROVER_DEBUG=1` adds the stack.
 * @param args defaults to the process's
 * @internal
 */
export async function main(command: Command, args: string[] = Deno.args): Promise<never> {
  try {
    await command.parseAsync(args, { from: "user" });
    Deno.exit(0);
  } catch (error) {
    if (error instanceof CommanderError) Deno.exit(error.exitCode === 0 ? 0 : EXIT_USAGE);
    const message = error instanceof Error ? plainMessage(error) : String(error);
    console.error(`${command.name()}: ${message}`);
    if (Deno.env.get("DROVER_DEBUG") && error instanceof Error) {
      for (let e: unknown = error; e instanceof Error; e = e.cause) console.error(e.stack);
    }
    Deno.exit(exits(error) ? error.exitCode : EXIT_FAILURE);
  }
}

/**
 * What an error says, for people. Those of the runtime about files begin with what went wrong and end with where:
 * `Permission denied (os error 13): mkdir '/x'` becomes `mkdir /x: permission denied`.
 */
export function plainMessage(error: Error): string {
  const parts = /^(.+?) \(os error \d+\)(?:: (.+))?$/s.exec(error.message);
  if (!parts) return error.message;
  const [, what = "", where = ""] = parts;
  const plain = what.charAt(0).toLowerCase() + what.slice(1);
  const text = where === "" ? plain : `${where.replace(/'([^']*)'/g, "$1")}: ${plain}`;
  if (!/^(permission denied|operation not permitted|read-only file system)$/.test(plain)) return text;
  return `${text}; name another place, or be a user who may do that`;
}

/**
 * Environment variable by which a process that starts others keeps them from outliving it: with the value `stdin`
 * they end when their standard input does.
 */
export const LIFELINE_VARIABLE = "DROVER_LIFELINE";

/** Why a process is to end. `orphaned`: the one that started it is gone, see {@linkcode LIFELINE_VARIABLE}. */
export type EndReason = "SIGINT" | "SIGTERM" | "orphaned";

/**
 * Resolves at the first SIGINT or SIGTERM, or when the lifeline breaks. A second signal ends the process at once,
 * with status 130.
 */
export function untilSignal(): Promise<EndReason> {
  return new Promise((resolve) => {
    let seen = false;
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      Deno.addSignalListener(signal, () => {
        if (seen) Deno.exit(130);
        seen = true;
        resolve(signal);
      });
    }
    if (Deno.env.get(LIFELINE_VARIABLE) === "stdin") untilStdinEnds().then(() => resolve("orphaned"));
  });
}

/** Resolves when standard input ends. */
export async function untilStdinEnds(): Promise<void> {
  const bytes = new Uint8Array(64);
  try {
    while (await Deno.stdin.read(bytes) !== null);
  } catch {
    // No standard input: nobody is at the other end.
  }
}
