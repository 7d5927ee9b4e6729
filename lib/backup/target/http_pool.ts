/**
 * Connections to one server, with TLS or without, kept for the next exchange.
 *
 * A server may end a connection while it is not used, which shows only with the next exchange. When not a single byte
 * of an answer came on a connection that was used before, the exchange is done anew on a new one. A POST is not safe to
 * do twice, so it gets a new connection at once.
 *
 * @module
 */
import { HttpConnection } from "./http_connection.ts";
import { HttpError, type HttpReply, type HttpRequest, type Transport } from "./http_message.ts";

/** See the module text. */
export class ConnectionPool implements Transport {
  readonly #endpoint: URL;
  readonly #certificates: string[];
  readonly #idle: HttpConnection[] = [];
  #closed = false;

  /** No connection yet. @param certificates PEM text with authorities to trust beside the well-known ones */
  constructor(endpoint: URL, certificates: string | undefined) {
    this.#endpoint = endpoint;
    this.#certificates = certificates === undefined ? [] : [certificates];
  }

  /** See {@linkcode Transport.exchange}. */
  async exchange(request: HttpRequest, signal: AbortSignal, onBytes: () => void): Promise<HttpReply> {
    if (!request.url.startsWith(`${this.#endpoint.origin}/`)) {
      throw new HttpError("the request is for another server", false);
    }
    const used = request.method === "POST" ? undefined : this.#idle.pop();
    if (used !== undefined) {
      try {
        return await this.#on(used, request, signal, onBytes);
      } catch (error) {
        if (used.answered || signal.aborted) throw error;
        this.#closeIdle();
      }
    }
    return await this.#on(await this.#connect(signal), request, signal, onBytes);
  }

  async #on(
    connection: HttpConnection,
    request: HttpRequest,
    signal: AbortSignal,
    onBytes: () => void,
  ): Promise<HttpReply> {
    const stop = (): void => connection.close();
    signal.addEventListener("abort", stop, { once: true });
    try {
      signal.throwIfAborted();
      return await connection.exchange(request, onBytes);
    } finally {
      signal.removeEventListener("abort", stop);
      if (connection.reusable && !this.#closed && !signal.aborted) this.#idle.push(connection);
      else connection.close();
    }
  }

  async #connect(signal: AbortSignal): Promise<HttpConnection> {
    signal.throwIfAborted();
    const { protocol, hostname: name, port } = this.#endpoint;
    const hostname = name.replace(/^\[|\]$/g, "");
    const connecting = protocol === "https:"
      ? Deno.connectTls({ hostname, port: Number(port || 443), caCerts: this.#certificates })
      : Deno.connect({ hostname, port: Number(port || 80) });
    let give: () => void = () => {};
    const given = new Promise<never>((_, reject) => give = () => reject(signal.reason));
    signal.addEventListener("abort", give, { once: true });
    try {
      const connection = await Promise.race([connecting, given]);
      if ("setNoDelay" in connection) connection.setNoDelay(true);
      return new HttpConnection(connection);
    } catch (error) {
      // Comes too late.
      connecting.then((connection) => connection.close(), () => {});
      throw error;
    } finally {
      signal.removeEventListener("abort", give);
    }
  }

  #closeIdle(): void {
    for (const connection of this.#idle.splice(0)) connection.close();
  }

  /** Ends the connections that are not in use, and the others after their exchange. */
  [Symbol.dispose](): void {
    this.#closed = true;
    this.#closeIdle();
  }
}
