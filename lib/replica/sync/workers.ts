/**
 * Threads for long jobs, seen from the main thread: a job reads and writes files through descriptors of its own,
 * and may block in the kernel without anybody waiting for it but its neighbours in the same lane.
 *
 * | lane | jobs |
 * |---|---|
 * | `send` | files that go to other replicas |
 * | `receive` | files that come |
 * | `hash` | checksums |
 * | `backup` | backups, and restores of them |
 *
 * A lane's Worker starts with its first job and ends some time after its last one, so an idle replica pays nothing.
 *
 * @module
 */
import { Code, RpcError } from "../../rpc/errors.ts";

/** See the module text. */
export type Lane = "send" | "receive" | "hash" | "backup";

/** How long a Worker without jobs stays, milliseconds: files of a rebuild follow each other. */
const IDLE_MS = 10_000;

/** To a Worker. */
export type ToWorker =
  | { readonly id: number; readonly kind: string; readonly params: unknown }
  | { readonly id: number; readonly tell: unknown }
  | { readonly id: number; readonly cancel: true };

/** What travels of an error. */
export interface JobErrorRecord {
  /** The text. */
  readonly message: string;
  /** Status code for callers, when the job chose one. */
  readonly code: Code | undefined;
}

/** From a Worker. */
export type FromWorker =
  | { readonly id: number; readonly done: unknown }
  | { readonly id: number; readonly event: unknown }
  | { readonly id: number; readonly error: JobErrorRecord };

/** A job that is running. */
export interface JobHandle<Result> {
  /** How it ends. */
  readonly result: Promise<Result>;
  /** Gives the job news, such as another limit. */
  tell(value: unknown): void;
}

/** How to run a job. */
export interface JobOptions {
  /** Ends it early. */
  readonly signal?: AbortSignal | undefined;
  /** Told what the job reports on its way. */
  readonly onEvent?: (event: unknown) => void;
}

interface Running {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly onEvent: (event: unknown) => void;
}

class LaneWorker {
  readonly #worker: Worker;
  readonly #jobs = new Map<number, Running>();
  #nextId = 1;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(name: string, readonly onEnd: () => void) {
    this.#worker = new Worker(new URL("./sync_worker.ts", import.meta.url), { type: "module", name });
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#hear(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.end(new Error(`the thread for long jobs died: ${event.message}`));
    };
  }

  run(kind: string, params: unknown, options: JobOptions): JobHandle<unknown> {
    clearTimeout(this.#timer);
    const id = this.#nextId++;
    const result = new Promise<unknown>((resolve, reject) => {
      this.#jobs.set(id, { resolve, reject, onEvent: options.onEvent ?? (() => {}) });
    });
    this.#post({ id, kind, params });
    const cancel = () => this.#post({ id, cancel: true });
    if (options.signal?.aborted) cancel();
    options.signal?.addEventListener("abort", cancel, { once: true });
    const forget = () => options.signal?.removeEventListener("abort", cancel);
    result.then(forget, forget);
    return { result, tell: (value) => this.#post({ id, tell: value }) };
  }

  #post(message: ToWorker): void {
    if ("kind" in message || this.#jobs.has(message.id)) this.#worker.postMessage(message);
  }

  #hear(message: FromWorker): void {
    const job = this.#jobs.get(message.id);
    if (!job) return;
    if ("event" in message) return job.onEvent(message.event);
    this.#jobs.delete(message.id);
    if ("error" in message) {
      const { message: text, code } = message.error;
      job.reject(code === undefined ? new Error(text) : new RpcError(code, text));
    } else job.resolve(message.done);
    if (this.#jobs.size === 0) {
      this.#timer = setTimeout(() => this.end(new Error("the thread for long jobs has ended")), IDLE_MS);
    }
  }

  end(reason: Error): void {
    clearTimeout(this.#timer);
    this.#worker.terminate();
    this.onEnd();
    for (const job of this.#jobs.values()) job.reject(reason);
    this.#jobs.clear();
  }
}

/** See the module text. */
export class SyncWorkers {
  readonly #lanes = new Map<Lane, LaneWorker>();
  #closed = false;

  /**
   * Runs a job.
   *
   * @param kind one of the jobs in sync_worker.ts
   * @param params what it needs, for structured clone
   */
  run<Result>(lane: Lane, kind: string, params: unknown, options: JobOptions = {}): JobHandle<Result> {
    if (this.#closed) throw new RpcError(Code.UNAVAILABLE, "the sync agent is closing");
    let worker = this.#lanes.get(lane);
    if (!worker) {
      worker = new LaneWorker(`sync-${lane}`, () => this.#lanes.delete(lane));
      this.#lanes.set(lane, worker);
    }
    return worker.run(kind, params, options) as JobHandle<Result>;
  }

  /** Starts a lane's thread, because jobs are about to come. */
  prepare(lane: Lane): void {
    this.run(lane, "prepare", {}).result.catch(() => {});
  }

  /** Ends all threads; jobs under way fail. */
  close(): void {
    this.#closed = true;
    for (const worker of [...this.#lanes.values()]) worker.end(new Error("the sync agent is closing"));
  }
}
