/**
 * One HTTP exchange of an object store: whole bodies both ways, time limits, bounds, and errors that tell whether
 * another try makes sense.
 *
 * A body is given out only when it is whole: it has the announced length. Connections are kept and used again; at
 * most {@linkcode MAX_REQUESTS} exchanges run at once on one target, which bounds the memory.
 *
 * @module
 */
import type { Credentials } from "./credentials.ts";
import { Gate } from "./retry.ts";

/** Exchanges at once on one target. */
export const MAX_REQUESTS = 32;

/** Largest object that is read into memory, bytes: the record of a backup of 8 TiB in small blocks has this order. */
export const MAX_OBJECT_BYTES = 1024 ** 3;

/** Largest answer that is no object, bytes: a page of a listing, an error. */
export const MAX_ANSWER_BYTES = 16 * 1024 ** 2;

/** Time limits of an exchange. */
export interface HttpTimes {
  /** Milliseconds until the first byte of an answer, when nothing has to be sent. */
  readonly answerMs: number;
  /** Milliseconds without a byte of a body. */
  readonly stallMs: number;
  /** A connection slower than this while sending is given up, bytes a second. */
  readonly slowestBytesPerSecond: number;
}

/** What is used without other wishes. */
export const DEFAULT_TIMES: HttpTimes = {
  answerMs: 60_000,
  stallMs: 30_000,
  slowestBytesPerSecond: 256 * 1024,
};

/** A request. */
export interface HttpRequest {
  /** Method. */
  readonly method: string;
  /** Complete URL. */
  readonly url: string;
  /** Headers, signed already. */
  readonly headers: Headers;
  /** Body to send. */
  readonly body?: Uint8Array;
  /** Most bytes of the answer's body. */
  readonly limitBytes: number;
  /** Ends the exchange. */
  readonly signal?: AbortSignal | undefined;
}

/** An answer with its whole body. */
export interface HttpReply {
  /** Status. */
  readonly status: number;
  /** Headers. */
  readonly headers: Headers;
  /** Body; empty for HEAD. */
  readonly body: Uint8Array;
}

