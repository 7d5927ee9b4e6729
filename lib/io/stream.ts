/**
 * A connected stream socket with a receive window and a send queue: what every wire protocol here stands on.
 *
 * Receiving: one receive call takes whatever is there into the window, so a burst of small messages costs one
 * system call. The owner looks at the window, consumes headers, and lets payloads be filled into buffers of
 * its own; large payloads are received in place, without the window.
 *
 * Sending: headers are written into a ring, payloads are named where they lie; everything queued until the end
 * of a pass leaves in one gathered send. A payload's buffer belongs to the stream until `onSent`.
 *
 * Back-pressure: the stream stops receiving while its owner has paused it, and, on the side that answers, while
 * more than half of its send queue is taken. Nothing grows.
 *
 * @module
 */
import { AssertionError } from "node:assert";
import type { Completer, Deferred, Io } from "./io.ts";
import { SEND_BATCH, type StreamMemory } from "./stream_memory.ts";

export {
  HEADER_BYTES,
  SEND_SEGMENTS,
  StreamMemory,
  type StreamSizes,
  WINDOW_BYTES,
} from "./stream_memory.ts";

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

/** Payload remainders above this are received in place; below, through the window (fewer system calls). */
const DIRECT_BYTES = 64 * 1024;
/** No token: the segment is header bytes, which belong to the stream. */
const NO_TOKEN = -1;
/** {@linkcode Stream.fill} to nowhere. */
const DISCARD = -1;

const RECEIVED = 0;
const SENT = 1;

/** A mistake of the owner. Not `assert()`: that makes an array of its arguments on every call. */
const mistake = (message: string): AssertionError => new AssertionError({ message });

/** A stream socket; see the module text. */
export class Stream implements Completer, Deferred {
  readonly #u8: Uint8Array;
  // Receive side. Offsets into the arena; read <= write.
  #read: number;
  #write: number;
  #receiving = false;
  #direct = false;
  #fillAt = 0;
  #fillLeft = 0;
  #paused = false;
  /** The owner is to be called even without bytes: what stopped it is over. */
  #nudge = false;
  #ended = false;
  // Send side: a ring of segments; the sent ones are [first, first + inFlight), queued ones follow.
  readonly #at: Float64Array;
  readonly #length: Uint32Array;
  readonly #token: Int32Array;
  readonly #headerEnd: Float64Array;
  #first = 0;
  #count = 0;
  #inFlight = 0;
  #headerHead = 0;
  #headerTail = 0;
  #deferred = false;
  #congested = false;
  #finishing = false;
  // End.
  #closing = false;
  #closed = false;
  #result = 0;

  /**
   * Begins to receive when the loop goes on.
   *
   * @param io the world
   * @param fd a connected socket; the stream closes it
   * @param memory its memory, free for another stream after `onClosed`
   * @param owner who is told
   */
  constructor(
    readonly io: Io,
    readonly fd: number,
    readonly memory: StreamMemory,
    readonly owner: StreamOwner,
  ) {
    this.#u8 = io.arena.u8;
    this.#read = this.#write = memory.window;
    this.#at = new Float64Array(memory.segments);
    this.#length = new Uint32Array(memory.segments);
    this.#token = new Int32Array(memory.segments);
    this.#headerEnd = new Float64Array(memory.segments);
    this.#schedule();
  }

  // ---- receiving -------------------------------------------------------------------------------------------

  /** Unconsumed bytes in the window. */
  get available(): number {
    return this.#write - this.#read;
  }

  /** Arena offset of the first unconsumed byte. Valid until the loop goes on. */
  get position(): number {
    return this.#read;
  }

  /** True while the owner should not produce more: the send queue is more than half full. */
  get congested(): boolean {
    return this.#congested;
  }

