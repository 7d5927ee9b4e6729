/**
 * One connection of a frame server.
 *
 * @module
 */
import type { Deferred } from "../io/io.ts";
import type { Stream, StreamMemory, StreamOwner } from "../io/stream.ts";

/** What a peer needs of its server; see there. */
export interface PeerServer {
  /** Takes whole requests from the window. */
  parse(peer: Peer, stream: Stream): void;
  /** A request is complete. */
  begin(slot: number): void;
  /** A reply was sent. */
  release(slot: number): void;
  /** The connection is over. */
  closed(peer: Peer, result: number): void;
}

/** No slot. */
const NOTHING = -1;

/** One connection of a server. */
export class Peer implements StreamOwner, Deferred {
  /** The connection; absent between two that use this place. */
  stream: Stream | undefined;
  /** The request whose payload is arriving, or -1. */
  filling: number = NOTHING;
  /** Requests under way whose replies go here. */
  pending = 0;
  /** Buffers of those requests. */
  buffers = 0;
  /** Is in the queue of those that wait for a buffer: at most once, however often connections come and go. */
  waiting = false;
  /** Waits for a slot. */
  starved = false;
  /** Is in the queue of those that wait for a slot: at most once. */
  queued = false;
  /** What the last look saw of its stream, and for how many looks nothing came or went; see `Shares`. */
  arrivals = 0;
  /** As {@linkcode Peer.arrivals}. */
  departures = 0;
  /** As {@linkcode Peer.arrivals}. */
  stillIn = 0;
  /** As {@linkcode Peer.arrivals}. */
  stillOut = 0;

  /** A place without a connection. @param memory for its streams */
  constructor(readonly server: PeerServer, readonly index: number, readonly memory: StreamMemory) {}

  /** See {@linkcode StreamOwner}. */
  onData(stream: Stream): void {
    this.server.parse(this, stream);
  }

  /** See {@linkcode StreamOwner}. */
  onFilled(_stream: Stream): void {
    const slot = this.filling;
    this.filling = -1;
    if (slot >= 0) this.server.begin(slot);
  }

  /** See {@linkcode StreamOwner}. */
  onSent(_stream: Stream, token: number): void {
    this.server.release(token);
  }

  /** See {@linkcode StreamOwner}. */
  onClosed(_stream: Stream, result: number): void {
    this.server.closed(this, result);
  }

  /** Memory came back. */
  runDeferred(): void {
    this.waiting = false;
    this.stream?.resume();
  }
}
