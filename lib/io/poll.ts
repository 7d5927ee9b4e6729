/**
 * The world without io_uring: non-blocking calls, tried at once, and poll(2) for those that would block. For
 * hosts whose seccomp profile or kernel forbids io_uring.
 *
 * poll(2) rather than epoll: an Io has a few dozen descriptors, and poll keeps no state in the kernel that a
 * closed and reused descriptor number could confuse.
 *
 * Files are read, written and synced with blocking calls: the loop stands still meanwhile. That is correct,
 * not fast.
 *
 * @module
 */
import { Errno } from "./errno.ts";
import { type Address, type Completer, MAX_OPERATIONS, MAX_SEGMENTS, type World } from "./io.ts";
import { errno, libc, mapMemory, type Mapping, RWF_DSYNC, unmap } from "./libc.ts";
import { LoopIo } from "./loop.ts";
import { Kind } from "./operations.ts";
import { connectResult, encodeAddress, openSocket, setStreamOptions, SOCK_CLOEXEC } from "./sockets.ts";

// poll(2)
const POLLIN = 0x1;
const POLLOUT = 0x4;
const POLLHUP = 0x10;
/** struct pollfd: fd s32, events s16, revents s16. */
const POLLFD_BYTES = 8;

const MSG_DONTWAIT = 0x40;
const MSG_DONTWAIT_NOSIGNAL = 0x4040;

/** Scratch memory: a msghdr at 0 (iov at 16, iovlen at 24), an iovec, a timespec, a vector. */
const IOVEC_AT = 64;
const TIMESPEC_AT = 96;
const VECTOR_AT = 128;
const SCRATCH_BYTES = VECTOR_AT + 16 * MAX_SEGMENTS;

const BLOCK_BYTES = 4096;
const TWO_32 = 2 ** 32;

/** A unix listener with a full queue refuses a non-blocking connect; it is asked again after so long. */
const CONNECT_RETRY_MS = 5;

/** `Io` over poll(2). Belongs to the thread that made it. */
export class PollIo extends LoopIo {
  /** Which implementation this is. */
  readonly world: World = "poll";
  /** A connection may be gone between poll and accept; accept must not block then. */
  protected readonly nonBlockingListeners = true;

  readonly #polled: Mapping;
  readonly #pollWords: Int32Array<ArrayBuffer>;
  readonly #scratch: Mapping;
  readonly #scratchWords: Uint32Array<ArrayBuffer>;
  readonly #iovec: Deno.PointerValue;
  readonly #timespec: Deno.PointerValue;
  readonly #vector: Deno.PointerValue;
  /** The operation behind each pollfd. */
  readonly #waiting = new Int32Array(MAX_OPERATIONS);
  #waitingCount = 0;
  #readyCount = 0;
  /** Whether the operation being attempted was woken by the end of its descriptor. */
  #hungUp = false;
  /** Encoded addresses of unix connects that are to be tried again, by slot. */
  readonly #retries = new Map<number, Uint8Array<ArrayBuffer>>();
  readonly #retry: Completer = { complete: (slot) => this.#connectAgain(slot) };
  #released = false;

  /**
   * Maps the arena and the scratch memory.
   *
   * @throws {IoError} when memory is short
   */
  constructor(arenaBytes: number) {
    super(arenaBytes);
    this.#polled = mapMemory(MAX_OPERATIONS * POLLFD_BYTES);
    this.#pollWords = new Int32Array(this.#polled.buffer);
    this.#scratch = mapMemory(SCRATCH_BYTES);
    this.#scratchWords = new Uint32Array(this.#scratch.buffer);
    this.#iovec = Deno.UnsafePointer.offset(this.#scratch.pointer, IOVEC_AT);
    this.#timespec = Deno.UnsafePointer.offset(this.#scratch.pointer, TIMESPEC_AT);
    this.#vector = Deno.UnsafePointer.offset(this.#scratch.pointer, VECTOR_AT);
  }

  /** See `Io.connect`. */
  connect(address: Address, who: Completer, tag: number): void {
    const encoded = encodeAddress(address);
    const fd = openSocket(encoded, true);
    const slot = this.operations.take(Kind.CONNECT, fd, 0, 0, 0, who, tag);
    if (fd < 0) this.operations.post(slot, fd);
    else this.#connect(slot, encoded);
  }

  /** See `Io.interrupt`. */
  interrupt(fd: number): void {
    for (const slot of this.operations.waitingOn(fd)) {
      const i = this.#waiting.subarray(0, this.#waitingCount).indexOf(slot);
      if (i < 0) continue; // it has ended already
      this.#forget(i);
      this.operations.post(slot, -Errno.ECANCELED);
    }
  }

