/**
 * What a frame server needs from whoever executes the requests, and its bounds.
 *
 * @module
 */
import type { Completer } from "../io/io.ts";
import type { StreamSizes } from "../io/stream_memory.ts";

/** Executes requests. */
export interface FrameHandler {
  /** True for types that are served; others are skipped without a reply. */
  serves(type: number): boolean;
  /**
   * Starts a request. `who.complete(tag, result)` follows from the loop, never inside the call: 0 or more is
   * the size of the Response, below 0 is `-errno`.
   *
   * @param at READ: buffer to fill (`size` bytes; likewise the others that answer with data, with as many as
   *   `answerBytes` says); with a payload: the payload; otherwise 0
   * @param size WRITE, WRITE_DURABLE, ADOPT: the payload's length, whatever the size field says; otherwise that field
   * @param peer the connection, see `FrameServer.dropWhere`
   */
  start(
    type: number,
    offset: number,
    size: number,
    at: number,
    peer: number,
    who: Completer,
    tag: number,
  ): void;
  /** The text of the Error frame for a failed request. */
  errorText(type: number, offset: number, size: number, result: number): string;
  /** True for a connection that is preferred and not closed for standing still, see `Shares`; without this: none. */
  trusts?(peer: number): boolean;
  /** A connection came. */
  onCome?(peer: number): void;
  /** A connection is gone; its number may be given to another one from now on. */
  onGone(peer: number): void;
}

/** What one frame server hands to another one, in another process. */
export interface HandedServer {
  /** The listener. */
  readonly listener: number;
  /** Connections, with what was received and not used of each. */
  readonly connections: readonly { readonly fd: number; readonly unread: Uint8Array }[];
}

/** Bounds and callbacks of a frame server. */
export interface FrameServerOptions {
  /** Most connections at once; further ones are accepted and closed. Default 64. */
  readonly maxConnections?: number;
  /**
   * With all places taken, a connection that never asked for anything gives its place to a new one after so long,
   * milliseconds. Default: none does.
   */
  readonly silentMs?: number;
  /** Most requests under way at once; beyond that nothing is read. Default 512. */
  readonly depth?: number;
  /** Told about connections that end because of the peer's mistake, and about failing accepts. */
  readonly onProblem?: (error: Error) => void;
  /**
   * Report lack of space as an ENOSPC frame (what a host's client expects) instead of an Error frame with that
   * text (what Longhorn's engine expects: it takes ENOSPC frames for success). Default false.
   */
  readonly noSpaceFrames?: boolean;
  /** Goes on where another server stopped, after `resume`; default: listens anew, at once. */
  readonly handed?: HandedServer;
  /** Sizes of the connections' buffers; default: for production. */
  readonly streamSizes?: StreamSizes;
  /** See `STANDSTILL_MS` in shares.ts, which is the default. */
  readonly standstillMs?: number;
  /** Largest payload and read, bytes; 0 = the protocol's limit. */
  readonly maxPayload?: number;
}
