/**
 * Where an engine listens for the one that is to take its place: `<run>/engine/<volume>.handover`, for its own user
 * only.
 *
 * @module
 */
import { closeAll, connectForPassing, listenForPassing } from "../../lib/io/passing.ts";
import type { Logger } from "../../lib/log/log.ts";
import { runDirectory } from "./loop_host.ts";

/** The path of a volume's engine. */
export function handoverPath(volume: string): string {
  return `${runDirectory()}/engine/${volume}.handover`;
}

/**
 * Listens there. A file that a dead engine left is replaced.
 * @returns a descriptor; undefined, with a word in the log, where that is not possible: the volume is as good without
 */
export function listenForHandover(volume: string, log: Logger): number | undefined {
  const path = handoverPath(volume), directory = path.slice(0, path.lastIndexOf("/"));
  try {
    Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
    const other = connectForPassing(path);
    if (other !== undefined) {
      closeAll([other]);
      log.warn("no live upgrade of this engine", { reason: `another engine listens on ${path}` });
      return undefined;
    }
    removeHandoverPlace(volume);
    const listener = listenForPassing(path);
    Deno.chmodSync(path, 0o600);
    return listener;
  } catch (error) {
    log.info("no live upgrade of this engine", { path, reason: String(error) });
    return undefined;
  }
}

/** Removes the file. */
export function removeHandoverPlace(volume: string): void {
  try {
    Deno.removeSync(handoverPath(volume));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
