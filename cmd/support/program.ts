/**
 * What all programs do alike: parse their command line, turn errors into one clear line and an exit status.
 *
 * @module
 */
import { Command, CommanderError } from "commander";
import { VERSION } from "../../lib/engine/version.ts";

/** A mistake of the user: message only, no stack. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** An error that carries the status the process ends with. */
interface Exits {
  readonly exitCode: number;
}

function exits(error: unknown): error is Exits {
  return typeof error === "object" && error !== null && "exitCode" in error &&
    typeof error.exitCode === "number";
}

/** A command with the manners of all: suggestions, help on errors, version. */
export function program(name: string, summary: string): Command {
  return new Command(name)
    .description(summary)
    .version(VERSION, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .showSuggestionAfterError()
    .showHelpAfterError(`(${name} --help shows what there is)`)
    .exitOverride();
}

/**
 * Runs a program to its end and exits. One line per error on standard error; `DROVER_DEBUG=1` adds the stack.
 * @param args defaults to the process's
 */
export async function main(command: Command, args: string[] = Deno.args): Promise<never> {
  try {
    await command.parseAsync(args, { from: "user" });
    Deno.exit(0);
  } catch (error) {
    if (error instanceof CommanderError) Deno.exit(error.exitCode);
    const message = error instanceof Error ? error.message : String(error);
    console.error(`${command.name()}: ${message}`);
    if (Deno.env.get("DROVER_DEBUG") && error instanceof Error) {
      for (let e: unknown = error; e instanceof Error; e = e.cause) console.error(e.stack);
    }
    Deno.exit(exits(error) ? error.exitCode : 1);
  }
}

/** Resolves at the first SIGINT or SIGTERM. A second one ends the process at once, with status 130. */
export function untilSignal(): Promise<"SIGINT" | "SIGTERM"> {
  return new Promise((resolve) => {
    let seen = false;
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      Deno.addSignalListener(signal, () => {
        if (seen) Deno.exit(130);
        seen = true;
        resolve(signal);
      });
    }
  });
}
