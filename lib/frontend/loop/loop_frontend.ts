/**
 * The volume as one file of a FUSE file system, under which the host attaches a loop device: a block device on
 * every kernel, without an initiator. This is the volume thread's part: it serves the requests of the kernel.
 * `attach.ts` is the host's part, on the main thread.
 *
 * The way of a request: the kernel's loop driver does direct I/O on the file, FUSE turns it into a request, one
 * read of /dev/fuse takes it, the volume does it, one gathered write answers it. The data of a WRITE lands page
 * aligned, because the read begins so far before a page boundary as the request's header is long. A flush of
 * the block device arrives as FSYNC, a discard or a write of zeros as FALLOCATE.
 *
 * Nothing is cached between the loop device and the volume: a write that the host saw completed is in the
 * volume.
 *
 * Requests come from the kernel, but a message that makes no sense is answered with an error all the same, and
 * never reaches the volume.
 *
 * @module
 */
import { type BlockDevice, Op, SECTOR_BYTES } from "../../block/device.ts";
import { Errno } from "../../io/errno.ts";
import type { Completer, Io } from "../../io/io.ts";
import type { Frontend, Parcel } from "../frontend.ts";
import { Standstill } from "../standstill.ts";
import {
  DATA_AT,
  type LoopEvents,
  type LoopMemory,
  type LoopOptions,
  REQUEST_AT,
  REQUEST_BYTES,
  SLOT_BYTES,
  VECTOR_AT,
} from "./loop_options.ts";
import * as fuse from "./protocol.ts";

export { LOOP_DEPTH, type LoopEvents, LoopMemory, type LoopOptions } from "./loop_options.ts";

/**
 * Reads of /dev/fuse under way at once. One read takes one request; with several, one pass of the loop takes
 * several: a third more requests per second at a queue depth of 32 than with one. Every request wakes all of
 * them, so still more gain nothing and cost latency at a depth of 1.
 */
export const READS = 4;

/** Low bits of a tag: what ended. The slot is above them. */
const READ_ENDED = 0, DEVICE_ENDED = 1, REPLY_ENDED = 2;
const TAG_BITS = 2, TAG_MASK = (1 << TAG_BITS) - 1;

/** Serves the file; see the module text. */
export class LoopFrontend implements Frontend, Completer {
  /** See {@linkcode Frontend.kind}. */
  readonly kind = "loop";
  /** See {@linkcode Frontend.endpoint}. */
  endpoint: string;
  /** Messages that made no sense so far. */
  malformed = 0;
  /** Replies that the kernel did not take: the request was given up meanwhile. */
  lost = 0;

  readonly #view: DataView<ArrayBuffer>;
  readonly #fd: number;
  readonly #memory: LoopMemory;
  readonly #events: LoopEvents;
  readonly #reads: number;
  readonly #openFlags: number;
  /** Slots not in use; the last given back is taken first, so that few pages are ever touched. */
  readonly #free: Int32Array<ArrayBuffer>;
  #freeCount: number;
  /** Bytes of data of the device operation in a slot. */
  readonly #length: Uint32Array<ArrayBuffer>;
  #reading = 0;
  #agreed: boolean;
  #suspended: boolean;
  readonly #standstill: Standstill;
  #ended = false;
  #gone = false;
  #result = 0;
  #done: (() => void) | undefined;

