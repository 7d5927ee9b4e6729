/**
 * One HTTP exchange of an object store: whole bodies both ways, time limits, bounds, and errors that tell whether
 * another try makes sense. How it gets there is `http_pool.ts`, or with a proxy `http_fetch.ts`.
 *
 * A body is given out only when it is whole: it has the announced length. Connections are kept and used again; at
 * most {@linkcode MAX_REQUESTS} exchanges run at once on one target, which bounds the memory.
 *
 * @module
 */
import type { Credentials } from "./credentials.ts";
import { FetchTransport } from "./http_fetch.ts";
import { HttpError, type HttpReply, type HttpRequest, type Transport } from "./http_message.ts";
import { ConnectionPool } from "./http_pool.ts";
import { proxyFor } from "./http_proxy.ts";
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

/** The time that an exchange has: until something of the answer comes, then until more of it comes. */
class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #stallMs: number;
  #waitMs: number;
  #until: number;
  #timer: ReturnType<typeof setTimeout>;
  #answered = false;

  constructor(answerMs: number, stallMs: number) {
    this.#stallMs = stallMs;
    this.#waitMs = answerMs;
    this.#until = performance.now() + answerMs;
    this.#timer = setTimeout(() => this.#look(), answerMs);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What was waited for in vain, milliseconds. */
  get waitMs(): number {
    return Math.round(this.#waitMs);
  }

  /** Something came. */
  extend(): void {
    this.#until = performance.now() + this.#stallMs;
    if (this.#answered) return;
    this.#answered = true;
    this.#waitMs = this.#stallMs;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), this.#stallMs);
  }

  #look(): void {
    const left = this.#until - performance.now();
    if (left < 1) return this.#controller.abort();
    this.#timer = setTimeout(() => this.#look(), left);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** Exchanges with one server. */
export class HttpClient implements Disposable {
  readonly #transport: Transport;
  readonly #gate = new Gate(MAX_REQUESTS);
  readonly #times: HttpTimes;

  /**
   * Makes a client; connects nothing.
   *
   * @param endpoint the server
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
      // Whether the certificates can be read shows here, and not with the first connection.
      if (certificates !== undefined) Deno.createHttpClient({ caCerts: [certificates] }).close();
      this.#transport = proxy === undefined
        ? new ConnectionPool(endpoint, certificates)
        : new FetchTransport(proxy, certificates, MAX_REQUESTS);
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
    const sendMs = (request.body?.length ?? 0) / this.#times.slowestBytesPerSecond * 1000;
    using limit = new Deadline(this.#times.answerMs + sendMs, this.#times.stallMs);
    const signal = request.signal === undefined
      ? limit.signal
      : AbortSignal.any([limit.signal, request.signal]);
    try {
      return await this.#transport.exchange(request, signal, () => limit.extend());
    } catch (cause) {
      request.signal?.throwIfAborted();
      if (limit.signal.aborted) throw new HttpError(`no answer for ${limit.waitMs} ms`, true, { cause });
      throw cause instanceof HttpError ? cause : describe(cause);
    }
  }

  /** Closes the connections. */
  [Symbol.dispose](): void {
    this.#transport[Symbol.dispose]();
  }
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