  /** Tries the operation in a slot. */
  protected start(slot: number): void {
    const operations = this.operations;
    if (this.#released) return operations.post(slot, -Errno.ECANCELED);
    // Streams other than sockets have no call that does not block: they are asked when poll says so.
    if (operations.kind[slot] === Kind.READ && (operations.offset[slot] as number) < 0) {
      return this.#await(slot, POLLIN);
    }
    this.#attempt(slot);
  }

  /** See {@linkcode LoopIo}. */
  protected wait(ms: number): void {
    if (ms > 0) {
      const words = this.#scratchWords;
      words[TIMESPEC_AT / 4] = ms / 1000;
      words[TIMESPEC_AT / 4 + 2] = (ms % 1000) * 1e6;
    } else {
      this.#scratchWords[TIMESPEC_AT / 4] = 0;
      this.#scratchWords[TIMESPEC_AT / 4 + 2] = 0;
    }
    const ready = libc.ppoll(this.#polled.pointer, this.#waitingCount, ms < 0 ? null : this.#timespec, null);
    this.#readyCount = Math.max(0, ready);
  }

  /** See {@linkcode LoopIo}. */
  protected harvest(): void {
    // Downwards: what takes the place of a removed entry has been looked at already.
    for (let i = this.#waitingCount - 1; i >= 0 && this.#readyCount > 0; i--) {
      const events = this.#pollWords[2 * i + 1] as number;
      if (events >>> 16 === 0) continue;
      this.#readyCount--;
      const slot = this.#waiting[i] as number;
      this.#forget(i);
      this.#hungUp = ((events >>> 16) & POLLHUP) !== 0;
      this.#attempt(slot);
    }
    this.#hungUp = false;
  }

  /** See {@linkcode LoopIo}. */
  protected release(): void {
    this.#released = true;
    for (let i = 0; i < this.#waitingCount; i++) {
      const slot = this.#waiting[i] as number;
      if (this.operations.kind[slot] === Kind.CONNECT) libc.close(this.operations.fd[slot] as number);
    }
    for (const slot of this.#retries.keys()) libc.close(this.operations.fd[slot] as number);
    this.#waitingCount = 0;
    unmap(this.#polled);
    unmap(this.#scratch);
  }

  /** Takes an entry out of those that are polled; the last one takes its place. */
  #forget(i: number): void {
    const last = --this.#waitingCount;
    this.#waiting[i] = this.#waiting[last] as number;
    this.#pollWords[2 * i] = this.#pollWords[2 * last] as number;
    this.#pollWords[2 * i + 1] = this.#pollWords[2 * last + 1] as number;
  }

  #await(slot: number, events: number): void {
    const i = this.#waitingCount++;
    this.#waiting[i] = slot;
    this.#pollWords[2 * i] = this.operations.fd[slot] as number;
    this.#pollWords[2 * i + 1] = events;
  }

  /** Does what can be done now; the end is posted, never told at once. */
  #attempt(slot: number): void {
    const operations = this.operations;
    const fd = operations.fd[slot] as number;
    switch (operations.kind[slot] as Kind) {
      case Kind.READ:
        return this.#read(slot, fd);
      case Kind.WRITE:
      case Kind.WRITE_DURABLE:
        return this.#write(slot, fd);
      case Kind.SYNC_DATA:
        return this.#post(slot, libc.fdatasync(fd));
      case Kind.FALLOCATE: {
        const offset = BigInt(operations.offset[slot] as number),
          length = BigInt(operations.length[slot] as number);
        return this.#post(slot, libc.fallocate(fd, operations.mode[slot] as number, offset, length));
      }
      case Kind.ACCEPT:
        return this.#accept(slot, fd);
      case Kind.CONNECT:
        return this.#connected(slot, connectResult(fd));
      case Kind.RECEIVE:
        return this.#receive(slot, fd);
      case Kind.SEND:
        return this.#send(slot, fd);
      case Kind.WRITE_VECTOR:
        return this.#writeVector(slot, fd);
    }
  }

  #post(slot: number, result: number): void {
    this.operations.post(slot, result < 0 ? -errno() : result);
  }

  /** Points the scratch iovec at what is left of a slot's buffer. */
  #aim(slot: number): void {
    const address = this.base + (this.operations.at[slot] as number);
    const words = this.#scratchWords;
    words[IOVEC_AT / 4] = address;
    words[IOVEC_AT / 4 + 1] = address / TWO_32;
    words[IOVEC_AT / 4 + 2] = this.operations.length[slot] as number;
  }

