/**
 * Descriptors that travel from one process to another: a unix socket of messages (SOCK_SEQPACKET, unix(7)), each with
 * descriptors beside it (SCM_RIGHTS), and memory that is passed as a descriptor too. What a live upgrade stands on.
 *
 * For the main thread and for rare occasions. Whoever waits does so in a thread of the runtime's own, by poll(2), so
 * the event loop goes on.
 *
 * A message is bytes and descriptors; the kernel keeps their borders. Its end: `received` gives `undefined` when the
 * other process has closed its side or is gone, and not before everything it had sent was received.
 *
 * | struct | fields used |
 * |---|---|
 * | msghdr | iov at 16, iovlen at 24, control at 32, controllen at 40, flags at 48 |
 * | cmsghdr | len at 0 (u64), level at 8, type at 12, descriptors from 16 on |
 * | ucred | pid, uid, gid (s32 each) |
 *
 * @module
 */
import { Errno, IoError } from "./errno.ts";
import { check, errno, libc, mapMemory, type Mapping } from "./libc.ts";
import { encodeAddress } from "./sockets.ts";

const AF_UNIX = 1, SOCK_SEQPACKET = 5, SOCK_CLOEXEC = 0o2000000, SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1, SCM_RIGHTS = 1, SO_PEERCRED = 17;
const MSG_DONTWAIT = 0x40, MSG_NOSIGNAL = 0x4000, MSG_CMSG_CLOEXEC = 0x40000000;
/** MSG_TRUNC, MSG_CTRUNC: the message, or its descriptors, did not fit. */
const MSG_CUT = 0x20 | 0x08;
const POLLIN = 1;
const MFD_CLOEXEC = 1;

/** Most descriptors in one message: SCM_MAX_FD of Linux. */
export const MAX_PASSED = 253;
/** Most bytes of one message; what is longer belongs into memory that is passed. */
export const MAX_MESSAGE_BYTES = 64 * 1024;
/** Longest content of passed memory that is read, bytes: what is unread of all connections of a frontend, and more. */
export const MAX_MEMORY_BYTES: number = 256 * 1024 * 1024;

/** Layout of the scratch memory. */
const IOVEC_AT = 64, CONTROL_AT = 128, CONTROL_BYTES = 16 + 4 * (MAX_PASSED + 1), DATA_AT = 4096;
const MSGHDR_BYTES = 56;

const waiting = Deno.dlopen("libc.so.6", {
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32", nonblocking: true },
}).symbols;

let scratch: Mapping | undefined;

/** One message. Whoever receives it owns its descriptors. */
export interface Passed {
  /** The bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The descriptors, close-on-exec. */
  readonly descriptors: readonly number[];
}

/** Who is at the other end of a connection, as the kernel noted it when the connection was made. */
export interface PeerCredentials {
  /** Process; 0 when it lives in a namespace that cannot be seen from here. */
  readonly pid: number;
  /** Its effective user. */
  readonly uid: number;
}