  /** Congested, and therefore not to receive. */
  get #stuffed(): boolean {
    return this.#congested && !this.memory.client;
  }

  /** True after the stream failed or was closed: nothing more will arrive and nothing will be sent. */
  get closing(): boolean {
    return this.#closing;
  }

  /** Skips bytes of the window. */
  consume(bytes: number): void {
    if (!(bytes <= this.#write - this.#read)) throw mistake("consumed more than there is");
    this.#read += bytes;
  }

  /**
   * Moves the next `length` bytes of the stream to `at`.
   * @returns true when that is done; false when it goes on: then `onFilled` is called, and `onData` not before
   */
  fill(at: number, length: number): boolean {
    const have = Math.min(length, this.#write - this.#read);
    if (have > 0) this.#u8.copyWithin(at, this.#read, this.#read + have);
    this.#read += have;
    if (have === length) return true;
    this.#fillAt = at + have;
    this.#fillLeft = length - have;
    return false;
  }

  /** As {@linkcode fill}, but the bytes are thrown away. */
  discard(length: number): boolean {
    const have = Math.min(length, this.#write - this.#read);
    this.#read += have;
    if (have === length) return true;
    this.#fillAt = DISCARD;
    this.#fillLeft = length - have;
    return false;
  }

  /** Stops calling `onData` and receiving. */
  pause(): void {
    this.#paused = true;
  }

  /** Undoes {@linkcode pause}; `onData` follows. */
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#nudge = true;
    this.#schedule();
  }

  #arm(): void {
    if (this.#receiving || this.#ended || this.#closing || this.#paused || this.#stuffed) return;
    const memory = this.memory;
    const end = memory.window + memory.windowBytes;
    if (this.#fillLeft > DIRECT_BYTES && this.#fillAt !== DISCARD) {
      this.#direct = true;
      this.#receiving = true;
      this.io.receive(this.fd, this.#fillAt, this.#fillLeft, this, RECEIVED);
      return;
    }
    if (this.#read === this.#write) this.#read = this.#write = memory.window;
    else if (end - this.#write < memory.windowBytes / 2) {
      this.#u8.copyWithin(memory.window, this.#read, this.#write);
      this.#write -= this.#read - memory.window;
      this.#read = memory.window;
    }
    if (this.#write === end) throw mistake("the window is full of bytes that nobody consumes");
    this.#direct = false;
    this.#receiving = true;
    this.io.receive(this.fd, this.#write, end - this.#write, this, RECEIVED);
  }

  #received(result: number): void {
    this.#receiving = false;
    if (this.#closing) return this.#settle();
    if (result <= 0) {
      this.#ended = true;
      return this.#fail(result);
    }
    if (this.#direct) {
      this.#fillAt += result;
      this.#fillLeft -= result;
      if (this.#fillLeft === 0) this.owner.onFilled(this);
    } else {
      this.#write += result;
      this.#continueFill();
    }
    this.#deliver();
  }

  #continueFill(): void {
    if (this.#fillLeft === 0) return;
    const have = Math.min(this.#fillLeft, this.#write - this.#read);
    if (this.#fillAt !== DISCARD) {
      this.#u8.copyWithin(this.#fillAt, this.#read, this.#read + have);
      this.#fillAt += have;
    }
    this.#read += have;
    this.#fillLeft -= have;
    if (this.#fillLeft === 0) this.owner.onFilled(this);
  }

  #deliver(): void {
    const stopped = this.#paused || this.#stuffed || this.#closing;
    if (this.#fillLeft === 0 && (this.#write > this.#read || this.#nudge) && !stopped) {
      this.#nudge = false;
      this.owner.onData(this);
    }
    this.#arm();
  }

  // ---- sending ---------------------------------------------------------------------------------------------

  /**
   * Makes room for `bytes` contiguous bytes in the send queue and returns where to write them, now.
   * @throws {AssertionError} when the queue is full (owners keep their bound, see {@linkcode congested}) or the
   *   stream is over
   */
  header(bytes: number): number {
    const memory = this.memory, size = memory.headerBytes;
    // An empty ring begins anew: a large header fits, and the numbers stay small.
    if (this.#count === 0) this.#headerHead = this.#headerTail = 0;
    let head = this.#headerHead;
    const room = size - (head % size);
    if (room < bytes) head += room; // does not fit before the end of the ring: go on at its start
    if (head + bytes - this.#headerTail > size) throw mistake("send queue: no room for a header");
    const at = memory.headers + (head % size);
    this.#headerHead = head + bytes;
    const last = (this.#first + this.#count - 1) % memory.segments;
    if (
      this.#count > this.#inFlight && this.#token[last] === NO_TOKEN &&
      this.#at[last] + this.#length[last] === at
    ) {
      this.#length[last] += bytes;
      this.#headerEnd[last] = this.#headerHead;
      this.#feelPressure();
    } else this.#push(at, bytes, NO_TOKEN);
    return at;
  }

  /**
   * Queues `length` bytes at `at`; `owner.onSent(stream, token)` gives them back. `token` is 0 or more.
   * @throws {AssertionError} as {@linkcode header}: nobody would give the payload back
   */
  payload(at: number, length: number, token: number): void {
    this.#push(at, length, token);
  }

  #push(at: number, length: number, token: number): void {
    const memory = this.memory;
    if (this.#closed) throw mistake("the stream is over: nothing can be queued");
    if (this.#count === memory.segments) throw mistake("send queue: no room for a segment");
    const i = (this.#first + this.#count) % memory.segments;
    this.#at[i] = at;
    this.#length[i] = length;
    this.#token[i] = token;
    this.#headerEnd[i] = this.#headerHead;
    this.#count++;
    this.#feelPressure();
    this.#schedule();
  }

  #feelPressure(): void {
    const memory = this.memory, headers = this.#headerHead - this.#headerTail;
    if (this.#count > memory.segments / 2 || headers > memory.headerBytes / 2) this.#congested = true;
  }

  #schedule(): void {
    if (this.#deferred) return;
    this.#deferred = true;
    this.io.defer(this);
  }

  /** Called by the loop at the end of a pass: sends what is queued, delivers, and receives again. */
  runDeferred(): void {
    this.#deferred = false;
    if (this.#closed) return;
    if (this.#closing) return this.#settle();
    this.#deliver();
    this.#transmit();
  }

  #transmit(): void {
    if (this.#inFlight > 0 || this.#count === 0 || this.#closing) return;
    const memory = this.memory;
    const n = Math.min(this.#count, SEND_BATCH);
    for (let k = 0; k < n; k++) {
      const i = (this.#first + k) % memory.segments;
      this.io.segment(memory.vector, k, this.#at[i], this.#length[i]);
    }
    this.#inFlight = n;
    this.io.send(this.fd, memory.vector, n, this, SENT);
  }

  #sent(result: number): void {
    this.#release(this.#inFlight);
    this.#inFlight = 0;
    if (this.#closing) return this.#settle();
    if (result < 0) return this.#fail(result);
    if (this.#finishing && this.#count === 0) return this.#fail(0);
    const memory = this.memory, headers = this.#headerHead - this.#headerTail;
    if (this.#congested && this.#count <= memory.segments / 4 && headers <= memory.headerBytes / 4) {
      this.#congested = false;
      this.#nudge = true;
    }
    this.#schedule();
  }

  #release(n: number): void {
    const segments = this.memory.segments;
    for (; n > 0; n--) {
      const i = this.#first;
      const token = this.#token[i];
      this.#headerTail = this.#headerEnd[i];
      this.#first = (i + 1) % segments;
      this.#count--;
      if (token !== NO_TOKEN) this.owner.onSent(this, token);
    }
  }

  // ---- the end ---------------------------------------------------------------------------------------------

  /** Ends the stream now; queued bytes are dropped. `onClosed` follows from the loop. */
  close(result = 0): void {
    this.#fail(result);
  }

  /** Ends the stream when all that is queued now was sent. Nothing is received any more. */
  finish(): void {
    this.#paused = true;
    this.#finishing = true;
    if (this.#count === 0) this.#fail(0);
    else this.#schedule();
  }

  #fail(result: number): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#result = result;
    this.io.shutdown(this.fd);
    this.#schedule();
  }

  /** Once nothing is under way any more: gives everything back and tells the owner. */
  #settle(): void {
    if (this.#receiving || this.#inFlight > 0 || this.#closed || this.#deferred) return;
    this.#closed = true;
    this.#release(this.#count);
    this.io.close(this.fd);
    this.owner.onClosed(this, this.#result);
  }

  /** Completions of the stream's own receive and send. */
  complete(tag: number, result: number): void {
    if (tag === RECEIVED) this.#received(result);
    else this.#sent(result);
  }
}
