/**
 * An NBD export as the place that a backup is restored to: a volume's engine writes it to all copies.
 *
 * What is spoken is the least that does it (NBD protocol, proto.md): fixed newstyle with GO, simple replies, WRITE,
 * WRITE_ZEROES where the server has it, FLUSH.
 *
 * @module
 */
import { RestoreSinkError } from "./sink_error.ts";
import type { VolumeSink } from "./device_sink.ts";

const GREETING_MAGIC = 0x4e42444d41474943n, OPTION_MAGIC = 0x49484156454f5054n;
const OPTION_REPLY_MAGIC = 0x3e889045565a9n;
const REQUEST_MAGIC = 0x25609513, SIMPLE_REPLY_MAGIC = 0x67446698;
const OPT_GO = 7, REP_ACK = 1, REP_INFO = 3, INFO_EXPORT = 0;
const FLAG_READ_ONLY = 2, FLAG_WRITE_ZEROES = 64;
const CMD_WRITE = 1, CMD_DISC = 2, CMD_FLUSH = 3, CMD_WRITE_ZEROES = 6;

/** Bytes of one WRITE: every server takes as much. */
const PIECE_BYTES = 1024 ** 2;
/** Bytes of one WRITE_ZEROES; the length is 32 bits. */
const ZERO_BYTES = 1024 ** 3;
/** Requests under way at once. */
const DEPTH = 8;
/** Longest text or reply of the handshake, bytes. */
const MAX_TEXT_BYTES = 64 * 1024;
/** Zeros, for servers that have no WRITE_ZEROES. */
const ZEROS = new Uint8Array(PIECE_BYTES);

/** Where an export is. */
export interface NbdPlace {
  /** The server. */
  readonly address: { readonly hostname: string; readonly port: number } | { readonly path: string };
  /** Name of the export. */
  readonly name: string;
}

/** Takes `nbd://HOST:PORT/NAME` or `nbd+unix:///NAME?socket=PATH` apart; undefined for other texts. */
export function parseNbdUrl(text: string): NbdPlace | undefined {
  const tcp = /^nbd:\/\/(\[[^\]]+\]|[^:/?]+)(?::(\d+))?\/([^?]*)$/.exec(text);
  if (tcp !== null) {
    const hostname = (tcp[1] ?? "").replace(/^\[|\]$/g, "");
    return { address: { hostname, port: Number(tcp[2] ?? 10809) }, name: decodeURIComponent(tcp[3] ?? "") };
  }
  const unix = /^nbd\+unix:\/\/\/([^?]*)\?socket=(.+)$/.exec(text);
  if (unix === null) return undefined;
  return { address: { path: decodeURIComponent(unix[2] ?? "") }, name: decodeURIComponent(unix[1] ?? "") };
}

async function readFull(connection: Deno.Conn, bytes: number): Promise<DataView> {
  const buffer = new Uint8Array(bytes);
  for (let done = 0; done < bytes;) {
    const got = await connection.read(buffer.subarray(done));
    if (got === null) throw new RestoreSinkError("the NBD server closed the connection");
    done += got;
  }
  return new DataView(buffer.buffer);
}

async function writeFull(connection: Deno.Conn, ...parts: Uint8Array[]): Promise<void> {
  for (const part of parts) {
    for (let done = 0; done < part.length;) done += await connection.write(part.subarray(done));
  }
}

/** The handshake. @returns size and flags of the export */
async function handshake(connection: Deno.Conn, name: string): Promise<{ bytes: number; flags: number }> {
  const greeting = await readFull(connection, 18);
  if (greeting.getBigUint64(0) !== GREETING_MAGIC || greeting.getBigUint64(8) !== OPTION_MAGIC) {
    throw new RestoreSinkError("this is no NBD server, or one of an old style");
  }
  const text = new TextEncoder().encode(name);
  const option = new DataView(new ArrayBuffer(4 + 16 + 4 + text.length + 2));
  option.setUint32(0, 3); // Fixed newstyle, no zeros.
  option.setBigUint64(4, OPTION_MAGIC);
  option.setUint32(12, OPT_GO);
  option.setUint32(16, 4 + text.length + 2);
  option.setUint32(20, text.length);
  new Uint8Array(option.buffer).set(text, 24);
  await writeFull(connection, new Uint8Array(option.buffer));
  let found: { bytes: number; flags: number } | undefined;
  for (;;) {
    const head = await readFull(connection, 20);
    const kind = head.getUint32(12), length = head.getUint32(16);
    if (head.getBigUint64(0) !== OPTION_REPLY_MAGIC || length > MAX_TEXT_BYTES) {
      throw new RestoreSinkError("the NBD server answers nonsense");
    }
    const data = await readFull(connection, length);
    if (kind === REP_INFO && length >= 12 && data.getUint16(0) === INFO_EXPORT) {
      found = { bytes: Number(data.getBigUint64(2)), flags: data.getUint16(10) };
    } else if (kind === REP_ACK && found !== undefined) {
      return found;
    } else if (kind !== REP_INFO) {
      throw new RestoreSinkError(`the NBD server does not give the export "${name}" (reply ${kind})`);
    }
  }
}

