/**
 * One io_uring: its set-up, its two queues in shared memory, and the one system call. Knows nothing of what
 * the entries mean.
 *
 * Layouts are those of linux/io_uring.h.
 *
 * ```text
 * io_uring_params   0 sq_entries  4 cq_entries  8 flags  20 features  40 sq_off (40 bytes)  80 cq_off (40)
 * sq_off            0 head  4 tail  8 ring_mask  12 ring_entries  16 flags  20 dropped  24 array
 * cq_off            0 head  4 tail  8 ring_mask  12 ring_entries  16 overflow  20 cqes
 * submission (64)   0 opcode u8, flags u8, ioprio u16   4 fd   8 off u64   16 addr u64   24 len   28 op flags
 *                   32 user_data u64   40 buf_index u16 ...   the rest zero
 * completion (16)   0 user_data u64   8 res s32   12 flags
 * getevents_arg     0 sigmask u64   8 sigmask_sz   12 min_wait   16 ts u64 (address of a timespec)
 * ```
 *
 * @module
 */
import { Errno, IoError } from "./errno.ts";
import { errno, libc, mapMemory, type Mapping, mapShared, unmap } from "./libc.ts";

const NR_SETUP = 425;
const NR_ENTER = 426;

const SETUP_CQSIZE = 1 << 3;
const SETUP_CLAMP = 1 << 4;
/** 5.18: an entry that is refused does not keep the ones behind it from being submitted. */
const SETUP_SUBMIT_ALL = 1 << 7;
/** 5.19: no interrupt to this thread for a completion; it will ask. */
const SETUP_COOP_TASKRUN = 1 << 8;
/** 6.0: only this thread submits. */
const SETUP_SINGLE_ISSUER = 1 << 12;
/** 6.1: completions are produced when this thread asks for them, never in the middle of something else. */
const SETUP_DEFER_TASKRUN = 1 << 13;

/** Sets of flags, the best first; an older kernel answers EINVAL to those it does not know. */
const SETUP_CHOICES = [
  SETUP_CLAMP | SETUP_CQSIZE | SETUP_SUBMIT_ALL | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN,
  SETUP_CLAMP | SETUP_CQSIZE | SETUP_SUBMIT_ALL | SETUP_COOP_TASKRUN,
  SETUP_CLAMP | SETUP_CQSIZE,
];

const FEATURE_SINGLE_MMAP = 1 << 0;
const FEATURE_NODROP = 1 << 1;
/** 5.11: a time-out as an argument of the wait. */
const FEATURE_EXT_ARG = 1 << 8;
const NEEDED_FEATURES = FEATURE_SINGLE_MMAP | FEATURE_NODROP | FEATURE_EXT_ARG;

const MAP_OFFSET_RINGS = 0n;
const MAP_OFFSET_ENTRIES = 0x1000_0000n;

const ENTER_GETEVENTS = 1 << 0;
const ENTER_EXT_ARG = 1 << 3;

const PARAMS_BYTES = 120;
const SQE_WORDS = 16;
const CQE_WORDS = 4;
/** In the argument page: getevents_arg at 0, the timespec behind it. */
const ARGUMENT_BYTES = 24n;
const TIMESPEC_AT = 32;

const TWO_32 = 2 ** 32;

/** How long to wait for completions when the kernel is out of memory for new entries, milliseconds. */
const STARVED_WAIT_MS = 1;

function setup(entries: number, completions: number): { fd: number; params: DataView; flags: number } {
  for (const flags of SETUP_CHOICES) {
    const bytes = new Uint8Array(PARAMS_BYTES);
    const params = new DataView(bytes.buffer);
    params.setUint32(8, flags, true);
    params.setUint32(4, completions, true);
    const fd = libc.syscall3(NR_SETUP, entries, bytes);
    if (fd >= 0) return { fd, params, flags };
    if (errno() !== Errno.EINVAL) break;
  }
  throw new IoError("io_uring_setup", "", errno());
}

/** A submission queue, a completion queue, and the call that moves both on. */
export class Ring {
  /** The set-up flags that the kernel accepted. */
  readonly flags: number;
  /** Entries of the submission queue. */
  readonly entries: number;

