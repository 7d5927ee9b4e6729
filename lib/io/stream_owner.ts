/**
 * What a stream tells its user.
 *
 * @module
 */
import type { Stream } from "./stream.ts";

/** Who uses a stream. All calls come from the loop. */
export interface StreamOwner {
  /**
   * There are unconsumed bytes; or the stream was resumed or has room in its send queue again, with or without
   * bytes. Not called while paused, filling or (see `StreamSizes.client`) congested.
   */
  onData(stream: Stream): void;
  /** A {@linkcode Stream.fill} that returned false is complete. `onData` follows by itself. */
  onFilled(stream: Stream): void;
  /** The payload queued with this token is not needed any more: it was sent, or the stream failed. */
  onSent(stream: Stream, token: number): void;
  /**
   * The stream is over, nothing of it is under way and its descriptor is closed. Called once.
   * @param result 0 = closed by the peer or by {@linkcode Stream.close}, else `-errno`
   */
  onClosed(stream: Stream, result: number): void;
}
