// A client whose server went away has a timer until it may dial again, also after it was closed. It would show up in
// whichever test runs then, so these tests have a file, and a process, of their own.
import assert from "node:assert/strict";
import { failure } from "../../tests/support/failure.ts";
import { Code, connect, type Handlers, implement, serve } from "./mod.ts";
import { type EchoMessage, type EchoMethods, echoService } from "./testing/echo.ts";

const REDIALS = { sanitizeOps: false, sanitizeResources: false };

/** Says back what it got, once the gate is open. */
class Gate implements Handlers<EchoMethods> {
  readonly opened = Promise.withResolvers<void>();
  readonly entered = Promise.withResolvers<void>();

  async ask({ data }: EchoMessage): Promise<Partial<EchoMessage>> {
    this.entered.resolve();
    if (data === "wait") await this.opened.promise;
    return { data };
  }

  async *count(): AsyncGenerator<Partial<EchoMessage>> {}

  async *chat(): AsyncGenerator<Partial<EchoMessage>> {}
}

async function setUp(address = "127.0.0.1:0") {
  const gate = new Gate(), server = await serve({ address, services: [implement(echoService, gate)] });
  return { gate, server, client: connect(echoService, server.address) };
}

Deno.test("nobody listening is UNAVAILABLE at once, and so is a closed client", REDIALS, async () => {
  const { server, client } = await setUp();
  await server.close();
  const refused = await failure(client.unary("ask", {}));
  assert.equal(refused.code, Code.UNAVAILABLE);
  // On a connection that was just lost the library's words differ.
  client.close();
  const fresh = connect(echoService, server.address);
  assert.equal(
    (await failure(fresh.unary("ask", {}))).message,
    `cannot reach ${server.address}: connection refused, nobody listens there (ECONNREFUSED)`,
  );
  fresh.close();
  const closed = await failure(client.unary("ask", {}));
  assert.equal(closed.code, Code.UNAVAILABLE);
  assert.match(closed.message, /closed/);
});

Deno.test("a client reaches a server that was started again on the same port", REDIALS, async () => {
  const first = await setUp();
  await first.client.unary("ask", {});
  await first.server.close();
  assert.equal((await failure(first.client.unary("ask", {}))).code, Code.UNAVAILABLE);
  const second = await setUp(first.server.address);
  const fresh = connect(echoService, second.server.address);
  assert.equal((await fresh.unary("ask", { data: "fresh" })).data, "fresh");
  fresh.close();
  first.client.close();
  second.client.close();
  await second.server.close();
});

Deno.test("closing lets a running call end, and a second close waits for the same end", REDIALS, async () => {
  const { gate, server, client } = await setUp();
  const call = client.unary("ask", { data: "wait" });
  await gate.entered.promise;
  const closed = Promise.all([server.close(), server.close()]);
  gate.opened.resolve();
  assert.equal((await call).data, "wait");
  await closed;
  client.close();
});
