/**
 * Asking before data is lost.
 *
 * @module
 */
import { UsageError } from "./program.ts";

/**
 * Asks on a terminal. Where nobody can answer, silence is no consent.
 *
 * @param what the command, for the error
 * @param question ends with a question mark and names what is lost
 * @param yes the user said so beforehand
 * @throws {UsageError} without a terminal
 */
export function mayGoOn(what: string, question: string, yes: boolean): boolean {
  if (yes) return true;
  if (!Deno.stdin.isTerminal()) {
    throw new UsageError(`${what}: nobody is there to ask; --yes does it without`);
  }
  return confirm(question);
}
