/**
 * Whatever arrives on the port of a gRPC server, the server stays alive and goes on answering others. The server is
 * a process of its own, with MALLOC_PERTURB_ set so that a use of freed memory shows.
 *
 * @module
 */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { spawnDeno } from "../../tests/support/process.ts";
import { Code, connect, parseAddress } from "./mod.ts";
import { echoService } from "./testing/echo.ts";

/** The client connection preface, RFC 9113 section 3.4. */
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/** A frame header of RFC 9113 section 4.1: length (24 bits), type, flags, stream. */
function frame(length: number, type: number, flags: number, stream: number): number[] {
  return [length >> 16 & 255, length >> 8 & 255, length & 255, type, flags, 0, 0, stream >> 8, stream & 255];
}

const SETTINGS = frame(0, 4, 0, 0);

function bytes(...parts: (string | readonly number[])[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(
    parts.flatMap((part) => typeof part === "string" ? [...new TextEncoder().encode(part)] : part),
  );
}

function random(length: number): number[] {
  return [...crypto.getRandomValues(new Uint8Array(length))];
}

/** What is sent as it is on a fresh connection. */
const RAW: Readonly<Record<string, () => Uint8Array<ArrayBuffer>>> = {
  "nothing": () => bytes(),
  "one zero": () => bytes([0]),
  "random bytes": () => bytes(random(1000)),
  "many random bytes": () => bytes(random(60_000)),
  "an HTTP/1 request": () =>
    bytes("POST /test.Echo/Ask HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd"),
  "an endless HTTP/1 header": () => bytes("GET / HTTP/1.1\r\nX: " + "x".repeat(60_000)),
  "a TLS hello": () => bytes([22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3], random(190)),
  "half a preface": () => bytes(PREFACE.slice(0, 12)),
  "a preface with a wrong end": () => bytes(PREFACE.slice(0, -3) + "XX\r\n"),
  "a preface and random bytes": () => bytes(PREFACE, random(5000)),
  "a frame larger than allowed": () => bytes(PREFACE, SETTINGS, frame(0xffffff, 0, 0, 1), random(100)),
  "data on a stream that is not open": () => bytes(PREFACE, SETTINGS, frame(5, 0, 1, 1), [0, 0, 0, 0, 0]),
  "headers that are no HPACK": () => bytes(PREFACE, SETTINGS, frame(40, 1, 5, 1), random(40)),
  "a window update of zero": () => bytes(PREFACE, SETTINGS, frame(4, 8, 0, 0), [0, 0, 0, 0]),
  "continuations without end": () =>
    bytes(
      PREFACE,
      SETTINGS,
      frame(1, 1, 0, 1),
      [0x82],
      ...Array.from({ length: 2000 }, () => frame(0, 9, 0, 1)),
    ),
  "a thousand pings": () =>
    bytes(PREFACE, SETTINGS, ...Array.from({ length: 1000 }, () => [...frame(8, 6, 0, 0), ...random(8)])),
  "a thousand settings": () => bytes(PREFACE, ...Array.from({ length: 1000 }, () => SETTINGS)),
  "GOAWAY at once": () => bytes(PREFACE, SETTINGS, frame(8, 7, 0, 0), [0, 0, 0, 0, 0, 0, 0, 0]),
};

/** A request over a good HTTP/2 connection: headers and body. */
interface Odd {
  readonly headers?: Record<string, string>;
  readonly body: Uint8Array;
}

/** A gRPC message frame: compressed flag, length (big-endian), content. */
function message(flag: number, length: number, content: readonly number[] = []): Uint8Array {
  return bytes([flag, length >>> 24, length >> 16 & 255, length >> 8 & 255, length & 255, ...content]);
}

const ODD: Readonly<Record<string, Odd>> = {
  "a message that claims 4 GiB": { body: message(0, 0xffffffff, [1, 2, 3]) },
  "a message that claims 2 GiB": { body: message(0, 0x7fffffff, [1, 2, 3]) },
  "a message just above the limit": { body: message(0, 4 * 1024 * 1024 + 1, [1]) },
  "a message that ends early": { body: message(0, 100, [1, 2, 3]) },
  "half a message header": { body: bytes([0, 0, 0]) },
  "no message": { body: bytes() },
  "two messages": { body: bytes([...message(0, 0), ...message(0, 0)]) },
  "a message that is no protobuf": { body: message(0, 4, [255, 255, 255, 255]) },
  "a field that claims 2 GiB": { body: message(0, 6, [18, 255, 255, 255, 255, 7]) },
  "a text that is no UTF-8": { body: message(0, 4, [18, 2, 255, 254]) },
  "a number above 2^53": { body: message(0, 11, [32, 255, 255, 255, 255, 255, 255, 255, 255, 127, 0]) },
  "compressed without encoding": { body: message(1, 3, [1, 2, 3]) },
  "gzip that is none": { headers: { "grpc-encoding": "gzip" }, body: message(1, 3, [1, 2, 3]) },
  "an encoding nobody knows": { headers: { "grpc-encoding": "zz" }, body: message(1, 3, [1, 2, 3]) },
  "another content type": { headers: { "content-type": "text/html" }, body: bytes("<html>") },
  "a time-out that is none": { headers: { "grpc-timeout": "soon" }, body: message(0, 0) },
  "a path that is none": { headers: { ":path": "/" }, body: message(0, 0) },
  "an unknown method": { headers: { ":path": "/test.Echo/None" }, body: message(0, 0) },
  "a GET": { headers: { ":method": "GET" }, body: bytes() },
};

async function sendRaw(port: number, data: Uint8Array<ArrayBuffer>): Promise<void> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  try {
    for (let sent = 0; sent < data.length;) sent += await connection.write(data.subarray(sent));
    await connection.closeWrite();
    const buffer = new Uint8Array(65536);
    for (let total = 0; total < 1 << 20;) { // the server may say what it likes, but not for ever
      const count = await connection.read(buffer);
      if (count === null) break;
      total += count;
    }
  } catch (error) {
    // Being thrown out while writing is as good an answer.
    if (!(error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe)) {
      throw error;
    }
  } finally {
    connection.close();
  }
}

