import assert from "node:assert/strict";
import * as generated from "./gen/grpc.js";
import {
  type CallContext,
  Code,
  connect,
  type Handlers,
  healthService,
  implement,
  RpcError,
  serve,
} from "./mod.ts";
import { defineService } from "./service.ts";
import { type EchoMessage, type EchoMethods, echoService } from "./testing/echo.ts";

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = generated.grpc.health.v1.HealthCheckResponse.ServingStatus;

/** Counts; what it does else is told by `data`. */
class Streams implements Handlers<EchoMethods> {
  /** Messages given out by `count`. */
  given = 0;
  /** Resolved when a stream that waits has been aborted. */
  readonly aborted = Promise.withResolvers<void>();

  ask(): Partial<EchoMessage> {
    return {};
  }

  async *count(request: EchoMessage, call: CallContext): AsyncGenerator<Partial<EchoMessage>> {
    const text = request.data === "big" ? "x".repeat(1 << 20) : "";
    for (let length = 0; length < request.length; length++, this.given++) yield { data: text, length };
    if (request.data === "fail") throw new RpcError(Code.DATA_LOSS, "lost");
    if (request.data === "wait") {
      await new Promise<void>((resolve) => call.signal.addEventListener("abort", () => resolve()));
      this.aborted.resolve();
    }
  }

  async *chat(requests: AsyncIterable<EchoMessage>): AsyncGenerator<Partial<EchoMessage>> {
    let sum = 0;
    for await (const { length } of requests) {
      sum += length;
      if (length === 13) throw new Error("no thirteen");
      yield { length };
    }
    yield { data: "sum", length: sum };
  }
}

async function setUp() {
  const streams = new Streams();
  const server = await serve({ address: "127.0.0.1:0", services: [implement(echoService, streams)] });
  const client = connect(echoService, server.address);
  const dispose = async (): Promise<void> => {
    client.close();
    await server.close();
  };
  return { streams, server, client, [Symbol.asyncDispose]: dispose };
}

/** Expects an iteration to fail, and returns how far it came and the error. */
async function failing(stream: AsyncIterable<EchoMessage>): Promise<[number[], RpcError]> {
  const lengths: number[] = [];
  try {
    for await (const { length } of stream) lengths.push(length);
  } catch (error) {
    assert.ok(error instanceof RpcError, String(error));
    return [lengths, error];
  }
  assert.fail("the stream ended well");
}

Deno.test("a server stream gives all its messages in order", async () => {
  await using it = await setUp();
  let next = 0;
  for await (const { length } of it.client.stream("count", { length: 1000 })) assert.equal(length, next++);
  assert.equal(next, 1000);
});

Deno.test("an error inside a server stream reaches the client with code and text", async () => {
  await using it = await setUp();
  const [, error] = await failing(it.client.stream("count", { length: 3, data: "fail" }));
  assert.deepEqual([error.code, error.message], [Code.DATA_LOSS, "lost"]);
});

Deno.test("a slow reader holds the sender back", async () => {
  await using it = await setUp();
  let read = 0;
  for await (const { data } of it.client.stream("count", { length: 40, data: "big" })) {
    assert.equal(data.length, 1 << 20);
    if (++read < 5) await it.client.unary("ask", {}); // gives the sender every chance to run ahead
    if (read === 5) assert.ok(it.streams.given < 40, `${it.streams.given} given out after 5 were read`);
  }
  assert.equal(read, 40);
});

Deno.test("leaving the loop, a signal and a deadline end a stream on both sides", async () => {
  {
    await using it = await setUp();
    for await (const _ of it.client.stream("count", { length: 1, data: "wait" })) break;
    await it.streams.aborted.promise;
  }
  {
    await using it = await setUp();
    const controller = new AbortController();
    const stream = it.client.stream("count", { length: 1, data: "wait" }, { signal: controller.signal });
    await stream.next();
    controller.abort();
    assert.equal((await failing(stream))[1].code, Code.CANCELLED);
    await it.streams.aborted.promise;
  }
  {
    await using it = await setUp();
    const [lengths, error] = await failing(
      it.client.stream("count", { length: 2, data: "wait" }, { timeoutMs: 2_000 }),
    );
    assert.deepEqual([lengths, error.code], [[0, 1], Code.DEADLINE_EXCEEDED]);
    await it.streams.aborted.promise;
  }
});

