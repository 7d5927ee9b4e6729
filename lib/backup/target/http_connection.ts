/**
 * One connection that carries exchanges of HTTP/1.1, one after the other. By hand, because a block goes from the socket
 * straight into the memory that it is decompressed from, and because everything that a server sends has a limit here.
 *
 * An answer's body is taken by its length, in chunks, or until the connection ends. Whatever leaves it in doubt where
 * the next answer begins (a damaged head, an answer that came before the request was sent) ends the connection.
 *
 * @module
 */
import { GrowingBody, HttpError, type HttpReply, type HttpRequest, lengthOf } from "./http_message.ts";

/** Longest head of an answer, and longest line of a body in chunks, bytes. */
const MAX_HEAD_BYTES = 32 * 1024;
/** A body up to this size goes out together with its head, bytes. */
const TOGETHER_BYTES = 64 * 1024;
/** Largest piece of a body that is handed to the socket at once, bytes. */
const PIECE_BYTES = 512 * 1024;
/** Interim answers that are skipped before the real one (100, 103). */
const MAX_INTERIM = 8;
const NO_BYTES = new Uint8Array(0);
const LINE_END = [13, 10] as const, EMPTY_LINE = [...LINE_END, ...LINE_END] as const;

/** What is used of a connection. */
export interface Wire {
  /** Reads some bytes; null at the end. */
  read(into: Uint8Array): Promise<number | null>;
  /** Writes some bytes. */
  write(bytes: Uint8Array): Promise<number>;
  /** Ends it; calls that wait are rejected. */
  close(): void;
}

interface Head {
  readonly status: number;
  readonly headers: Headers;
  readonly keepAlive: boolean;
}

function broken(what: string, cause?: unknown): HttpError {
  return new HttpError(`the answer is not HTTP: ${what}`, true, cause === undefined ? {} : { cause });
}

/** Takes a head apart. @throws {HttpError} */
function parseHead(text: string): Head {
  const [first = "", ...lines] = text.split("\r\n");
  const status = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: |$)/.exec(first);
  if (status === null) throw broken("it does not begin with a status");
  const headers = new Headers();
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon < 1) throw broken("a line of its head has no name");
    try {
      headers.append(line.slice(0, colon), line.slice(colon + 1));
    } catch (cause) {
      throw broken("a line of its head cannot be", cause);
    }
  }
  const connection = (headers.get("connection") ?? "").toLowerCase();
  const keepAlive = status[1] === "1" ? !/\bclose\b/.test(connection) : /\bkeep-alive\b/.test(connection);
  return { status: Number(status[2]), headers, keepAlive };
}

