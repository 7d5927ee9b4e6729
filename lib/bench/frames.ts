/**
 * Load over the frame protocol: on the socket frontend of an engine, on a replica's data port, and on everything
 * else that speaks it.
 *
 * @module
 */
import { Errno, errnoText } from "../io/errno.ts";
import { type Address, type Completer, formatAddress, type Io } from "../io/io.ts";
import { StreamMemory } from "../io/stream_memory.ts";
import { FrameClient, type FrameClientOwner, REFUSE } from "../wire/client.ts";
import { FRAME_BYTES, FrameType, MAX_ERROR_BYTES } from "../wire/frame.ts";
import { BenchError, type Target, type TargetOwner } from "./target.ts";

/** A request takes two segments of the send queue; it is never more than half full. */
const SEGMENTS_PER_REQUEST = 4;
const LEAST_SEGMENTS = 64;
const LEAST_HEADER_BYTES = 4096;

/** See the module text. The protocol does not tell the size of the disk. */
export class FramesTarget implements Target, FrameClientOwner, Completer {
  /** See {@linkcode Target}. */
  readonly bytes = 0;
  readonly #memory: StreamMemory;
  readonly #scratch: number;
  readonly #at: Float64Array;
  /** Bytes that the reply to a tag must bring, or -1 when the tag is not under way. */
  readonly #expected: Int32Array;
  #client: FrameClient | undefined;
  #closing = false;

  /** Connects nothing yet. @param depth most operations under way */
  constructor(
    readonly io: Io,
    readonly index: number,
    readonly address: Address,
    depth: number,
    readonly owner: TargetOwner,
  ) {
    this.#memory = new StreamMemory(io, {
      client: true,
      segments: Math.max(LEAST_SEGMENTS, SEGMENTS_PER_REQUEST * depth),
      headers: Math.max(LEAST_HEADER_BYTES, 2 * SEGMENTS_PER_REQUEST * FRAME_BYTES * depth),
    });
    this.#scratch = io.arena.reserve(MAX_ERROR_BYTES);
    this.#at = new Float64Array(depth);
    this.#expected = new Int32Array(depth).fill(-1);
  }

  /** See {@linkcode Target}. */
  open(): void {
    this.io.connect(this.address, this, 0);
  }

  /** The end of the connecting. */
  complete(_tag: number, result: number): void {
    if (result < 0) {
      const error = new BenchError(`cannot connect to ${formatAddress(this.address)}: ${errnoText(result)}`);
      return this.owner.onEnded(this, error);
    }
    this.#client = new FrameClient(this.io, result, this.#memory, this.#scratch, this);
    this.owner.onReady(this);
  }

  /** See {@linkcode Target}. */
  submit(write: boolean, offset: number, length: number, at: number, tag: number): void {
    this.#at[tag] = at;
    this.#expected[tag] = write ? 0 : length;
    const type = write ? FrameType.WRITE : FrameType.READ;
    this.#client?.request(tag, type, offset, length, at, write ? length : 0, tag);
  }

  /** See {@linkcode Target}. */
  close(): void {
    this.#closing = true;
    this.#client?.stream.close();
  }

  /** See {@linkcode FrameClientOwner}. */
  destination(_client: FrameClient, sequence: number, length: number): number {
    return sequence < this.#at.length && this.#expected[sequence] === length ? this.#at[sequence] : REFUSE;
  }

  /** See {@linkcode FrameClientOwner}. */
  onReply(client: FrameClient, sequence: number, result: number, length: number, text: string): void {
    const expected = sequence < this.#at.length ? this.#expected[sequence] : -1;
    if (expected < 0) return client.stream.close(-Errno.EPROTO);
    this.#expected[sequence] = -1;
    // Some servers echo the requested size of a write, others say what they wrote; the length is what counts.
    const short = result >= 0 && length !== expected;
    this.owner.onDone(
      this,
      sequence,
      short ? -Errno.EIO : result,
      short ? `${length} bytes came back` : text,
    );
  }

  /** A buffer is not needed any more: the reply says so as well. */
  onSent(): void {}

  /** See {@linkcode FrameClientOwner}. */
  onClosed(_client: FrameClient, result: number): void {
    const why = result === 0 ? "the server closed the connection" : errnoText(result);
    const error = this.#closing ? undefined : new BenchError(`${formatAddress(this.address)}: ${why}`);
    this.owner.onEnded(this, error);
  }
}
