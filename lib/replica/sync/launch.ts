/**
 * Receivers, as the main thread has them: started in the thread for receiving, known by their port.
 *
 * @module
 */
import type { SyncAgent } from "./agent.ts";
import { receivableName } from "./names.ts";
import type { Verify } from "./reception.ts";
import type { ReceiveEvent, ReceiveNews, ReceiveParams, ReceiveResult } from "./receiver.ts";

/** A receiver that listens. */
export interface Launched {
  /** Where. */
  readonly port: number;
  /** How it ends. */
  readonly result: Promise<ReceiveResult>;
  /** Tells it something. */
  tell(news: ReceiveNews): void;
}

/** How to receive. */
export interface LaunchOptions {
  /** See {@linkcode ReceiveParams.shared}. */
  readonly shared?: boolean;
  /** Bytes per second, 0 = no limit. */
  readonly limit?: number;
  /** See {@linkcode ReceiveParams.verify}. */
  readonly verify?: Verify;
  /** Ends it early. */
  readonly signal?: AbortSignal;
  /** Told how far it is. */
  readonly onProgress?: (placed: number, received: number, complete: boolean) => void;
}

/**
 * Starts a receiver for a file of the agent's replica.
 *
 * @throws {RpcError} for a name that is not received, and when no port is free
 */
export async function launch(agent: SyncAgent, file: string, options: LaunchOptions = {}): Promise<Launched> {
  const { directory, host, ports } = agent.options;
  const params: ReceiveParams = {
    directory,
    file: receivableName(file),
    host,
    ports,
    shared: options.shared ?? false,
    limit: options.limit ?? 0,
    verify: options.verify ?? "nothing",
  };
  const listening = Promise.withResolvers<number>();
  const onEvent = (event: unknown) => {
    const news = event as ReceiveEvent;
    if ("port" in news) listening.resolve(news.port);
    else options.onProgress?.(news.placed, news.received, news.complete);
  };
  const job = agent.workers.run<ReceiveResult>("receive", "receive", params, {
    onEvent,
    signal: options.signal,
  });
  job.result.catch((error) => listening.reject(error));
  return { port: await listening.promise, result: job.result, tell: (news) => job.tell(news) };
}
