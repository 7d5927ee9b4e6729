/**
 * The production world: io_uring. One system call per pass of the loop submits everything the pass asked for
 * and waits for the next completions; an idle loop sleeps without a single wake-up.
 *
 * @module
 */
import { Errno } from "./errno.ts";
import { type Address, type Completer, MAX_OPERATIONS, type World } from "./io.ts";
import { libc, mapMemory, type Mapping, RWF_DSYNC, unmap } from "./libc.ts";
import { LoopIo } from "./loop.ts";
import { Kind } from "./operations.ts";
import { encodeAddress, openSocket, setStreamOptions, SOCK_CLOEXEC, SOCKADDR_BYTES } from "./sockets.ts";
import { Ring } from "./uring_ring.ts";

// IORING_OP_* of linux/io_uring.h.
const OP_WRITEV = 2;
const OP_FSYNC = 3;
const OP_POLL_ADD = 6;
const OP_SENDMSG = 9;
const OP_ACCEPT = 13;
const OP_ASYNC_CANCEL = 14;
const OP_CONNECT = 16;
const OP_FALLOCATE = 17;
const OP_READ = 22;
const OP_WRITE = 23;
const OP_SEND = 26;
const OP_RECV = 27;

const FSYNC_DATASYNC = 1;
const POLLIN = 1;
/** MSG_WAITALL: the kernel goes on until all is sent (5.18); MSG_NOSIGNAL: EPIPE instead of SIGPIPE. */
const MSG_WAITALL_NOSIGNAL = 0x100 | 0x4000;
/** IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY (5.19). */
const CANCEL_EVERYTHING = 0b101;

/** Size of the submission queue; a pass that asks for more costs one more system call per so many. */
const SUBMISSION_ENTRIES = 1024;

/** struct msghdr of a 64-bit machine has 56 bytes: iov at 16, iovlen at 24; the rest stays zero. */
const MSGHDR_BYTES = 64;
const MSGHDR_WORDS = MSGHDR_BYTES / 4;

/** Direct I/O and the page cache work in blocks of this size; see the end of a read. */
const BLOCK_BYTES = 4096;

/** `mode` of a read that waits until its non-blocking stream has something to read. */
const AWAITING = 1;

/** How often and how long the end of cancelled operations is awaited, at most. */
const RELEASE_ROUNDS = 20;
const RELEASE_ROUND_MS = 50;

const TWO_32 = 2 ** 32;

/** `user_data` of an entry without a slot. */
const NO_SLOT = -1;

/** `Io` over io_uring. Belongs to the thread that made it. */
export class UringIo extends LoopIo {
  /** Which implementation this is. */
  readonly world: World = "uring";
  /** io_uring waits for blocking descriptors itself; it reports EAGAIN for others. */
  protected readonly nonBlockingListeners = false;

  readonly #ring: Ring;
  /** One msghdr per slot. */
  readonly #headers: Mapping;
  readonly #headerWords: Uint32Array<ArrayBuffer>;
  /** One socket address per slot. */
  readonly #addresses: Mapping;
  readonly #addressBytes: Uint8Array<ArrayBuffer>;
  /** Slots that found the submission queue full even after a submit, oldest first. */
  readonly #backlog = new Int32Array(MAX_OPERATIONS);
  #backlogHead = 0;
  #backlogCount = 0;
  /** Cancellations whose own end has not come. */
  #cancels = 0;
  #released = false;

  /**
   * Maps the arena and sets the ring up.
   *
   * @throws {IoError} EPERM, ENOSYS and others where io_uring cannot be used
   */
  constructor(arenaBytes: number) {
    super(arenaBytes);
    try {
      this.#ring = new Ring(SUBMISSION_ENTRIES, MAX_OPERATIONS);
    } catch (error) {
      this.unmapArena();
      throw error;
    }
    this.#headers = mapMemory(MAX_OPERATIONS * MSGHDR_BYTES);
    this.#headerWords = new Uint32Array(this.#headers.buffer);
    this.#addresses = mapMemory(MAX_OPERATIONS * SOCKADDR_BYTES);
    this.#addressBytes = new Uint8Array(this.#addresses.buffer);
  }

  /** See `Io.connect`. */
  connect(address: Address, who: Completer, tag: number): void {
    const encoded = encodeAddress(address);
    const fd = openSocket(encoded, false);
    const slot = this.operations.take(Kind.CONNECT, fd, 0, encoded.length, 0, who, tag);
    if (fd < 0) {
      this.operations.post(slot, fd);
      return;
    }
    this.#addressBytes.set(encoded, slot * SOCKADDR_BYTES);
    this.start(slot);
  }

