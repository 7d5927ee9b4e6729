import assert from "node:assert/strict";
import { HttpError, type HttpRequest } from "./http_message.ts";
import { ConnectionPool } from "./http_pool.ts";

/** A server on one socket: `answer` gets each connection with its number. */
async function serve(
  answer: (connection: Deno.Conn, index: number) => Promise<void>,
  test: (
    pool: ConnectionPool,
    request: (method: string) => HttpRequest,
    connections: () => number,
  ) => Promise<void>,
): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  let connections = 0;
  const running: Promise<void>[] = [];
  const accepting = (async () => {
    for await (const connection of listener) {
      running.push(
        answer(connection, connections++).finally(() => {
          try {
            connection.close();
          } catch {
            // Closed by the answer itself.
          }
        }),
      );
    }
  })();
  const url = new URL(`http://127.0.0.1:${port}`);
  const request = (method: string): HttpRequest => ({
    method,
    url: `${url.origin}/x`,
    headers: new Headers(),
    limitBytes: 1000,
    ...(method === "PUT" && { body: new Uint8Array(10) }),
  });
  try {
    using pool = new ConnectionPool(url, undefined);
    await test(pool, request, () => connections);
  } finally {
    listener.close();
    await accepting;
    await Promise.all(running);
  }
}

const OK = new TextEncoder().encode("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");

/** Reads one request (they are short here); false at the end. */
async function taken(connection: Deno.Conn): Promise<boolean> {
  return await connection.read(new Uint8Array(4096)) !== null;
}

const never = new AbortController().signal;

Deno.test("connections are used again, but a POST gets its own", async () => {
  await serve(async (connection) => {
    while (await taken(connection)) await connection.write(OK);
  }, async (pool, request, connections) => {
    for (const method of ["GET", "PUT", "DELETE", "GET"]) {
      await pool.exchange(request(method), never, () => {});
    }
    assert.equal(connections(), 1);
    await pool.exchange(request("POST"), never, () => {});
    assert.equal(connections(), 2);
  });
});

Deno.test("a connection that the server ended while it was idle is replaced without anybody noticing", async () => {
  const asked: number[] = [];
  await serve(async (connection, index) => {
    // Each answers once and ends, without saying so before.
    if (!await taken(connection)) return;
    asked.push(index);
    await connection.write(OK);
  }, async (pool, request, connections) => {
    for (let i = 0; i < 4; i++) {
      assert.equal((await pool.exchange(request("GET"), never, () => {})).status, 200);
    }
    assert.equal(connections(), 4);
    assert.deepEqual(asked, [0, 1, 2, 3]);
  });
});

Deno.test("a server that never answers is tried once on a new connection, and then it is an error", async () => {
  await serve(async (connection) => void await taken(connection), async (pool, request, connections) => {
    await assert.rejects(pool.exchange(request("GET"), never, () => {}), HttpError);
    assert.equal(connections(), 1);
  });
});

Deno.test("an exchange that is given up ends at once and takes its connection along", async () => {
  await serve(async (connection) => {
    while (await taken(connection));
  }, async (pool, request) => {
    const stop = new AbortController(), reason = new Error("enough");
    const exchange = pool.exchange(request("PUT"), stop.signal, () => {});
    setTimeout(() => stop.abort(reason), 5);
    await assert.rejects(exchange);
    const late = pool.exchange(request("GET"), AbortSignal.abort(reason), () => {});
    await assert.rejects(late);
  });
});

Deno.test("requests for another server are refused", async () => {
  using pool = new ConnectionPool(new URL("http://127.0.0.1:1"), undefined);
  const request = { method: "GET", url: "http://127.0.0.1:12/x", headers: new Headers(), limitBytes: 1 };
  await assert.rejects(pool.exchange(request, never, () => {}), /another server/);
});