/** The bytes of a request before its body. */
function encodeHead(request: HttpRequest): Uint8Array {
  const { host, pathname, search } = new URL(request.url);
  const lines = [`${request.method} ${pathname}${search} HTTP/1.1`, `host: ${host}`, "user-agent: drover"];
  // A header's name and value cannot hold a line's end: `Headers` sees to that.
  for (const [name, value] of request.headers) if (name !== "host") lines.push(`${name}: ${value}`);
  const bodies = request.method === "PUT" || request.method === "POST";
  if (request.body !== undefined || bodies) lines.push(`content-length: ${request.body?.length ?? 0}`);
  return new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`);
}

/** See the module text. */
export class HttpConnection {
  readonly #wire: Wire;
  readonly #buffer = new Uint8Array(MAX_HEAD_BYTES);
  #start = 0;
  #end = 0;
  #onBytes: () => void = () => {};
  /** True when something of the answer to the last request came. */
  answered = false;
  /** True while another request may follow. */
  reusable = true;

  /** Takes over a connection that is new. */
  constructor(wire: Wire) {
    this.#wire = wire;
  }

  /**
   * One exchange.
   *
   * @throws {HttpError} when what comes is no answer, or not a whole one; what the connection throws; either ends it
   */
  async exchange(request: HttpRequest, onBytes: () => void): Promise<HttpReply> {
    this.answered = false;
    this.#onBytes = onBytes;
    let sent = false, failure: unknown;
    const sending = this.#send(request).then(() => sent = true, (error) => failure = error);
    try {
      const head = await this.#head();
      const body = await this.#body(request, head);
      if (head.status < 300) await sending;
      // Refused before it was read: what is left of the request would be taken for the next one.
      this.reusable &&= sent && head.keepAlive && this.#start === this.#end;
      return { status: head.status, headers: head.headers, body };
    } catch (error) {
      this.reusable = false;
      throw this.answered ? error : failure ?? error;
    } finally {
      // Ends what still sends: the request's memory belongs to its owner again when this returns.
      if (!this.reusable) this.close();
      await sending;
    }
  }

  /** Ends the connection. What waits for it is rejected. */
  close(): void {
    this.reusable = false;
    try {
      this.#wire.close();
    } catch {
      // Closed before.
    }
  }

  async #send(request: HttpRequest): Promise<void> {
    const { body = NO_BYTES } = request;
    const head = encodeHead(request);
    if (body.length <= TOGETHER_BYTES) {
      const both = new Uint8Array(head.length + body.length);
      both.set(head);
      both.set(body, head.length);
      return await this.#sendAll(both);
    }
    await this.#sendAll(head);
    await this.#sendAll(body);
  }

  async #sendAll(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      done += await this.#wire.write(bytes.subarray(done, done + PIECE_BYTES));
    }
  }

  /** More bytes into the buffer. @throws {HttpError} at the end */
  async #more(): Promise<void> {
    if (this.#start > 0) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    if (this.#end === this.#buffer.length) throw broken("a line is too long");
    const got = await this.#wire.read(this.#buffer.subarray(this.#end));
    if (got === null) throw new HttpError("the connection failed: it ended before the answer did", true);
    this.#end += got;
    this.answered = true;
    this.#onBytes();
  }

  /** The text up to a mark, which is taken along. */
  async #upTo(mark: readonly number[]): Promise<string> {
    for (let looked = 0;;) {
      for (; this.#start + looked + mark.length <= this.#end; looked++) {
        const at = this.#start + looked;
        if (this.#buffer[at] !== mark[0] || !mark.every((byte, i) => this.#buffer[at + i] === byte)) continue;
        const text = String.fromCharCode(...this.#buffer.subarray(this.#start, at));
        this.#start = at + mark.length;
        return text;
      }
      await this.#more();
    }
  }

  async #head(): Promise<Head> {
    for (let interim = 0; interim < MAX_INTERIM; interim++) {
      const head = parseHead(await this.#upTo(EMPTY_LINE));
      if (head.status >= 200) return head;
    }
    throw broken("it does not come to an answer");
  }

  async #body(request: HttpRequest, { status, headers }: Head): Promise<Uint8Array> {
    if (request.method === "HEAD" || status === 204 || status === 304) return NO_BYTES;
    if (/\bchunked\b/i.test(headers.get("transfer-encoding") ?? "")) return await this.#chunks(request);
    const announced = lengthOf(headers);
    if (announced === undefined && headers.has("content-length")) throw broken("its length cannot be");
    const body = new GrowingBody(request, announced);
    if (announced !== undefined) {
      await this.#fill(body, announced);
      return body.whole();
    }
    this.reusable = false;
    body.add(this.#taken(Infinity));
    while (await this.#read(body, Infinity) > 0);
    return body.whole();
  }

  async #chunks(request: HttpRequest): Promise<Uint8Array> {
    const body = new GrowingBody(request, undefined);
    for (;;) {
      const size = /^([0-9a-f]{1,8})\s*(?:;.*)?$/i.exec(await this.#upTo(LINE_END))?.[1];
      if (size === undefined) throw broken("a chunk has no size");
      const bytes = parseInt(size, 16);
      if (bytes === 0) break;
      await this.#fill(body, bytes);
      if (await this.#upTo(LINE_END) !== "") throw broken("a chunk is longer than it says");
    }
    // Trailers, which nobody asked for.
    while (await this.#upTo(LINE_END) !== "");
    return body.whole();
  }

  /** Takes so many bytes of a body. */
  async #fill(body: GrowingBody, bytes: number): Promise<void> {
    const end = body.length + bytes;
    body.add(this.#taken(bytes));
    while (body.length < end) {
      if (await this.#read(body, end - body.length) > 0) continue;
      throw new HttpError(`the answer ended ${end - body.length} bytes too early`, true);
    }
  }

  /** What the buffer holds already, at most so many bytes. */
  #taken(atMost: number): Uint8Array {
    const part = this.#buffer.subarray(this.#start, Math.min(this.#end, this.#start + atMost));
    this.#start += part.length;
    return part;
  }

  /** Reads from the connection straight into a body; 0 at the end. */
  async #read(body: GrowingBody, atMost: number): Promise<number> {
    const got = await this.#wire.read(body.room(atMost)) ?? 0;
    body.took(got);
    this.#onBytes();
    return got;
  }
}