Deno.test("both sides stream, and responses may follow the last request", async () => {
  await using it = await setUp();
  const lengths: number[] = [];
  for await (const { length } of it.client.bidi("chat", [{ length: 1 }, { length: 2 }, { length: 3 }])) {
    lengths.push(length);
  }
  assert.deepEqual(lengths, [1, 2, 3, 6]);
  const [, error] = await failing(it.client.bidi("chat", [{ length: 1 }, { length: 13 }]));
  assert.deepEqual([error.code, error.message], [Code.UNKNOWN, "no thirteen"]);
});

Deno.test("closing a server cuts off streams that do not end by themselves", async () => {
  const { client, server, streams } = await setUp();
  const stream = client.stream("count", { length: 1, data: "wait" });
  await stream.next();
  const [[, error]] = await Promise.all([failing(stream), server.close()]);
  assert.ok(error.code === Code.CANCELLED || error.code === Code.UNAVAILABLE);
  await streams.aborted.promise;
  client.close();
});

Deno.test("health is SERVING from the start, service by service, and NOT_SERVING at the end", async () => {
  const { client, server } = await setUp();
  const health = connect(healthService, server.address);
  assert.equal((await health.unary("check", {})).status, SERVING);
  assert.equal((await health.unary("check", { service: "test.Echo" })).status, SERVING);
  await assert.rejects(
    health.unary("check", { service: "other" }),
    (error) => error instanceof RpcError && error.code === Code.NOT_FOUND,
  );
  for await (const { status } of health.stream("watch", { service: "other" })) {
    assert.equal(status, SERVICE_UNKNOWN);
    break;
  }
  const watch = health.stream("watch", {});
  assert.deepEqual((await watch.next()).value?.status, SERVING);
  const closed = server.close();
  assert.deepEqual((await watch.next()).value?.status, NOT_SERVING);
  assert.equal((await watch.next()).done, true);
  await closed;
  health.close();
  client.close();
});

Deno.test("reflection lists the services and describes each with all that it imports", async () => {
  await using it = await setUp();
  for (const space of [generated.grpc.reflection.v1, generated.grpc.reflection.v1alpha]) {
    const service = defineService(
      generated,
      space as typeof generated.grpc.reflection.v1,
      space.ServerReflection,
    );
    const client = connect(service, it.server.address);
    const asked = [
      { listServices: "" },
      { fileContainingSymbol: "ptypes.SyncAgentService.FileSend" },
      { fileByFilename: "google/protobuf/empty.proto" },
      { fileContainingSymbol: "no.such.Thing" },
      { fileContainingExtension: { containingType: "x", extensionNumber: 1 } },
      {},
    ];
    const answers = await Array.fromAsync(client.bidi("serverReflectionInfo", asked));
    client.close();
    const names = answers[0]?.listServicesResponse?.service?.map(({ name }) => name);
    assert.deepEqual(names, [
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
      "test.Echo",
    ]);
    // syncagent.proto, empty.proto and common.proto
    assert.equal(answers[1]?.fileDescriptorResponse?.fileDescriptorProto?.length, 3);
    assert.equal(answers[2]?.fileDescriptorResponse?.fileDescriptorProto?.length, 1);
    assert.equal(answers[2]?.originalRequest?.fileByFilename, "google/protobuf/empty.proto");
    const codes = answers.slice(3).map((answer) => answer.errorResponse?.errorCode);
    assert.deepEqual(codes, [Code.NOT_FOUND, Code.NOT_FOUND, Code.INVALID_ARGUMENT]);
  }
});
