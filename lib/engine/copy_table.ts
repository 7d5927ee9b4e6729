/**
 * The copies of a volume as the engine's main thread knows them: control connections, modes, and the one order that
 * everything which changes the volume itself keeps: one such change at a time.
 *
 * @module
 */
import type { Logger } from "../log/log.ts";
import { Code, RpcError } from "../rpc/mod.ts";
import type { Backend } from "./backend.ts";
import type { Mode } from "./link.ts";

/** The volume thread, as the main thread uses it. */
export interface VolumeCalls {
  /** Makes one of the calls of `EngineThread.handlers`. */
  call(kind: string, body?: unknown, timeoutMs?: number): Promise<unknown>;
}

/** One replica as the main thread knows it. */
export interface Copy {
  /** Its control service. */
  readonly backend: Backend;
  /** What it is used for. */
  mode: Mode;
  /** Why it is out, or "". */
  reason: string;
}

/** See the module text. */
export class CopyTable {
  readonly #copies = new Map<string, Copy>();
  #last: Promise<unknown> = Promise.resolve();

  /** Begins without copies. @param volume its name, for messages */
  constructor(readonly volume: string, readonly thread: VolumeCalls, readonly log: Logger) {}

  /** Names with copies, in the order they were given. */
  entries(): IterableIterator<[string, Copy]> {
    return this.#copies.entries();
  }

  /** Copies in these modes. */
  in(...modes: readonly Mode[]): Copy[] {
    return [...this.#copies.values()].filter((copy) => modes.includes(copy.mode));
  }

  /** A copy by name, or undefined. */
  get(name: string): Copy | undefined {
    return this.#copies.get(name);
  }

  /** A copy by name. @throws {RpcError} NOT_FOUND */
  find(name: string): Copy {
    const copy = this.#copies.get(name);
    if (copy) return copy;
    throw new RpcError(Code.NOT_FOUND, `replica ${name} is not part of volume ${this.volume}`);
  }

  /** Adds a copy that is not used yet. */
  add(backend: Backend): Copy {
    const copy: Copy = { backend, mode: "WO", reason: "" };
    this.#copies.set(backend.name, copy);
    return copy;
  }

  /** A copy is out, as the volume thread knows already. */
  failed(name: string, reason: string): void {
    const copy = this.#copies.get(name);
    if (!copy || copy.mode === "ERR") return;
    // What was under way reached some copies only, or they were being made equal. If nobody is left who could record
    // that this one is out, the next start must know where they differ.
    const differs = copy.backend.generation > 0;
    copy.mode = "ERR";
    copy.reason = reason;
    // It may still be open: closing it lets the next start, or a rebuild, find it in order.
    copy.backend.close(differs).catch(() => {});
  }

  /**
   * Gives a copy up, also in the volume thread.
   *
   * @returns true when those that are left have recorded that; false when nobody is left who could
   */
  async fail(name: string, reason: string): Promise<boolean> {
    this.log.warn("replica not used", { replica: name, reason });
    this.failed(name, reason);
    try {
      return await this.thread.call("fail", { name, reason }) !== false;
    } catch {
      return false;
    }
  }

  /** Takes a copy out of everything. */
  async forget(name: string, backend: Backend): Promise<void> {
    await this.thread.call("remove", { name }).catch(() => {});
    this.#copies.delete(name);
    await backend.close().catch(() => {});
    backend.dispose();
  }

  /** Forgets all. */
  clear(): void {
    this.#copies.clear();
  }

  /** Does something that excludes every other such thing: snapshots, growth, additions, removals. */
  exclusively<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => {});
    return turn;
  }
}
