/**
 * Where backups are kept, seen as a flat store of objects: a bucket, a directory, a mounted share. Everything else
 * in this room is written against this interface and knows no protocol.
 *
 * Paths are relative to the target's root, with `/` between the parts and none at the front. A folder is what the
 * paths below it begin with; it is not created and goes with its last object.
 *
 * What the core relies on, and no more: a write is whole or not there at all, it is durable when it returns, and a
 * `head` or `read` after it sees it. Listings may lag behind.
 *
 * @module
 */

/** One object as a listing shows it. */
export interface Entry {
  /** Relative to the target's root. */
  readonly path: string;
  /** Length in bytes. */
  readonly bytes: number;
  /** Time of the last change by the target's own clock, in milliseconds since 1970. */
  readonly modifiedMs: number;
}

/** A place for backups. Calls may run beside each other. */
export interface Target extends AsyncDisposable {
  /** Names the target in messages; holds no credentials. */
  readonly url: string;
  /** All objects whose path begins with `prefix`, however deep, in any order. */
  list(prefix: string): AsyncIterable<Entry>;
  /** Names directly below a folder, of objects and of folders, each once. Empty when there is no such folder. */
  children(folder: string): Promise<string[]>;
  /** What is known of an object; undefined when it is not there. */
  head(path: string): Promise<Entry | undefined>;
  /**
   * The whole content.
   *
   * @param into memory that may be used for it when it fits; the result is a part of that then
   * @throws {NotFoundError}
   */
  read(path: string, signal?: AbortSignal, into?: Uint8Array): Promise<Uint8Array>;
  /** Creates or replaces an object: whole or not at all, and durable when it returns. */
  write(path: string, data: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Removes one object; a missing one is no error. */
  remove(path: string): Promise<void>;
  /** Removes every object whose path begins with `prefix`. */
  removeTree(prefix: string): Promise<void>;
}

/** What a {@linkcode TargetError} tells beside its text. */
export interface TargetErrorDetails {
  /** What was attempted: `read`, `write`, `list`. */
  readonly operation: string;
  /** The object or prefix; empty for the target as a whole. */
  readonly path: string;
  /** The target's {@linkcode Target.url}. */
  readonly url: string;
  /** True when the same call may well succeed later: a time-out, a refused connection, a busy server. */
  readonly retryable: boolean;
  /** What happened below. */
  readonly cause?: unknown;
}

/** A call on a target failed. */
export class TargetError extends Error {
  /** Name of the class, for logs. */
  override readonly name: string = "TargetError";
  /** See {@linkcode TargetErrorDetails.operation}. */
  readonly operation: string;
  /** See {@linkcode TargetErrorDetails.path}. */
  readonly path: string;
  /** See {@linkcode TargetErrorDetails.url}. */
  readonly url: string;
  /** See {@linkcode TargetErrorDetails.retryable}. */
  readonly retryable: boolean;

  /**
   * Describes one failure.
   *
   * @param problem what went wrong, and the way out where there is one
   */
  constructor(problem: string, details: TargetErrorDetails) {
    const { operation, path, url, retryable, cause } = details;
    const what = path === "" ? operation : `${operation} ${path}`;
    super(`${url}: ${what}: ${problem}`, cause === undefined ? {} : { cause });
    this.operation = operation;
    this.path = path;
    this.url = url;
    this.retryable = retryable;
  }
}

/** The object is not there. */
export class NotFoundError extends TargetError {
  /** Name of the class, for logs. */
  override readonly name: string = "NotFoundError";

  /** Says that `path` is missing. */
  constructor(details: Omit<TargetErrorDetails, "retryable">) {
    super("not found", { ...details, retryable: false });
  }
}