  /** See `Io.interrupt`. */
  interrupt(fd: number): void {
    for (const slot of this.operations.waitingOn(fd)) {
      // Also one that is about to be asked again, or waits for room, gets no further: see `start` and `wait`.
      this.operations.interrupted[slot] = 1;
      if (this.#ring.full) this.#ring.submit();
      if (this.#ring.full) continue;
      this.#ring.push(OP_ASYNC_CANCEL, -1, 0, slot, 0, 0, NO_SLOT);
      this.#cancels++;
    }
  }

  /** Queues the operation in a slot. */
  protected start(slot: number): void {
    if (this.#released || this.operations.interrupted[slot] === 1) {
      this.operations.post(slot, -Errno.ECANCELED);
      return;
    }
    if (this.#ring.full) this.#ring.submit();
    if (this.#ring.full || this.#backlogCount > 0) {
      this.#backlog[(this.#backlogHead + this.#backlogCount++) % MAX_OPERATIONS] = slot;
    } else this.#push(slot);
  }

  /** See {@linkcode LoopIo}. */
  protected wait(ms: number): void {
    this.#ring.wait(this.#backlogCount > 0 ? 0 : ms);
    while (this.#backlogCount > 0 && !this.#ring.full) {
      this.#push(this.#backlog[this.#backlogHead] as number);
      this.#backlogHead = (this.#backlogHead + 1) % MAX_OPERATIONS;
      this.#backlogCount--;
    }
  }

  /** See {@linkcode LoopIo}. */
  protected harvest(): void {
    const ring = this.#ring;
    for (let n = ring.ready; n > 0; n--) {
      const slot = ring.userData, result = ring.result;
      ring.take();
      if (slot === NO_SLOT) this.#cancels--;
      else this.#ended(slot, result);
    }
  }

  /** See {@linkcode LoopIo}. */
  protected release(): void {
    this.#released = true;
    this.#cancelAll();
    this.#ring.close();
    unmap(this.#headers);
    unmap(this.#addresses);
  }

  #push(slot: number): void {
    const { kind, fd, at, length, offset } = this.operations;
    const ring = this.#ring;
    const file = fd[slot] as number;
    const address = this.base + (at[slot] as number);
    const size = length[slot] as number;
    switch (kind[slot] as Kind) {
      case Kind.READ:
        if (this.operations.mode[slot] === AWAITING) {
          return ring.push(OP_POLL_ADD, file, 0, 0, 0, POLLIN, slot);
        }
        return ring.push(OP_READ, file, offset[slot] as number, address, size, 0, slot);
      case Kind.WRITE:
        return ring.push(OP_WRITE, file, offset[slot] as number, address, size, 0, slot);
      case Kind.WRITE_DURABLE:
        return ring.push(OP_WRITE, file, offset[slot] as number, address, size, RWF_DSYNC, slot);
      case Kind.SYNC_DATA:
        return ring.push(OP_FSYNC, file, 0, 0, 0, FSYNC_DATASYNC, slot);
      case Kind.FALLOCATE:
        // The length travels in `addr`, the mode in `len`.
        return ring.push(
          OP_FALLOCATE,
          file,
          offset[slot] as number,
          size,
          this.operations.mode[slot] as number,
          0,
          slot,
        );
      case Kind.ACCEPT:
        return ring.push(OP_ACCEPT, file, 0, 0, 0, SOCK_CLOEXEC, slot);
      case Kind.CONNECT:
        return ring.push(OP_CONNECT, file, size, this.#addresses.address + slot * SOCKADDR_BYTES, 0, 0, slot);
      case Kind.RECEIVE:
        return ring.push(OP_RECV, file, 0, address, size, 0, slot);
      case Kind.SEND:
        return this.#pushSend(slot, file, size);
      case Kind.WRITE_VECTOR:
        return ring.push(OP_WRITEV, file, -1, address, size, 0, slot);
    }
  }

  #pushSend(slot: number, file: number, count: number): void {
    const vector = this.operations.at[slot] as number;
    if (count === 1) {
      const w = vector >> 2;
      const words = this.words;
      const address = (words[w] as number) + (words[w + 1] as number) * TWO_32;
      return this.#ring.push(OP_SEND, file, 0, address, words[w + 2] as number, MSG_WAITALL_NOSIGNAL, slot);
    }
    const header = slot * MSGHDR_WORDS;
    const words = this.#headerWords;
    const address = this.base + vector;
    words[header + 4] = address;
    words[header + 5] = address / TWO_32;
    words[header + 6] = count;
    this.#ring.push(
      OP_SENDMSG,
      file,
      0,
      this.#headers.address + slot * MSGHDR_BYTES,
      1,
      MSG_WAITALL_NOSIGNAL,
      slot,
    );
  }

  /** Treats a completion: goes on where something is missing, else tells the owner. */
  #ended(slot: number, result: number): void {
    const operations = this.operations;
    switch (operations.kind[slot] as Kind) {
      case Kind.READ:
        return this.#readEnded(slot, result);
      case Kind.WRITE:
      case Kind.WRITE_DURABLE:
        return this.#writeEnded(slot, result);
      case Kind.SEND:
        if (result === -Errno.EINTR) return this.start(slot);
        if (result < 0) return operations.finish(slot, result);
        if (this.advance(slot, result)) return operations.finish(slot, operations.done[slot] as number);
        return result > 0 ? this.start(slot) : operations.finish(slot, -Errno.EIO);
      case Kind.ACCEPT:
        // The peer gave up between the handshake and the accept: wait for the next one.
        if (result === -Errno.ECONNABORTED || result === -Errno.EINTR) return this.start(slot);
        if (result >= 0) setStreamOptions(result);
        return operations.finish(slot, result);
      case Kind.CONNECT: {
        const fd = operations.fd[slot] as number;
        if (result < 0) libc.close(fd);
        else setStreamOptions(fd);
        return operations.finish(slot, result < 0 ? result : fd);
      }
      default:
        if (result === -Errno.EINTR) return this.start(slot);
        return operations.finish(slot, result);
    }
  }

  #readEnded(slot: number, result: number): void {
    const operations = this.operations;
    const offset = operations.offset[slot] as number;
    if (operations.mode[slot] === AWAITING) {
      operations.mode[slot] = 0;
      return result < 0 ? operations.finish(slot, result) : this.start(slot);
    }
    if (result === -Errno.EAGAIN && offset < 0) {
      operations.mode[slot] = AWAITING;
      return this.start(slot);
    }
    if (result <= 0) {
      if (result === -Errno.EINTR || (result === -Errno.EAGAIN && offset >= 0)) return this.start(slot);
      return operations.finish(slot, result < 0 ? result : operations.done[slot] as number);
    }
    const left = (operations.length[slot] as number) - result;
    const done = (operations.done[slot] = (operations.done[slot] as number) + result);
    // A read is cut short at a page boundary or at the end of the file; only the former goes on. Streams
    // (no offset) give what they have.
    if (left <= 0 || offset < 0 || (offset + result) % BLOCK_BYTES !== 0) {
      return operations.finish(slot, done);
    }
    this.#moveOn(slot, result, left);
  }

  #writeEnded(slot: number, result: number): void {
    const operations = this.operations;
    const offset = operations.offset[slot] as number;
    if (result < 0) {
      if (result === -Errno.EINTR || (result === -Errno.EAGAIN && offset >= 0)) return this.start(slot);
      return operations.finish(slot, result);
    }
    const left = (operations.length[slot] as number) - result;
    const done = (operations.done[slot] = (operations.done[slot] as number) + result);
    if (left <= 0) return operations.finish(slot, done);
    if (result === 0) return operations.finish(slot, -Errno.EIO);
    this.#moveOn(slot, result, left);
  }