function socket(): number {
  return check(libc.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket");
}

/** Opens a listener; no file may be at the path. @throws {IoError} EADDRINUSE, and others */
export function listenForPassing(path: string): number {
  const address = encodeAddress({ kind: "unix", path });
  const fd = socket();
  try {
    check(libc.bind(fd, address, address.length), "listen on", path);
    check(libc.listen(fd, 8), "listen on", path);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** Connects. @returns undefined when nobody listens there @throws {IoError} */
export function connectForPassing(path: string): number | undefined {
  const address = encodeAddress({ kind: "unix", path });
  const fd = socket();
  if (libc.connect(fd, address, address.length) === 0) return fd;
  const number = errno();
  libc.close(fd);
  if (number === Errno.ENOENT || number === Errno.ECONNREFUSED) return undefined;
  throw new IoError("connect", path, number);
}

/** Takes a connection that waits. @returns undefined when none does, also after a shutdown of the listener @throws {IoError} */
export function acceptPassing(listener: number): number | undefined {
  const fd = libc.accept4(listener, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) return fd;
  const number = errno();
  if (number === Errno.EAGAIN || number === Errno.ECONNABORTED || number === Errno.EINTR) return undefined;
  throw new IoError("accept", `descriptor ${listener}`, number);
}

/** Who is at the other end. @throws {IoError} */
export function peerCredentials(fd: number): PeerCredentials {
  const ucred = new Int32Array(3), length = new Int32Array([12]);
  const bytes = (array: Int32Array<ArrayBuffer>) => new Uint8Array(array.buffer);
  check(
    libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, bytes(ucred), bytes(length)),
    "getsockopt",
    "SO_PEERCRED",
  );
  return { pid: ucred[0] as number, uid: ucred[1] as number };
}

/**
 * Waits until there is something to receive or to accept, or the other end is gone.
 *
 * @param timeoutMs below 0: for ever
 * @returns false when the time is over
 */
export async function readable(fd: number, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  const polled = new Uint8Array(8), view = new DataView(polled.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(4, POLLIN, true);
  for (;;) {
    const left = timeoutMs < 0 ? -1 : Math.max(0, Math.ceil(deadline - performance.now()));
    // Below 0 it was a signal: the error number is another thread's.
    const ready = await waiting.poll(polled, 1n, left);
    if (ready > 0) return true;
    if (ready === 0) return false;
  }
}

/** Fills in the scratch memory's msghdr. */
function header(length: number, control: number): { memory: Mapping; view: DataView<ArrayBuffer> } {
  const memory = scratch ??= mapMemory(DATA_AT + MAX_MESSAGE_BYTES);
  const view = new DataView(memory.buffer), base = BigInt(memory.address);
  new Uint8Array(memory.buffer, 0, MSGHDR_BYTES).fill(0);
  view.setBigUint64(16, base + BigInt(IOVEC_AT), true);
  view.setBigUint64(24, 1n, true);
  view.setBigUint64(IOVEC_AT, base + BigInt(DATA_AT), true);
  view.setBigUint64(IOVEC_AT + 8, BigInt(length), true);
  if (control > 0) {
    view.setBigUint64(32, base + BigInt(CONTROL_AT), true);
    view.setBigUint64(40, BigInt(control), true);
  }
  return { memory, view };
}

/**
 * Sends a message at once.
 * @throws {IoError} EPIPE when the other end is gone; EAGAIN when it takes nothing
 * @throws {RangeError} for more than {@linkcode MAX_MESSAGE_BYTES} or {@linkcode MAX_PASSED}
 */
export function send(fd: number, bytes: Uint8Array, descriptors: readonly number[] = []): void {
  if (bytes.length === 0 || bytes.length > MAX_MESSAGE_BYTES || descriptors.length > MAX_PASSED) {
    throw new RangeError(`a message of ${bytes.length} bytes with ${descriptors.length} descriptors`);
  }
  const control = descriptors.length === 0 ? 0 : 16 + 8 * Math.ceil(descriptors.length / 2);
  const { memory, view } = header(bytes.length, control);
  new Uint8Array(memory.buffer, DATA_AT, bytes.length).set(bytes);
  if (control > 0) {
    view.setBigUint64(CONTROL_AT, BigInt(16 + 4 * descriptors.length), true);
    view.setInt32(CONTROL_AT + 8, SOL_SOCKET, true);
    view.setInt32(CONTROL_AT + 12, SCM_RIGHTS, true);
    descriptors.forEach((one, i) => view.setInt32(CONTROL_AT + 16 + 4 * i, one, true));
  }
  while (libc.sendmsg(fd, memory.pointer, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
    if (errno() !== Errno.EINTR) throw new IoError("send", "a message with descriptors", errno());
  }
}

/**
 * Takes a message that is there; see {@linkcode readable}.
 * @returns undefined at the end
 * @throws {IoError} EPROTO for a message or descriptors that did not fit; nothing of it is kept
 */
export function receive(fd: number): Passed | undefined {
  const { memory, view } = header(MAX_MESSAGE_BYTES, CONTROL_BYTES);
  let got: number;
  while ((got = libc.recvmsg(fd, memory.pointer, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)) < 0) {
    if (errno() === Errno.ECONNRESET) return undefined;
    if (errno() !== Errno.EINTR) throw new IoError("receive", "a message with descriptors", errno());
  }
  const descriptors: number[] = [];
  if (Number(view.getBigUint64(40, true)) >= 16 && view.getInt32(CONTROL_AT + 12, true) === SCM_RIGHTS) {
    const end = CONTROL_AT + Number(view.getBigUint64(CONTROL_AT, true));
    for (let at = CONTROL_AT + 16; at + 4 <= end; at += 4) descriptors.push(view.getInt32(at, true));
  }
  if ((view.getUint32(48, true) & MSG_CUT) !== 0) {
    closeAll(descriptors);
    throw new IoError("receive", "a message with more than fits", Errno.EPROTO);
  }
  if (got === 0) return undefined;
  return { bytes: new Uint8Array(memory.buffer, DATA_AT, got).slice(), descriptors };
}

/** Closes descriptors. */
export function closeAll(descriptors: readonly number[]): void {
  for (const fd of descriptors) libc.close(fd);
}

/** Puts bytes into memory that can be passed. @returns its descriptor @throws {IoError} */
export function memoryOf(bytes: Uint8Array<ArrayBuffer>): number {
  const name = new TextEncoder().encode("drover\0");
  const fd = check(libc.memfd_create(name, MFD_CLOEXEC), "memfd_create");
  try {
    for (let done = 0; done < bytes.length;) {
      const part = bytes.subarray(done, done + 0x4000_0000);
      done += check(libc.pwrite(fd, part, part.length, BigInt(done)), "write", "memory");
    }
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** Reads memory that was passed; the descriptor stays open. @throws {IoError} EFBIG beyond {@linkcode MAX_MEMORY_BYTES} */
export function readMemory(fd: number): Uint8Array<ArrayBuffer> {
  let bytes = new Uint8Array(1 << 16);
  for (let done = 0;;) {
    const part = bytes.subarray(done);
    const got = check(libc.pread(fd, part, part.length, BigInt(done)), "read", "memory");
    done += got;
    if (got === 0) return bytes.slice(0, done);
    if (done < bytes.length) continue;
    if (done > MAX_MEMORY_BYTES) throw new IoError("read", "memory", Errno.EFBIG);
    const more = new Uint8Array(2 * bytes.length);
    more.set(bytes);
    bytes = more;
  }
}