/** Sends one request and returns its gRPC status, or why there was none. */
function sendOdd(session: http2.ClientHttp2Session, { headers, body }: Odd): Promise<string> {
  return new Promise((resolve) => {
    const stream = session.request({
      ":method": "POST",
      ":path": "/test.Echo/Ask",
      "content-type": "application/grpc+proto",
      te: "trailers",
      ...headers,
    });
    let status = "none";
    const note = (got: http2.IncomingHttpHeaders): void => {
      status = String(got["grpc-status"] ?? (status === "none" ? `HTTP ${got[":status"]}` : status));
    };
    stream.on("response", note);
    stream.on("trailers", note);
    stream.on("error", () => {});
    stream.on("close", () => resolve(status));
    stream.resume();
    stream.end(body);
  });
}

async function withServer(body: (port: number, stillFine: (what: string) => Promise<void>) => Promise<void>) {
  await using server = spawnDeno("lib/rpc/testing/goaway_peer.ts", ["serve", "127.0.0.1:0"], {
    env: { MALLOC_PERTURB_: "165" },
  });
  const [, address = ""] = await server.waitForOutput(/^(tcp:\S+)$/m);
  const parsed = parseAddress(address);
  assert.ok(parsed.kind === "tcp");
  await body(parsed.port, async (what) => {
    const client = connect(echoService, address);
    const { length } = await client.unary("ask", { length: 42 }, { timeoutMs: 10_000 }).catch((error) => {
      throw new Error(`after ${what}: ${error}\n${server.output}`);
    });
    client.close();
    assert.equal(length, 42, what);
  });
  server.signal("SIGTERM");
  assert.ok((await server.status).success, server.output);
  assert.equal(server.output, `${address}\nclosed\n`, "nothing else was said");
}

Deno.test("no bytes on the port hurt a server", async () => {
  await withServer(async (port, stillFine) => {
    for (const [what, data] of Object.entries(RAW)) {
      await sendRaw(port, data());
      await stillFine(what);
    }
  });
});

Deno.test("no request hurts a server, and every one is refused for its own fault", async () => {
  await withServer(async (port, stillFine) => {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    session.on("error", () => {});
    const statuses: Record<string, string> = {};
    for (const [what, odd] of Object.entries(ODD)) {
      statuses[what] = await sendOdd(session, odd);
      await stillFine(what);
    }
    const closed = new Promise<void>((resolve) => session.once("close", () => resolve()));
    session.close();
    await closed;
    for (
      const what of [
        "a message that claims 4 GiB",
        "a message that claims 2 GiB",
        "a message just above the limit",
      ]
    ) {
      assert.equal(statuses[what], String(Code.RESOURCE_EXHAUSTED), what);
    }
    for (const [what, status] of Object.entries(statuses)) assert.notEqual(status, String(Code.OK), what);
  });
});

Deno.test("connections that are left open, and calls that are given up at once, do not shut others out", async () => {
  await withServer(async (port, stillFine) => {
    const idle = await Promise.all(
      Array.from({ length: 100 }, () => Deno.connect({ hostname: "127.0.0.1", port })),
    );
    await Promise.all(
      idle.map((connection, index) =>
        connection.write(new TextEncoder().encode(PREFACE.slice(0, 1 + index % PREFACE.length)))
      ),
    );
    await stillFine("a hundred connections without a request");
    for (const connection of idle) connection.close();
    const session = http2.connect(`http://127.0.0.1:${port}`);
    session.on("error", () => {});
    for (let count = 0; count < 500; count++) {
      const stream = session.request({
        ":method": "POST",
        ":path": "/test.Echo/Ask",
        "content-type": "application/grpc",
        te: "trailers",
      });
      stream.on("error", () => {});
      stream.close(http2.constants.NGHTTP2_CANCEL);
    }
    await stillFine("five hundred calls given up");
    session.destroy();
    await stillFine("the end of their connection");
  });
});