  #moveOn(slot: number, by: number, left: number): void {
    const { at, length, offset } = this.operations;
    at[slot] = (at[slot] as number) + by;
    length[slot] = left;
    if ((offset[slot] as number) >= 0) offset[slot] = (offset[slot] as number) + by;
    this.start(slot);
  }

  /** Ends what is under way, so that the kernel neither holds sockets nor writes into the arena afterwards. */
  #cancelAll(): void {
    const ring = this.#ring;
    let left = this.operations.underWay - this.operations.ended - this.#backlogCount;
    if (left === 0) return;
    if (ring.full) ring.submit();
    if (ring.full) return;
    ring.push(OP_ASYNC_CANCEL, -1, 0, 0, 0, CANCEL_EVERYTHING, NO_SLOT);
    left += this.#cancels + 1;
    for (let round = 0; round < RELEASE_ROUNDS && left > 0; round++) {
      ring.wait(RELEASE_ROUND_MS);
      for (; ring.ready > 0; left--) {
        const slot = ring.userData, result = ring.result;
        ring.take();
        if (slot !== NO_SLOT) this.#abandon(slot, result);
      }
    }
  }

  /** Closes the descriptor that an operation of which nobody will hear anything opened or got. */
  #abandon(slot: number, result: number): void {
    const kind = this.operations.kind[slot];
    if (kind === Kind.CONNECT) libc.close(this.operations.fd[slot] as number);
    else if (kind === Kind.ACCEPT && result >= 0) libc.close(result);
  }
}
