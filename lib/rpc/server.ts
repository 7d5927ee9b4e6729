/**
 * A gRPC server for control services: listens, checks identities, maps errors, answers health and reflection
 * calls, closes gracefully.
 *
 * @module
 */

import "./setup.ts";
import * as grpc from "@grpc/grpc-js";
import type { Buffer } from "node:buffer";
import { type Address, formatAddress, parseAddress, type TcpAddress } from "./address.ts";
import { Code, RpcError, statusOf } from "./errors.ts";
import { HealthService, healthService } from "./health.ts";
import { checkIdentity, type ServerIdentity } from "./identity.ts";
import {
  CLOSE_GRACE_MS,
  MAX_CONCURRENT_CALLS,
  MAX_MESSAGE_BYTES,
  SERVER_KEEPALIVE_MS,
  SERVER_KEEPALIVE_TIMEOUT_MS,
} from "./limits.ts";
import { reflectionServices } from "./reflection.ts";
import { type AnyHandler, type CallContext, implement, type Implementation, type Method } from "./service.ts";
import type { PeerCertificate, TlsIdentity } from "./tls.ts";
import { prepareSocketPath, SOCKET_MODE } from "./unix_socket.ts";
import { type WireMethod, wireMethod } from "./wire.ts";

/** What to serve, and where. */
export interface ServeOptions {
  /** Where to listen: `HOST:PORT`, `tcp://HOST:PORT`, `:PORT` (all interfaces) or `unix:PATH`; port 0 = any free. */
  address: string;
  /** The services, from `implement`. Health and reflection are added. */
  services: readonly Implementation[];
  /** Who this server is; unary calls that mean somebody else are refused. */
  identity?: ServerIdentity;
  /** Mutual TLS; plain text without it. */
  tls?: TlsIdentity;
}

/** A listening server. */
export interface RpcServer {
  /** Where it listens: `tcp://HOST:PORT` with the real port, or `unix:PATH`. */
  readonly address: string;
  /** The port; 0 for a unix socket. */
  readonly port: number;
  /**
   * Stops listening at once, lets running calls end for up to {@linkcode CLOSE_GRACE_MS}, then cuts them off.
   * Calling it again waits for the same end.
   */
  close(): Promise<void>;
}

/** What grpc-js's server calls of all kinds share, as far as it is used. */
interface Call {
  readonly cancelled: boolean;
  readonly metadata: grpc.Metadata;
  getPeer(): string;
  getAuthContext(): PeerCertificate;
  once(event: "cancelled", listener: () => void): unknown;
}

/** A {@linkcode CallContext} over a call of grpc-js. */
class Context implements CallContext {
  readonly #call: Call;
  #controller: AbortController | undefined;

  constructor(call: Call) {
    this.#call = call;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = this.#controller = new AbortController();
      // grpc-js emits this at the end of every call, whatever the reason.
      this.#call.once("cancelled", () => controller.abort());
      if (this.#call.cancelled) controller.abort();
    }
    return this.#controller.signal;
  }

  get peer(): string {
    return this.#call.getPeer();
  }

  metadata(key: string): string | undefined {
    const value = this.#call.metadata.get(key)[0];
    return value === undefined ? undefined : String(value);
  }
}

/** Who may call: each kind of call asks before its handler runs. */
type Check = (call: Call) => void;

/** What holds for calls of every kind. @throws RpcError when a caller is refused */
function checkCaller(options: ServeOptions): Check {
  const { tls } = options;
  return tls ? (call) => tls.checkPeer(call.getAuthContext()) : () => {};
}

/** Encodes a response; here and not in the library, which would keep the reason of a failure to itself. */
function encode(method: Method, response: unknown): Buffer {
  try {
    return wireMethod(method).responseSerialize(response);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new RpcError(Code.INTERNAL, `${method.path}: cannot encode the response: ${why}`, { cause: error });
  }
}

function unaryHandler(
  method: Method,
  handler: AnyHandler,
  identity: ServerIdentity | undefined,
  check: Check,
): grpc.handleUnaryCall<unknown, Buffer> {
  const run = async (call: grpc.ServerUnaryCall<unknown, Buffer>): Promise<Buffer> => {
    check(call);
    const context = new Context(call);
    if (identity) checkIdentity(identity, (key) => context.metadata(key));
    return encode(method, await handler(call.request, context));
  };
  return (call, done) => {
    run(call).then((response) => done(null, response), (error) => done(statusOf(error)));
  };
}

/** Waits until a call takes more messages, or has ended. */
function writable(call: grpc.ServerWritableStream<unknown, Buffer>): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      call.off("drain", go);
      call.off("cancelled", go);
      call.off("close", go);
      resolve();
    };
    call.on("drain", go);
    call.on("cancelled", go);
    call.on("close", go);
  });
}

