/**
 * What targets that speak HTTP to an object store have in common: folders that are only prefixes, and entries that are
 * only headers.
 *
 * @module
 */
import { type Entry, NotFoundError } from "./target.ts";

/** The prefix that everything in a folder has. */
export function folderPrefix(folder: string): string {
  return folder === "" || folder.endsWith("/") ? folder : `${folder}/`;
}

/** Names directly below a prefix, from the paths that a listing by folders gave: of objects, and of folders with "/". */
export function namesBelow(prefix: string, paths: Iterable<string>): string[] {
  const names = new Set<string>();
  for (const path of paths) names.add(path.slice(prefix.length).replace(/\/$/, ""));
  names.delete("");
  return [...names];
}

/** An object as the headers of an answer describe it; undefined when they do not tell size and time. */
export function entryOf(path: string, headers: Headers): Entry | undefined {
  const bytes = Number(headers.get("content-length") ?? NaN);
  const modifiedMs = Date.parse(headers.get("last-modified") ?? "");
  return Number.isSafeInteger(bytes) && !Number.isNaN(modifiedMs) ? { path, bytes, modifiedMs } : undefined;
}

/** The answer, or undefined when there is no such object. @throws whatever else went wrong */
export async function unlessMissing<Answer>(call: Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}
