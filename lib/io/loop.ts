/**
 * What the worlds on top of a kernel have in common: the order of work in a pass of the loop, time, timers,
 * deferred tasks, vectors, sockets that are opened once.
 *
 * One pass: wait for the kernel, read the clock, deliver what ended, fire timers, run deferred tasks. The
 * kernel is told of new operations only at the next wait, so all that one pass asks for costs one system call.
 *
 * @module
 */
import type { Arena } from "./arena.ts";
import { DeferredQueue } from "./deferred.ts";
import type { Files } from "./files.ts";
import type { Address, Completer, Deferred, Io, World } from "./io.ts";
import { discard, giveBackPages, libc, mapArena, type Mapping, unmap, wantHugePages } from "./libc.ts";
import { Kind, Operations } from "./operations.ts";
import { boundPort, DEFAULT_BACKLOG, openListener, setBlocking, shutdownSocket } from "./sockets.ts";
import { Timers } from "./timers.ts";
import { FilesLibc } from "./files_libc.ts";

/** The value of `wait` for a wait without end. */
const FOREVER = -1;

/** Bytes of one (address, length) pair of a vector: struct iovec on 64-bit machines. */
const SEGMENT_BYTES = 16;

const TWO_32 = 2 ** 32;

/** An {@linkcode Io} without a kernel interface: subclasses start operations and wait for them. */
export abstract class LoopIo implements Io {
  /** Which implementation this is. */
  abstract readonly world: World;
  /** The memory of all buffers. */
  readonly arena: Arena;
  /** Names and metadata. */
  readonly files: Files = new FilesLibc();

  /** Operations under way. */
  protected readonly operations: Operations = new Operations();
  /** Address of the arena's first byte. */
  protected readonly base: number;
  /** The arena as 32-bit words, for vectors. */
  protected readonly words: Uint32Array<ArrayBuffer>;

  readonly #mapping: Mapping;
  readonly #timers = new Timers();
  readonly #deferred = new DeferredQueue();
  #now = performance.now();
  #wallClock = 0;
  #running = false;
  #stopping = false;
  #disposed = false;

  /**
   * Maps the arena.
   *
   * @throws {IoError} when memory is short
   */
  constructor(arenaBytes: number) {
    const { arena, mapping } = mapArena(arenaBytes);
    this.arena = arena;
    this.#mapping = mapping;
    this.base = mapping.address;
    this.words = new Uint32Array(mapping.buffer);
  }

  /** Tells the kernel of an operation in its slot. Completes it later by {@linkcode Operations}. */
  protected abstract start(slot: number): void;
  /** Starts a connection; see {@linkcode Io.connect}. */
  abstract connect(address: Address, who: Completer, tag: number): void;
  /** Hands over what is queued and waits for an end, at most `ms` milliseconds (below 0: for ever, 0: not at all). */
  protected abstract wait(ms: number): void;
  /** Delivers what the kernel has completed. */
  protected abstract harvest(): void;
  /** Frees rings and descriptors. */
  protected abstract release(): void;
  /** Whether listeners must not block on accept. */
  protected abstract readonly nonBlockingListeners: boolean;

