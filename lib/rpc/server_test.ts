import assert from "node:assert/strict";
import { failure } from "../../tests/support/failure.ts";
import { tempDir } from "../../tests/support/temp.ts";
import {
  type CallContext,
  Code,
  connect,
  controllerService,
  type Handlers,
  healthService,
  implement,
  MAX_MESSAGE_BYTES,
  profilerrpc,
  profilerService,
  RollbackError,
  RpcError,
  type RpcServer,
  serve,
} from "./mod.ts";
import { type EchoMessage, type EchoMethods, echoService } from "./testing/echo.ts";

/** Does in `ask` what the text says; counts and chats otherwise. */
class Echo implements Handlers<EchoMethods> {
  /** Resolved when a call that waits has seen its signal. */
  readonly aborted = Promise.withResolvers<void>();
  /** Calls that waited. */
  waiting = 0;

  async ask(request: EchoMessage, call: CallContext): Promise<Partial<EchoMessage>> {
    switch (request.data) {
      case "plain error":
        throw new Error("replica is already open");
      case "thrown text":
        // deno-lint-ignore no-throw-literal -- a library may do that, and it is what is tested
        throw "no error object";
      case "typed error":
        throw new RpcError(Code.NOT_FOUND, "no replica ü\n100 %");
      case "rollback":
        throw new RollbackError("FunctionFailedRollbackSucceeded", "no space");
      case "bad response":
        return { length: 2 ** 60 };
      case "metadata":
        return { data: `${call.metadata("x-test")} ${call.metadata("x-none")} ${call.peer.length > 0}` };
      case "wait":
        this.waiting++;
        await new Promise<void>((resolve) => {
          if (call.signal.aborted) resolve();
          call.signal.addEventListener("abort", () => resolve());
        });
        this.aborted.resolve();
        return {};
      default:
        return { data: request.data, length: request.length };
    }
  }

  async *count(request: EchoMessage): AsyncGenerator<Partial<EchoMessage>> {
    for (let length = 0; length < request.length; length++) yield { data: request.data, length };
  }

  async *chat(requests: AsyncIterable<EchoMessage>): AsyncGenerator<Partial<EchoMessage>> {
    for await (const request of requests) yield request;
  }
}

interface Setup extends AsyncDisposable {
  server: RpcServer;
  echo: Echo;
  client: ReturnType<typeof connect<EchoMethods>>;
}

async function setUp(address = "127.0.0.1:0"): Promise<Setup> {
  const echo = new Echo();
  const server = await serve({ address, services: [implement(echoService, echo)] });
  const client = connect(echoService, server.address);
  const dispose = async (): Promise<void> => {
    client.close();
    await server.close();
  };
  return { server, echo, client, [Symbol.asyncDispose]: dispose };
}

Deno.test("a unary call gives back what was sent, 64-bit numbers exactly", async () => {
  await using it = await setUp();
  for (const length of [0, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]) {
    const { data, length: back } = await it.client.unary("ask", { data: "ü\0\u{1F600}", length });
    assert.deepEqual([data, back], ["ü\0\u{1F600}", length]);
  }
});

Deno.test("a plain error is UNKNOWN with its text, a typed one keeps code and text", async () => {
  await using it = await setUp();
  const plain = await failure(it.client.unary("ask", { data: "plain error" }));
  assert.deepEqual([plain.code, plain.message], [Code.UNKNOWN, "replica is already open"]);
  assert.deepEqual([plain.address, plain.method], [it.server.address, "/test.Echo/Ask"]);
  const text = await failure(it.client.unary("ask", { data: "thrown text" }));
  assert.deepEqual([text.code, text.message], [Code.UNKNOWN, "no error object"]);
  const typed = await failure(it.client.unary("ask", { data: "typed error" }));
  assert.deepEqual([typed.code, typed.message], [Code.NOT_FOUND, "no replica ü\n100 %"]);
  const rollback = await failure(it.client.unary("ask", { data: "rollback" }));
  assert.equal(RollbackError.from(rollback)?.outcome, "FunctionFailedRollbackSucceeded");
});

Deno.test("what cannot be sent is INTERNAL on both sides, and the connection goes on", async () => {
  await using it = await setUp();
  const request = await failure(it.client.unary("ask", { length: 2 ** 60 }));
  assert.equal(request.code, Code.INTERNAL);
  assert.match(request.message, /64-bit field/);
  const response = await failure(it.client.unary("ask", { data: "bad response" }));
  assert.equal(response.code, Code.INTERNAL);
  assert.match(response.message, /64-bit field/);
  assert.equal((await it.client.unary("ask", { data: "fine" })).data, "fine");
});

Deno.test("metadata reaches the handler", async () => {
  await using it = await setUp();
  const { data } = await it.client.unary("ask", { data: "metadata" }, { metadata: { "x-test": "value" } });
  assert.equal(data, "value undefined true");
  const odd = await failure(it.client.unary("ask", {}, { metadata: { "x-test": "two\nlines" } }));
  assert.equal(odd.code, Code.INVALID_ARGUMENT);
  assert.match(odd.message, /metadata x-test: "two\\nlines"/);
});

Deno.test("a message above the limit is RESOURCE_EXHAUSTED, one just below it goes through", async () => {
  await using it = await setUp();
  const data = "x".repeat(MAX_MESSAGE_BYTES - 100);
  assert.equal((await it.client.unary("ask", { data })).data.length, data.length);
  const error = await failure(it.client.unary("ask", { data: "x".repeat(MAX_MESSAGE_BYTES) }));
  assert.equal(error.code, Code.RESOURCE_EXHAUSTED);
});

