/**
 * Stream sockets: addresses in the kernel's form, listeners, options. Shared by the worlds that talk to a
 * kernel; not for the hot path.
 *
 * @module
 */
import { Errno, IoError } from "./errno.ts";
import { type Address, formatAddress } from "./io.ts";
import { check, cString, errno, libc } from "./libc.ts";

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
/** SOCK_NONBLOCK (linux/net.h = O_NONBLOCK). */
const SOCK_NONBLOCK = 0o4000;
/** SOCK_CLOEXEC: no child process inherits a connection. */
export const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_KEEPALIVE = 9;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const SHUT_RDWR = 2;
/** fcntl(2) commands for the status flags. */
const F_GETFL = 3, F_SETFL = 4;

/** A silent peer is probed after this many seconds, then every {@linkcode KEEPALIVE_INTERVAL_S}. */
const KEEPALIVE_IDLE_S = 30;
const KEEPALIVE_INTERVAL_S = 10;
/** Probes without an answer until the connection is dead: one minute in all. */
const KEEPALIVE_PROBES = 3;

/** Longest path of a unix socket, bytes: sun_path has 108, one of them for the NUL (unix(7)). */
export const MAX_UNIX_PATH_BYTES = 107;

/** Room that every socket address used here fits in: sockaddr_un is 110 bytes. */
export const SOCKADDR_BYTES = 128;

/** Length of the queue of connections not yet accepted, when the caller does not say. */
export const DEFAULT_BACKLOG = 128;

const number32 = (value: number) => new Uint8Array(new Int32Array([value]).buffer);
const ON = number32(1);
const IDLE = number32(KEEPALIVE_IDLE_S);
const INTERVAL = number32(KEEPALIVE_INTERVAL_S);
const PROBES = number32(KEEPALIVE_PROBES);

function bad(address: Address, why: string): IoError {
  return new IoError("use address", `${formatAddress(address)} (${why})`, Errno.EINVAL);
}

/** The four bytes of an IPv4 literal, undefined for anything else (octal and short forms included). */
export function parseIpv4(text: string): number[] | undefined {
  if (!/^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/.test(text)) return undefined;
  const bytes = text.split(".").map(Number);
  return bytes.every((b) => b <= 255) ? bytes : undefined;
}

/** The sixteen bytes of an IPv6 literal (RFC 4291 2.2, without a zone), undefined for anything else. */
export function parseIpv6(text: string): number[] | undefined {
  if (!/^[0-9a-fA-F:.]{2,45}$/.test(text)) return undefined;
  let rest = text;
  let tail: number[] = [];
  const dotted = rest.lastIndexOf(":");
  if (rest.includes(".")) {
    const v4 = parseIpv4(rest.slice(dotted + 1));
    if (dotted < 0 || v4 === undefined) return undefined;
    tail = v4;
    rest = rest.slice(0, dotted);
    // "::1.2.3.4" and "a::1.2.3.4" keep both colons of the gap.
    if (rest.endsWith(":") || rest === "") rest += ":";
  }
  const halves = rest.split("::");
  if (halves.length > 2) return undefined;
  const groups = halves.map((half) => half === "" ? [] : half.split(":"));
  for (const group of groups.flat()) if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
  const [head, end] = groups.map((list) =>
    list.flatMap((g) => [parseInt(g, 16) >> 8, parseInt(g, 16) & 255])
  );
  const used = (head?.length ?? 0) + (end?.length ?? 0) + tail.length;
  if (halves.length === 1 ? used !== 16 : used > 14) return undefined;
  return [...(head ?? []), ...new Array<number>(16 - used).fill(0), ...(end ?? []), ...tail];
}

/**
 * A socket address in the kernel's form: sockaddr_in, sockaddr_in6 (ip(7), ipv6(7)) or sockaddr_un (unix(7)).
 * A host is an IPv4 or IPv6 literal or `localhost`; names are resolved by whoever has a resolver.
 *
 * @throws {IoError} EINVAL naming the address and what is wrong with it
 */
export function encodeAddress(address: Address): Uint8Array<ArrayBuffer> {
  if (address.kind === "unix") {
    const path = cString(address.path, "use address");
    if (path.length < 2 || path.length > MAX_UNIX_PATH_BYTES + 1) {
      throw bad(address, `a unix socket path has 1 to ${MAX_UNIX_PATH_BYTES} bytes`);
    }
    const out = new Uint8Array(2 + path.length);
    new DataView(out.buffer).setUint16(0, AF_UNIX, true);
    out.set(path, 2);
    return out;
  }
  if (!Number.isInteger(address.port) || address.port < 0 || address.port > 65535) {
    throw bad(address, "a port is a number from 0 to 65535");
  }
  const host = address.host === "localhost" ? "127.0.0.1" : address.host;
  const v4 = parseIpv4(host);
  const v6 = v4 ? undefined : parseIpv6(host);
  const bytes = v4 ?? v6;
  if (bytes === undefined) throw bad(address, "the host must be an IPv4 or IPv6 address or localhost");
  const out = new Uint8Array(v4 ? 16 : 28);
  const view = new DataView(out.buffer);
  view.setUint16(0, v4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, address.port);
  out.set(bytes, v4 ? 4 : 8);
  return out;
}