  /** Monotonic milliseconds; constant within a pass. */
  now(): number {
    if (!this.#running) this.#readClock();
    return this.#now;
  }

  /** Milliseconds since 1970; constant within a pass. */
  wallClock(): number {
    if (this.#wallClock === 0 || !this.#running) this.#wallClock = Date.now();
    return this.#wallClock;
  }

  /** See {@linkcode Io.giveBack}. */
  giveBack(at: number, bytes: number): void {
    giveBackPages(this.base + at, bytes);
  }

  /** See {@linkcode Io.hugePages}. */
  hugePages(at: number, bytes: number): void {
    wantHugePages(this.base + at, bytes);
  }

  /** A random integer in [0, 2^32). */
  random32(): number {
    return Math.floor(Math.random() * TWO_32);
  }

  /** See {@linkcode Io.read}. */
  read(fd: number, at: number, length: number, offset: number, who: Completer, tag: number): void {
    this.start(this.operations.take(Kind.READ, fd, at, length, offset, who, tag));
  }

  /** See {@linkcode Io.write}. */
  write(fd: number, at: number, length: number, offset: number, who: Completer, tag: number): void {
    this.start(this.operations.take(Kind.WRITE, fd, at, length, offset, who, tag));
  }

  /** See {@linkcode Io.writeDurable}. */
  writeDurable(fd: number, at: number, length: number, offset: number, who: Completer, tag: number): void {
    this.start(this.operations.take(Kind.WRITE_DURABLE, fd, at, length, offset, who, tag));
  }

  /** See {@linkcode Io.writeVector}. */
  writeVector(fd: number, vector: number, count: number, who: Completer, tag: number): void {
    this.start(this.operations.take(Kind.WRITE_VECTOR, fd, vector, count, -1, who, tag));
  }

  /** See {@linkcode Io.syncData}. */
  syncData(fd: number, who: Completer, tag: number): void {
    this.start(this.operations.take(Kind.SYNC_DATA, fd, 0, 0, 0, who, tag));
  }

  /** See {@linkcode Io.punchHole}. */
  punchHole(fd: number, offset: number, length: number, who: Completer, tag: number): void {
    const FALLOC_PUNCH_HOLE_KEEP_SIZE = 3;
    this.fallocate(fd, FALLOC_PUNCH_HOLE_KEEP_SIZE, offset, length, who, tag);
  }

  /** See {@linkcode Io.fallocate}. */
  fallocate(fd: number, mode: number, offset: number, length: number, who: Completer, tag: number): void {
    const slot = this.operations.take(Kind.FALLOCATE, fd, 0, length, offset, who, tag);
    this.operations.mode[slot] = mode;
    this.start(slot);
  }

  /** See {@linkcode Io.listen}. */
  listen(address: Address, backlog: number = DEFAULT_BACKLOG): number {
    return openListener(address, backlog, this.nonBlockingListeners);
  }

  /** See {@linkcode Io.boundPort}. */
  boundPort(listener: number): number {
    return boundPort(listener);
  }

  /** See {@linkcode Io.accept}. */
  accept(listener: number, who: Completer, tag: number): void {
    this.start(this.operations.take(Kind.ACCEPT, listener, 0, 0, 0, who, tag));
  }

  /** See {@linkcode Io.receive}. */
  receive(fd: number, at: number, length: number, who: Completer, tag: number): void {
    this.start(this.operations.take(Kind.RECEIVE, fd, at, length, 0, who, tag));
  }

  /** See {@linkcode Io.send}. */
  send(fd: number, vector: number, count: number, who: Completer, tag: number): void {
    const words = this.words;
    let total = 0;
    for (let w = (vector >> 2) + 2, i = 0; i < count; i++, w += 4) total += words[w] as number;
    this.start(this.operations.take(Kind.SEND, fd, vector, count, total, who, tag));
  }

  /** See {@linkcode Io.segment}. */
  segment(vector: number, index: number, at: number, length: number): void {
    const address = this.base + at;
    const w = (vector >> 2) + 4 * index;
    const words = this.words;
    words[w] = address;
    words[w + 1] = address / TWO_32;
    words[w + 2] = length;
    words[w + 3] = 0;
  }

  /** See {@linkcode Io.shutdown}. */
  shutdown(fd: number): void {
    shutdownSocket(fd);
  }

  /** See {@linkcode Io.close}. */
  close(fd: number): void {
    libc.close(fd);
  }

  /** See {@linkcode Io.interrupt}. */
  abstract interrupt(fd: number): void;

  /** See {@linkcode Io.adoptListener}. */
  adoptListener(fd: number): void {
    setBlocking(fd, !this.nonBlockingListeners);
  }

  /** See {@linkcode Io.timer}. */
  timer(ms: number, who: Completer, tag: number): number {
    return this.#timers.arm(this.now() + ms, who, tag);
  }

  /** See {@linkcode Io.cancel}. */
  cancel(timer: number): void {
    this.#timers.cancel(timer);
  }

  /** See {@linkcode Io.defer}. */
  defer(task: Deferred): void {
    this.#deferred.push(task);
  }

  /** See {@linkcode Io.run}. */
  run(): void {
    if (this.#running || this.#disposed) {
      throw new TypeError(`run of an Io that is ${this.#running ? "running" : "disposed"}`);
    }
    this.#running = true;
    this.#stopping = false;
    try {
      this.#readClock();
      this.#pass();
      while (!this.#stopping) {
        this.wait(this.#patience());
        this.#readClock();
        this.#pass();
      }
      // What the last pass asked for is handed over: an answer sent right before stop still leaves.
      this.wait(0);
    } finally {
      this.#running = false;
    }
  }

  /** See {@linkcode Io.stop}. */
  stop(): void {
    this.#stopping = true;
  }

  /** Frees rings and descriptors; the memory of the arena goes back too, what is left of it reads as zeros. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.release();
    discard(this.#mapping);
  }

  /** Takes the arena away when nobody has seen it yet: the end of a failed start. */
  protected unmapArena(): void {
    unmap(this.#mapping);
  }

  /**
   * Takes the sent bytes off a vector.
   *
   * @returns true when nothing is left
   */
  protected advance(slot: number, sent: number): boolean {
    const { at, length, offset, done } = this.operations;
    const total = (done[slot] as number) + sent;
    done[slot] = total;
    if (total >= (offset[slot] as number)) return true;
    const words = this.words;
    let vector = at[slot] as number;
    let count = length[slot] as number;
    for (let left = sent; count > 0;) {
      const w = vector >> 2;
      const size = words[w + 2] as number;
      if (left < size) {
        const address = (words[w] as number) + (words[w + 1] as number) * TWO_32 + left;
        words[w] = address;
        words[w + 1] = address / TWO_32;
        words[w + 2] = size - left;
        break;
      }
      left -= size;
      vector += SEGMENT_BYTES;
      count--;
    }
    at[slot] = vector;
    length[slot] = count;
    return false;
  }

  #pass(): void {
    this.harvest();
    this.operations.deliver();
    this.#timers.fire(this.#now);
    this.#deferred.run();
  }

  #readClock(): void {
    this.#now = performance.now();
    this.#wallClock = 0;
  }

  /** How long the loop may sleep. */
  #patience(): number {
    if (this.operations.ended > 0) return 0;
    const next = this.#timers.next;
    if (next === Infinity) return FOREVER;
    return Math.max(0, next - performance.now());
  }
}
