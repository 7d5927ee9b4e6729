/**
 * Load over NBD: a small client with as many requests under way as the load wants.
 *
 * @module
 */
import { Errno, errnoText } from "../io/errno.ts";
import { type Address, type Completer, formatAddress, type Io } from "../io/io.ts";
import { Stream, StreamMemory, type StreamOwner } from "../io/stream.ts";
import { NbdHandshake } from "./nbd_handshake.ts";
import {
  CHUNK_BYTES,
  CHUNK_DATA,
  CHUNK_DONE,
  CHUNK_ERROR,
  CHUNK_HOLE,
  CHUNK_MAGIC,
  CHUNK_NONE,
  CMD_DISC,
  CMD_READ,
  CMD_WRITE,
  MAX_TEXT_BYTES,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_BYTES,
  SIMPLE_MAGIC,
} from "./nbd_protocol.ts";
import { BenchError, type Target, type TargetOwner } from "./target.ts";

const TWO_32 = 2 ** 32;
/** A request takes two segments of the send queue; it is never more than half full. */
const SEGMENTS_PER_REQUEST = 4;
const LEAST_SEGMENTS = 64;
/** Room for the options of the handshake. */
const LEAST_HEADER_BYTES = 64 * 1024;

/** What to connect to. */
export interface NbdPlace {
  /** Where the server listens. */
  readonly address: Address;
  /** Name of the export; empty: the server's default. */
  readonly exportName: string;
  /** Ask for structured replies. */
  readonly structured: boolean;
}

/** See the module text. */
export class NbdTarget implements Target, StreamOwner, Completer {
  readonly #memory: StreamMemory;
  readonly #handshake: NbdHandshake;
  readonly #at: Float64Array;
  readonly #offset: Float64Array;
  /** Bytes that the reply to a tag must bring still, or -1 when the tag is not under way. */
  readonly #missing: Int32Array;
  readonly #length: Int32Array;
  /** `-errno` of an error chunk. */
  readonly #failed: Int32Array;
  #transmitting = false;
  #stream: Stream | undefined;
  #error: BenchError | undefined;
  #closing = false;
  // What becomes of the tag whose payload is arriving.
  #filling = -1;
  #fillingLast = false;