  /** Points the scratch msghdr at `count` segments at an absolute address. */
  #address(vector: number, count: number): void {
    const words = this.#scratchWords;
    words[4] = vector;
    words[5] = vector / TWO_32;
    words[6] = count;
  }

  #moveOn(slot: number, by: number): void {
    const { at, length, offset, done } = this.operations;
    at[slot] = (at[slot] as number) + by;
    length[slot] = (length[slot] as number) - by;
    done[slot] = (done[slot] as number) + by;
    if ((offset[slot] as number) >= 0) offset[slot] = (offset[slot] as number) + by;
  }

  #read(slot: number, fd: number): void {
    const { operations } = this;
    const stream = (operations.offset[slot] as number) < 0;
    for (;;) {
      this.#aim(slot);
      const offset = operations.offset[slot] as number;
      const got = stream ? libc.readv(fd, this.#iovec, 1) : libc.preadv(fd, this.#iovec, 1, BigInt(offset));
      if (got < 0) {
        if (errno() === Errno.EINTR) continue;
        if (errno() === Errno.EAGAIN && stream) return this.#await(slot, POLLIN);
        return this.#post(slot, got);
      }
      this.#moveOn(slot, got);
      // Cut short inside a block: the end of the file.
      const ended = got === 0 || stream || (offset + got) % BLOCK_BYTES !== 0;
      if (ended || operations.length[slot] === 0) {
        return operations.post(slot, operations.done[slot] as number);
      }
    }
  }

  #write(slot: number, fd: number): void {
    const { operations } = this;
    const flags = operations.kind[slot] === Kind.WRITE_DURABLE ? RWF_DSYNC : 0;
    for (;;) {
      this.#aim(slot);
      const offset = operations.offset[slot] as number;
      const put = offset < 0
        ? libc.writev(fd, this.#iovec, 1)
        : libc.pwritev2(fd, this.#iovec, 1, BigInt(offset), flags);
      if (put < 0) {
        if (errno() === Errno.EINTR) continue;
        if (errno() === Errno.EAGAIN && offset < 0) return this.#await(slot, POLLOUT);
        return this.#post(slot, put);
      }
      this.#moveOn(slot, put);
      if (operations.length[slot] === 0) return operations.post(slot, operations.done[slot] as number);
      if (put === 0) return operations.post(slot, -Errno.EIO);
    }
  }

  #accept(slot: number, fd: number): void {
    for (;;) {
      const connection = libc.accept4(fd, null, null, SOCK_CLOEXEC);
      if (connection >= 0) {
        setStreamOptions(connection);
        return this.operations.post(slot, connection);
      }
      const number = errno();
      if (number === Errno.EINTR || number === Errno.ECONNABORTED) continue;
      // A unix listener that was shut down says EAGAIN for ever; a TCP one EINVAL.
      if (number === Errno.EAGAIN && !this.#hungUp) return this.#await(slot, POLLIN);
      return this.operations.post(slot, number === Errno.EAGAIN ? -Errno.EINVAL : -number);
    }
  }

  #connect(slot: number, encoded: Uint8Array<ArrayBuffer>): void {
    const result = libc.connect(this.operations.fd[slot] as number, encoded, encoded.length);
    const number = result < 0 ? errno() : 0;
    if (number === Errno.EINPROGRESS || number === Errno.EINTR) return this.#await(slot, POLLOUT);
    if (number === Errno.EAGAIN) {
      this.#retries.set(slot, encoded);
      this.timer(CONNECT_RETRY_MS, this.#retry, slot);
      return;
    }
    this.#connected(slot, number);
  }

  #connectAgain(slot: number): void {
    const encoded = this.#retries.get(slot);
    if (encoded === undefined) return;
    this.#retries.delete(slot);
    this.#connect(slot, encoded);
  }

  #connected(slot: number, number: number): void {
    const fd = this.operations.fd[slot] as number;
    if (number === 0) setStreamOptions(fd);
    else libc.close(fd);
    this.operations.post(slot, number === 0 ? fd : -number);
  }

  #receive(slot: number, fd: number): void {
    this.#aim(slot);
    this.#address(this.#scratch.address + IOVEC_AT, 1);
    for (;;) {
      const got = libc.recvmsg(fd, this.#scratch.pointer, MSG_DONTWAIT);
      if (got >= 0) return this.operations.post(slot, got);
      if (errno() === Errno.EINTR) continue;
      if (errno() === Errno.EAGAIN) return this.#await(slot, POLLIN);
      return this.#post(slot, got);
    }
  }

  #send(slot: number, fd: number): void {
    const { operations } = this;
    for (;;) {
      this.#address(this.base + (operations.at[slot] as number), operations.length[slot] as number);
      const sent = libc.sendmsg(fd, this.#scratch.pointer, MSG_DONTWAIT_NOSIGNAL);
      if (sent < 0) {
        if (errno() === Errno.EINTR) continue;
        if (errno() === Errno.EAGAIN) return this.#await(slot, POLLOUT);
        return this.#post(slot, sent);
      }
      if (this.advance(slot, sent)) return operations.post(slot, operations.done[slot] as number);
      if (sent === 0) return operations.post(slot, -Errno.EIO);
    }
  }

  #writeVector(slot: number, fd: number): void {
    // writev(2) takes a pointer, and a pointer to a changing address would be an object per call: the vector
    // is copied to where a pointer exists already.
    const words = this.words;
    const from = (this.operations.at[slot] as number) >> 2;
    const count = this.operations.length[slot] as number;
    const scratch = this.#scratchWords;
    if (count > MAX_SEGMENTS) return this.operations.post(slot, -Errno.EINVAL);
    for (let w = 0; w < 4 * count; w++) scratch[VECTOR_AT / 4 + w] = words[from + w] as number;
    for (;;) {
      const put = libc.writev(fd, this.#vector, count);
      if (put >= 0) return this.operations.post(slot, put);
      if (errno() === Errno.EINTR) continue;
      if (errno() === Errno.EAGAIN) return this.#await(slot, POLLOUT);
      return this.#post(slot, put);
    }
  }
}
