/**
 * Temporary directories that go away with their scope.
 *
 * @module
 */
import { join } from "node:path";

/** A directory that is removed with everything in it when disposed. */
export interface TempDir extends Disposable {
  /** Absolute path. Short enough for unix sockets in it. */
  readonly path: string;
  /** A path below the directory. */
  join(...parts: string[]): string;
}

/**
 * Makes an empty directory below TMPDIR (else /tmp), or in `place`.
 *
 * @example
 * ```ts
 * using directory = tempDir();
 * Deno.writeTextFileSync(directory.join("file"), "text");
 * ```
 */
export function tempDir(prefix = "t-", place: string | undefined = undefined): TempDir {
  const path = Deno.makeTempDirSync({ prefix, ...(place !== undefined && { dir: place }) });
  return {
    path,
    join: (...parts) => join(path, ...parts),
    [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }),
  };
}