  readonly #fd: number;
  readonly #rings: Mapping;
  readonly #sqes: Mapping;
  readonly #argument: Mapping;
  readonly #timespecAddress: number;
  readonly #timespec: BigInt64Array<ArrayBuffer>;
  readonly #argumentWords: Uint32Array<ArrayBuffer>;
  readonly #seconds: Int32Array<ArrayBuffer>;

  readonly #sqTail: Uint32Array<ArrayBuffer>;
  readonly #cqHead: Uint32Array<ArrayBuffer>;
  readonly #cqTail: Uint32Array<ArrayBuffer>;
  readonly #sqe: Uint32Array<ArrayBuffer>;
  readonly #cqe: Int32Array<ArrayBuffer>;
  readonly #sqMask: number;
  readonly #cqMask: number;
  #tail: number;
  #head: number;
  #queued = 0;

  /**
   * Sets the ring up.
   *
   * @param entries size of the submission queue, a power of two
   * @param completions size of the completion queue: as many as operations can be under way, so that it
   *   cannot overflow
   * @throws {IoError} EPERM or ENOSYS where io_uring is forbidden or unknown
   */
  constructor(entries: number, completions: number) {
    const { fd, params, flags } = setup(entries, completions);
    this.#fd = fd;
    this.flags = flags;
    const u32 = (at: number) => params.getUint32(at, true);
    if ((u32(20) & NEEDED_FEATURES) !== NEEDED_FEATURES) {
      libc.close(fd);
      throw new IoError("io_uring_setup", "(kernel older than 5.11)", Errno.ENOSYS);
    }
    this.entries = u32(0);
    const ringBytes = Math.max(u32(64) + u32(0) * 4, u32(100) + u32(4) * CQE_WORDS * 4);
    const mapped: Mapping[] = [];
    const keep = (mapping: Mapping) => mapped[mapped.push(mapping) - 1] as Mapping;
    try {
      this.#rings = keep(mapShared(fd, ringBytes, MAP_OFFSET_RINGS));
      this.#sqes = keep(mapShared(fd, u32(0) * SQE_WORDS * 4, MAP_OFFSET_ENTRIES));
      this.#argument = keep(mapMemory(4096));
    } catch (error) {
      mapped.forEach(unmap);
      libc.close(fd);
      throw error;
    }
    const rings = this.#rings.buffer;
    this.#sqTail = new Uint32Array(rings, u32(44), 1);
    this.#cqHead = new Uint32Array(rings, u32(80), 1);
    this.#cqTail = new Uint32Array(rings, u32(84), 1);
    this.#sqMask = u32(0) - 1;
    this.#cqMask = u32(4) - 1;
    const array = new Uint32Array(rings, u32(64), u32(0));
    for (let i = 0; i < array.length; i++) array[i] = i;
    this.#sqe = new Uint32Array(this.#sqes.buffer);
    this.#cqe = new Int32Array(rings, u32(100), u32(4) * CQE_WORDS);
    this.#tail = this.#sqTail[0] as number;
    this.#head = this.#cqHead[0] as number;
    this.#argumentWords = new Uint32Array(this.#argument.buffer);
    this.#timespecAddress = this.#argument.address + TIMESPEC_AT;
    this.#timespec = new BigInt64Array(this.#argument.buffer, TIMESPEC_AT, 2);
    this.#timespec.fill(0n);
    this.#seconds = new Int32Array(this.#argument.buffer, TIMESPEC_AT, 4);
  }

  /** True when {@linkcode push} has no place; {@linkcode submit} makes some. */
  get full(): boolean {
    return this.#queued > this.#sqMask;
  }