/**
 * Makes a stream socket for an encoded address (close-on-exec).
 *
 * @returns the descriptor, or `-errno`
 */
export function openSocket(encoded: Uint8Array<ArrayBuffer>, nonBlocking: boolean): number {
  const type = SOCK_STREAM | SOCK_CLOEXEC | (nonBlocking ? SOCK_NONBLOCK : 0);
  const fd = libc.socket(encoded[0] as number, type, 0);
  return fd < 0 ? -errno() : fd;
}

/**
 * Opens a listener. A unix socket file that nobody listens on is removed first; one that is in use is not.
 *
 * @throws {IoError} such as EADDRINUSE
 */
export function openListener(address: Address, backlog: number, nonBlocking: boolean): number {
  const encoded = encodeAddress(address);
  const subject = formatAddress(address);
  if (address.kind === "unix") removeStaleSocket(address.path, encoded);
  const fd = openSocket(encoded, nonBlocking);
  if (fd < 0) throw new IoError("socket", subject, fd);
  try {
    if (address.kind === "tcp") {
      check(libc.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, ON, 4), "setsockopt", subject);
    }
    check(libc.bind(fd, encoded, encoded.length), "listen on", subject);
    check(libc.listen(fd, backlog), "listen on", subject);
  } catch (error) {
    libc.close(fd);
    throw error;
  }
  return fd;
}

function removeStaleSocket(path: string, encoded: Uint8Array<ArrayBuffer>): void {
  // Non-blocking, or a listener with a full queue would make us wait for it.
  const probe = openSocket(encoded, true);
  if (probe < 0) return;
  const refused = libc.connect(probe, encoded, encoded.length) < 0 && errno() === Errno.ECONNREFUSED;
  libc.close(probe);
  // Only a socket file refuses; a regular file is left for bind to complain about (EADDRINUSE).
  if (refused && Deno.lstatSync(path).isSocket) libc.unlink(cString(path, "unlink"));
}

/** The port a TCP listener got. @throws {IoError} */
export function boundPort(listener: number): number {
  const address = new Uint8Array(SOCKADDR_BYTES);
  check(libc.getsockname(listener, address, number32(SOCKADDR_BYTES)), "getsockname");
  return new DataView(address.buffer).getUint16(2);
}

/** Both ends of an IPv4 connection; undefined for other sockets, or when it is over. */
export function ipv4Ends(fd: number): { readonly own: Ipv4End; readonly peer: Ipv4End } | undefined {
  const end = (call: typeof libc.getsockname): Ipv4End | undefined => {
    const address = new Uint8Array(SOCKADDR_BYTES), view = new DataView(address.buffer);
    if (call(fd, address, number32(SOCKADDR_BYTES)) < 0 || view.getUint16(0, true) !== AF_INET) {
      return undefined;
    }
    return { host: [...address.subarray(4, 8)], port: view.getUint16(2) };
  };
  const own = end(libc.getsockname), peer = end(libc.getpeername);
  return own && peer ? { own, peer } : undefined;
}

/** One end of an IPv4 connection. */
export interface Ipv4End {
  /** Four bytes. */
  readonly host: readonly number[];
  /** TCP port. */
  readonly port: number;
}

/** Makes calls on a descriptor wait or not; the setting is shared with all who have it. @throws {IoError} */
export function setBlocking(fd: number, blocking: boolean): void {
  const flags = check(libc.fcntl(fd, F_GETFL, 0), "fcntl", `descriptor ${fd}`);
  const wanted = blocking ? flags & ~SOCK_NONBLOCK : flags | SOCK_NONBLOCK;
  if (wanted !== flags) check(libc.fcntl(fd, F_SETFL, wanted), "fcntl", `descriptor ${fd}`);
}

/** Sets no-delay and keep-alive on a TCP connection; does nothing for other sockets. */
export function setStreamOptions(fd: number): void {
  if (libc.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, ON, 4) < 0) return;
  libc.setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, ON, 4);
  libc.setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, IDLE, 4);
  libc.setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, INTERVAL, 4);
  libc.setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES, 4);
}

/** The error a non-blocking connect ended with, 0 for none. */
export function connectResult(fd: number): number {
  const value = new Int32Array(1);
  if (libc.getsockopt(fd, SOL_SOCKET, SO_ERROR, new Uint8Array(value.buffer), number32(4)) < 0) {
    return errno();
  }
  return value[0] as number;
}

/** Ends both directions. Errors mean that there is nothing left to end. */
export function shutdownSocket(fd: number): void {
  libc.shutdown(fd, SHUT_RDWR);
}
