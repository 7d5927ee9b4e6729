/**
 * The answering side of the frame protocol: a listener, any number of connections up to a bound, and a fixed
 * set of request slots shared by them. Replies go out on the connection of the request, in order of
 * completion. Used by the replica (in front of its directory) and by the socket frontend (in front of the
 * volume).
 *
 * Hostile input ends the one connection it came on: wrong magic, a payload or a size above the limit, a write
 * whose length contradicts itself. Memory is taken after these checks, never for what a header claims beyond
 * them. Requests of unknown types are skipped, as the protocol asks.
 *
 * @module
 */
import { Errno, errnoName, errnoText, IoError } from "../io/errno.ts";
import { type Address, type Completer, formatAddress, type Io } from "../io/io.ts";
import { type BufferPool, NO_BUFFER } from "../io/pool.ts";
import { Stream } from "../io/stream.ts";
import { HEADER_BYTES, StreamMemory, type StreamSizes } from "../io/stream_memory.ts";
import type { FrameHandler, FrameServerOptions, HandedServer } from "./handler.ts";
import {
  answerBytes,
  answersWithData,
  carriesData,
  FRAME_BYTES,
  frameDataLength,
  frameFault,
  frameMagic,
  frameOffset,
  frameSequence,
  frameSize,
  FrameType,
  frameType,
  MAX_FRAME_PAYLOAD,
  NO_SPACE_TEXT,
  putFrame,
  WireError,
} from "./frame.ts";
import { Peer } from "./peer.ts";
import { NO_FD, SilentPeers } from "./silent.ts";
import { Shares, STANDSTILL_MS } from "./shares.ts";

export type { FrameHandler, FrameServerOptions } from "./handler.ts";

/** Most bytes of text in an Error frame that is sent. */
const ERROR_TEXT_BYTES = 384;
/**
 * Bytes of a connection's send queue per slot. Requests are taken while half of the queue is free, and all slots may
 * answer after that: half of this must hold a header and the longest error text.
 */
const SEND_BYTES_PER_SLOT = 1024;
/** Segments per slot: a header and a payload. Headers behind each other share one; a few do not. */
const SEGMENTS_PER_SLOT = 2, SPARE_SEGMENTS = 64;
const ACCEPT = 0;
/** Pause after a failed accept (out of descriptors), milliseconds. */
const ACCEPT_RETRY_MS = 100;
const RETRY = 1;

/** See the module text. */
export class FrameServer implements Completer {
  readonly #peers: Peer[] = [];
  readonly #max: number;
  readonly #listener: number;
  readonly #onProblem: (error: Error) => void;
  readonly #maxPayload: number;
  readonly #noSpaceFrames: boolean;
  readonly #streamSizes: StreamSizes;
  readonly #view: DataView;
  #stopping: (() => void) | undefined;
  #suspended: boolean;
  /** Connections that were accepted while suspended. */
  readonly #late: number[] = [];
  #accepting = false;
  readonly #silent: SilentPeers;
  // Slots.
  readonly #sequence: Uint32Array;
  readonly #type: Uint32Array;
  readonly #offset: Float64Array;
  readonly #size: Uint32Array;
  readonly #buffer: Float64Array;
  readonly #peer: Int32Array;
  /** 0 = free, 1 = payload arriving, 2 = with the handler, 3 = reply being sent. */
  readonly #state: Uint8Array;
  readonly #freeSlots: Int32Array;
  #freeCount: number;
  readonly #shares: Shares;

