/**
 * HTTP/1.1, as much of it as files are moved with: requests and answers whose bodies have a length, several on a
 * connection, also before the first is answered. By hand, because bodies go straight into the buffers that are
 * written from, and because everything that comes from outside has a limit here.
 *
 * @module
 */

/** Longest head of a request or an answer, bytes. */
export const MAX_HEAD_BYTES = 16 * 1024;
/** Longest body that is read as a whole, bytes. */
export const MAX_SMALL_BODY = 256 * 1024;

const BUFFER_BYTES = 64 * 1024;
const latin1 = new TextDecoder("latin1");
const END_OF_HEAD = [13, 10, 13, 10] as const;

/** A connection that does not speak as it should, or breaks. `status`: what a server answers before it closes. */
export class HttpError extends Error {
  /** The class, for logs. */
  override readonly name = "HttpError";
  /** Says what is wrong. @param status of the answer, 400 to 599 */
  constructor(readonly status: number, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** What is used of a TCP connection. */
export interface Connection {
  /** Reads some bytes; null at the end. */
  read(into: Uint8Array): Promise<number | null>;
  /** Writes some bytes. */
  write(bytes: Uint8Array): Promise<number>;
  /** Ends it. */
  close(): void;
}

/** Reads heads and bodies from a connection. */
export class ByteStream {
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  /** When bytes came last, as `performance.now()` tells. */
  lastRead: number = performance.now();

  /** Reads from a connection. */
  constructor(readonly connection: Connection) {}

  async #read(into: Uint8Array): Promise<number> {
    const got = await this.connection.read(into);
    this.lastRead = performance.now();
    return got ?? 0;
  }

  /** The next head, without the empty line. @returns undefined when the peer is done @throws {HttpError} */
  async head(): Promise<string | undefined> {
    this.#buffer.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    for (let from = 0;;) {
      const text = this.#headFrom(from);
      if (text !== undefined) return text;
      // The end of a head may have come in part.
      from = Math.max(0, this.#end - END_OF_HEAD.length + 1);
      if (this.#end >= MAX_HEAD_BYTES) throw new HttpError(431, "the head is too long");
      const got = await this.#read(this.#buffer.subarray(this.#end, MAX_HEAD_BYTES));
      if (got === 0 && this.#end === 0) return undefined;
      if (got === 0) throw new HttpError(400, "the connection ended inside a head");
      this.#end += got;
    }
  }

  /** The head in the buffer, if its end is there at `from` or behind. */
  #headFrom(from: number): string | undefined {
    const buffer = this.#buffer, last = this.#end - END_OF_HEAD.length;
    for (let at = buffer.indexOf(END_OF_HEAD[0], from); at >= 0 && at <= last;) {
      if (END_OF_HEAD.every((byte, i) => buffer[at + i] === byte)) {
        this.#start = at + END_OF_HEAD.length;
        return latin1.decode(buffer.subarray(0, at));
      }
      at = buffer.indexOf(END_OF_HEAD[0], at + 1);
    }
    return undefined;
  }

  /** Fills `into`. @throws {HttpError} when the connection ends before */
  async fill(into: Uint8Array): Promise<void> {
    let done = Math.min(into.length, this.#end - this.#start);
    into.set(this.#buffer.subarray(this.#start, this.#start + done));
    this.#start += done;
    while (done < into.length) {
      const got = await this.#read(into.subarray(done));
      if (got === 0) throw new HttpError(400, "the connection ended inside a body");
      done += got;
    }
  }

  /** A small body. @throws {HttpError} */
  async body(length: number): Promise<Uint8Array> {
    if (length > MAX_SMALL_BODY) throw new HttpError(413, `a body of ${length} bytes is too long`);
    const bytes = new Uint8Array(length);
    await this.fill(bytes);
    return bytes;
  }

  /** A small body in chunks (RFC 9112, 7.1), without trailers. @throws {HttpError} */
  async chunkedBody(): Promise<Uint8Array> {
    const bytes: number[] = [], byte = new Uint8Array(1);
    const line = async (): Promise<string> => {
      let text = "";
      for (;;) {
        await this.fill(byte);
        text += String.fromCharCode(byte[0]);
        if (text.endsWith("\r\n")) return text.slice(0, -2);
        if (text.length > 256) throw new HttpError(400, "a line of a chunked body is too long");
      }
    };
    for (;;) {
      const size = parseInt(await line(), 16);
      if (!Number.isSafeInteger(size) || size < 0 || bytes.length + size > MAX_SMALL_BODY) {
        throw new HttpError(413, "a chunked body has a bad size");
      }
      bytes.push(...await this.body(size));
      await line();
      if (size === 0) return Uint8Array.from(bytes);
    }
  }
}

/** Writes all bytes. */
export async function writeAll(connection: Connection, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await connection.write(bytes.subarray(done));
}

/** The fields of a head, names in small letters; of several with one name the last counts. */
export type Fields = ReadonlyMap<string, string>;

function fieldsOf(lines: readonly string[]): Fields {
  const fields = new Map<string, string>();
  for (const line of lines) {
    const match = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/.exec(line);
    if (!match) throw new HttpError(400, `the head has a bad line: ${JSON.stringify(line.slice(0, 80))}`);
    fields.set(String(match[1]).toLowerCase(), String(match[2]));
  }
  return fields;
}

/** Length of a body from its head. @throws {HttpError} */
function lengthOf(fields: Fields): number {
  const text = fields.get("content-length") ?? "0";
  if (!/^\d{1,15}$/.test(text)) throw new HttpError(400, `the body has a bad length: ${text.slice(0, 40)}`);
  return Number(text);
}

/** A request without its body. */
export interface Request {
  /** GET or POST. */
  readonly method: string;
  /** Path without the query. */
  readonly path: string;
  /** The query. */
  readonly query: URLSearchParams;
  /** Bytes of the body that follows. */
  readonly length: number;
  /** The client ends the connection after the answer. */
  readonly last: boolean;
}

/** Reads a request's head. @throws {HttpError} */
export function parseRequest(head: string): Request {
  const [first = "", ...lines] = head.split("\r\n");
  const match = /^(GET|POST) (\/[^ ?#]*)(?:\?([^ #]*))? HTTP\/1\.([01])$/.exec(first);
  if (!match) {
    throw new HttpError(400, `this is no request: ${JSON.stringify(first.slice(0, 80))}`);
  }
  const fields = fieldsOf(lines);
  if (fields.has("transfer-encoding")) throw new HttpError(501, "bodies need a length, not chunks");
  const connection = (fields.get("connection") ?? "").toLowerCase();
  return {
    method: String(match[1]),
    path: String(match[2]),
    query: new URLSearchParams(match[3] ?? ""),
    length: lengthOf(fields),
    last: connection === "close" || (match[4] === "0" && connection !== "keep-alive"),
  };
}

/** An answer without its body. */
export interface Answer {
  /** 200 and so on. */
  readonly status: number;
  /** Its fields. */
  readonly fields: Fields;
  /** Bytes of the body that follows; undefined: it comes in chunks. */
  readonly length: number | undefined;
}

/** Reads an answer's head. @throws {HttpError} */
export function parseAnswer(head: string): Answer {
  const [first = "", ...lines] = head.split("\r\n");
  const match = /^HTTP\/1\.[01] (\d{3})(?: .*)?$/.exec(first);
  if (!match) throw new HttpError(502, `this is no answer: ${JSON.stringify(first.slice(0, 80))}`);
  const fields = fieldsOf(lines);
  const chunked = (fields.get("transfer-encoding") ?? "").toLowerCase() === "chunked";
  return { status: Number(match[1]), fields, length: chunked ? undefined : lengthOf(fields) };
}

const encoder = new TextEncoder();

/** The bytes of an answer. */
export function formatAnswer(
  status: number,
  body: string,
  fields: Readonly<Record<string, string>>,
): Uint8Array {
  const bytes = encoder.encode(body);
  const all = Object.entries({ ...fields, "Content-Length": String(bytes.length) });
  const reason = status === 200 ? "OK" : "Error";
  const head = `HTTP/1.1 ${status} ${reason}\r\n${all.map(([k, v]) => `${k}: ${v}\r\n`).join("")}\r\n`;
  const whole = new Uint8Array(head.length + bytes.length);
  whole.set(encoder.encode(head));
  whole.set(bytes, head.length);
  return whole;
}

/** The bytes of a request's head. @param target path and query */
export function formatRequest(
  method: "GET" | "POST",
  target: string,
  host: string,
  length: number,
): Uint8Array {
  return encoder.encode(
    `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${length}\r\n\r\n`,
  );
}