  /**
   * Writes one submission entry. The caller has seen that the queue is not {@linkcode full}.
   *
   * @param opcode IORING_OP_*
   * @param offset `off` of the entry, below 2^53; below 0: all bits set, "no offset"
   * @param address `addr` of the entry
   * @param length `len`
   * @param opFlags the field at 28, whose name depends on the operation
   * @param userData comes back with the completion
   */
  push(
    opcode: number,
    fd: number,
    offset: number,
    address: number,
    length: number,
    opFlags: number,
    userData: number,
  ): void {
    const i = (this.#tail & this.#sqMask) * SQE_WORDS;
    const sqe = this.#sqe;
    sqe[i] = opcode;
    sqe[i + 1] = fd;
    if (offset < 0) {
      sqe[i + 2] = 0xffff_ffff;
      sqe[i + 3] = 0xffff_ffff;
    } else {
      sqe[i + 2] = offset;
      sqe[i + 3] = offset / TWO_32;
    }
    sqe[i + 4] = address;
    sqe[i + 5] = address / TWO_32;
    sqe[i + 6] = length;
    sqe[i + 7] = opFlags;
    sqe[i + 8] = userData;
    // Words 9 to 15 were zero when the kernel handed the memory out and nobody writes them.
    this.#tail = (this.#tail + 1) >>> 0;
    this.#queued++;
  }

  /** Completions that wait to be taken. */
  get ready(): number {
    return (Atomics.load(this.#cqTail, 0) - this.#head) >>> 0;
  }

  /** `user_data` of the oldest completion. */
  get userData(): number {
    return this.#cqe[(this.#head & this.#cqMask) * CQE_WORDS] as number;
  }

  /** Result of the oldest completion. */
  get result(): number {
    return this.#cqe[(this.#head & this.#cqMask) * CQE_WORDS + 2] as number;
  }

  /** Takes the oldest completion off. The kernel may reuse its place after the next system call. */
  take(): void {
    this.#head = (this.#head + 1) >>> 0;
  }

  /** Hands the queued entries to the kernel, without waiting. */
  submit(): void {
    this.#enter(0, 0, 0);
  }

  /**
   * Hands the queued entries to the kernel and waits for a completion: one system call.
   *
   * @param ms at most so long; 0: does not wait; below 0: for ever
   */
  wait(ms: number): void {
    if (ms > 0) {
      const seconds = this.#seconds;
      seconds[0] = ms / 1000;
      seconds[2] = (ms % 1000) * 1e6;
    }
    if (!this.#enter(ms === 0 ? 0 : 1, ENTER_GETEVENTS | ENTER_EXT_ARG, ms > 0 ? this.#timespecAddress : 0)) {
      // No memory for new entries (EAGAIN) or completions to be taken first (EBUSY). What is under way will
      // end; the entries stay queued for the next pass.
      if (this.ready > 0) return;
      this.#seconds[0] = 0;
      this.#seconds[2] = STARVED_WAIT_MS * 1e6;
      const queued = this.#queued;
      this.#queued = 0;
      this.#enter(1, ENTER_GETEVENTS | ENTER_EXT_ARG, this.#timespecAddress);
      this.#queued += queued;
    }
  }

  /** @returns false when the kernel refused the entries for now */
  #enter(minimum: number, flags: number, timespec: number): boolean {
    Atomics.store(this.#cqHead, 0, this.#head);
    Atomics.store(this.#sqTail, 0, this.#tail);
    const words = this.#argumentWords;
    words[4] = timespec;
    words[5] = timespec / TWO_32;
    const extended = flags !== 0;
    const submitted = libc.syscall6(
      NR_ENTER,
      this.#fd,
      this.#queued,
      minimum,
      flags,
      extended ? this.#argument.pointer : null,
      extended ? ARGUMENT_BYTES : 0n,
    );
    if (submitted >= 0) {
      this.#queued -= submitted;
      return true;
    }
    switch (errno()) {
      case Errno.ETIME:
      case Errno.EINTR:
        return true;
      case Errno.EAGAIN:
      case Errno.EBUSY:
        return false;
      default:
        throw new IoError("io_uring_enter", "", errno());
    }
  }

  /** Closes the ring. Nothing of it may be used afterwards. */
  close(): void {
    libc.close(this.#fd);
    unmap(this.#rings);
    unmap(this.#sqes);
    unmap(this.#argument);
  }
}
