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
import type { Completer, Deferred, Io } from "./io.ts";
import { Errno } from "./errno.ts";
import { mistake, NO_TOKEN, SendQueue } from "./send_queue.ts";
import type { StreamMemory } from "./stream_memory.ts";
import type { StreamOwner } from "./stream_owner.ts";

export type { StreamOwner } from "./stream_owner.ts";
export {
  HEADER_BYTES,
  SEND_SEGMENTS,
  StreamMemory,
  type StreamSizes,
  WINDOW_BYTES,
} from "./stream_memory.ts";

/** Payload remainders above this are received in place; below, through the window (fewer system calls). */
const DIRECT_BYTES = 64 * 1024;
/** {@linkcode Stream.fill} to nowhere. */
const DISCARD = -1;

const RECEIVED = 0;
const SENT = 1;

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
  #halted = false;
  /** The owner is to be called even without bytes: what stopped it is over. */
  #nudge = false;
  #ended = false;
  /** Receives that ended, and sends: who moves is told from who stands still by them. */
  arrivals = 0;
  /** See {@linkcode Stream.arrivals}. */
  departures = 0;
  // Send side.
  readonly #queue: SendQueue;
  #deferred = false;
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
   * @param unread only for a socket that another process handed over: what it had received and not used. The stream is
   *   halted then
   * @throws {RangeError} when that does not fit the window
   */
  constructor(
    readonly io: Io,
    readonly fd: number,
    readonly memory: StreamMemory,
    readonly owner: StreamOwner,
    unread?: Uint8Array,
  ) {
    this.#u8 = io.arena.u8;
    this.#read = this.#write = memory.window;
    this.#queue = new SendQueue(memory);
    if (unread) this.#takeOver(unread);
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

  /** True inside of a {@linkcode fill} or {@linkcode discard}. */
  get filling(): boolean {
    return this.#fillLeft > 0;
  }

  /** True while something is queued or being sent. */
  get sending(): boolean {
    return this.#queue.count > 0;
  }

  /** True while the owner should not produce more: the send queue is more than half full. */
  get congested(): boolean {
    return this.#queue.congested;
  }

  /** Congested, and therefore not to receive. */
  get #stuffed(): boolean {
    return this.#queue.congested && !this.memory.client;
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
    if (this.#receiving || this.#ended || this.#closing || this.#paused || this.#stuffed || this.#halted) {
      return;
    }
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
    this.arrivals = (this.arrivals + 1) | 0;
    if (this.#closing) return this.#settle();
    if (result === -Errno.ECANCELED) return this.#arm(); // was interrupted, see `halt`
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
    const stopped = this.#paused || this.#halted || this.#stuffed || this.#closing;
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
    if (this.#closed) throw mistake("the stream is over: nothing can be queued");
    const at = this.#queue.header(bytes);
    this.#schedule();
    return at;
  }

  /**
   * Queues `length` bytes at `at`; `owner.onSent(stream, token)` gives them back. `token` is 0 or more.
   * @throws {AssertionError} as {@linkcode header}: nobody would give the payload back
   */
  payload(at: number, length: number, token: number): void {
    if (this.#closed) throw mistake("the stream is over: nothing can be queued");
    this.#queue.push(at, length, token);
    this.#schedule();
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
    const queue = this.#queue;
    if (queue.inFlight > 0 || queue.count === 0 || this.#closing) return;
    this.io.send(this.fd, this.memory.vector, queue.gather(this.io), this, SENT);
  }

  #sent(result: number): void {
    const queue = this.#queue;
    this.#release(queue.inFlight);
    queue.inFlight = 0;
    this.departures = (this.departures + 1) | 0;
    if (this.#closing) return this.#settle();
    if (result < 0) return this.#fail(result);
    if (this.#finishing && queue.count === 0) return this.#fail(0);
    if (queue.relieve()) this.#nudge = true;
    this.#schedule();
  }

  #release(n: number): void {
    for (; n > 0; n--) {
      const token = this.#queue.release();
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
    if (this.#queue.count === 0) this.#fail(0);
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
    if (this.#receiving || this.#queue.inFlight > 0 || this.#closed || this.#deferred) return;
    this.#closed = true;
    this.#release(this.#queue.count);
    this.io.close(this.fd);
    this.owner.onClosed(this, this.#result);
  }

  // ---- from one process to the next ------------------------------------------------------------------------

  /** Between two messages: receives and delivers nothing from now on. What is queued is sent. */
  halt(): void {
    if (this.#fillLeft > 0) throw mistake("halted inside a payload");
    if (this.#halted) return;
    this.#halted = true;
    if (this.#receiving) this.io.interrupt(this.fd);
  }

  /** True when it is halted, nothing of it is under way and all was sent: its socket may be handed over. */
  get quiet(): boolean {
    return this.#halted && !this.#receiving && this.#queue.count === 0;
  }

  /** What was received and not used. */
  unread(): Uint8Array<ArrayBuffer> {
    return this.#u8.slice(this.#read, this.#write) as Uint8Array<ArrayBuffer>;
  }

  /** Undoes {@linkcode halt}. */
  go(): void {
    this.#halted = false;
    this.#nudge = true;
    this.#schedule();
  }

  /** Only when {@linkcode quiet}: lets go of the socket, which lives on in another process. `onClosed` is not called. */
  leave(): void {
    this.#closed = this.#closing = true;
    this.io.close(this.fd);
  }

  #takeOver(unread: Uint8Array): void {
    const { window, windowBytes } = this.memory;
    if (unread.length > windowBytes) {
      throw new RangeError(`${unread.length} unread bytes do not fit a window of ${windowBytes}`);
    }
    this.#u8.set(unread, window);
    this.#write = window + unread.length;
    this.#halted = true;
  }

  /** Completions of the stream's own receive and send. */
  complete(tag: number, result: number): void {
    if (tag === RECEIVED) this.#received(result);
    else this.#sent(result);
  }
}
