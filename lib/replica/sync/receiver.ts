/**
 * Receiving one file: a server on one of the agent's ports, in a thread of its own, until the file is complete.
 *
 * @module
 */
import type { FileQueue } from "../../io/file_queue.ts";
import { Code, RpcError } from "../../rpc/errors.ts";
import { loadSums } from "./batches.ts";
import type { JobContext } from "./job.ts";
import { Limiter } from "./limiter.ts";
import { ReceivedFile } from "./received_file.ts";
import { Reception, type Verify } from "./reception.ts";
import { SsyncConnection } from "./ssync_server.ts";
import { useThreadQueue } from "./thread_queue.ts";

/** A receiver ends after so long without connections, milliseconds. */
export const IDLE_MS = 300_000;
/** A connection that is silent for so long is closed, milliseconds: as long as Longhorn's keeps it. */
const SILENT_MS = 240_000;
/** The same for one that has a part which others could copy. */
const STALLED_MS = 60_000;
/** Most connections of one receiver. */
const MAX_CONNECTIONS = 16;
/** How often time-outs are looked at and progress is told, milliseconds. */
const TICK_MS = 250;

/** What is received, and where. */
export interface ReceiveParams {
  /** The replica directory. */
  readonly directory: string;
  /** A checked file name. */
  readonly file: string;
  /** Where to listen. */
  readonly host: string;
  /** Ports to choose from. */
  readonly ports: { readonly first: number; readonly count: number };
  /** Senders share the file and leave; the one who launched it says when it is complete. */
  readonly shared: boolean;
  /** Bytes per second, 0 = no limit. */
  readonly limit: number;
  /** What is read back at the end. */
  readonly verify: Verify;
}

/** What a receiver tells on its way. */
export type ReceiveEvent =
  | { readonly port: number }
  | { readonly placed: number; readonly received: number; readonly complete: boolean };

/** What it is told: another limit, or that no sender will come any more. */
export type ReceiveNews = { readonly limit: number } | { readonly finish: true };

/** How it ended. */
export interface ReceiveResult {
  /** Bytes of data in place. */
  readonly placed: number;
  /** Bytes of data that came. */
  readonly received: number;
}

function listen(params: ReceiveParams): Deno.TcpListener {
  const { first, count } = params.ports;
  for (let port = first; port < first + count; port++) {
    try {
      return Deno.listen({ hostname: params.host, port });
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
  throw new RpcError(
    Code.RESOURCE_EXHAUSTED,
    `no port is free for a receiver: ${count} from ${first} on ${params.host} are in use`,
  );
}

class Receiver {
  readonly #connections = new Set<SsyncConnection>();
  readonly #file: ReceivedFile;
  readonly #reception: Reception;
  #lastUse = performance.now();
  #told = "";
  #end: (error?: Error) => void = () => {};
  /** Resolves when the file is complete, rejects when it never will be. */
  readonly ended: Promise<void>;

  constructor(
    readonly params: ReceiveParams,
    readonly listener: Deno.TcpListener,
    readonly context: JobContext,
    queue: FileQueue,
  ) {
    this.#file = new ReceivedFile(queue.files, queue, params.directory, params.file);
    const limiter = new Limiter();
    limiter.rate = params.limit;
    this.ended = new Promise((resolve, reject) => this.#end = (error) => error ? reject(error) : resolve());
    this.ended.catch(() => {});
    this.#reception = new Reception(this.#file, limiter, {
      finish: () => this.#finish(),
      // The answer that says why goes out first.
      fail: (error) => setTimeout(() => this.#end(error), 0),
    }, params.verify);
  }

  get result(): ReceiveResult {
    const { placed, received } = this.#reception;
    return { placed, received };
  }

  hear(news: ReceiveNews): void {
    if ("limit" in news) this.#reception.limiter.rate = news.limit;
    else if (this.#reception.complete) this.#finish().catch(() => {});
    else this.#end(new Error(`${this.params.file} is not complete`));
  }

  async accept(): Promise<void> {
    for (;;) {
      let connection: Deno.TcpConn;
      try {
        connection = await this.listener.accept();
      } catch {
        return;
      }
      if (this.#connections.size >= MAX_CONNECTIONS) {
        connection.close();
        continue;
      }
      connection.setNoDelay(true);
      this.#serve(new SsyncConnection(connection, this.#reception));
    }
  }

  async #serve(one: SsyncConnection): Promise<void> {
    this.#connections.add(one);
    await one.serve();
    this.#connections.delete(one);
    this.#lastUse = performance.now();
  }

  async #finish(): Promise<void> {
    try {
      const { method, checksum } = this.#reception.checksum;
      await this.#file.finish(method, checksum);
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
    // The answer to the sender's close goes out first.
    setTimeout(() => this.#end(), 0);
  }

  tick(): void {
    const now = performance.now(), { placed, received, parts, complete } = this.#reception;
    const told = `${placed} ${received} ${complete}`;
    if (told !== this.#told) this.context.event({ placed, received, complete });
    this.#told = told;
    for (const one of this.#connections) {
      if (now - one.lastRead > (parts?.has(one) ? STALLED_MS : SILENT_MS)) one.connection.close();
    }
    if (this.#connections.size === 0 && now - this.#lastUse > IDLE_MS) {
      this.#end(new Error(`nobody sent ${this.params.file} within ${IDLE_MS / 1000} s`));
    }
    if (this.context.signal.aborted) this.#end(new RpcError(Code.CANCELLED, "the job was cancelled"));
  }

  stop(): void {
    this.listener.close();
    for (const { connection } of this.#connections) {
      try {
        connection.close();
      } catch {
        // It has just ended by itself.
      }
    }
    this.#reception.parts?.wake();
    this.#file.abandon();
  }
}

/** Receives one file; see the module text. @throws {RpcError} {@linkcode IoError} */
export async function receive(params: ReceiveParams, context: JobContext): Promise<ReceiveResult> {
  await loadSums();
  const listener = listen(params);
  using use = useThreadQueue();
  const receiver = new Receiver(params, listener, context, use.queue);
  context.onTell((news) => receiver.hear(news as ReceiveNews));
  const timer = setInterval(() => receiver.tick(), TICK_MS);
  try {
    context.event({ port: listener.addr.port });
    receiver.accept();
    await receiver.ended;
    return receiver.result;
  } finally {
    clearInterval(timer);
    receiver.stop();
  }
}
