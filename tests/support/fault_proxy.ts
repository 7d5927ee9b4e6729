/**
 * An HTTP server that stands before another one and does to chosen exchanges what networks and busy services do:
 * errors, cuts, pauses, damaged bodies, answers that get lost.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import http from "node:http";

/** What happens to one exchange. */
export type Fault =
  /** Answered with a status, without the other server. */
  | {
    readonly kind: "status";
    readonly status: number;
    readonly body?: string;
    readonly headers?: Record<string, string>;
  }
  /** The connection ends before anything is passed on. */
  | { readonly kind: "cut" }
  /** Passed on, but the connection ends in place of the answer. */
  | { readonly kind: "lose answer" }
  /** The answer's body ends in the middle; the announced length stays. */
  | { readonly kind: "truncate" }
  /** One bit of the answer's body is another. */
  | { readonly kind: "damage answer" }
  /** One bit of the request's body is another. */
  | { readonly kind: "damage request" }
  /** The answer's first half comes, and then nothing. */
  | { readonly kind: "stall" }
  /** Passed on after a while, when the one who asked is still there. */
  | { readonly kind: "delay"; readonly milliseconds: number };

/** One exchange as the proxy sees it. */
export interface Exchange {
  /** Method. */
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  /** Number of this exchange, from 0. */
  readonly index: number;
}

/** A running proxy. Dispose with `await using`. */
export interface FaultProxy extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`. */
  readonly endpoint: string;
  /** All exchanges so far. */
  readonly seen: readonly Exchange[];
  /** Decides; undefined passes the exchange on. Set it to change the weather. */
  decide: (exchange: Exchange) => Fault | undefined;
}

async function bodyOf(stream: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function flip(body: Buffer): Buffer {
  const copy = Buffer.from(body);
  const at = copy.length >> 1;
  if (copy.length > 0) copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
}

/** Passes a request on with the very same headers: they are signed. */
function ask(target: URL, request: http.IncomingMessage, body: Buffer): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const out = http.request({
      host: target.hostname,
      port: target.port,
      method: request.method ?? "GET",
      path: request.url ?? "/",
      headers: { ...request.headers, connection: "close" },
      setHost: false,
      agent: false,
    }, resolve);
    out.on("error", reject);
    out.end(body);
  });
}

/** Waits; false when the one who asked goes away before. */
function stays(response: http.ServerResponse, milliseconds: number): Promise<boolean> {
  return new Promise((resolve) => {
    const gone = (): void => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      response.off("close", gone);
      resolve(true);
    }, milliseconds);
    response.once("close", gone);
  });
}

async function exchange(
  target: URL,
  fault: Fault | undefined,
  request: http.IncomingMessage,
  response: http.ServerResponse,
): Promise<void> {
  if (fault?.kind === "cut") return void request.socket.destroy();
  const body = await bodyOf(request);
  if (fault?.kind === "status") {
    return void response.writeHead(fault.status, fault.headers ?? {}).end(fault.body ?? "");
  }
  if (fault?.kind === "delay" && !await stays(response, fault.milliseconds)) return;
  const answer = await ask(target, request, fault?.kind === "damage request" ? flip(body) : body);
  const content = await bodyOf(answer);
  if (fault?.kind === "lose answer") return void request.socket.destroy();
  response.writeHead(answer.statusCode ?? 500, answer.headers);
  if (fault?.kind === "truncate" || fault?.kind === "stall") {
    response.write(content.subarray(0, content.length >> 1), () => {
      if (fault.kind === "truncate") request.socket.destroy();
    });
    return;
  }
  response.end(fault?.kind === "damage answer" ? flip(content) : content);
}

/** Starts a proxy before a server. */
export async function faultProxy(target: string): Promise<FaultProxy> {
  const seen: Exchange[] = [];
  const url = new URL(target);
  const server = http.createServer((request, response) => {
    const one = { method: request.method ?? "", path: request.url ?? "", index: seen.length };
    seen.push(one);
    exchange(url, proxy.decide(one), request, response).catch(() => request.socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const proxy: FaultProxy = {
    endpoint: `http://127.0.0.1:${port}`,
    seen,
    decide: () => undefined,
    async [Symbol.asyncDispose](): Promise<void> {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
  return proxy;
}
