/**
 * A target in memory for tests, with faults that a test places exactly. The store outlives the targets opened on
 * it, so a test can let one client die at its n-th call and look at what it left with another one.
 *
 * @module
 */
import { type Entry, NotFoundError, type Target, TargetError } from "./target.ts";

/** One call on a {@linkcode MemoryTarget}. */
export interface MemoryCall {
  /** Name of the method. */
  readonly operation: "list" | "children" | "head" | "read" | "write" | "remove" | "removeTree";
  /** Path or prefix. */
  readonly path: string;
  /** Number of the call on this target, from 1. */
  readonly number: number;
}

/** What a test lets go wrong. */
export interface MemoryFaults {
  /** Called before the effect; what it throws is thrown instead of the effect. */
  before?(call: MemoryCall): void | Promise<void>;
  /** Called after the effect; what it throws is thrown although the effect happened. */
  after?(call: MemoryCall): void | Promise<void>;
  /** Replaces what `read` returns. */
  body?(path: string, data: Uint8Array): Uint8Array;
  /** False: listings do not show this object (yet). */
  shown?(entry: Entry): boolean;
}

/** One object of a {@linkcode MemoryStore}. */
export interface Stored {
  /** Its content. */
  readonly data: Uint8Array;
  /** When it was written, by the store's clock. */
  readonly modifiedMs: number;
}

/** The objects, shared by the targets opened on it. */
export class MemoryStore {
  /** All objects by path. */
  readonly objects: Map<string, Stored> = new Map();
  /** The store's own clock, in milliseconds since 1970; tests may replace it. */
  clock: () => number;

  /** An empty store. */
  constructor(clock: () => number = Date.now) {
    this.clock = clock;
  }

  /** A client of the store. */
  open(faults: MemoryFaults = {}): MemoryTarget {
    return new MemoryTarget(this, faults);
  }

  /** Puts an object without any fault. */
  put(path: string, data: Uint8Array | string): void {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data.slice();
    this.objects.set(path, { data: bytes, modifiedMs: this.clock() });
  }

  /** The content as text, without any fault; undefined when missing. */
  text(path: string): string | undefined {
    const stored = this.objects.get(path);
    return stored === undefined ? undefined : new TextDecoder().decode(stored.data);
  }

  /** All paths that begin with `prefix`, sorted. */
  paths(prefix = ""): string[] {
    return [...this.objects.keys()].filter((path) => path.startsWith(prefix)).sort();
  }
}

/** Thrown by every call of a target whose client "died". */
export class CrashedError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "CrashedError";
}

/**
 * Faults of a client that dies at call number `at`: that call has its effect or not, no later one has.
 *
 * @param effect true: the last call reaches the store, only its answer does not come
 */
export function crashAt(at: number, effect: boolean): MemoryFaults {
  return {
    before: ({ number }) => {
      if (number > at || (number === at && !effect)) throw new CrashedError(`dead since call ${at}`);
    },
    after: ({ number }) => {
      if (number >= at) throw new CrashedError(`died in call ${at}`);
    },
  };
}

/** A client of a {@linkcode MemoryStore}. */
export class MemoryTarget implements Target {
  /** See {@linkcode Target.url}. */
  readonly url = "memory://test/";
  /** Calls made so far, per kind. */
  readonly calls: Map<MemoryCall["operation"], number> = new Map();
  #store: MemoryStore;
  #faults: MemoryFaults;
  #count = 0;

  /** See {@linkcode MemoryStore.open}. */
  constructor(store: MemoryStore, faults: MemoryFaults) {
    this.#store = store;
    this.#faults = faults;
  }

  /** Number of calls made so far. */
  get count(): number {
    return this.#count;
  }

  /** See {@linkcode Target.list}. The listing is one call. */
  async *list(prefix: string): AsyncIterable<Entry> {
    yield* await this.#call("list", prefix, () =>
      [...this.#store.objects]
        .filter(([path]) => path.startsWith(prefix))
        .map(([path, stored]) => entryOf(path, stored))
        .filter((entry) => this.#faults.shown?.(entry) ?? true));
  }

  /** See {@linkcode Target.children}. */
  children(folder: string): Promise<string[]> {
    const start = folder === "" || folder.endsWith("/") ? folder : `${folder}/`;
    return this.#call("children", folder, () => {
      const names = new Set<string>();
      for (const [path, stored] of this.#store.objects) {
        if (!path.startsWith(start) || !(this.#faults.shown?.(entryOf(path, stored)) ?? true)) continue;
        names.add(path.slice(start.length).split("/")[0] ?? "");
      }
      return [...names];
    });
  }

  /** See {@linkcode Target.head}. */
  head(path: string): Promise<Entry | undefined> {
    return this.#call("head", path, () => {
      const stored = this.#store.objects.get(path);
      return stored === undefined ? undefined : entryOf(path, stored);
    });
  }

  /** See {@linkcode Target.read}. */
  read(path: string, signal?: AbortSignal): Promise<Uint8Array> {
    return this.#call("read", path, () => {
      signal?.throwIfAborted();
      const stored = this.#store.objects.get(path);
      if (stored === undefined) throw new NotFoundError({ operation: "read", path, url: this.url });
      const data = stored.data.slice();
      return this.#faults.body?.(path, data) ?? data;
    });
  }

  /** See {@linkcode Target.write}. */
  write(path: string, data: Uint8Array, signal?: AbortSignal): Promise<void> {
    const copy = data.slice();
    return this.#call("write", path, () => {
      signal?.throwIfAborted();
      this.#store.put(path, copy);
    });
  }

  /** See {@linkcode Target.remove}. */
  remove(path: string): Promise<void> {
    return this.#call("remove", path, () => void this.#store.objects.delete(path));
  }

  /** See {@linkcode Target.removeTree}. */
  removeTree(prefix: string): Promise<void> {
    return this.#call("removeTree", prefix, () => {
      for (const path of this.#store.paths(prefix)) this.#store.objects.delete(path);
    });
  }

  /** Nothing to close. */
  async [Symbol.asyncDispose](): Promise<void> {}

  async #call<T>(operation: MemoryCall["operation"], path: string, effect: () => T): Promise<T> {
    const call = { operation, path, number: ++this.#count };
    this.calls.set(operation, (this.calls.get(operation) ?? 0) + 1);
    await this.#faults.before?.(call);
    const result = effect();
    await this.#faults.after?.(call);
    return result;
  }
}

function entryOf(path: string, { data, modifiedMs }: Stored): Entry {
  return { path, bytes: data.length, modifiedMs };
}

/** An error as a busy server gives it. */
export function busyError(call: MemoryCall): TargetError {
  return new TargetError("busy", {
    operation: call.operation,
    path: call.path,
    url: "memory://test/",
    retryable: true,
  });
}