interface Waiter {
  resolve(): void;
  reject(error: unknown): void;
}

class NbdSink implements VolumeSink {
  readonly bytes: number;
  readonly #connection: Deno.Conn;
  readonly #zeroes: boolean;
  readonly #waiting = new Map<bigint, Waiter>();
  readonly #queue: (() => void)[] = [];
  #free = DEPTH;
  #cookie = 0n;
  #sending: Promise<void> = Promise.resolve();
  #failure: unknown;

  constructor(connection: Deno.Conn, bytes: number, flags: number) {
    this.#connection = connection;
    this.bytes = bytes;
    this.#zeroes = (flags & FLAG_WRITE_ZEROES) !== 0;
    this.#receive().catch((error) => this.#fail(error));
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    const pieces: Promise<void>[] = [];
    for (let done = 0; done < data.length; done += PIECE_BYTES) {
      const piece = data.subarray(done, done + PIECE_BYTES);
      pieces.push(this.#request(CMD_WRITE, offset + done, piece.length, piece));
    }
    await Promise.all(pieces);
  }

  async zero(offset: number, length: number): Promise<void> {
    const step = this.#zeroes ? ZERO_BYTES : PIECE_BYTES;
    for (let done = 0; done < length; done += step) {
      const size = Math.min(step, length - done);
      if (this.#zeroes) await this.#request(CMD_WRITE_ZEROES, offset + done, size);
      else await this.#request(CMD_WRITE, offset + done, size, ZEROS.subarray(0, size));
    }
  }

  flush(): Promise<void> {
    return this.#request(CMD_FLUSH, 0, 0);
  }

  [Symbol.dispose](): void {
    this.#failure ??= new RestoreSinkError("the connection is closed");
    const close = (): void => this.#connection.close();
    writeFull(this.#connection, header(CMD_DISC, 0n, 0, 0)).then(close, close);
  }

  async #request(command: number, offset: number, length: number, data?: Uint8Array): Promise<void> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      if (this.#failure !== undefined) throw this.#failure;
      const cookie = this.#cookie++;
      const answered = new Promise<void>((resolve, reject) => this.#waiting.set(cookie, { resolve, reject }));
      const head = header(command, cookie, offset, length);
      // One request after the other goes out whole.
      this.#sending = this.#sending.then(() => writeFull(this.#connection, head, ...(data ? [data] : [])));
      this.#sending = this.#sending.catch((error) => this.#fail(error));
      await answered;
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }

  async #receive(): Promise<void> {
    for (;;) {
      const reply = await readFull(this.#connection, 16);
      const cookie = reply.getBigUint64(8), error = reply.getUint32(4);
      const waiter = this.#waiting.get(cookie);
      if (reply.getUint32(0) !== SIMPLE_REPLY_MAGIC || waiter === undefined) {
        throw new RestoreSinkError("the NBD server answers nonsense");
      }
      this.#waiting.delete(cookie);
      if (error === 0) waiter.resolve();
      else waiter.reject(new RestoreSinkError(`the volume refused a write (NBD error ${error})`));
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    for (const waiter of this.#waiting.values()) waiter.reject(this.#failure);
    this.#waiting.clear();
  }
}

function header(command: number, cookie: bigint, offset: number, length: number): Uint8Array {
  const head = new DataView(new ArrayBuffer(28));
  head.setUint32(0, REQUEST_MAGIC);
  head.setUint16(6, command);
  head.setBigUint64(8, cookie);
  head.setBigUint64(16, BigInt(offset));
  head.setUint32(24, length);
  return new Uint8Array(head.buffer);
}

/** Connects to an export that can be written. @throws {RestoreSinkError} */
export async function openNbdSink(place: NbdPlace): Promise<VolumeSink> {
  const connection: Deno.Conn = "path" in place.address
    ? await Deno.connect({ transport: "unix", path: place.address.path })
    : await Deno.connect(place.address);
  try {
    const { bytes, flags } = await handshake(connection, place.name);
    if ((flags & FLAG_READ_ONLY) !== 0) throw new RestoreSinkError(`the export "${place.name}" is read-only`);
    return new NbdSink(connection, bytes, flags);
  } catch (error) {
    connection.close();
    throw error;
  }
}
