/**
 * Threads that hash, compress and decompress blocks, so that the thread that moves them stays free. Memory is handed
 * over and back, not copied. There is no queue of its own: whoever asks waits, and holds no more blocks than it has asked for.
 *
 * @module
 */
import type { Bytes, Codec, Decoded, Encoded, Hashed } from "./codec.ts";
import { CodecError } from "./errors.ts";
import type { Compression } from "./records.ts";

/** Threads when nothing is said. SHA-512 of one thread is about as fast as a fast network. */
const DEFAULT_THREADS = 2;

/** What a thread is asked. */
export type CodecRequest =
  | { readonly kind: "hash"; readonly id: number; readonly data: Bytes }
  | {
    readonly kind: "encode";
    readonly id: number;
    readonly data: Bytes;
    readonly method: Compression;
    readonly into: Bytes | undefined;
  }
  | {
    readonly kind: "decode";
    readonly id: number;
    readonly data: Bytes;
    readonly method: string;
    readonly checksum: string;
    readonly into: Bytes;
  };

/** What it answers; `spare` is the memory of what it was given, where that does not hold the result. */
export type CodecReply =
  | {
    readonly id: number;
    readonly ok: true;
    readonly data: Bytes;
    readonly spare: Bytes;
    readonly checksum: string;
  }
  | { readonly id: number; readonly ok: false; readonly problem: string };

interface Waiting {
  readonly thread: Thread;
  readonly resolve: (reply: Extract<CodecReply, { ok: true }>) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  load: number;
}

/** A request without its number. */
type Question<T> = T extends { readonly id: number } ? Omit<T, "id"> : never;

/** A {@linkcode Codec} on threads of its own, started when they are needed. */
export class CodecPool implements Codec {
  readonly #size: number;
  readonly #threads: Thread[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 0;
  #closed = false;

  /** A pool of up to `threads` threads. */
  constructor(threads: number = DEFAULT_THREADS) {
    this.#size = Math.max(1, threads);
  }

  /** See {@linkcode Codec.hash}. */
  async hash(data: Bytes): Promise<Hashed> {
    return await this.#ask({ kind: "hash", data });
  }

  /** See {@linkcode Codec.encode}. */
  async encode(data: Bytes, method: Compression, into?: Bytes): Promise<Encoded> {
    const { data: stored, spare } = await this.#ask({ kind: "encode", data, method, into });
    return { stored, spare };
  }

  /** See {@linkcode Codec.decode}. */
  async decode(stored: Bytes, method: string, checksum: string, into: Bytes): Promise<Decoded> {
    return await this.#ask({ kind: "decode", data: stored, method, checksum, into });
  }

  /** Ends the threads; what is under way is rejected. */
  [Symbol.dispose](): void {
    this.#closed = true;
    for (const { worker } of this.#threads) worker.terminate();
    this.#failAll(new CodecError("stopped"));
  }

  #ask(question: Question<CodecRequest>): Promise<Extract<CodecReply, { ok: true }>> {
    if (this.#closed) return Promise.reject(new CodecError("stopped"));
    const thread = this.#thread();
    const id = this.#nextId++;
    thread.load++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { thread, resolve, reject });
      const memory = [question.data.buffer];
      if (question.kind !== "hash" && question.into !== undefined) memory.push(question.into.buffer);
      thread.worker.postMessage({ ...question, id }, memory);
    });
  }

  /** The one with the least to do; a new one when all are busy and there may be more. */
  #thread(): Thread {
    const idlest = this.#threads.reduce<Thread | undefined>(
      (best, thread) => best === undefined || thread.load < best.load ? thread : best,
      undefined,
    );
    if (idlest !== undefined && (idlest.load === 0 || this.#threads.length >= this.#size)) return idlest;
    const worker = new Worker(new URL("./codec_worker.ts", import.meta.url), { type: "module" });
    worker.onmessage = (event: MessageEvent<CodecReply>) => this.#answered(event.data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#failAll(new CodecError(`a thread of the backup failed: ${event.message}`));
    };
    const thread = { worker, load: 0 };
    this.#threads.push(thread);
    return thread;
  }

  #answered(reply: CodecReply): void {
    const waiting = this.#waiting.get(reply.id);
    if (waiting === undefined) return;
    this.#waiting.delete(reply.id);
    waiting.thread.load--;
    if (reply.ok) waiting.resolve(reply);
    else waiting.reject(new CodecError(reply.problem));
  }

  #failAll(error: Error): void {
    this.#closed = true;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
