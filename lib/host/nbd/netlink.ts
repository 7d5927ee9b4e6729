/**
 * The kernel's NBD client through generic netlink: unlike ioctl(2) it needs no process that sits in the kernel for as
 * long as the device lives, finds a free device by itself, and can be told of new connections and sizes later.
 *
 * A message (linux/netlink.h, genetlink.h, nbd-netlink.h), little-endian here as the machines are:
 *
 * | bytes | field | what |
 * | --- | --- | --- |
 * | 0..4 | length | of the whole message |
 * | 4..6 | type | number of the family; 2: an error or acknowledgement |
 * | 6..8 | flags | request, acknowledge |
 * | 8..12 | sequence | tells answers of an earlier request from ours |
 * | 12..16 | port | 0, the kernel |
 * | 16, 17, 18..20 | command, version, reserved | of the family |
 * | 20.. | attributes | length (2), type (2), value, padded to 4 |
 *
 * The family exists in the first network namespace only: a container needs the host's network.
 *
 * @module
 */
import { Errno, IoError } from "../../io/errno.ts";
import { check, libc } from "../../io/libc.ts";

const AF_NETLINK = 16;
/** SOCK_RAW | SOCK_CLOEXEC. */
const SOCK_RAW = 3 | 0o2000000;
const NETLINK_GENERIC = 16;
const NLMSG_ERROR = 2;
/** NLM_F_REQUEST | NLM_F_ACK. */
const REQUEST_ACK = 1 | 4;
const HEADER = 20;
/** Family of the families, and its request for a family by name. */
const GENL_ID_CTRL = 16, CTRL_CMD_GETFAMILY = 3, CTRL_ATTR_FAMILY_ID = 1, CTRL_ATTR_FAMILY_NAME = 2;
/** SOL_SOCKET, SO_RCVTIMEO (asm-generic/socket.h), and what is waited for an answer, seconds. */
const SOL_SOCKET = 1, SO_RCVTIMEO = 20, ANSWER_S = 30n;
/** Answers are short; an error repeats the request. */
const RECEIVE_BYTES = 8192;
/** Nested attribute (NLA_F_NESTED). */
const NESTED = 0x8000;
const TYPE_MASK = 0x3fff;

/** Commands of the family (`enum` of linux/nbd-netlink.h). */
export const NbdCommand = { CONNECT: 1, DISCONNECT: 2, RECONFIGURE: 3 } as const;

/** Attributes of the family. */
export const NbdAttribute = {
  INDEX: 1,
  SIZE_BYTES: 2,
  BLOCK_SIZE_BYTES: 3,
  TIMEOUT: 4,
  SERVER_FLAGS: 5,
  CLIENT_FLAGS: 6,
  SOCKETS: 7,
  DEAD_CONN_TIMEOUT: 8,
  BACKEND_IDENTIFIER: 10,
} as const;

/** Attributes in {@linkcode NbdAttribute}.SOCKETS. */
const SOCK_ITEM = 1, SOCK_FD = 1;

/** An attribute to send. */
export interface NetlinkAttribute {
  /** Its number. */
  readonly type: number;
  /** 32 or 64 bits, text, or attributes in it. */
  readonly value: { readonly u32: number } | { readonly u64: bigint } | { readonly text: string } | {
    readonly nested: readonly NetlinkAttribute[];
  };
}

/** What describes a connected device. */
export interface NbdParameters {
  /** N of /dev/nbdN; undefined: any that is free. */
  readonly index?: number;
  /** Size, bytes. */
  readonly bytes?: number;
  /** Bytes of a logical block. */
  readonly blockBytes?: number;
  /** The server's transmission flags. */
  readonly serverFlags?: number;
  /** Connections that are past the handshake. The kernel keeps them; they may be closed afterwards. */
  readonly sockets?: readonly number[];
  /** How long requests wait for new connections when all are gone, seconds. */
  readonly deadSeconds?: number;
  /** Whose device it is; shown in sysfs, and asked for again in later changes. */
  readonly backend?: string;
}

function valueBytes(value: NetlinkAttribute["value"]): Uint8Array {
  if ("u32" in value) return new Uint8Array(new Uint32Array([value.u32]).buffer);
  if ("u64" in value) return new Uint8Array(new BigUint64Array([value.u64]).buffer);
  if ("text" in value) return new TextEncoder().encode(`${value.text}\0`);
  return encodeAttributes(value.nested);
}

/** Attributes as bytes, each padded to four. */
export function encodeAttributes(attributes: readonly NetlinkAttribute[]): Uint8Array<ArrayBuffer> {
  const parts = attributes.map(({ type, value }) => {
    const bytes = valueBytes(value), out = new Uint8Array((4 + bytes.length + 3) & ~3);
    const view = new DataView(out.buffer);
    view.setUint16(0, 4 + bytes.length, true);
    view.setUint16(2, "nested" in value ? type | NESTED : type, true);
    out.set(bytes, 4);
    return out;
  });
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Values of attributes by type, raw. What does not fit ends the reading. */
export function decodeAttributes(bytes: Uint8Array): Map<number, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), found = new Map();
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) break;
    found.set(view.getUint16(at + 2, true) & TYPE_MASK, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return found;
}