/** No answer, or not a whole one. */
export class HttpError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "HttpError";

  /** Describes what happened. */
  constructor(
    message: string,
    /** Whether another try makes sense. */
    readonly retryable: boolean,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** True when a proxy is to be left out for a host, by the usual meaning of NO_PROXY. */
export function bypassesProxy(host: string, noProxy: string): boolean {
  const name = host.replace(/^\[|\]$/g, "").toLowerCase();
  return noProxy.split(",").map((one) => one.trim().toLowerCase()).some((one) => {
    if (one === "") return false;
    if (one === "*" || one === name) return true;
    const network = /^(\d+\.\d+\.\d+\.\d+)\/(\d+)$/.exec(one);
    if (network !== null) return inNetwork(name, network[1] ?? "", Number(network[2]));
    return name.endsWith(one.startsWith(".") ? one : `.${one}`);
  });
}

function ipv4(text: string): number | undefined {
  const parts = text.split(".").map(Number);
  if (parts.length !== 4 || parts.some((part) => !(part >= 0 && part <= 255))) return undefined;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

function inNetwork(host: string, network: string, bits: number): boolean {
  const a = ipv4(host), b = ipv4(network);
  if (a === undefined || b === undefined || bits > 32) return false;
  const size = 2 ** (32 - bits);
  return Math.floor(a / size) === Math.floor(b / size);
}

function proxyFor(endpoint: URL, credentials: Credentials): Deno.Proxy | undefined {
  const text = credentials.get(endpoint.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY");
  if (text === undefined || bypassesProxy(endpoint.hostname, credentials.get("NO_PROXY") ?? "")) {
    return undefined;
  }
  let url: URL;
  try {
    url = new URL(text.includes("://") ? text : `http://${text}`);
  } catch {
    // The text is not quoted: it may hold a password.
    throw new HttpError("the proxy (HTTP_PROXY, HTTPS_PROXY) is not a URL", false);
  }
  const basicAuth = url.username === ""
    ? undefined
    : { username: decodeURIComponent(url.username), password: decodeURIComponent(url.password) };
  url.username = url.password = "";
  const transport = ({ "http:": "http", "https:": "https", "socks5:": "socks5" } as const)[
    url.protocol as "http:" | "https:" | "socks5:"
  ];
  if (transport === undefined) throw new HttpError("the proxy is neither http, https nor socks5", false);
  return { transport, url: url.href, ...(basicAuth && { basicAuth }) };
}

/** Exchanges with one server. */
export class HttpClient implements Disposable {
  readonly #client: Deno.HttpClient;
  readonly #gate = new Gate(MAX_REQUESTS);
  readonly #times: HttpTimes;

  /**
   * Makes a client; connects nothing.
   *
   * @param endpoint the server, for the choice of a proxy
   * @param certificates PEM text with the authorities to trust beside the well-known ones
   */
  constructor(
    endpoint: URL,
    credentials: Credentials,
    certificates: string | undefined,
    times: HttpTimes = DEFAULT_TIMES,
  ) {
    const proxy = proxyFor(endpoint, credentials);
    try {
      this.#client = Deno.createHttpClient({
        http2: false,
        poolMaxIdlePerHost: MAX_REQUESTS,
        ...(proxy && { proxy }),
        ...(certificates !== undefined && { caCerts: [certificates] }),
      });
    } catch (cause) {
      throw new HttpError("the certificates (AWS_CERT, AZBLOB_CERT) are not PEM text", false, { cause });
    }
    this.#times = times;
  }

  /** One exchange. @throws {HttpError} when there is no whole answer; the signal's reason when it is given */
  send(request: HttpRequest): Promise<HttpReply> {
    return this.#gate.run(() => this.#send(request));
  }

  async #send(request: HttpRequest): Promise<HttpReply> {
    request.signal?.throwIfAborted();
    const limit = new AbortController();
    const sendMs = (request.body?.length ?? 0) / this.#times.slowestBytesPerSecond * 1000;
    let waited = this.#times.answerMs + sendMs;
    let timer = setTimeout(() => limit.abort(), waited);
    const busy = (milliseconds: number): void => {
      clearTimeout(timer);
      waited = milliseconds;
      timer = setTimeout(() => limit.abort(), waited);
    };
    const signals = request.signal === undefined ? [limit.signal] : [limit.signal, request.signal];
    try {
      const answer = await fetch(request.url, {
        method: request.method,
        headers: request.headers,
        client: this.#client,
        redirect: "manual",
        signal: AbortSignal.any(signals),
        ...(request.body !== undefined && { body: request.body as Uint8Array<ArrayBuffer> }),
      });
      const body = await whole(answer, request, () => busy(this.#times.stallMs));
      return { status: answer.status, headers: answer.headers, body };
    } catch (cause) {
      request.signal?.throwIfAborted();
      if (limit.signal.aborted) {
        throw new HttpError(`no answer for ${Math.round(waited)} ms`, true, { cause });
      }
      throw cause instanceof HttpError ? cause : describe(cause);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Closes the connections. */
  [Symbol.dispose](): void {
    this.#client.close();
  }
}

/** The body, when it has the announced length and keeps to the limit. */
async function whole(answer: Response, request: HttpRequest, busy: () => void): Promise<Uint8Array> {
  const header = answer.headers.get("content-length");
  const announced = header === null || !/^\d{1,15}$/.test(header) ? undefined : Number(header);
  if (request.method === "HEAD" || answer.body === null) {
    await answer.body?.cancel();
    return new Uint8Array(0);
  }
  const tooLong = (): HttpError =>
    new HttpError(`the answer is longer than ${request.limitBytes} bytes`, false);
  if (announced !== undefined && announced > request.limitBytes) {
    await answer.body.cancel();
    throw tooLong();
  }
  // Grown by what really comes: a hostile length must not take the memory.
  let data = new Uint8Array(Math.min(announced ?? 65536, 32 * 1024 ** 2));
  let length = 0;
  for await (const chunk of answer.body) {
    busy();
    if (length + chunk.length > request.limitBytes) throw tooLong();
    if (length + chunk.length > data.length) {
      const larger = new Uint8Array(Math.max(data.length * 2, length + chunk.length));
      larger.set(data.subarray(0, length));
      data = larger;
    }
    data.set(chunk, length);
    length += chunk.length;
  }
  if (announced !== undefined && announced !== length) {
    throw new HttpError(`the answer ended after ${length} of ${announced} bytes`, true);
  }
  return length === data.length ? data : data.subarray(0, length);
}

/** An error for people, of what fetch throws. */
function describe(cause: unknown): HttpError {
  const text = cause instanceof Error ? `${cause.message} ${deepest(cause)}` : String(cause);
  if (/certificate|UnknownIssuer|NotValidForName/i.test(text)) {
    return new HttpError(
      "the server's certificate is not trusted; give the authority that signed it in AWS_CERT (S3) or " +
        "AZBLOB_CERT (Azure)",
      false,
      { cause },
    );
  }
  if (/dns error|failed to lookup/i.test(text)) {
    return new HttpError("the server's name is not known (AWS_ENDPOINTS, AZBLOB_ENDPOINT, region)", true, {
      cause,
    });
  }
  if (/refused/i.test(text)) return new HttpError("the server refuses connections", true, { cause });
  if (/ports? .*blocked/i.test(text)) {
    return new HttpError("this port cannot be used for HTTP", false, { cause });
  }
  return new HttpError("the connection failed", true, { cause });
}

function deepest(error: Error): string {
  return error.cause instanceof Error ? `${error.cause.message} ${deepest(error.cause)}` : "";
}
