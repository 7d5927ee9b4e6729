/**
 * A directory as a target: of this machine, or of a share that is mounted there.
 *
 * | step of a write | what it guards against |
 * | --- | --- |
 * | a file beside the place, `NAME.tmp.` and 16 hexadecimal digits | a crash, a full disk: the place keeps what it has |
 * | sync of the file | a name that leads to nothing after a loss of power |
 * | rename | a reader that sees half of it |
 * | sync of the directory, and of those above that are new to this process | a loss of power takes the name away |
 *
 * Temporary files are not part of the target: listings leave them out, and the next write of the same name does not
 * mind them. Directories go with the last file in them.
 *
 * @module
 */
import { dirname } from "node:path";
import { MAX_OBJECT_BYTES } from "./http.ts";
import { checkPath } from "./paths.ts";
import { DEFAULT_RETRY, forEachOf, Gate, type RetryOptions, withRetries } from "./retry.ts";
import { type Entry, NotFoundError, type Target, TargetError } from "./target.ts";

/** Calls that wait for the file system at once. */
const WIDTH = 16;
/** How often a write makes its directory anew when another process takes it away each time. */
const MAX_LOST_DIRECTORIES = 10;
/** Directories remembered as durable; beyond, all are forgotten and synced again. */
const MAX_KNOWN = 100_000;

const TEMPORARY = /\.tmp(?:\.[0-9a-f]{16})?$/;

/** Error codes of calls that may succeed later: a file server that is away, an interrupted call. */
const PASSING = new Set([
  "EIO",
  "ESTALE",
  "ETIMEDOUT",
  "EAGAIN",
  "EINTR",
  "EBUSY",
  "EHOSTDOWN",
  "ECONNRESET",
]);

const EXPLAINED: Readonly<Record<string, string>> = {
  ENOSPC: "no space left",
  EDQUOT: "the quota is used up",
  EROFS: "the file system is read-only",
  EACCES: "permission denied",
  EPERM: "permission denied",
  ENAMETOOLONG: "the name is too long for this file system",
  ENOTDIR: "something in the path is not a directory",
  EISDIR: "there is a directory of this name",
  ESTALE: "the file server does not know the directory any more",
};

/** Settings that tests change. */
export interface DirectoryOptions {
  /** Default {@linkcode DEFAULT_RETRY}. */
  readonly retry?: RetryOptions;
}

function codeOf(error: unknown): string {
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.code;
  if (error instanceof Deno.errors.NotFound) return "ENOENT";
  return "";
}

/**
 * A directory that is there, as a target.
 *
 * @param root absolute path
 * @param url how messages name it
 * @param close called when the target is disposed
 * @throws {TargetError} when there is no such directory
 */
export async function openDirectory(
  root: string,
  url: string,
  options: DirectoryOptions = {},
  close: () => Promise<void> = () => Promise.resolve(),
): Promise<Target> {
  const details = { operation: "open", path: "", url };
  try {
    if (!(await Deno.stat(root)).isDirectory) {
      throw new TargetError(`${root} is not a directory`, { ...details, retryable: false });
    }
  } catch (cause) {
    if (cause instanceof TargetError) throw cause;
    const why = codeOf(cause) === "ENOENT" ? "is not there; create it first" : "cannot be opened";
    throw new TargetError(`the directory ${root} ${why}`, { ...details, retryable: false, cause });
  }
  return new DirectoryTarget(root, url, options, close);
}

class DirectoryTarget implements Target {
  readonly url: string;
  readonly #root: string;
  readonly #retry: RetryOptions;
  readonly #close: () => Promise<void>;
  readonly #gate = new Gate(WIDTH);
  /** Directories that this process has made durable. */
  readonly #known = new Set<string>();

  constructor(root: string, url: string, options: DirectoryOptions, close: () => Promise<void>) {
    this.#root = root;
    this.url = url;
    this.#retry = options.retry ?? DEFAULT_RETRY;
    this.#close = close;
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    checkPath(prefix, "list", this.url, true);
    const cut = prefix.lastIndexOf("/");
    for await (const path of this.#walk(cut < 0 ? "" : prefix.slice(0, cut), prefix)) {
      const entry = await this.head(path);
      if (entry !== undefined) yield entry;
    }
  }