  /** Connects nothing yet. @param depth most operations under way */
  constructor(
    readonly io: Io,
    readonly index: number,
    readonly place: NbdPlace,
    depth: number,
    readonly owner: TargetOwner,
  ) {
    this.#memory = new StreamMemory(io, {
      client: true,
      segments: Math.max(LEAST_SEGMENTS, SEGMENTS_PER_REQUEST * depth),
      headers: Math.max(LEAST_HEADER_BYTES, 2 * SEGMENTS_PER_REQUEST * REQUEST_BYTES * depth),
    });
    this.#handshake = new NbdHandshake(io, place.exportName, place.structured);
    this.#at = new Float64Array(depth);
    this.#offset = new Float64Array(depth);
    this.#missing = new Int32Array(depth).fill(-1);
    this.#length = new Int32Array(depth);
    this.#failed = new Int32Array(depth);
  }

  /** See {@linkcode Target}. */
  get bytes(): number {
    return this.#handshake.bytes;
  }

  /** See {@linkcode Target}. */
  open(): void {
    this.io.connect(this.place.address, this, 0);
  }

  /** The end of the connecting. */
  complete(_tag: number, result: number): void {
    if (result >= 0) this.#stream = new Stream(this.io, result, this.#memory, this);
    else {
      const where = formatAddress(this.place.address);
      this.owner.onEnded(this, new BenchError(`cannot connect to ${where}: ${errnoText(result)}`));
    }
  }

  /** See {@linkcode Target}. */
  submit(write: boolean, offset: number, length: number, at: number, tag: number): void {
    this.#at[tag] = at;
    this.#offset[tag] = offset;
    this.#length[tag] = length;
    this.#missing[tag] = write ? 0 : length;
    this.#failed[tag] = 0;
    this.#request(write ? CMD_WRITE : CMD_READ, offset, length, tag);
    if (write) this.#stream?.payload(at, length, tag);
  }

  #request(command: number, offset: number, length: number, tag: number): void {
    if (this.#stream === undefined) return;
    const { view } = this.io.arena, at = this.#stream.header(REQUEST_BYTES);
    view.setUint32(at, REQUEST_MAGIC);
    view.setUint32(at + 4, command);
    view.setUint32(at + 8, 0);
    view.setUint32(at + 12, tag);
    view.setUint32(at + 16, offset / TWO_32);
    view.setUint32(at + 20, offset);
    view.setUint32(at + 24, length);
  }

  /** See {@linkcode Target}. */
  close(): void {
    this.#closing = true;
    this.#request(CMD_DISC, 0, 0, 0);
    this.#stream?.finish();
  }

  // ---- replies -----------------------------------------------------------------------------------------------

  /** See {@linkcode StreamOwner}. */
  onData(stream: Stream): void {
    if (!this.#transmitting) {
      try {
        if (!this.#handshake.advance(stream)) return;
      } catch (error) {
        if (!(error instanceof BenchError)) throw error;
        this.#give(error.message);
        return;
      }
      this.#transmitting = true;
      this.owner.onReady(this);
    }
    while (!stream.closing && stream.available >= SIMPLE_BYTES && this.#reply(stream));
  }

  /** Takes one reply or chunk; false when it is not there as a whole. */
  #reply(stream: Stream): boolean {
    const { view } = this.io.arena, at = stream.position, magic = view.getUint32(at);
    const tag = view.getUint32(at + 12);
    if (view.getUint32(at + 8) !== 0 || !(tag < this.#at.length) || this.#missing[tag] < 0) {
      return this.#give("the server answers a request that was not made");
    }
    if (magic === SIMPLE_MAGIC) {
      const error = view.getUint32(at + 4);
      stream.consume(SIMPLE_BYTES);
      if (error !== 0) this.#failed[tag] = -error;
      if (error !== 0 || this.#missing[tag] === 0) return this.#end(tag);
      return this.#fill(stream, tag, this.#at[tag], this.#missing[tag], true);
    }
    if (magic !== CHUNK_MAGIC) return this.#give("the server's reply has a wrong magic");
    return stream.available >= CHUNK_BYTES && this.#chunk(stream, at, tag);
  }

  #chunk(stream: Stream, at: number, tag: number): boolean {
    const { view, u8 } = this.io.arena;
    const last = (view.getUint16(at + 4) & CHUNK_DONE) !== 0, type = view.getUint16(at + 6);
    const length = view.getUint32(at + 16), body = at + CHUNK_BYTES;
    const head = type === CHUNK_DATA ? 8 : length;
    if (type === CHUNK_DATA ? length < 8 : length > MAX_TEXT_BYTES) {
      return this.#give(`the server's chunk of type ${type} has ${length} bytes`);
    }
    if (stream.available < CHUNK_BYTES + head) return false;
    stream.consume(CHUNK_BYTES + head);
    if (type === CHUNK_DATA) {
      const to = this.#destination(tag, body, length - 8);
      return to < 0 ? false : this.#fill(stream, tag, to, length - 8, last);
    }
    if (type === CHUNK_HOLE && length === 12) {
      const size = view.getUint32(body + 8), to = this.#destination(tag, body, size);
      if (to < 0) return false;
      u8.fill(0, to, to + size);
      this.#missing[tag] -= size;
    } else if ((type & CHUNK_ERROR) !== 0 && length >= 6) this.#failed[tag] = -view.getUint32(body);
    else if (type !== CHUNK_NONE) return this.#give(`the server's chunk has the unknown type ${type}`);
    return last ? this.#end(tag) : true;
  }

  /** Where the data that a chunk announces belongs; -1, and the end, when it was not asked for. */
  #destination(tag: number, body: number, length: number): number {
    const { view } = this.io.arena;
    const from = view.getUint32(body) * TWO_32 + view.getUint32(body + 4) - this.#offset[tag];
    if (from >= 0 && from + length <= this.#length[tag] && length <= this.#missing[tag]) {
      return this.#at[tag] + from;
    }
    this.#give("the server sends data that was not asked for");
    return -1;
  }

  #fill(stream: Stream, tag: number, to: number, length: number, last: boolean): boolean {
    this.#missing[tag] -= length;
    this.#filling = tag;
    this.#fillingLast = last;
    if (!stream.fill(to, length)) return false;
    this.onFilled();
    return true;
  }

  /** See {@linkcode StreamOwner}. */
  onFilled(): void {
    if (this.#fillingLast) this.#end(this.#filling);
  }

  #end(tag: number): boolean {
    const short = this.#missing[tag] > 0 && this.#failed[tag] === 0;
    this.#missing[tag] = -1;
    this.owner.onDone(this, tag, short ? -Errno.EIO : this.#failed[tag], short ? "data is missing" : "");
    return true;
  }

  #give(message: string): false {
    this.#error = new BenchError(message);
    this.#stream?.close();
    return false;
  }

  /** See {@linkcode StreamOwner}. The reply says so as well. */
  onSent(): void {}

  /** See {@linkcode StreamOwner}. */
  onClosed(_stream: Stream, result: number): void {
    const why = result === 0 ? "the server closed the connection" : errnoText(result);
    const lost = new BenchError(`${formatAddress(this.place.address)}: ${why}`);
    this.owner.onEnded(this, this.#closing ? undefined : this.#error ?? lost);
  }
}
