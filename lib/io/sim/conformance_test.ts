/** What the worlds over a kernel are held to, held against the simulation: the same helpers drive it. */
import assert from "node:assert/strict";
import { Errno, IoError } from "../errno.ts";
import { type Address, type Completer, type Io, MAX_SEGMENTS } from "../io.ts";
import { Stream, StreamMemory, type StreamOwner } from "../stream.ts";
import { pair, patternByte, settle, settleOne, type Start } from "../test_kit.ts";
import { SimCluster } from "./cluster.ts";
import { drawOptions } from "./options.ts";
import { until } from "./testing.ts";

const SEGMENT = 16;

/** Registers a test of an Io with a directory, in worlds of several seeds. */
function testSim(
  name: string,
  seeds: number,
  arenaBytes: number,
  body: (io: Io, directory: string) => void,
): void {
  Deno.test(`sim: ${name}`, () => {
    for (let seed = 1; seed <= seeds; seed++) {
      using world = new SimCluster(seed, drawOptions(seed));
      const { io } = world.host("a").spawn("p", (own) => own.files.makeDirectory("/d"), { arenaBytes });
      try {
        body(io, "/d");
      } catch (error) {
        throw world.failure(error);
      }
    }
  });
}

for (const kind of ["tcp", "unix"] as const) {
  testSim(`a large gathered send over ${kind} reaches a slow reader whole`, 3, 26 << 20, (io, directory) => {
    const [client, server, listener] = pair(io, kind, directory);
    const vector = io.arena.reserve(MAX_SEGMENTS * SEGMENT, SEGMENT);
    const data = io.arena.reserve(12 << 20, 4096), into = io.arena.reserve(12 << 20, 4096);
    let total = 0;
    for (let i = 0; i < MAX_SEGMENTS; i++) {
      const length = (i * 7919) % 20_480;
      io.segment(vector, i, data + total, length);
      total += length;
    }
    for (let i = 0; i < total; i++) io.arena.u8[data + i] = patternByte(5, i);
    let got = 0;
    const reader: Completer = {
      complete(_tag, result) {
        assert(result > 0);
        got += result;
        if (got === total) return io.stop();
        io.receive(server, into + got, 300_011, reader, 0);
      },
    };
    let sent = 0;
    io.send(client, vector, MAX_SEGMENTS, { complete: (_tag, result) => sent = result }, 0);
    io.receive(server, into, 1, reader, 0);
    io.run();
    while (sent === 0) settleOne(io, (who, tag) => io.timer(1, who, tag));
    assert.equal(sent, total);
    for (let i = 0; i < total; i++) {
      if (io.arena.u8[into + i] !== patternByte(5, i)) assert.fail(`byte ${i} of ${total} is wrong`);
    }
    [client, server, listener].forEach((fd) => io.close(fd));
  });

  testSim(
    `shutdown ends a receive, a send and an accept under way over ${kind}`,
    10,
    2 << 20,
    (io, directory) => {
      const [client, server, listener] = pair(io, kind, directory);
      const vector = io.arena.reserve(SEGMENT, SEGMENT);
      io.segment(vector, 0, 0, 2 << 20);
      const results = settle(
        io,
        (who, tag) => io.receive(client, 0, 10, who, tag),
        (who, tag) => io.send(client, vector, 1, who, tag),
        (who, tag) => io.accept(listener, who, tag),
        (who, tag) => {
          const act = () => (io.shutdown(client), io.shutdown(listener), who.complete(tag, 0));
          io.timer(2, { complete: act }, tag);
        },
      );
      assert.deepEqual(results.slice(0, 3), [0, -Errno.EPIPE, -Errno.EINVAL]);
      [client, server, listener].forEach((fd) => io.close(fd));
    },
  );
}

testSim(
  "more connections than the queue of a listener holds are made in the end",
  10,
  4096,
  (io, directory) => {
    const address: Address = { kind: "unix", path: `${directory}/s` };
    const listener = io.listen(address, 1);
    const connect = (who: Completer, tag: number) => io.connect(address, who, tag);
    const accept = (who: Completer, tag: number) => io.accept(listener, who, tag);
    const fds = settle(io, ...new Array<Start>(8).fill(connect), ...new Array<Start>(8).fill(accept));
    assert(fds.every((fd) => fd > 2), `descriptors ${fds}`);
    [...fds, listener].forEach((fd) => io.close(fd));
  },
);

testSim("a stale unix socket is replaced; one in use, or a file, is not", 3, 4096, (io, directory) => {
  const address = { kind: "unix", path: `${directory}/s` } as const;
  const inUse = (error: unknown) => error instanceof IoError && error.errno === Errno.EADDRINUSE;
  const first = io.listen(address);
  assert.throws(() => io.listen(address), inUse);
  io.close(first);
  io.close(io.listen(address));
  io.files.unlink(address.path);
  io.files.close(io.files.open(address.path, { write: true, create: 0o600 }));
  assert.throws(() => io.listen(address), inUse);
  assert.equal(settleOne(io, (who, tag) => io.connect(address, who, tag)), -Errno.ECONNREFUSED);
});

