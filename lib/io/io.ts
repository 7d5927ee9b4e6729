/**
 * The one interface between Drover's data path and the world: sockets, files, time, chance.
 *
 * It is completion based and allocates nothing per operation. The caller passes a {@linkcode Completer} and a
 * number, the tag; when the operation ends, `completer.complete(tag, result)` is called from the loop, never
 * from inside the submitting call. A result of 0 or more is success (bytes, or a descriptor), a negative one
 * is `-errno`.
 *
 * Three worlds implement it: `uring` (io_uring), `poll` (non-blocking calls and poll(2)) and `sim` (a seeded
 * simulation). Code above cannot tell which it runs in. One thread owns an Io; its loop blocks, therefore
 * neither promises nor timers of the runtime run on that thread while {@linkcode Io.run} is active.
 *
 * @module
 */
import type { Arena } from "./arena.ts";
import type { Files } from "./files.ts";

/** Receives the end of operations. */
export interface Completer {
  /**
   * Takes the result of one operation.
   *
   * @param tag the number given at submission
   * @param result 0 or more: bytes or descriptor; below 0: `-errno`
   */
  complete(tag: number, result: number): void;
}

/** Work to be done once, after the completions at hand and before the loop blocks; see {@linkcode Io.defer}. */
export interface Deferred {
  /** Runs the work. May defer again: that runs in the same pass. */
  runDeferred(): void;
}

/** Where a stream socket listens or connects to. */
export type Address =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** `tcp://host:port` or `unix:path`, for people and logs. */
export function formatAddress(address: Address): string {
  return address.kind === "unix" ? `unix:${address.path}` : `tcp://${address.host}:${address.port}`;
}

/** The names of the three worlds. */
export type World = "uring" | "poll" | "sim";

/** No timer: what {@linkcode Io.timer} never returns. */
export const NO_TIMER = -1 as number;

/** Most operations that may be under way at once in one Io. Every user of an Io has a bound; this is their sum. */
export const MAX_OPERATIONS = 8192;

/** Most timers armed at once in one Io. */
export const MAX_TIMERS = 1024;

/** The world, as the data path sees it. All offsets in files and lengths are bytes; buffers are arena offsets. */
export interface Io {
  /** Which implementation this is. */
  readonly world: World;
  /** The memory that every buffer given to this Io lies in. */
  readonly arena: Arena;
  /** Synchronous operations on names and metadata. Not for the hot path. */
  readonly files: Files;

  /** Gives the memory of a part of the arena back to the system: what was in it is lost. Whole pages. */
  giveBack(at: number, bytes: number): void;
  /** Wants huge pages under a part of the arena that will hold large pieces; both numbers in whole huge pages. */
  hugePages(at: number, bytes: number): void;

  /** Monotonic time in milliseconds (fraction allowed), constant between two waits of the loop. */
  now(): number;
  /** Wall-clock time in milliseconds since 1970, constant between two waits of the loop. */
  wallClock(): number;
  /** A random integer in [0, 2^32). Not for secrets. */
  random32(): number;

  /**
   * Reads up to `length` bytes of a file at `offset`; may be short only at the end of the file. An offset below
   * 0 means "none": the descriptor is a stream such as an eventfd or a device, of which one read is done.
   */
  read(fd: number, at: number, length: number, offset: number, who: Completer, tag: number): void;
  /** Writes `length` bytes at `offset`. A short count is completed by the implementation; result = length. */
  write(fd: number, at: number, length: number, offset: number, who: Completer, tag: number): void;
  /**
   * Writes `count` segments to a stream descriptor such as a device with ONE gathered write without an offset;
   * result = the bytes the descriptor took. For devices that take a message per write (/dev/fuse).
   * @param vector as for {@linkcode send}
   */
  writeVector(fd: number, vector: number, count: number, who: Completer, tag: number): void;
  /** As {@linkcode write}, and on stable storage before it completes (RWF_DSYNC). */
  writeDurable(fd: number, at: number, length: number, offset: number, who: Completer, tag: number): void;
  /** fdatasync: completes when all writes that completed before the call are on stable storage. */
  syncData(fd: number, who: Completer, tag: number): void;
  /** Gives the space of a range back (fallocate PUNCH_HOLE|KEEP_SIZE); it reads as zeros afterwards. */
  punchHole(fd: number, offset: number, length: number, who: Completer, tag: number): void;
  /** fallocate with a mode of the caller's, such as ZERO_RANGE. */
  fallocate(fd: number, mode: number, offset: number, length: number, who: Completer, tag: number): void;

  /**
   * Opens a listening stream socket (SO_REUSEADDR; a stale unix socket file is removed first).
   * @throws {IoError}
   */
  listen(address: Address, backlog?: number): number;
  /** The port a listening TCP socket got, for listeners on port 0. */
  boundPort(listener: number): number;
  /** Waits for one connection. Result: its descriptor (no-delay, keep-alive set). */
  accept(listener: number, who: Completer, tag: number): void;
  /**
   * Connects a stream socket. Result: its descriptor (no-delay, keep-alive set).
   * @throws {IoError} EINVAL for an address that cannot be one; the host must be an IP address or `localhost`
   */
  connect(address: Address, who: Completer, tag: number): void;
  /** Receives 1 to `length` bytes; result 0 = the peer closed its side. */
  receive(fd: number, at: number, length: number, who: Completer, tag: number): void;
  /**
   * Sends all bytes of `count` segments; result = the sum of their lengths, or an error.
   * @param vector arena offset of `count` pairs as written by {@linkcode Io.segment}; 16-byte aligned, at
   *   most {@linkcode MAX_SEGMENTS}; owned by the Io until completion (it may change it)
   */
  send(fd: number, vector: number, count: number, who: Completer, tag: number): void;
  /** Writes one (buffer, length) pair for {@linkcode send} at `vector + 16 * index`. */
  segment(vector: number, index: number, at: number, length: number): void;
  /** Ends both directions of a socket: operations under way complete soon, with 0 or an error. */
  shutdown(fd: number): void;
  /** Closes a descriptor that has no operation under way. */
  close(fd: number): void;
  /**
   * Ends the receives, accepts and stream reads that wait on a descriptor, soon, with `-ECANCELED`. One that has got
   * something already ends as if nothing had been said: no byte and no connection is lost. The descriptor is none the
   * worse for it; see the live upgrade.
   */
  interrupt(fd: number): void;
  /** Makes a listener that another process opened fit for {@linkcode Io.accept} here. @throws {IoError} */
  adoptListener(fd: number): void;

  /** Calls `who.complete(tag, 0)` after at least `ms` milliseconds. @returns a handle for {@linkcode cancel} */
  timer(ms: number, who: Completer, tag: number): number;
  /** Forgets a timer; its completer is not called. Unknown and fired handles are ignored. */
  cancel(timer: number): void;
  /** Runs `task` once after the completions at hand, before blocking. A task queued twice may run twice. */
  defer(task: Deferred): void;

  /** Runs the loop until {@linkcode stop}. */
  run(): void;
  /** Makes {@linkcode run} return after the current pass. */
  stop(): void;
  /** Frees rings, memory and descriptors of the Io itself. */
  [Symbol.dispose](): void;
}

/** Most segments of one {@linkcode Io.send}: Linux' IOV_MAX. */
export const MAX_SEGMENTS = 1024;
