/**
 * A typed client of one service at one address. Every failure is an {@linkcode RpcError}; every unary call has a
 * deadline.
 *
 * @module
 */

import "./setup.ts";
import * as grpc from "@grpc/grpc-js";
import { formatAddress, parseAddress } from "./address.ts";
import { Code, RpcError } from "./errors.ts";
import { type Identity, identityMetadata } from "./identity.ts";
import { CALL_TIMEOUT_MS, MAX_MESSAGE_BYTES, RECONNECT_MS } from "./limits.ts";
import type { Method, MethodKind, MethodTypes, Service } from "./service.ts";
import type { TlsIdentity } from "./tls.ts";
import { wireMethod } from "./wire.ts";

/** How a client behaves. */
export interface ClientOptions {
  /** Whom the caller means; a server that is somebody else refuses. */
  identity?: Identity;
  /** Deadline of unary calls, milliseconds; {@linkcode CALL_TIMEOUT_MS} if absent. */
  timeoutMs?: number;
  /** Mutual TLS; plain text without it. */
  tls?: TlsIdentity;
}

/** How one call behaves. */
export interface CallOptions {
  /** Deadline, milliseconds from now. Streams have none unless it is given. */
  timeoutMs?: number;
  /** Gives the call up: CANCELLED. */
  signal?: AbortSignal;
  /** Further metadata; keys in small letters. */
  metadata?: Record<string, string>;
}

/** Methods of a kind. */
export type MethodsOfKind<M, Kind extends MethodKind> = {
  [Key in keyof M]: M[Key] extends { kind: Kind } ? Key : never;
}[keyof M];

/** A type of a method; never if it has none. */
export type Part<M, Key extends keyof M, Name extends keyof MethodTypes> = M[Key] extends MethodTypes
  ? M[Key][Name]
  : never;

/** A client of the library; it dials when it is used. */
function dial(target: string, options: ClientOptions): grpc.Client {
  const tls = options.tls?.forClient();
  return new grpc.Client(target, tls?.credentials ?? grpc.credentials.createInsecure(), {
    ...tls?.options,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.initial_reconnect_backoff_ms": RECONNECT_MS.first,
    "grpc.min_reconnect_backoff_ms": RECONNECT_MS.first,
    "grpc.max_reconnect_backoff_ms": RECONNECT_MS.longest,
    // A new client dials anew: the pause after an earlier failure at this address is not its business.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_http_proxy": 0,
    "grpc.enable_retries": 0,
    "grpc.service_config_disable_resolution": 1,
  });
}

/** A client of one service at one address. It dials at the first call and again when it is needed. */
export class RpcClient<M> {
  /** Who is called: `tcp://HOST:PORT` or `unix:PATH`. */
  readonly address: string;
  readonly #service: Service<M>;
  #client: grpc.Client;
  readonly #identity: Record<string, string>;
  readonly #timeoutMs: number;
  readonly #forgetRenewals: () => void;
  #closed = false;