testSim("timers fire by deadline, equal ones as armed, cancelled ones not", 30, 4096, (io) => {
  const fired: number[] = [];
  const who: Completer = {
    complete(tag, result) {
      assert.equal(result, 0);
      fired.push(tag);
      if (tag === 6) io.stop();
    },
  };
  io.timer(6, who, 6);
  io.timer(2, who, 2);
  const forgotten = io.timer(1, who, 1);
  io.timer(2, who, 3);
  io.timer(0, who, 0);
  io.cancel(forgotten);
  io.cancel(forgotten);
  io.run();
  assert.deepEqual(fired, [0, 2, 3, 6]);
});

testSim("what a completer throws leaves run, and run can go on with the rest", 10, 4096, (io) => {
  let calm = 0;
  const thrower: Completer = {
    complete() {
      throw new RangeError("thrown by a completer");
    },
  };
  io.timer(1, thrower, 0);
  io.timer(1, { complete: () => (calm++, io.stop()) }, 0);
  assert.throws(() => io.run(), /thrown by a completer/);
  io.run();
  assert.equal(calm, 1);
  io.timer(0, { complete: () => assert.throws(() => io.run(), /inside/) }, 0);
  settleOne(io, (who, tag) => io.timer(1, who, tag));
  io[Symbol.dispose]();
  io[Symbol.dispose]();
  assert.throws(() => io.run(), /disposed/);
});

/** Answers every byte with the same byte. */
class Echo implements StreamOwner {
  readonly ends: number[] = [];

  constructor(readonly io: Io) {}

  onData(stream: Stream): void {
    while (stream.available > 0 && !stream.congested) {
      const count = Math.min(stream.available, 500);
      const at = stream.header(count);
      this.io.arena.u8.copyWithin(at, stream.position, stream.position + count);
      stream.consume(count);
    }
  }

  onFilled(): void {}
  onSent(): void {}
  onClosed(_stream: Stream, result: number): void {
    this.ends.push(result);
  }
}

/** Sends bytes in random cuts and receives them back, at the same time. */
class Sender implements Completer {
  received = 0;
  readonly #vector: number;
  readonly #out: number;
  readonly #in: number;
  #sent = 0;

  constructor(readonly io: Io, readonly fd: number, readonly total: number) {
    this.#vector = io.arena.reserve(SEGMENT, SEGMENT);
    this.#out = io.arena.reserve(total);
    this.#in = io.arena.reserve(4096);
    for (let i = 0; i < total; i++) io.arena.u8[this.#out + i] = patternByte(7, i);
    this.#send();
    io.receive(fd, this.#in, 4096, this, 1);
  }

  #send(): void {
    const cut = Math.min(this.total - this.#sent, 1 + this.io.random32() % 9000);
    if (cut === 0) return;
    this.io.segment(this.#vector, 0, this.#out + this.#sent, cut);
    this.#sent += cut;
    this.io.send(this.fd, this.#vector, 1, this, 0);
  }

  complete(tag: number, result: number): void {
    assert(result > 0, `result ${result}`);
    if (tag === 0) return this.#send();
    for (let i = 0; i < result; i++) {
      assert.equal(this.io.arena.u8[this.#in + i], patternByte(7, this.received + i));
    }
    this.received += result;
    if (this.received === this.total) this.io.close(this.fd);
    else this.io.receive(this.fd, this.#in, 4096, this, 1);
  }
}

Deno.test("streams carry their bytes between processes in worlds of any kind", () => {
  for (let seed = 1; seed <= 60; seed++) {
    using world = new SimCluster(seed, drawOptions(seed));
    const total = 20_000 + world.random.below(60_000);
    const server = world.host("a"), client = world.host(world.random.chance(0.5) ? "a" : "b");
    let sender: Sender | undefined, echo: Echo | undefined;
    server.spawn("echo", (io) => {
      const owner = echo = new Echo(io);
      const listener = io.listen({ kind: "tcp", host: "0.0.0.0", port: 7 });
      const accepted: Completer = {
        complete: (_tag, fd) => void new Stream(io, fd, new StreamMemory(io), owner),
      };
      io.accept(listener, accepted, 0);
    });
    client.spawn("client", (io) => {
      const connected: Completer = { complete: (_tag, fd) => sender = new Sender(io, fd, total) };
      io.connect({ kind: "tcp", host: "a", port: 7 }, connected, 0);
    });
    until(world, () => echo?.ends.length === 1);
    assert.equal(sender?.received, total);
    assert.deepEqual(echo?.ends, [0]);
  }
});
