import assert from "node:assert/strict";
import fc from "fast-check";
import { HttpConnection, type Wire } from "./http_connection.ts";
import { HttpError, type HttpReply, type HttpRequest } from "./http_message.ts";

const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

/** A server that has all its answers ready, and gives them in pieces of these sizes. */
class Script implements Wire {
  sent = "";
  closed = false;
  #at = 0;
  readonly #answer: Uint8Array;
  readonly #pieces: readonly number[];

  constructor(answer: string, pieces: readonly number[] = [Infinity]) {
    this.#answer = latin1(answer);
    this.#pieces = pieces;
  }

  read(into: Uint8Array): Promise<number | null> {
    const size = this.#pieces[this.#at % this.#pieces.length] ?? 1;
    const part = this.#answer.subarray(this.#at, this.#at + Math.min(size, into.length));
    into.set(part);
    this.#at += part.length;
    return Promise.resolve(part.length === 0 ? null : part.length);
  }

  write(bytes: Uint8Array): Promise<number> {
    // Never all of it at once, as sockets do.
    const part = bytes.subarray(0, Math.ceil(bytes.length / 2));
    this.sent += new TextDecoder("latin1").decode(part);
    return Promise.resolve(part.length);
  }

  close(): void {
    this.closed = true;
  }
}

function request(more: Partial<HttpRequest> = {}): HttpRequest {
  return {
    method: "GET",
    url: "http://s3.example:9000/b/k?x=1",
    headers: new Headers({ a: "b" }),
    limitBytes: 1e6,
    ...more,
  };
}

function ask(wire: Wire, more: Partial<HttpRequest> = {}): Promise<HttpReply> {
  return new HttpConnection(wire).exchange(request(more), () => {});
}

const text = ({ body }: HttpReply): string => new TextDecoder().decode(body);

Deno.test("bodies by length, in chunks and until the end are whole, however the bytes arrive", async () => {
  const answers: [string, string, boolean][] = [
    ["HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world", "hello world", true],
    ["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", true],
    [
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: u\r\n\r\n",
      "hello world",
      true,
    ],
    ["HTTP/1.1 200\r\n\r\nuntil the end", "until the end", false],
    ["HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", false],
    ["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", "hi", false],
    ["HTTP/1.1 204 No Content\r\n\r\n", "", true],
  ];
  const pieces = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });
  for (const [answer, body, reusable] of answers) {
    await fc.assert(
      fc.asyncProperty(pieces, async (sizes) => {
        const wire = new Script(answer, sizes), connection = new HttpConnection(wire);
        assert.equal(text(await connection.exchange(request(), () => {})), body);
        assert.equal(connection.reusable, reusable);
        assert.equal(wire.closed, !reusable);
      }),
      { numRuns: 20 },
    );
  }
});

Deno.test("a request is sent whole, its body behind its head", async () => {
  for (const bytes of [10, 200_000]) {
    const wire = new Script("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    await ask(wire, { method: "PUT", body: new Uint8Array(bytes).fill(120) });
    const head =
      `PUT /b/k?x=1 HTTP/1.1\r\nhost: s3.example:9000\r\nuser-agent: drover\r\na: b\r\ncontent-length: ${bytes}\r\n\r\n`;
    assert.equal(wire.sent, head + "x".repeat(bytes));
  }
  const wire = new Script("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n");
  assert.equal((await ask(wire, { method: "HEAD" })).body.length, 0, "an answer to HEAD has no body");
});

Deno.test("a body goes into the memory that is offered when it fits, and else nowhere near it", async () => {
  const answer = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
  for (const room of [11, 20]) {
    const into = new Uint8Array(room);
    const { body } = await ask(new Script(answer, [3]), { into });
    assert.ok(body.buffer === into.buffer && body.length === 11);
  }
  const into = new Uint8Array(10);
  assert.equal(text(await ask(new Script(answer), { into })), "hello world");
  assert.deepEqual(into, new Uint8Array(10));
});

Deno.test("two answers on one connection are kept apart; one that nobody asked for ends it", async () => {
  const one = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n";
  const connection = new HttpConnection(new Script(`${one}a`, [7]));
  assert.equal(text(await connection.exchange(request(), () => {})), "a");
  assert.ok(connection.reusable);
  const eager = new HttpConnection(new Script(`${one}a${one}b`));
  assert.equal(text(await eager.exchange(request(), () => {})), "a");
  assert.ok(!eager.reusable);
});

Deno.test("answers that are cut, too long or no HTTP are refused, and end the connection", async () => {
  const ok = "HTTP/1.1 200 OK\r\n";
  const cases: [string, RegExp, boolean][] = [
    ["", /the connection failed/, true],
    [`${ok}Content-Le`, /the connection failed/, true],
    [`${ok}Content-Length: 10\r\n\r\nhello`, /5 bytes too early/, true],
    [`${ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhel`, /2 bytes too early/, true],
    [`${ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n`, /a chunk has no size/, true],
    [`${ok}Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n`, /a chunk is longer/, true],
    [`${ok}Transfer-Encoding: chunked\r\n\r\nffffffff\r\n${"x".repeat(2e6)}`, /longer than 1000000/, false],
    [`${ok}Content-Length: 99999999\r\n\r\n`, /longer than 1000000/, false],
    [`${ok}\r\n${"x".repeat(2e6)}`, /longer than 1000000/, false],
    [`${ok}Content-Length: 1, 2\r\n\r\nab`, /its length cannot be/, true],
    [`${ok}no colon\r\n\r\n`, /has no name/, true],
    [`${ok}a b: c\r\n\r\n`, /cannot be/, true],
    ["SSH-2.0-x\r\n\r\n", /does not begin with a status/, true],
    [`${ok}a: ${"x".repeat(40_000)}`, /a line is too long/, true],
    ["HTTP/1.1 100 Continue\r\n\r\n".repeat(20), /does not come to an answer/, true],
  ];
  for (const [answer, expected, retryable] of cases) {
    const wire = new Script(answer);
    await assert.rejects(ask(wire), (error: Error) => {
      assert.ok(error instanceof HttpError, `${error}`);
      assert.match(error.message, expected);
      assert.equal(error.retryable, retryable, error.message);
      return true;
    });
    assert.ok(wire.closed, answer.slice(0, 50));
  }
});

Deno.test("no bytes make an exchange do anything but answer or refuse", async () => {
  const part = fc.oneof(
    fc.string(),
    fc.constantFrom(
      "HTTP/1.1 200 OK\r\n",
      "\r\n",
      "Transfer-Encoding: chunked\r\n",
      "Content-Length: 3\r\n",
      "1\r\n",
    ),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(part, { maxLength: 8 }), async (parts) => {
      try {
        await ask(new Script(parts.join("")));
      } catch (error) {
        assert.ok(error instanceof HttpError, `${error}`);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("a refusal that comes before all was sent is given out, and nothing is sent any more", async () => {
  let reject: (error: Error) => void = () => {};
  const wire: Wire & { closed: boolean } = {
    closed: false,
    read: (into) => {
      const answer = latin1("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
      into.set(answer);
      return Promise.resolve(answer.length);
    },
    // Nobody takes the request's bytes; the call ends when the connection does.
    write: () => new Promise<number>((_, no) => reject = no),
    close() {
      this.closed = true;
      reject(new Error("closed"));
    },
  };
  const reply = await ask(wire, { method: "PUT", body: new Uint8Array(300_000) });
  assert.deepEqual([reply.status, text(reply), wire.closed], [403, "no", true]);
});
