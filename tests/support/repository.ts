/**
 * Where the repository is, and its files.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { join, relative } from "node:path";

/** Absolute path of the top directory of the repository. */
export const ROOT: string = fileURLToPath(new URL("../../", import.meta.url)).replace(/\/$/, "");

/** Directories with TypeScript sources. */
export const SOURCE_DIRECTORIES = ["cmd", "lib", "tests", "tools"] as const;

/** True for sources that a generator wrote; the rules on style do not hold for them. */
export function isGenerated(path: string): boolean {
  return path.startsWith("lib/rpc/gen/");
}

/** Absolute path of a file given relative to the top directory. */
export function inRepository(path: string): string {
  return join(ROOT, path);
}

/** Paths of all TypeScript files below `directory`, relative to the top directory, sorted. */
export function typescriptFiles(directory: string): string[] {
  const found: string[] = [];
  const walk = (path: string): void => {
    for (const entry of Deno.readDirSync(path)) {
      const child = join(path, entry.name);
      if (entry.isDirectory) walk(child);
      else if (entry.isFile && child.endsWith(".ts")) found.push(relative(ROOT, child));
    }
  };
  try {
    walk(inRepository(directory));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return found.sort();
}
