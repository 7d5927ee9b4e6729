import assert from "node:assert/strict";
import fc from "fast-check";
import {
  ByteStream,
  type Connection,
  formatAnswer,
  formatRequest,
  HttpError,
  MAX_SMALL_BODY,
  parseAnswer,
  parseRequest,
} from "./http1.ts";

/** A connection that gives bytes in pieces. */
function given(bytes: Uint8Array, piece = 7): Connection {
  let at = 0;
  return {
    read: (into) => {
      if (at === bytes.length) return Promise.resolve(null);
      const part = bytes.subarray(at, at + Math.min(piece, into.length));
      into.set(part);
      at += part.length;
      return Promise.resolve(part.length);
    },
    write: (all) => Promise.resolve(all.length),
    close: () => {},
  };
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytes = (value: string) => new TextEncoder().encode(value);

Deno.test("requests and answers are read back as they were written, in any pieces", async () => {
  const body = "some body";
  const whole = new Uint8Array([
    ...formatRequest("POST", "/v1/x?begin=1&end=2", "h:1", body.length),
    ...bytes(body),
  ]);
  for (const piece of [1, 3, 1000]) {
    const stream = new ByteStream(given(new Uint8Array([...whole, ...whole]), piece));
    for (let i = 0; i < 2; i++) {
      const request = parseRequest(await stream.head() ?? "");
      assert.deepEqual([request.method, request.path, request.length, request.last], [
        "POST",
        "/v1/x",
        9,
        false,
      ]);
      assert.equal(request.query.get("end"), "2");
      assert.equal(text(await stream.body(request.length)), body);
    }
    assert.equal(await stream.head(), undefined);
  }
  const stream = new ByteStream(given(formatAnswer(422, "why", { "X-Y": "z" })));
  const answer = parseAnswer(await stream.head() ?? "");
  assert.deepEqual([answer.status, answer.fields.get("x-y"), answer.length], [422, "z", 3]);
});

Deno.test("an answer in chunks is put together", async () => {
  const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  const stream = new ByteStream(given(bytes(`${head}3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\nrest`)));
  assert.equal(parseAnswer(await stream.head() ?? "").length, undefined);
  assert.equal(text(await stream.chunkedBody()), "abcd");
  assert.equal(text(await stream.body(4)), "rest");
  const endless = new ByteStream(given(bytes("ffffffff\r\n")));
  await assert.rejects(endless.chunkedBody(), HttpError);
});

Deno.test("heads of any bytes are refused or read, and nothing is read without a limit", async () => {
  await fc.assert(fc.asyncProperty(fc.string({ maxLength: 200, unit: "binary" }), async (head) => {
    for (const parse of [parseRequest, parseAnswer]) {
      try {
        const { length } = parse(head);
        assert.ok(length === undefined || (Number.isSafeInteger(length) && length >= 0));
      } catch (error) {
        assert.ok(error instanceof HttpError);
      }
    }
    await Promise.resolve();
  }));
  const endless = new ByteStream({
    read: (into) => Promise.resolve(into.fill(65).length),
    write: () => Promise.resolve(0),
    close: () => {},
  });
  await assert.rejects(endless.head(), { status: 431 });
  await assert.rejects(endless.body(MAX_SMALL_BODY + 1), { status: 413 });
  await assert.rejects(new ByteStream(given(bytes("GET"))).head(), /inside a head/);
  await assert.rejects(new ByteStream(given(bytes("x"))).body(2), /inside a body/);
});
