/**
 * The asking side of one data connection: sends requests, matches nothing itself (sequence numbers belong to
 * the owner), fills the data of replies straight into the owner's buffers.
 *
 * @module
 */
import { Errno } from "../io/errno.ts";
import type { Io } from "../io/io.ts";
import { Stream, type StreamMemory, type StreamOwner } from "../io/stream.ts";
import {
  FRAME_BYTES,
  FRAME_MAGIC,
  frameDataLength,
  frameMagic,
  frameSequence,
  frameSize,
  FrameType,
  frameType,
  MAX_ERROR_BYTES,
  putFrame,
} from "./frame.ts";

/** Who uses a {@linkcode FrameClient}. All calls come from the loop. */
export interface FrameClientOwner {
  /**
   * A reply to a READ brings `length` bytes: where to put them.
   * @returns an arena offset with room for `length` bytes; -1 = nobody waits for this, drop it; -2 = the peer
   *   broke the protocol (more than was asked for), end the connection
   */
  destination(client: FrameClient, sequence: number, length: number): number;
  /**
   * A reply is complete. `result`: the size field of a Response or EOF, `-ENOSPC`, or another `-errno`;
   * `text` only for errors.
   */
  onReply(client: FrameClient, sequence: number, result: number, length: number, text: string): void;
  /** The payload queued with this token is not needed any more. */
  onSent(client: FrameClient, token: number): void;
  /**
   * The connection is over and nothing of it is under way.
   * @param result 0 = closed by one of the sides, else `-errno` (EPROTO: the peer broke the protocol)
   */
  onClosed(client: FrameClient, result: number): void;
}

/** {@linkcode FrameClientOwner.destination}: nobody waits for this reply. */
export const DROP = -1 as number;
/** {@linkcode FrameClientOwner.destination}: the peer broke the protocol. */
export const REFUSE = -2 as number;

const NO_TEXT = "";

/** One data connection; see the module text. */
export class FrameClient implements StreamOwner {
  /** The connection. */
  readonly stream: Stream;
  readonly #view: DataView;
  // The reply whose payload is arriving.
  #sequence = 0;
  #type = 0;
  #size = 0;
  #length = 0;
  #drop = false;

  /**
   * Begins to receive at once.
   *
   * @param fd a connected socket
   * @param memory of the stream, reused by the owner after `onClosed`
   * @param scratch arena offset of {@linkcode MAX_ERROR_BYTES} bytes for error texts
   */
  constructor(
    readonly io: Io,
    fd: number,
    memory: StreamMemory,
    readonly scratch: number,
    readonly owner: FrameClientOwner,
  ) {
    this.#view = io.arena.view;
    this.stream = new Stream(io, fd, memory, this);
  }

  /**
   * Queues a request; it leaves at the end of the pass.
   *
   * @param at payload, `length` bytes, lent until `onSent(token)`; ignored when length is 0
   * @param token 0 or more
   */
  request(
    sequence: number,
    type: number,
    offset: number,
    size: number,
    at: number,
    length: number,
    token: number,
  ): void {
    const header = this.stream.header(FRAME_BYTES);
    putFrame(this.#view, header, sequence, type, offset, size, length);
    if (length > 0) this.stream.payload(at, length, token);
  }

  /** Takes replies from the window. */
  onData(stream: Stream): void {
    const view = this.#view;
    while (stream.available >= FRAME_BYTES && !stream.closing) {
      const at = stream.position;
      const type = frameType(view, at), length = frameDataLength(view, at);
      if (frameMagic(view, at) !== FRAME_MAGIC) return stream.close(-Errno.EPROTO);
      this.#sequence = frameSequence(view, at);
      this.#type = type;
      this.#size = frameSize(view, at);
      this.#length = length;
      stream.consume(FRAME_BYTES);
      if (type === FrameType.CLOSE) return stream.close();
      if (length > 0 && !this.#take(stream, type, length)) return;
      this.#done();
    }
  }

  /** Moves the payload where it belongs; false when it goes on later or the connection ends. */
  #take(stream: Stream, type: number, length: number): boolean {
    this.#drop = false;
    if (type === FrameType.ERROR || type === FrameType.ENOSPC) {
      if (length > MAX_ERROR_BYTES) return this.#refuse(stream);
      return stream.fill(this.scratch, length);
    }
    if (type !== FrameType.RESPONSE && type !== FrameType.EOF) {
      this.#drop = true;
      return stream.discard(length);
    }
    const to = this.owner.destination(this, this.#sequence, length);
    if (to === REFUSE) return this.#refuse(stream);
    if (to === DROP) {
      this.#drop = true;
      return stream.discard(length);
    }
    return stream.fill(to, length);
  }

  #refuse(stream: Stream): boolean {
    stream.close(-Errno.EPROTO);
    return false;
  }

  /** A payload that did not fit into the window at once is complete. */
  onFilled(_stream: Stream): void {
    this.#done();
  }

  #done(): void {
    if (this.#drop) {
      this.#drop = false;
      return;
    }
    switch (this.#type) {
      case FrameType.RESPONSE:
      case FrameType.EOF:
        return this.owner.onReply(this, this.#sequence, this.#size, this.#length, NO_TEXT);
      case FrameType.ERROR:
        return this.owner.onReply(this, this.#sequence, -Errno.EIO, 0, this.#text());
      case FrameType.ENOSPC:
        return this.owner.onReply(this, this.#sequence, -Errno.ENOSPC, 0, this.#text());
        // Requests and unknown types from a server mean nothing to a client.
    }
  }

  #text(): string {
    const bytes = this.io.arena.u8.slice(this.scratch, this.scratch + this.#length);
    return new TextDecoder().decode(bytes);
  }

  /** Passes the buffer on. */
  onSent(_stream: Stream, token: number): void {
    this.owner.onSent(this, token);
  }

  /** Passes the end on. */
  onClosed(_stream: Stream, result: number): void {
    this.owner.onClosed(this, result);
  }
}