/** A whole message. */
export function encodeMessage(
  family: number,
  command: number,
  sequence: number,
  attributes: readonly NetlinkAttribute[],
): Uint8Array<ArrayBuffer> {
  const body = encodeAttributes(attributes), out = new Uint8Array(HEADER + body.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, out.length, true);
  view.setUint16(4, family, true);
  view.setUint16(6, REQUEST_ACK, true);
  view.setUint32(8, sequence, true);
  out[16] = command;
  out[17] = 1; // Version of both families.
  out.set(body, HEADER);
  return out;
}

/** What an answer has: attributes, or the end (0, or an error number). */
export type NetlinkAnswer =
  | { readonly attributes: Map<number, Uint8Array> }
  | { readonly end: number };

/** The answers of our request in what was received. */
export function decodeAnswers(bytes: Uint8Array, sequence: number): NetlinkAnswer[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), answers: NetlinkAnswer[] = [];
  for (let at = 0; at + 16 <= bytes.length;) {
    const length = view.getUint32(at, true);
    if (length < 16 || at + length > bytes.length) break;
    if (view.getUint32(at + 8, true) === sequence) {
      if (view.getUint16(at + 4, true) === NLMSG_ERROR) {
        if (length >= HEADER) answers.push({ end: -view.getInt32(at + 16, true) });
      } else answers.push({ attributes: decodeAttributes(bytes.subarray(at + HEADER, at + length)) });
    }
    at += (length + 3) & ~3;
  }
  return answers;
}

/** The attributes of a command. */
export function nbdAttributes(p: NbdParameters): NetlinkAttribute[] {
  const list: NetlinkAttribute[] = [];
  const u64 = (type: number, value: number | undefined) => {
    if (value !== undefined) list.push({ type, value: { u64: BigInt(value) } });
  };
  if (p.index !== undefined) list.push({ type: NbdAttribute.INDEX, value: { u32: p.index } });
  u64(NbdAttribute.SIZE_BYTES, p.bytes);
  u64(NbdAttribute.BLOCK_SIZE_BYTES, p.blockBytes);
  u64(NbdAttribute.SERVER_FLAGS, p.serverFlags);
  u64(NbdAttribute.DEAD_CONN_TIMEOUT, p.deadSeconds);
  if (p.sockets) {
    const nested = p.sockets.map((fd): NetlinkAttribute => ({
      type: SOCK_ITEM,
      value: { nested: [{ type: SOCK_FD, value: { u32: fd } }] },
    }));
    list.push({ type: NbdAttribute.SOCKETS, value: { nested } });
  }
  if (p.backend !== undefined) {
    list.push({ type: NbdAttribute.BACKEND_IDENTIFIER, value: { text: p.backend } });
  }
  return list;
}

let lastSequence = 0;

/** Sends one request and reads to its end. @throws {IoError} the kernel's error */
function ask(
  fd: number,
  family: number,
  command: number,
  attributes: readonly NetlinkAttribute[],
): Map<number, Uint8Array> {
  const sequence = ++lastSequence, message = encodeMessage(family, command, sequence, attributes);
  check(libc.write(fd, message, message.length), "netlink send");
  const buffer = new Uint8Array(RECEIVE_BYTES), found = new Map<number, Uint8Array>();
  for (;;) {
    const received = check(libc.read(fd, buffer, buffer.length), "netlink receive");
    for (const answer of decodeAnswers(buffer.slice(0, received), sequence)) {
      if (!("end" in answer)) {
        for (const [type, value] of answer.attributes) found.set(type, value);
      } else if (answer.end !== 0) throw new IoError("nbd netlink", `command ${command}`, answer.end);
      else return found;
    }
  }
}

function withSocket<T>(body: (fd: number) => T): T {
  const fd = check(libc.socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC), "socket", "netlink");
  try {
    const limit = new Uint8Array(new BigInt64Array([ANSWER_S, 0n]).buffer);
    check(libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, limit, limit.length), "setsockopt", "netlink");
    return body(fd);
  } finally {
    libc.close(fd);
  }
}

/** Number of a family; undefined when the kernel has none of this name. @throws {IoError} */
export function familyOf(name: string): number | undefined {
  return withSocket((fd) => {
    try {
      const found = ask(fd, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, [
        { type: CTRL_ATTR_FAMILY_NAME, value: { text: name } },
      ]);
      const id = found.get(CTRL_ATTR_FAMILY_ID);
      return id && id.length >= 2 ? (id[0] ?? 0) | ((id[1] ?? 0) << 8) : undefined;
    } catch (error) {
      if (error instanceof IoError && error.errno === Errno.ENOENT) return undefined;
      throw error;
    }
  });
}

/**
 * One command to the kernel's NBD client.
 *
 * @param family of {@linkcode familyOf}
 * @returns index of the device, for CONNECT
 * @throws {IoError} the kernel's error: EBUSY in use, ENOSPC no dead connection to replace, EINVAL not connected
 */
export function nbdCommand(family: number, command: number, parameters: NbdParameters): number | undefined {
  const found = withSocket((fd) => ask(fd, family, command, nbdAttributes(parameters)));
  const index = found.get(NbdAttribute.INDEX);
  return index && index.length >= 4
    ? new DataView(index.buffer, index.byteOffset, 4).getUint32(0, true)
    : undefined;
}
