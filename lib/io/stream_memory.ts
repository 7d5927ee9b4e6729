/**
 * The memory of a stream: its receive window, its ring for headers, and the vector it sends with.
 *
 * @module
 */
import type { Io } from "./io.ts";

/** Sizes of a stream; the defaults suit a data connection. */
export interface StreamSizes {
  /** Receive window, bytes. A header must fit. */
  readonly window?: number;
  /** Send queue: segments. */
  readonly segments?: number;
  /** Send queue: bytes for headers and small payloads; at least four times the largest. */
  readonly headers?: number;
  /**
   * True for the side that asks: it goes on receiving while its send queue is more than half full. What it receives
   * are answers to what it asked, and it bounds that; if it held them back, a server that stops reading until its
   * answers are taken and this side would wait for each other for ever. Default false: the side that answers.
   */
  readonly client?: boolean;
}

/** Default receive window, bytes: a queue of 32 requests of 4 KiB twice over. */
export const WINDOW_BYTES = 256 * 1024;
/** Default number of segments in the send queue. */
export const SEND_SEGMENTS = 1024;
/** Default bytes for headers in the send queue. */
export const HEADER_BYTES = 64 * 1024;
/** Most segments of one send call: 4 KiB of vector. */
export const SEND_BATCH = 256;
/** A send call takes no further segment from so many bytes on: its end is seen soon, also by a slow peer. */
export const SEND_BYTES: number = 4 * 1024 * 1024;

/** Memory of a stream in the arena. Streams come and go, arenas do not shrink: it is reused. */
export class StreamMemory {
  /** Arena offset of the receive window. */
  readonly window: number;
  /** Bytes of it. */
  readonly windowBytes: number;
  /** Arena offset of the ring for headers. */
  readonly headers: number;
  /** Bytes of it. */
  readonly headerBytes: number;
  /** Arena offset of the vector of a send call. */
  readonly vector: number;
  /** Segments in the send queue. */
  readonly segments: number;
  /** See {@linkcode StreamSizes.client}. */
  readonly client: boolean;
  /** Reserves the memory. @throws {RangeError} when the arena is too small */
  constructor(io: Io, sizes: StreamSizes = {}) {
    this.windowBytes = sizes.window ?? WINDOW_BYTES;
    this.headerBytes = sizes.headers ?? HEADER_BYTES;
    this.segments = sizes.segments ?? SEND_SEGMENTS;
    this.client = sizes.client ?? false;
    this.window = io.arena.reserve(this.windowBytes, 4096);
    this.headers = io.arena.reserve(this.headerBytes, 4096);
    this.vector = io.arena.reserve(SEND_BATCH * 16, 4096);
  }
}
