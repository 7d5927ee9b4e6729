/**
 * The client's half of NBD's handshake, on a unix socket, up to the moment where the kernel takes the connection
 * over. The numbers are those of `doc/proto.md` of the NetworkBlockDevice project.
 *
 * It blocks, for some hundred microseconds: the server is another thread. A time limit keeps it from waiting for a
 * server that hangs.
 *
 * @module
 */
import { check, errno, libc } from "../../io/libc.ts";
import { Errno, IoError } from "../../io/errno.ts";
import { encodeAddress, SOCK_CLOEXEC } from "../../io/sockets.ts";
import { HostError } from "../retry.ts";

const AF_UNIX = 1, SOCK_STREAM = 1;
/** `NBDMAGIC`, `IHAVEOPT`, and the magic of replies to options. */
const INIT_MAGIC = 0x4e42444d41474943n, OPTION_MAGIC = 0x49484156454f5054n, REPLY_MAGIC = 0x0003e889045565a9n;
/** FIXED_NEWSTYLE | NO_ZEROES. */
const CLIENT_FLAGS = 3;
const OPTION_GO = 7, REPLY_ACK = 1, REPLY_INFO = 3, REPLY_ERROR = 0x80000000;
const INFO_EXPORT = 0;
/** SOL_SOCKET, SO_RCVTIMEO, SO_SNDTIMEO (asm-generic/socket.h); seconds. */
const SOL_SOCKET = 1, TIMEOUTS = [20, 21], ANSWER_S = 10n;
/** Longest reply to an option that is read. */
const MAX_REPLY_BYTES = 64 * 1024;

/** Transmission flags that matter here. */
export const TransmissionFlag = {
  /** A flush on one connection covers all. */
  CAN_MULTI_CONN: 256,
} as const;

/** An export that a connection is about. */
export interface NbdExport {
  /** Size, bytes. */
  readonly bytes: number;
  /** Transmission flags. */
  readonly flags: number;
}

/** The bytes that a client sends: flags, and the option GO for an export. */
export function encodeGo(name: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(name), out = new Uint8Array(4 + 16 + 4 + text.length + 2);
  const view = new DataView(out.buffer);
  view.setUint32(0, CLIENT_FLAGS);
  view.setBigUint64(4, OPTION_MAGIC);
  view.setUint32(12, OPTION_GO);
  view.setUint32(16, 4 + text.length + 2);
  view.setUint32(20, text.length);
  out.set(text, 24);
  return out;
}

/** Reads exactly so many bytes. */
export type ReadExactly = (bytes: number) => Uint8Array;

/** The server's greeting. @throws {HostError} it is no NBD server, or too old */
export function readGreeting(read: ReadExactly): void {
  const bytes = read(18), view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getBigUint64(0) !== INIT_MAGIC || view.getBigUint64(8) !== OPTION_MAGIC) {
    throw new HostError("this is no NBD server");
  }
  if ((view.getUint16(16) & CLIENT_FLAGS) !== CLIENT_FLAGS) throw new HostError("the NBD server is too old");
}

/** The server's answers to GO. @throws {HostError} it refuses, in its words */
export function readExport(read: ReadExactly): NbdExport {
  let found: NbdExport | undefined;
  for (;;) {
    const head = read(20), view = new DataView(head.buffer, head.byteOffset, head.length);
    const type = view.getUint32(12), length = view.getUint32(16);
    if (view.getBigUint64(0) !== REPLY_MAGIC || view.getUint32(8) !== OPTION_GO || length > MAX_REPLY_BYTES) {
      throw new HostError("the NBD server's answer makes no sense");
    }
    const data = read(length), body = new DataView(data.buffer, data.byteOffset, data.length);
    if (type >= REPLY_ERROR) {
      const words = new TextDecoder().decode(data);
      throw new HostError(`the NBD server refuses the export: error ${type - REPLY_ERROR} ${words}`.trim());
    }
    if (type === REPLY_INFO && length >= 12 && body.getUint16(0) === INFO_EXPORT) {
      found = { bytes: Number(body.getBigUint64(2)), flags: body.getUint16(10) };
    }
    if (type !== REPLY_ACK) continue;
    if (!found) throw new HostError("the NBD server did not say how large the export is");
    return found;
  }
}

/** A connection that is past the handshake. */
export interface NbdConnection extends NbdExport {
  /** Its descriptor. The caller closes it. */
  readonly fd: number;
}

/**
 * Connects to a server and opens an export.
 *
 * @param path of the unix socket
 * @throws {IoError} nobody listens, or there was no answer in time (EAGAIN)
 * @throws {HostError} the server refuses
 */
export function connectNbd(path: string, name: string): NbdConnection {
  const fd = check(libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  try {
    const limit = new Uint8Array(new BigInt64Array([ANSWER_S, 0n]).buffer);
    for (const option of TIMEOUTS) {
      check(libc.setsockopt(fd, SOL_SOCKET, option, limit, limit.length), "setsockopt");
    }
    const address = encodeAddress({ kind: "unix", path });
    check(libc.connect(fd, address, address.length), "connect", path);
    const read: ReadExactly = (bytes) => readExactly(fd, bytes, path);
    readGreeting(read);
    const go = encodeGo(name);
    if (check(libc.write(fd, go, go.length), "write", path) !== go.length) {
      throw new IoError("write", path, Errno.EPIPE);
    }
    const found = readExport(read);
    // The kernel waits for requests and answers on it as long as it takes.
    const forever = new Uint8Array(16);
    for (const option of TIMEOUTS) check(libc.setsockopt(fd, SOL_SOCKET, option, forever, 16), "setsockopt");
    return { fd, ...found };
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

function readExactly(fd: number, bytes: number, path: string): Uint8Array {
  const out = new Uint8Array(bytes);
  for (let at = 0; at < bytes;) {
    const count = libc.read(fd, out.subarray(at), bytes - at);
    if (count < 0 && errno() === Errno.EINTR) continue;
    if (count < 0) throw new IoError("read", path, errno());
    if (count === 0) throw new HostError(`${path}: the NBD server closed the connection`);
    at += count;
  }
  return out;
}