  /**
   * Listens at once.
   * @throws {IoError} when the address cannot be used
   */
  constructor(
    readonly io: Io,
    readonly pool: BufferPool,
    readonly address: Address,
    readonly handler: FrameHandler,
    options: FrameServerOptions = {},
  ) {
    this.#max = options.maxConnections ?? 64;
    this.#onProblem = options.onProblem ?? (() => {});
    this.#silent = new SilentPeers(this.#max, options.silentMs ?? Infinity);
    this.#maxPayload = Math.min(options.maxPayload || MAX_FRAME_PAYLOAD, MAX_FRAME_PAYLOAD, pool.largest);
    this.#noSpaceFrames = options.noSpaceFrames ?? false;
    this.#view = io.arena.view;
    const depth = options.depth ?? 512;
    this.#streamSizes = options.streamSizes ?? {
      headers: Math.max(HEADER_BYTES, depth * SEND_BYTES_PER_SLOT),
      segments: depth * SEGMENTS_PER_SLOT + SPARE_SEGMENTS,
    };
    this.#sequence = new Uint32Array(depth);
    this.#type = new Uint32Array(depth);
    this.#offset = new Float64Array(depth);
    this.#size = new Uint32Array(depth);
    this.#buffer = new Float64Array(depth).fill(NO_BUFFER);
    this.#peer = new Int32Array(depth);
    this.#state = new Uint8Array(depth);
    this.#freeSlots = new Int32Array(depth).map((_, i) => depth - 1 - i);
    this.#freeCount = depth;
    this.#shares = new Shares(io, pool, this.#peers, {
      depth,
      connections: this.#max,
      standstillMs: options.standstillMs ?? STANDSTILL_MS,
      trusts: ({ index }) => this.#suspended || handler.trusts?.(index) === true,
      drop: (peer, why) => {
        this.#onProblem(new WireError(`closed a data connection: ${why}`));
        peer.stream?.close();
      },
    });
    const { handed } = options;
    this.#suspended = handed !== undefined;
    this.#listener = handed?.listener ?? io.listen(address);
    for (const { fd, unread } of handed?.connections ?? []) this.#connect(fd, unread);
    this.#accept();
  }

  /** The port of a TCP listener. */
  get port(): number {
    return this.io.boundPort(this.#listener);
  }

  /** Connections now. */
  get connections(): number {
    return this.#peers.reduce((n, peer) => n + (peer.stream ? 1 : 0), 0);
  }

  #accept(): void {
    if (this.#stopping || this.#accepting || this.#suspended || this.#silent.arriving !== NO_FD) return;
    this.#accepting = true;
    this.io.accept(this.#listener, this, ACCEPT);
  }

  /** Completions of accepts. */
  complete(tag: number, result: number): void {
    if (tag === RETRY) return this.#accept();
    this.#accepting = false;
    if (this.#stopping) {
      if (result >= 0) this.io.close(result);
      return this.#settle();
    }
    if (this.#suspended) return void (result >= 0 && this.#late.push(result));
    if (result === -Errno.ECANCELED) return this.#accept();
    if (result < 0) {
      this.#onProblem(new IoError("accept", formatAddress(this.address), result));
      this.io.timer(ACCEPT_RETRY_MS, this, RETRY);
      return;
    }
    this.#connect(result);
    this.#accept();
  }

  /** Serves a connection. @param unread see {@linkcode Stream} */
  #connect(fd: number, unread?: Uint8Array): void {
    // One that still owes replies to its former connection must not serve a new one.
    let peer = this.#peers.find((p) => p.stream === undefined && p.pending === 0);
    if (!peer && this.#peers.length < this.#max) {
      peer = new Peer(this, this.#peers.length, new StreamMemory(this.io, this.#streamSizes));
      this.#peers.push(peer);
    }
    if (peer) {
      this.#silent.came(peer.index, this.io.now());
      peer.stream = new Stream(this.io, fd, peer.memory, peer, unread);
      this.handler.onCome?.(peer.index);
    } else {
      const done = this.#silent.makeRoom(fd, this.#peers, this.io.now());
      if (done === undefined) this.io.close(fd);
      this.#onProblem(
        new WireError(done ?? `refused a connection: ${this.#max} are open, which is the limit`),
      );
    }
  }

  /** A place is free, or the server is at its end. */
  #arrived(): void {
    const fd = this.#silent.arrived();
    if (fd === NO_FD) return;
    if (this.#stopping) return this.io.close(fd);
    if (this.#suspended) return void this.#late.push(fd);
    this.#connect(fd);
    this.#accept();
  }

  // ---- requests --------------------------------------------------------------------------------------------

  /**
   * Takes as many requests as there are whole headers, slots and buffers.
   * @internal
   */
  parse(peer: Peer, stream: Stream): void {
    if (this.#suspended) return stream.halt();
    const view = this.#view;
    while (stream.available >= FRAME_BYTES && !stream.congested && !stream.closing) {
      const at = stream.position;
      const type = frameType(view, at), size = frameSize(view, at), length = frameDataLength(view, at);
      const problem = frameFault(frameMagic(view, at), type, size, length, this.#maxPayload);
      if (problem !== undefined) {
        this.#onProblem(new WireError(`closed a data connection: ${problem}`));
        stream.close();
        return;
      }
      if (!this.handler.serves(type)) {
        stream.consume(FRAME_BYTES);
        if (!stream.discard(length)) return;
        continue;
      }
      if (!this.#shares.takeSlot(peer, stream)) return;
      const bytes = answersWithData(type) ? answerBytes(type, size) : length;
      let buffer = NO_BUFFER;
      if (bytes > 0) {
        buffer = this.#shares.takeBuffer(peer, stream, bytes);
        if (buffer === NO_BUFFER) return this.#shares.giveSlot(peer);
      }
      const slot = this.#freeSlots[--this.#freeCount];
      this.#sequence[slot] = frameSequence(view, at);
      this.#type[slot] = type;
      this.#offset[slot] = frameOffset(view, at);
      this.#size[slot] = carriesData(type) ? length : size;
      this.#buffer[slot] = buffer;
      this.#peer[slot] = peer.index;
      this.#state[slot] = 1;
      this.#silent.asked(peer.index);
      stream.consume(FRAME_BYTES);
      if (length > 0) {
        peer.filling = slot;
        if (!stream.fill(buffer, length)) return;
        peer.filling = -1;
      }
      this.begin(slot);
    }
    // It was woken for a slot and did not take the last one: the next one's turn.
    this.#shares.pass();
  }

  /** Hands a complete request to the handler. */
  begin(slot: number): void {
    this.#state[slot] = 2;
    const buffer = this.#buffer[slot];
    this.handler.start(
      this.#type[slot],
      this.#offset[slot],
      this.#size[slot],
      buffer === NO_BUFFER ? 0 : buffer,
      this.#peer[slot],
      this.#completion,
      slot,
    );
  }

  readonly #completion: Completer = { complete: (slot, result) => this.#reply(slot, result) };

  #reply(slot: number, result: number): void {
    const peer = this.#peers[this.#peer[slot]];
    const stream = peer.stream;
    this.#state[slot] = 3;
    if (stream === undefined || stream.closing) return this.release(slot);
    if (result < 0) return this.#replyError(slot, stream, result);
    const type = this.#type[slot], read = answersWithData(type) && this.#size[slot] > 0;
    const at = stream.header(FRAME_BYTES);
    const length = read ? answerBytes(type, this.#size[slot]) : 0;
    const size = read ? length : result;
    putFrame(this.#view, at, this.#sequence[slot], FrameType.RESPONSE, this.#offset[slot], size, length);
    if (read) stream.payload(this.#buffer[slot], length, slot);
    else this.release(slot);
  }

  #replyError(slot: number, stream: Stream, result: number): void {
    const full = result === -Errno.ENOSPC;
    const text = full
      ? NO_SPACE_TEXT
      : this.handler.errorText(this.#type[slot], this.#offset[slot], this.#size[slot], result);
    const bytes = new TextEncoder().encode(text).subarray(0, ERROR_TEXT_BYTES);
    const at = stream.header(FRAME_BYTES + bytes.length);
    const type = full && this.#noSpaceFrames ? FrameType.ENOSPC : FrameType.ERROR;
    putFrame(this.#view, at, this.#sequence[slot], type, this.#offset[slot], bytes.length, bytes.length);
    this.io.arena.u8.set(bytes, at + FRAME_BYTES);
    this.release(slot);
  }

  /** Gives a slot and its buffer back; called when the reply was sent or is not needed. */
  release(slot: number): void {
    const buffer = this.#buffer[slot];
    this.#buffer[slot] = NO_BUFFER;
    this.#state[slot] = 0;
    this.#freeSlots[this.#freeCount++] = slot;
    this.#shares.give(this.#peers[this.#peer[slot]], buffer);
    if (this.#stopping) this.#settle();
  }

  // ---- from one process to the next ------------------------------------------------------------------------

  /** Takes no new requests and connections; see {@linkcode rests}. */
  suspend(): void {
    this.#suspended = true;
    this.io.interrupt(this.#listener);
  }

  /** True when it is suspended, all was answered, and nothing is under way on any connection. */
  rests(): boolean {
    const streams = this.#peers.flatMap(({ stream }) => stream ?? []);
    for (const stream of streams) if (!stream.filling) stream.halt();
    const idle = !this.#accepting && this.#freeCount === this.#state.length;
    return idle && this.#silent.arriving === NO_FD && streams.every((stream) => stream.quiet);
  }

  /** What another process needs to go on, while this {@linkcode rests}. */
  get handed(): HandedServer {
    const streams = this.#peers.flatMap(({ stream }) => stream ?? []);
    const late = this.#late.map((fd) => ({ fd, unread: new Uint8Array(0) }));
    const connections = streams.map((stream) => ({ fd: stream.fd, unread: stream.unread() }));
    return { listener: this.#listener, connections: [...connections, ...late] };
  }

  /** Goes on. */
  resume(): void {
    this.#suspended = false;
    this.io.adoptListener(this.#listener);
    for (const fd of this.#late.splice(0)) this.#connect(fd);
    for (const { stream } of this.#peers) stream?.go();
    this.#shares.passAll();
    this.#accept();
  }

  /** Only while it {@linkcode rests}: lets go of all descriptors; nothing more follows. */
  leave(): void {
    for (const { stream } of this.#peers) stream?.leave();
    for (const fd of [...this.#late, this.#listener]) this.io.close(fd);
    this.#listenerClosed = true;
  }

  // ---- the end ---------------------------------------------------------------------------------------------

  /**
   * Called by a peer whose stream ended.
   * @internal
   */
  closed(peer: Peer, result: number): void {
    peer.stream = undefined;
    if (peer.filling >= 0) {
      const slot = peer.filling;
      peer.filling = -1;
      this.release(slot);
    }
    if (result < 0 && result !== -Errno.ECONNRESET && result !== -Errno.EPIPE) {
      this.#onProblem(new WireError(`data connection ended: ${errnoText(result)} (${errnoName(result)})`));
    }
    this.handler.onGone(peer.index);
    peer.starved = false;
    this.#shares.pass();
    this.#arrived();
    if (this.#stopping) this.#settle();
  }

  /** Ends every connection for which `drop(peer)` is true. */
  dropWhere(drop: (peer: number) => boolean): void {
    for (const peer of this.#peers) if (peer.stream && drop(peer.index)) peer.stream.close();
  }

  /** Stops listening and ends all connections; `done` is called when nothing is under way any more. */
  stop(done: () => void): void {
    if (this.#stopping) return;
    this.#stopping = done;
    this.io.shutdown(this.#listener);
    this.dropWhere(() => true);
    this.#settle();
  }

  #settle(): void {
    const done = this.#stopping;
    if (!done || this.#accepting || this.#freeCount < this.#state.length) return;
    if (this.#peers.some((peer) => peer.stream !== undefined)) return;
    this.#stopping = () => {};
    if (this.#listenerClosed) return;
    this.#listenerClosed = true;
    this.io.close(this.#listener);
    done();
  }
  #listenerClosed = false;
}