Deno.test("a deadline ends a call on both sides", async () => {
  await using it = await setUp();
  // On a busy machine a short deadline is over before the server has the call: then a longer one.
  for (let timeoutMs = 50; it.echo.waiting === 0; timeoutMs *= 2) {
    const error = await failure(it.client.unary("ask", { data: "wait" }, { timeoutMs }));
    assert.equal(error.code, Code.DEADLINE_EXCEEDED);
  }
  await it.echo.aborted.promise;
});

Deno.test("an abort signal cancels a call on both sides", async () => {
  await using it = await setUp();
  const controller = new AbortController();
  const call = it.client.unary("ask", { data: "wait" }, { signal: controller.signal });
  await it.client.unary("ask", {}); // the server has the first call by now
  controller.abort();
  assert.equal((await failure(call)).code, Code.CANCELLED);
  await it.echo.aborted.promise;
  const late = await failure(it.client.unary("ask", {}, { signal: controller.signal }));
  assert.equal(late.code, Code.CANCELLED);
});

Deno.test("a method that the server does not have is UNIMPLEMENTED", async () => {
  await using it = await setUp();
  const other = connect(controllerService, it.server.address);
  assert.equal((await failure(other.unary("volumeGet", {}))).code, Code.UNIMPLEMENTED);
  other.close();
});

Deno.test("a server refuses calls that mean another volume or instance", async () => {
  const handlers = { profilerOP: () => ({ profilerAddr: "here" }) };
  const identity = { role: "replica", volumeName: "vol-1", instanceName: "vol-1-r-1" } as const;
  const server = await serve({
    address: "127.0.0.1:0",
    services: [implement(profilerService, handlers)],
    identity,
  });
  const ask = async (meant: { volumeName?: string; instanceName?: string }): Promise<string> => {
    const client = connect(profilerService, server.address, { identity: meant });
    try {
      return (await client.unary("profilerOP", { requestOp: profilerrpc.Op.SHOW })).profilerAddr;
    } catch (error) {
      assert.ok(error instanceof RpcError && error.code === Code.FAILED_PRECONDITION);
      return error.message;
    } finally {
      client.close();
    }
  };
  assert.equal(await ask(identity), "here");
  assert.equal(await ask({}), "here");
  assert.equal(await ask({ volumeName: "" }), "here");
  assert.equal(await ask({ instanceName: "vol-1-r-1" }), "here");
  assert.equal(await ask({ volumeName: "vol-2" }), "incorrect volume name vol-2; check replica address");
  assert.equal(
    await ask({ volumeName: "vol-1", instanceName: "vol-1-r-2" }),
    "incorrect instance name vol-1-r-2; check replica address",
  );
  const stranger = connect(healthService, server.address, { identity: { volumeName: "vol-2" } });
  assert.equal((await failure(stranger.unary("check", {}))).code, Code.FAILED_PRECONDITION);
  stranger.close();
  await server.close();
});

Deno.test("a server without a name of its own serves everybody", async () => {
  await using it = await setUp();
  const client = connect(echoService, it.server.address, {
    identity: { volumeName: "any", instanceName: "any" },
  });
  assert.equal((await client.unary("ask", { data: "x" })).data, "x");
  client.close();
});

Deno.test("a port in use and a bad address are errors that name the address", async () => {
  await using it = await setUp();
  const used = await failure(serve({ address: it.server.address, services: [] }));
  assert.equal(used.code, Code.UNAVAILABLE);
  assert.ok(used.message.includes(it.server.address));
  assert.equal((await failure(serve({ address: "nowhere", services: [] }))).code, Code.INVALID_ARGUMENT);
  assert.throws(() => connect(echoService, "127.0.0.1:0"), RpcError);
});

Deno.test("a server without a host listens on IPv4 as well", async () => {
  await using it = await setUp(":0");
  const client = connect(echoService, `127.0.0.1:${it.server.port}`);
  assert.equal((await client.unary("ask", { data: "x" })).data, "x");
  client.close();
});

Deno.test("a unix socket is for its owner, replaces a stale file and goes away with the server", async () => {
  using directory = tempDir();
  const path = directory.join("rpc.sock");
  // What a killed server leaves: a bound socket file that nobody listens on.
  const stale = Deno.listen({ transport: "unix", path: directory.join("old.sock") });
  Deno.renameSync(directory.join("old.sock"), path);
  stale.close();
  assert.ok(Deno.lstatSync(path).isSocket);
  {
    await using it = await setUp(`unix:${path}`);
    assert.equal(it.server.address, `unix:${path}`);
    assert.equal(it.server.port, 0);
    assert.equal((Deno.lstatSync(path).mode ?? 0) & 0o777, 0o600);
    assert.equal((await it.client.unary("ask", { data: "x" })).data, "x");
    const second = await failure(serve({ address: `unix://${path}`, services: [] }));
    assert.equal(second.code, Code.UNAVAILABLE);
    assert.match(second.message, /another server listens there/);
    assert.equal((await it.client.unary("ask", { data: "y" })).data, "y");
  }
  assert.throws(() => Deno.lstatSync(path), Deno.errors.NotFound);
});

Deno.test("a file that is no socket is not removed", async () => {
  using directory = tempDir();
  const path = directory.join("data");
  Deno.writeTextFileSync(path, "precious");
  const error = await failure(serve({ address: `unix:${path}`, services: [] }));
  assert.match(error.message, /no socket/);
  assert.equal(Deno.readTextFileSync(path), "precious");
});
