/**
 * Addresses of control services, in the forms that callers and command lines use:
 *
 * | form | meaning |
 * |---|---|
 * | `HOST:PORT`, `tcp://HOST:PORT` | TCP; an IPv6 literal stands in brackets |
 * | `:PORT` | TCP, all interfaces (only to listen) |
 * | `unix:PATH`, `unix://PATH` | a unix socket |
 *
 * @module
 */

import { Code, RpcError } from "./errors.ts";

/** A TCP address. */
export interface TcpAddress {
  /** Tells it from a unix socket. */
  readonly kind: "tcp";
  /** Name or literal, IPv6 without brackets; empty = all interfaces. */
  readonly host: string;
  /** 0 to 65535. */
  readonly port: number;
}

/** A unix socket. */
export interface UnixAddress {
  /** Tells it from a TCP address. */
  readonly kind: "unix";
  /** Path of the socket file. */
  readonly path: string;
}

/** A parsed address. */
export type Address = TcpAddress | UnixAddress;

const MAX_PORT = 65535;

function bad(text: string, why: string): RpcError {
  return new RpcError(
    Code.INVALID_ARGUMENT,
    `address "${text}": ${why}; write HOST:PORT, tcp://HOST:PORT or unix:/PATH`,
  );
}

/**
 * Parses an address.
 *
 * @throws RpcError with INVALID_ARGUMENT when it has none of the forms above
 */
export function parseAddress(text: string): Address {
  if (text.startsWith("unix:")) {
    const path = text.slice(5).replace(/^\/\/(?=\/)/, "");
    if (path === "" || path.startsWith("//") || path.includes("\0")) throw bad(text, "no path of a socket");
    return { kind: "unix", path };
  }
  const rest = text.startsWith("tcp://") ? text.slice(6) : text;
  const match = /^(\[[0-9a-fA-F:.%a-z]+\]|[^\s:/[\]]*):(\d{1,5})$/.exec(rest);
  if (match === null) throw bad(text, rest.includes("://") ? "unknown scheme" : "no host and port");
  const port = Number(match[2]);
  if (port > MAX_PORT) throw bad(text, `port ${port} is above ${MAX_PORT}`);
  return { kind: "tcp", host: (match[1] ?? "").replace(/^\[|\]$/g, ""), port };
}

/** Writes an address the way it is passed between components: `tcp://HOST:PORT` or `unix:PATH`. */
export function formatAddress(address: Address): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  return `tcp://${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}