/** Sends what a streaming handler gives, as fast as the client takes it. */
async function pump(
  stream: grpc.ServerWritableStream<unknown, Buffer>,
  method: Method,
  responses: () => AsyncIterable<unknown>,
): Promise<void> {
  try {
    for await (const response of responses()) {
      if (stream.cancelled || stream.destroyed) return;
      if (!stream.write(encode(method, response))) await writable(stream);
    }
    stream.end();
  } catch (error) {
    if (!stream.cancelled && !stream.destroyed) stream.emit("error", statusOf(error));
  }
}

function adapt(
  method: Method,
  handler: AnyHandler,
  identity: ServerIdentity | undefined,
  check: Check,
): grpc.UntypedHandleCall {
  if (method.kind === "unary") return unaryHandler(method, handler, identity, check);
  if (method.kind === "serverStream") {
    return (call: grpc.ServerWritableStream<unknown, Buffer>) => {
      pump(call, method, () => {
        check(call);
        return handler(call.request, new Context(call)) as AsyncIterable<unknown>;
      });
    };
  }
  return (call: grpc.ServerDuplexStream<unknown, Buffer>) => {
    // The end of the requests must not destroy the call: responses may follow.
    const requests = call.iterator({ destroyOnReturn: false });
    const stream = call as unknown as grpc.ServerWritableStream<unknown, Buffer>;
    pump(stream, method, () => {
      check(call);
      return handler(requests, new Context(call)) as AsyncIterable<unknown>;
    });
  };
}

function register(
  server: grpc.Server,
  implementation: Implementation,
  identity: ServerIdentity | undefined,
  check: Check,
): void {
  const definitions: Record<string, WireMethod> = {};
  const handlers: grpc.UntypedServiceImplementation = {};
  for (const [key, method] of implementation.service.methods) {
    definitions[key] = { ...wireMethod(method), responseSerialize: (encoded) => encoded as Buffer };
    handlers[key] = adapt(method, implementation.handler(key), identity, check);
  }
  server.addService(definitions, handlers);
}

/** Binds a server to a target of the library. @returns the real port */
type Bind = (target: string) => Promise<number>;

function binder(server: grpc.Server, credentials: grpc.ServerCredentials): Bind {
  return (target) =>
    new Promise((resolve, reject) =>
      server.bindAsync(target, credentials, (error, port) => error ? reject(error) : resolve(port))
    );
}

/** Binds to a TCP address; without a host to all interfaces, IPv6 and IPv4 where the host has IPv6. */
async function bindTcp(bind: Bind, wanted: TcpAddress): Promise<TcpAddress> {
  const to = async (host: string): Promise<TcpAddress> => {
    const port = await bind(formatAddress({ ...wanted, host }).slice("tcp://".length));
    return { ...wanted, host, port };
  };
  if (wanted.host !== "") return await to(wanted.host);
  try {
    return await to("::");
  } catch {
    return await to("0.0.0.0");
  }
}

/** Binds and returns the address with the real port. */
async function listen(server: grpc.Server, bind: Bind, wanted: Address): Promise<Address> {
  const text = formatAddress(wanted);
  try {
    if (wanted.kind === "unix") {
      await prepareSocketPath(wanted.path);
      await bind(text);
      await Deno.chmod(wanted.path, SOCKET_MODE);
      return wanted;
    }
    return await bindTcp(bind, wanted);
  } catch (error) {
    server.forceShutdown();
    if (error instanceof RpcError) throw error;
    const words = error instanceof Error ? error.message : String(error);
    const why = /EADDRINUSE/.test(words) ? "another process listens there (EADDRINUSE)" : words;
    throw new RpcError(Code.UNAVAILABLE, `cannot listen on ${text}: ${why}`, { cause: error, address: text });
  }
}

/** The library only knows its sessions, to cut them off, while channelz is on (the default). */
function shutDown(server: grpc.Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.forceShutdown(), CLOSE_GRACE_MS);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/**
 * Starts a server. Health is SERVING from the moment it listens.
 *
 * @throws RpcError with INVALID_ARGUMENT for a bad address, UNAVAILABLE when it cannot listen there
 */
export async function serve(options: ServeOptions): Promise<RpcServer> {
  const wanted = parseAddress(options.address);
  const server = new grpc.Server({
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_concurrent_streams": MAX_CONCURRENT_CALLS,
    "grpc.keepalive_time_ms": SERVER_KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": SERVER_KEEPALIVE_TIMEOUT_MS,
  });
  const names = options.services.map((implementation) => implementation.service.name);
  const health = new HealthService(names);
  const all = [...options.services, implement(healthService, health), ...reflectionServices(names)];
  const check = checkCaller(options);
  for (const implementation of all) register(server, implementation, options.identity, check);
  const tls = options.tls?.forServer();
  const bound = await listen(
    server,
    binder(server, tls?.credentials ?? grpc.ServerCredentials.createInsecure()),
    wanted,
  );
  let closed: Promise<void> | undefined;
  return {
    address: formatAddress(bound),
    port: bound.kind === "tcp" ? bound.port : 0,
    close: () => {
      health.stop();
      tls?.dispose();
      return closed ??= shutDown(server);
    },
  };
}
