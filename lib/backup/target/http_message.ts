/**
 * What an exchange over HTTP asks and gives, and what can go wrong with it.
 *
 * @module
 */

/** A request. */
export interface HttpRequest {
  /** Method. */
  readonly method: string;
  /** Complete URL. */
  readonly url: string;
  /** Headers, signed already. */
  readonly headers: Headers;
  /** Body to send. Nobody may change it until the exchange has ended. */
  readonly body?: Uint8Array;
  /** Most bytes of the answer's body. */
  readonly limitBytes: number;
  /** Memory that may be used for the answer's body when it fits. */
  readonly into?: Uint8Array | undefined;
  /** Ends the exchange. */
  readonly signal?: AbortSignal | undefined;
}

/** An answer with its whole body. */
export interface HttpReply {
  /** Status. */
  readonly status: number;
  /** Headers. */
  readonly headers: Headers;
  /** Body; empty for HEAD. A part of {@linkcode HttpRequest.into} where that was used. */
  readonly body: Uint8Array;
}

/** How exchanges get to the server. */
export interface Transport extends Disposable {
  /**
   * One exchange. When it ends, in whatever way, the request's memory is not used any more.
   *
   * @param signal ends it
   * @param onBytes called whenever something of the answer came
   */
  exchange(request: HttpRequest, signal: AbortSignal, onBytes: () => void): Promise<HttpReply>;
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

/** The answer is longer than the one who asked takes. */
export function tooLong(request: HttpRequest): HttpError {
  return new HttpError(`the answer is longer than ${request.limitBytes} bytes`, false);
}

/** The announced length of a body; undefined when none is announced, or none that could be. */
export function lengthOf(headers: Headers): number | undefined {
  const header = headers.get("content-length");
  return header === null || !/^\d{1,15}$/.test(header) ? undefined : Number(header);
}

/** Memory is taken for so many bytes of a body at first, whatever length is announced. */
const TRUSTED_BYTES = 32 * 1024 ** 2;
/** The same for a body of which no length is announced. */
const UNKNOWN_BYTES = 64 * 1024;

/** A body in the making: grown by what really comes, because a hostile length must not take the memory. */
export class GrowingBody {
  readonly #request: HttpRequest;
  #data: Uint8Array;
  #length = 0;

  /** Memory for the answer to a request, of a length if one is announced. @throws {HttpError} when it is too long */
  constructor(request: HttpRequest, announced: number | undefined) {
    if (announced !== undefined && announced > request.limitBytes) throw tooLong(request);
    this.#request = request;
    const fits = request.into !== undefined && announced !== undefined && announced <= request.into.length;
    this.#data = fits && request.into !== undefined
      ? request.into.subarray(0, announced)
      : new Uint8Array(Math.min(announced ?? UNKNOWN_BYTES, TRUSTED_BYTES));
  }

  /** Bytes so far. */
  get length(): number {
    return this.#length;
  }

  /** Room for the next bytes, at most so many, at least one; {@linkcode GrowingBody.took} says how many came. */
  room(atMost: number): Uint8Array {
    if (this.#length === this.#data.length) this.#grow(this.#length + 1);
    return this.#data.subarray(this.#length, this.#length + atMost);
  }

  /** Says that so many bytes of the room were filled. @throws {HttpError} when it is too long */
  took(bytes: number): void {
    this.#length += bytes;
    if (this.#length > this.#request.limitBytes) throw tooLong(this.#request);
  }

  /** Adds a copy. @throws {HttpError} when it is too long */
  add(chunk: Uint8Array): void {
    const end = this.#length + chunk.length;
    if (end > this.#request.limitBytes) throw tooLong(this.#request);
    if (end > this.#data.length) this.#grow(end);
    this.#data.set(chunk, this.#length);
    this.#length = end;
  }

  /** What came. */
  whole(): Uint8Array {
    return this.#length === this.#data.length ? this.#data : this.#data.subarray(0, this.#length);
  }

  #grow(atLeast: number): void {
    const larger = new Uint8Array(Math.max(this.#data.length * 2, atLeast));
    larger.set(this.#data.subarray(0, this.#length));
    this.#data = larger;
  }
}