  /** Begins to serve. */
  constructor(
    /** The world. */
    readonly io: Io,
    /** The volume that is served. */
    readonly device: BlockDevice,
    options: LoopOptions,
  ) {
    this.endpoint = options.endpoint;
    this.#view = io.arena.view;
    this.#fd = options.fd;
    this.#agreed = this.#suspended = options.handed ?? false;
    this.#standstill = new Standstill(io);
    this.#memory = options.memory;
    this.#events = options.events;
    this.#reads = options.reads ?? READS;
    this.#openFlags = fuse.FOPEN_NOFLUSH |
      (options.direct ?? true ? fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES : 0);
    const depth = options.memory.depth;
    this.#free = new Int32Array(depth);
    this.#length = new Uint32Array(depth);
    for (let slot = 0; slot < depth; slot++) this.#free[slot] = depth - 1 - slot;
    this.#freeCount = depth;
    device.onResize(() => {
      if (!this.#ended) this.#events.onResized(device.bytes);
    });
    this.#arm();
  }

  /**
   * See {@linkcode Frontend.stop}. The kernel ends the connection, not we: `detachLoop` of the host's part goes
   * first. Until it has unmounted the file system, requests are served and `done` waits.
   */
  stop(done: () => void): void {
    this.#done = done;
    if (this.#gone) done();
  }

  /**
   * See {@linkcode Frontend.suspend}. The kernel keeps its requests meanwhile, and whoever waits for them waits. Before
   * the first one there is nothing that another process could go on with.
   */
  suspend(graceMs: number, done: (problem: string) => void): void {
    this.#suspended = true;
    this.io.interrupt(this.#fd);
    const still = () => this.#freeCount === this.#memory.depth && this.#agreed;
    this.#standstill.wait(graceMs, still, (rests) => {
      done(
        this.#ended
          ? "the kernel has ended the file system"
          : rests
          ? ""
          : "requests of the loop device do not end",
      );
    });
  }

  /** See {@linkcode Frontend.parcel}. */
  parcel(): Parcel {
    return { state: {}, descriptors: [this.#fd] };
  }

  /** See {@linkcode Frontend.resume}. */
  resume(): void {
    this.#standstill.cancel();
    this.#suspended = false;
    this.#arm();
  }

  /** See {@linkcode Frontend.leave}. */
  leave(): void {
    this.#ended = this.#gone = true;
    this.io.close(this.#fd);
  }

  /** Ends of reads, of operations of the volume and of replies. */
  complete(tag: number, result: number): void {
    const slot = tag >> TAG_BITS;
    switch (tag & TAG_MASK) {
      case READ_ENDED:
        this.#reading--;
        if (result < 0) this.#readFailed(slot, result);
        else this.#request(slot, result);
        break;
      case DEVICE_ENDED:
        return this.#deviceEnded(slot, result);
      case REPLY_ENDED:
        // ENOENT: the request was given up. ENODEV: the connection ended. Nobody is left to be told.
        if (result < 0) this.lost++;
        this.#release(slot);
        break;
    }
    this.#arm();
  }

  #at(slot: number): number {
    return this.#memory.base + slot * SLOT_BYTES;
  }

  /** Keeps reads under way while there are slots. */
  #arm(): void {
    while (this.#reading < this.#reads && this.#freeCount > 0 && !this.#ended && !this.#suspended) {
      const slot = this.#free[--this.#freeCount] as number;
      this.#reading++;
      const at = this.#at(slot) + REQUEST_AT;
      this.io.read(this.#fd, at, REQUEST_BYTES, -1, this, (slot << TAG_BITS) | READ_ENDED);
    }
  }

  #release(slot: number): void {
    this.#free[this.#freeCount++] = slot;
    if (this.#ended) this.#finish();
  }

  #readFailed(slot: number, result: number): void {
    // ENOENT: the request was given up while it was being copied. ECANCELED: see `suspend`. Else signals and such.
    const passing = result === -Errno.ENOENT || result === -Errno.EINTR || result === -Errno.EAGAIN ||
      result === -Errno.ECANCELED;
    if (!passing && !this.#ended) {
      this.#ended = true;
      this.#result = result === -Errno.ENODEV ? 0 : result;
    }
    this.#release(slot);
  }

  /** Once the connection has ended and nothing is under way: the last words. */
  #finish(): void {
    if (this.#freeCount < this.#memory.depth || this.#gone) return;
    this.#gone = true;
    this.io.close(this.#fd);
    this.#events.onEnded(this.#result);
    this.#done?.();
  }

  /** A message arrived. */
  #request(slot: number, received: number): void {
    const view = this.#view, at = this.#at(slot) + REQUEST_AT;
    if (received < fuse.IN_HEADER_BYTES) {
      // Not even a name for the request: there is nobody to answer.
      this.malformed++;
      return this.#release(slot);
    }
    if (!fuse.isWellFormed(view, at, received)) {
      this.malformed++;
      return this.#fail(slot, Errno.EINVAL);
    }
    const opcode = view.getUint32(at + 4, true);
    if (opcode === fuse.Opcode.INIT) return this.#init(slot, at);
    if (!this.#agreed) return this.#fail(slot, Errno.EIO);
    switch (opcode) {
      case fuse.Opcode.READ:
        return this.#read(slot, at);
      case fuse.Opcode.WRITE:
        return this.#write(slot, at);
      case fuse.Opcode.FSYNC:
        return this.#isFile(at) ? this.#submit(slot, Op.FLUSH, 0, 0) : this.#empty(slot);
      case fuse.Opcode.FALLOCATE:
        return this.#fallocate(slot, at);
      default:
        return this.#rare(slot, at, opcode, received);
    }
  }

  /** Requests that come with attaching and looking, not with I/O. */
  #rare(slot: number, at: number, opcode: number, received: number): void {
    const view = this.#view, body = this.#at(slot) + fuse.OUT_HEADER_BYTES, bytes = this.device.bytes;
    switch (opcode) {
      case fuse.Opcode.LOOKUP: {
        const found = fuse.readU64(view, at + 16) === fuse.ROOT_NODE && fuse.isFileName(view, at, received);
        return this.#reply(slot, fuse.answerEntry(view, body, found, bytes));
      }
      case fuse.Opcode.SETATTR:
        // Times and modes are nobody's concern; the size is the volume's.
        if (this.#isFile(at) && fuse.changesSize(view, at, bytes)) return this.#fail(slot, Errno.EPERM);
        return this.#attributes(slot, at);
      case fuse.Opcode.GETATTR:
        return this.#attributes(slot, at);
      case fuse.Opcode.OPEN:
        if (!this.#isFile(at)) return this.#fail(slot, Errno.EISDIR);
        return this.#reply(slot, fuse.answerOpen(view, body, this.#openFlags));
      case fuse.Opcode.STATFS:
        return this.#reply(slot, fuse.answerStatfs(view, body, bytes));
      case fuse.Opcode.RELEASE:
      case fuse.Opcode.FLUSH: // close(2): makes nothing durable
      case fuse.Opcode.DESTROY:
        return this.#empty(slot);
      case fuse.Opcode.FORGET:
      case fuse.Opcode.BATCH_FORGET:
        // These have no reply. The node stays as long as we do.
        return this.#release(slot);
      default:
        // Also INTERRUPT: ENOSYS makes the kernel stop sending it. Every request ends soon by itself.
        return this.#fail(slot, Errno.ENOSYS);
    }
  }

  #isFile(at: number): boolean {
    return fuse.readU64(this.#view, at + 16) === fuse.FILE_NODE;
  }

  #init(slot: number, at: number): void {
    // Two slots are kept for requests that are not counted as background, such as FSYNC.
    const depth = Math.max(1, this.#memory.depth - 2);
    const body = this.#at(slot) + fuse.OUT_HEADER_BYTES;
    const agreement = fuse.answerInit(this.#view, body, at, depth);
    if (agreement === fuse.Agreement.REFUSED) return this.#fail(slot, Errno.EPROTO);
    this.#agreed = agreement === fuse.Agreement.AGREED;
    this.#reply(slot, fuse.INIT_OUT_BYTES);
  }

  #attributes(slot: number, at: number): void {
    const node = fuse.readU64(this.#view, at + 16);
    if (node !== fuse.ROOT_NODE && node !== fuse.FILE_NODE) return this.#fail(slot, Errno.ENOENT);
    const body = this.#at(slot) + fuse.OUT_HEADER_BYTES;
    this.#reply(slot, fuse.answerAttr(this.#view, body, node, this.device.bytes));
  }

  #read(slot: number, at: number): void {
    const offset = fuse.readU64(this.#view, at + 48), size = this.#view.getUint32(at + 56, true);
    if (!this.#isFile(at) || offset < 0 || offset % SECTOR_BYTES !== 0 || size > fuse.MAX_DATA_BYTES) {
      return this.#fail(slot, Errno.EINVAL);
    }
    // The kernel reads whole pages, also the one in which the file ends.
    const length = Math.min(size, Math.max(0, this.device.bytes - offset));
    if (length === 0) return this.#empty(slot);
    if (length % SECTOR_BYTES !== 0) return this.#fail(slot, Errno.EINVAL);
    this.#submit(slot, Op.READ, offset, length);
  }

  #write(slot: number, at: number): void {
    const offset = fuse.readU64(this.#view, at + 48), size = this.#view.getUint32(at + 56, true);
    if (
      !this.#isFile(at) || offset < 0 || offset % SECTOR_BYTES !== 0 || size % SECTOR_BYTES !== 0 ||
      size === 0
    ) {
      return this.#fail(slot, Errno.EINVAL);
    }
    if (offset + size > this.device.bytes) return this.#fail(slot, Errno.ENOSPC);
    this.#submit(slot, Op.WRITE, offset, size);
  }

  #fallocate(slot: number, at: number): void {
    const view = this.#view;
    if (!this.#isFile(at) || !fuse.clearsRange(view, at)) return this.#fail(slot, Errno.EOPNOTSUPP);
    const offset = fuse.readU64(view, at + 48), length = fuse.readU64(view, at + 56);
    if (
      offset < 0 || length <= 0 || offset % SECTOR_BYTES !== 0 || length % SECTOR_BYTES !== 0 ||
      offset + length > this.device.bytes
    ) {
      return this.#fail(slot, Errno.EINVAL);
    }
    this.#submit(slot, Op.UNMAP, offset, length);
  }

  #submit(slot: number, op: Op, offset: number, length: number): void {
    const data = op === Op.READ || op === Op.WRITE;
    this.#length[slot] = data ? length : 0;
    const at = data ? this.#at(slot) + DATA_AT : 0;
    this.device.submit(op, offset, length, at, this, (slot << TAG_BITS) | DEVICE_ENDED);
  }

  #deviceEnded(slot: number, result: number): void {
    if (result < 0) return this.#fail(slot, -result);
    const at = this.#at(slot), view = this.#view;
    const length = this.#length[slot] as number;
    // The request's header still lies where it was received; only the data behind it has changed.
    if (length === 0) this.#empty(slot);
    else if (view.getUint32(at + REQUEST_AT + 4, true) === fuse.Opcode.WRITE) {
      this.#reply(slot, fuse.answerWrite(view, at + fuse.OUT_HEADER_BYTES, length));
    } else this.#send(slot, 0, length, 0);
  }

  #fail(slot: number, errno: number): void {
    this.#send(slot, 0, 0, -errno);
  }

  #empty(slot: number): void {
    this.#send(slot, 0, 0, 0);
  }

  /** Answers with `bytes` that were written behind the place of the reply's header. */
  #reply(slot: number, bytes: number): void {
    this.#send(slot, bytes, 0, 0);
  }

  /** One gathered write: the kernel takes one reply per write. */
  #send(slot: number, body: number, data: number, error: number): void {
    const at = this.#at(slot), io = this.io;
    fuse.writeOutHeader(this.#view, at, at + REQUEST_AT, body + data, error);
    io.segment(at + VECTOR_AT, 0, at, fuse.OUT_HEADER_BYTES + body);
    if (data > 0) io.segment(at + VECTOR_AT, 1, at + DATA_AT, data);
    io.writeVector(this.#fd, at + VECTOR_AT, data > 0 ? 2 : 1, this, (slot << TAG_BITS) | REPLY_ENDED);
  }
}
