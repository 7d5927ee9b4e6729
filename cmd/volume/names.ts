/**
 * Names of volumes and the directories they are looked for in.
 *
 * @module
 */
import { resolve } from "node:path";
import { UsageError } from "../support/program.ts";

/** Longhorn's rule for volume names. */
const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
const MAX_VOLUME_NAME = 64;
/** Environment variable with the directories, separated by colons. */
export const DIRECTORY_VARIABLE = "DROVER_DIR";

/** Refuses what cannot be a volume's name. @throws {UsageError} */
export function checkVolumeName(name: string): void {
  if (!VOLUME_NAME.test(name) || name.length > MAX_VOLUME_NAME) {
    throw new UsageError(
      `volume name "${name}": 2 to ${MAX_VOLUME_NAME} letters, digits, "_", "." or "-", the first a letter or digit`,
    );
  }
}

/** Where volumes are when nothing is said. */
export function defaultDirectory(): string {
  if (Deno.uid() === 0) return "/var/lib/drover";
  const data = Deno.env.get("XDG_DATA_HOME") || `${Deno.env.get("HOME") ?? ""}/.local/share`;
  return `${data}/drover`;
}

/** The directories of `--dir`, else of the environment, else the default; absolute, each once. */
export function resolveDirectories(given: readonly string[] | undefined): string[] {
  const fromEnvironment = (Deno.env.get(DIRECTORY_VARIABLE) ?? "").split(":").filter((path) => path !== "");
  const chosen = given?.length ? given : fromEnvironment.length > 0 ? fromEnvironment : [defaultDirectory()];
  return [...new Set(chosen.map((path) => resolve(path)))];
}