  async children(folder: string): Promise<string[]> {
    checkPath(folder, "list", this.url, true);
    const entries = await this.#entries(folder.replace(/\/$/, ""));
    const names: string[] = [];
    for (const { name, isFile, isDirectory } of entries) {
      if (isFile || (isDirectory && await this.#hasFiles(`${folder.replace(/\/$/, "")}/${name}`))) {
        names.push(name);
      }
    }
    return names;
  }

  async head(path: string): Promise<Entry | undefined> {
    checkPath(path, "head", this.url);
    try {
      const { size, mtime, isFile } = await this.#try("head", path, () => Deno.stat(this.#file(path)));
      return isFile ? { path, bytes: size, modifiedMs: mtime?.getTime() ?? 0 } : undefined;
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
  }

  read(path: string, signal?: AbortSignal): Promise<Uint8Array> {
    checkPath(path, "read", this.url);
    return this.#try("read", path, async () => {
      const { size } = await Deno.stat(this.#file(path));
      if (size > MAX_OBJECT_BYTES) {
        throw this.#error(`larger than ${MAX_OBJECT_BYTES} bytes`, "read", path, false);
      }
      return await Deno.readFile(this.#file(path), signal === undefined ? {} : { signal });
    }, signal);
  }

  write(path: string, data: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkPath(path, "write", this.url);
    return this.#try("write", path, () => this.#writeOnce(path, data, signal), signal);
  }

  async #writeOnce(path: string, data: Uint8Array, signal?: AbortSignal): Promise<void> {
    const directory = dirname(this.#file(path));
    const random = crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n;
    const temporary = `${this.#file(path)}.tmp.${random.toString(16).padStart(16, "0")}`;
    for (let lost = 0;; lost++) {
      await this.#makeDirectory(directory);
      try {
        await writeWhole(temporary, data, signal);
        await Deno.rename(temporary, this.#file(path));
        return await syncDirectory(directory);
      } catch (error) {
        await Deno.remove(temporary).catch(() => {});
        // Another process removed the last file of the directory, and the directory with it.
        if (codeOf(error) !== "ENOENT" || lost >= MAX_LOST_DIRECTORIES) throw error;
        this.#known.clear();
      }
    }
  }

  /** Makes a directory and what is missing above it, durably. */
  async #makeDirectory(directory: string): Promise<void> {
    if (directory.length <= this.#root.length || this.#known.has(directory)) return;
    const above = dirname(directory);
    await this.#makeDirectory(above);
    try {
      await Deno.mkdir(directory);
    } catch (error) {
      if (codeOf(error) === "ENOENT") {
        this.#known.clear();
        return await this.#makeDirectory(directory);
      }
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
    // Also when it was there: whoever made it may not have come to sync it.
    await syncDirectory(above);
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.add(directory);
  }

  async remove(path: string): Promise<void> {
    checkPath(path, "remove", this.url);
    await this.#removeFile(path);
    await this.#prune(dirname(this.#file(path)));
  }

  async #removeFile(path: string): Promise<void> {
    try {
      await this.#try("remove", path, () => Deno.remove(this.#file(path)));
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
    }
  }

  async removeTree(prefix: string): Promise<void> {
    checkPath(prefix, "remove", this.url, true);
    const cut = prefix.lastIndexOf("/");
    const top = cut < 0 ? "" : prefix.slice(0, cut);
    const directories = new Set<string>();
    await forEachOf(this.#walk(top, prefix, true), WIDTH, async (path) => {
      directories.add(dirname(this.#file(path)));
      await this.#removeFile(path);
    });
    // The deepest first; each takes those above along that became empty.
    for (const directory of [...directories].sort((a, b) => b.length - a.length)) {
      await this.#prune(directory);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  /** Removes a directory and those above it as long as they are empty, and makes that durable. */
  async #prune(directory: string): Promise<void> {
    let current = directory;
    while (current.length > this.#root.length) {
      try {
        await Deno.remove(current);
        this.#known.delete(current);
      } catch (error) {
        // Not empty any more, or gone: somebody else's business.
        if (codeOf(error) !== "ENOENT") break;
      }
      current = dirname(current);
    }
    this.#known.forEach((one) => one.startsWith(`${directory}/`) && this.#known.delete(one));
    await syncDirectory(current).catch((error) => {
      if (codeOf(error) !== "ENOENT") throw error;
    });
  }

  /** Paths of all files below a directory that begin with `prefix`. */
  async *#walk(folder: string, prefix: string, temporaryToo = false): AsyncGenerator<string> {
    for (const { name, isFile, isDirectory } of await this.#entries(folder, temporaryToo)) {
      const path = folder === "" ? name : `${folder}/${name}`;
      if (isFile && path.startsWith(prefix)) yield path;
      if (isDirectory && (path.startsWith(prefix) || prefix.startsWith(`${path}/`))) {
        yield* this.#walk(path, prefix, temporaryToo);
      }
    }
  }

  async #hasFiles(folder: string): Promise<boolean> {
    for await (const _ of this.#walk(folder, "")) return true;
    return false;
  }

  async #entries(folder: string, temporaryToo = false): Promise<Deno.DirEntry[]> {
    try {
      return await this.#try("list", folder, async () => {
        const found: Deno.DirEntry[] = [];
        for await (const entry of Deno.readDir(this.#file(folder))) {
          if (temporaryToo || !entry.isFile || !TEMPORARY.test(entry.name)) found.push(entry);
        }
        return found;
      });
    } catch (error) {
      if (error instanceof NotFoundError) return [];
      throw error;
    }
  }

  #file(path: string): string {
    return path === "" ? this.#root : `${this.#root}/${path}`;
  }

  #error(problem: string, operation: string, path: string, retryable: boolean, cause?: unknown): TargetError {
    return new TargetError(problem, { operation, path, url: this.url, retryable, cause });
  }

  #try<T>(operation: string, path: string, call: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const attempt = async (): Promise<T> => {
      try {
        return await this.#gate.run(call);
      } catch (cause) {
        signal?.throwIfAborted();
        if (cause instanceof TargetError) throw cause;
        const code = codeOf(cause);
        if (code === "ENOENT") throw new NotFoundError({ operation, path, url: this.url, cause });
        const why = EXPLAINED[code] ?? (cause instanceof Error ? cause.message : String(cause));
        throw this.#error(why, operation, path, PASSING.has(code), cause);
      }
    };
    return withRetries(attempt, signal, this.#retry);
  }
}

async function writeWhole(path: string, data: Uint8Array, signal?: AbortSignal): Promise<void> {
  using file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
  for (let done = 0; done < data.length;) {
    signal?.throwIfAborted();
    done += await file.write(data.subarray(done));
  }
  await file.sync();
}

/** Codes of file systems on which a directory cannot be synced; their servers keep names durable by themselves. */
const NO_DIRECTORY_SYNC = new Set(["EINVAL", "ENOTSUP", "EOPNOTSUPP"]);

async function syncDirectory(path: string): Promise<void> {
  using directory = await Deno.open(path, { read: true });
  try {
    await directory.sync();
  } catch (error) {
    if (!NO_DIRECTORY_SYNC.has(codeOf(error))) throw error;
  }
}