  /**
   * Makes a client; nothing is dialled yet.
   *
   * @param service the service, for instance `replicaService`
   * @param address `HOST:PORT`, `tcp://HOST:PORT` or `unix:PATH`
   * @param options how it behaves
   * @throws RpcError with INVALID_ARGUMENT for a bad address
   */
  constructor(service: Service<M>, address: string, options: ClientOptions = {}) {
    const parsed = parseAddress(address);
    if (parsed.kind === "tcp" && (parsed.host === "" || parsed.port === 0)) {
      throw new RpcError(
        Code.INVALID_ARGUMENT,
        `address "${address}": a host and a port are needed to call it`,
      );
    }
    this.address = formatAddress(parsed);
    this.#service = service;
    this.#identity = identityMetadata(options.identity ?? {});
    this.#timeoutMs = options.timeoutMs ?? CALL_TIMEOUT_MS;
    const target = parsed.kind === "unix" ? this.address : this.address.slice("tcp://".length);
    this.#client = dial(target, options);
    this.#forgetRenewals = options.tls?.onRenewal(() => {
      // What runs goes on over the old connection, which ends with it.
      const old = this.#client;
      this.#client = dial(target, options);
      old.close();
    }) ?? (() => {});
  }

  #error(error: unknown, method: Method): RpcError {
    const where = { cause: error, address: this.address, method: method.path };
    if (error instanceof RpcError) return error;
    const { code, details } = error as Partial<grpc.ServiceError>;
    if (typeof code === "number" && typeof details === "string") {
      const text = code === Code.UNAVAILABLE ? plainConnectError(details, this.address) : details;
      return new RpcError(code in grpc.status ? code as Code : Code.UNKNOWN, text, where);
    }
    return new RpcError(Code.INTERNAL, error instanceof Error ? error.message : String(error), where);
  }

  #start(name: PropertyKey, options: CallOptions): { method: Method; metadata: grpc.Metadata } {
    const method = this.#service.methods.get(String(name));
    if (method === undefined) throw new TypeError(`rpc: ${this.#service.name} has no method ${String(name)}`);
    const where = { address: this.address, method: method.path };
    if (this.#closed) throw new RpcError(Code.UNAVAILABLE, `the client of ${this.address} is closed`, where);
    if (options.signal?.aborted) {
      throw new RpcError(Code.CANCELLED, "the call was given up before it began", where);
    }
    const metadata = new grpc.Metadata();
    for (const [key, value] of Object.entries({ ...this.#identity, ...options.metadata })) {
      try {
        metadata.set(key, value);
      } catch (cause) {
        const text = `metadata ${key}: ${JSON.stringify(value)} is not printable ASCII`;
        throw new RpcError(Code.INVALID_ARGUMENT, text, { ...where, cause });
      }
    }
    return { method, metadata };
  }

  /**
   * Calls a unary method.
   *
   * @param name the method, for instance `"replicaGet"`
   * @param request a plain object; absent fields have their default
   * @throws RpcError with the status of the server; UNAVAILABLE when nobody answers there, DEADLINE_EXCEEDED,
   *   CANCELLED by the signal, INTERNAL when the request cannot be encoded or the response not be decoded
   */
  unary<Key extends MethodsOfKind<M, "unary">>(
    name: Key,
    request: Part<M, Key, "requestInit">,
    options: CallOptions = {},
  ): Promise<Part<M, Key, "response">> {
    return new Promise((resolve, reject) => {
      const { method, metadata } = this.#start(name, options);
      const { path, requestSerialize, responseDeserialize } = wireMethod(method);
      const deadline = Date.now() + (options.timeoutMs ?? this.#timeoutMs);
      const giveUp = (): void => call.cancel();
      const call = this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        { deadline },
        (error, response) => {
          options.signal?.removeEventListener("abort", giveUp);
          if (error) reject(this.#error(error, method));
          else resolve(response as Part<M, Key, "response">);
        },
      );
      options.signal?.addEventListener("abort", giveUp, { once: true });
    });
  }

  /**
   * Calls a method that streams its responses. The call begins when the first response is asked for, and is
   * cancelled when the loop is left. When it fails, responses that have arrived but were not asked for yet are
   * lost: the library puts an error before them.
   *
   * @throws RpcError as {@linkcode unary}, while iterating
   */
  async *stream<Key extends MethodsOfKind<M, "serverStream">>(
    name: Key,
    request: Part<M, Key, "requestInit">,
    options: CallOptions = {},
  ): AsyncGenerator<Part<M, Key, "response">, void> {
    const { method, metadata } = this.#start(name, options);
    const { path, requestSerialize, responseDeserialize } = wireMethod(method);
    const call = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      streamOptions(options),
    );
    yield* this.#responses<Part<M, Key, "response">>(call, method, options);
  }

  /**
   * Calls a method that streams both ways. As {@linkcode stream}; the requests are asked for as fast as the server
   * takes them.
   *
   * @throws RpcError as {@linkcode unary}, while iterating
   */
  async *bidi<Key extends MethodsOfKind<M, "bidi">>(
    name: Key,
    requests: AsyncIterable<Part<M, Key, "requestInit">> | Iterable<Part<M, Key, "requestInit">>,
    options: CallOptions = {},
  ): AsyncGenerator<Part<M, Key, "response">, void> {
    const { method, metadata } = this.#start(name, options);
    const { path, requestSerialize, responseDeserialize } = wireMethod(method);
    const call = this.#client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      metadata,
      streamOptions(options),
    );
    const sent = send(call, requests);
    yield* this.#responses<Part<M, Key, "response">>(call, method, options);
    await sent;
  }

  async *#responses<Response>(
    call: grpc.ClientReadableStream<unknown>,
    method: Method,
    options: CallOptions,
  ): AsyncGenerator<Response, void> {
    const giveUp = (): void => call.cancel();
    call.on("error", () => {}); // the status may come when nobody is iterating any more
    options.signal?.addEventListener("abort", giveUp, { once: true });
    try {
      for await (const response of call) yield response as Response;
    } catch (error) {
      throw this.#error(error, method);
    } finally {
      options.signal?.removeEventListener("abort", giveUp);
      call.cancel();
    }
  }

  /** Ends the connection. Calls that are running fail; later ones are refused. */
  close(): void {
    this.#closed = true;
    this.#forgetRenewals();
    this.#client.close();
  }
}

function streamOptions(options: CallOptions): grpc.CallOptions {
  return options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
}

/** Sends requests as fast as the server takes them; an error of the source cancels the call. */
async function send(
  call: grpc.ClientDuplexStream<unknown, unknown>,
  requests: AsyncIterable<unknown> | Iterable<unknown>,
): Promise<void> {
  try {
    for await (const request of requests) {
      if (call.destroyed || call.writableEnded) return;
      if (!call.write(request)) {
        await new Promise<void>((resolve) => {
          call.once("drain", resolve);
          call.once("close", resolve);
        });
      }
    }
    call.end();
  } catch {
    call.cancel();
  }
}

/**
 * Makes a client; the same as `new RpcClient`.
 *
 * @throws RpcError with INVALID_ARGUMENT for a bad address
 */
export function connect<M>(service: Service<M>, address: string, options: ClientOptions = {}): RpcClient<M> {
  return new RpcClient(service, address, options);
}

/** Why there is no connection, in a person's words: the library's are long, and do not begin with who was meant. */
function plainConnectError(details: string, address: string): string {
  const why = /^No connection established\. Last error: (?:Error: )?(.*?)\. Resolution note:/s.exec(details)
    ?.[1];
  if (why === undefined) return details;
  const plain = /ECONNREFUSED/.test(why) ? "connection refused, nobody listens there (ECONNREFUSED)" : why;
  return `cannot reach ${address}: ${plain}`;
}
