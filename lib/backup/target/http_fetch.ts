/**
 * Exchanges by the runtime's own client. It knows proxies, and costs about four times the processor time of a
 * connection of one's own, so it is used where there is a proxy.
 *
 * @module
 */
import {
  GrowingBody,
  HttpError,
  type HttpReply,
  type HttpRequest,
  lengthOf,
  type Transport,
} from "./http_message.ts";

/** See the module text. */
export class FetchTransport implements Transport {
  readonly #client: Deno.HttpClient;

  /** Exchanges through a proxy. @param certificates PEM text with authorities to trust beside the well-known ones */
  constructor(proxy: Deno.Proxy, certificates: string | undefined, idleConnections: number) {
    this.#client = Deno.createHttpClient({
      http2: false,
      poolMaxIdlePerHost: idleConnections,
      proxy,
      ...(certificates !== undefined && { caCerts: [certificates] }),
    });
  }

  /** See {@linkcode Transport.exchange}. */
  async exchange(request: HttpRequest, signal: AbortSignal, onBytes: () => void): Promise<HttpReply> {
    const answer = await fetch(request.url, {
      method: request.method,
      headers: request.headers,
      client: this.#client,
      redirect: "manual",
      signal,
      ...(request.body !== undefined && { body: request.body as Uint8Array<ArrayBuffer> }),
    });
    return { status: answer.status, headers: answer.headers, body: await whole(answer, request, onBytes) };
  }

  /** Closes the connections. */
  [Symbol.dispose](): void {
    this.#client.close();
  }
}

/** The body, when it has the announced length and keeps to the limit. */
async function whole(answer: Response, request: HttpRequest, onBytes: () => void): Promise<Uint8Array> {
  const announced = lengthOf(answer.headers);
  if (request.method === "HEAD" || answer.body === null) {
    await answer.body?.cancel();
    return new Uint8Array(0);
  }
  let body: GrowingBody;
  try {
    body = new GrowingBody(request, announced);
  } catch (error) {
    await answer.body.cancel();
    throw error;
  }
  for await (const chunk of answer.body) {
    onBytes();
    body.add(chunk);
  }
  if (announced !== undefined && announced !== body.length) {
    throw new HttpError(`the answer ended after ${body.length} of ${announced} bytes`, true);
  }
  return body.whole();
}
