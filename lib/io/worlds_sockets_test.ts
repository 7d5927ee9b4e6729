import assert from "node:assert/strict";
import { Errno, IoError } from "./errno.ts";
import { type Address, type Completer, type Io, MAX_SEGMENTS } from "./io.ts";
import { libc, openEvent } from "./libc.ts";
import { pair, patternByte, settle, settleOne, type Start, testWorlds } from "./test_kit.ts";

const KINDS = ["tcp", "unix"] as const;
const SEGMENT = 16;

function fillPattern(io: Io, at: number, length: number, seed: number): void {
  for (let i = 0; i < length; i++) io.arena.u8[at + i] = patternByte(seed, i);
}

for (const kind of KINDS) {
  testWorlds(`bytes cross a ${kind} connection both ways, and its end is told`, (io, directory) => {
    const [client, server, listener] = pair(io, kind, directory);
    const vector = io.arena.reserve(2 * SEGMENT);
    fillPattern(io, 8192, 5000, 1);
    io.segment(vector, 0, 8192, 1000);
    io.segment(vector, 1, 9192, 4000);
    const back = io.arena.reserve(SEGMENT);
    io.segment(back, 0, 8192, 7);
    const results = settle(
      io,
      (who, tag) => io.receive(server, 1 << 20, 100_000, who, tag),
      (who, tag) => io.receive(client, 2 << 20, 100_000, who, tag),
      (who, tag) => io.send(client, vector, 2, who, tag),
      (who, tag) => io.send(server, back, 1, who, tag),
    );
    assert.deepEqual(results, [5000, 7, 5000, 7]);
    assert.deepEqual(io.arena.u8.slice(1 << 20, (1 << 20) + 5000), io.arena.u8.slice(8192, 13192));
    const ended = settle(
      io,
      (who, tag) => io.receive(server, 0, 1, who, tag),
      (_who, tag) => io.timer(1, { complete: () => (io.shutdown(client), _who.complete(tag, 0)) }, tag),
    );
    assert.deepEqual(ended, [0, 0]);
    io.close(client);
    // The first send may still be taken by the socket, the next one hears of the end.
    io.segment(back, 0, 8192, 7);
    settleOne(io, (who, tag) => io.send(server, back, 1, who, tag));
    io.segment(back, 0, 8192, 7);
    const broken = settleOne(io, (who, tag) => io.send(server, back, 1, who, tag));
    assert([-Errno.EPIPE, -Errno.ECONNRESET].includes(broken as never), `send gave ${broken}`);
    io.close(server);
    io.close(listener);
  });

  testWorlds(`a large gathered send over ${kind} reaches a slow reader whole`, (io, directory) => {
    const [client, server, listener] = pair(io, kind, directory);
    const vector = io.arena.reserve(MAX_SEGMENTS * SEGMENT, SEGMENT);
    const data = io.arena.reserve(12 << 20, 4096);
    const into = io.arena.reserve(12 << 20, 4096);
    let total = 0;
    for (let i = 0; i < MAX_SEGMENTS; i++) {
      // Lengths from nothing to 20 KiB, and odd ones.
      const length = (i * 7919) % 20_480;
      io.segment(vector, i, data + total, length);
      total += length;
    }
    fillPattern(io, data, total, 5);
    let got = 0;
    const reader: Completer = {
      complete(_tag, result) {
        assert(result > 0);
        got += result;
        if (got === total) return io.stop();
        // Now and then the reader rests, so that the socket fills up.
        if (got % 5 === 0) {
          io.timer(1, {
            complete: () => io.receive(server, into + got, 30_011, reader, 0),
          }, 0);
        } else io.receive(server, into + got, 300_011, reader, 0);
      },
    };
    let sent = 0;
    io.send(client, vector, MAX_SEGMENTS, { complete: (_tag, result) => sent = result }, 0);
    io.timer(2, { complete: () => io.receive(server, into, 1, reader, 0) }, 0);
    io.run();
    if (sent === 0) settleOne(io, (who, tag) => io.timer(1, who, tag));
    assert.equal(sent, total);
    assert.equal(got, total);
    for (let i = 0; i < total; i++) {
      if (io.arena.u8[into + i] !== patternByte(5, i)) assert.fail(`byte ${i} of ${total} is wrong`);
    }
    [client, server, listener].forEach((fd) => io.close(fd));
  });

  testWorlds(`shutdown ends a receive, a send and an accept under way over ${kind}`, (io, directory) => {
    const [client, server, listener] = pair(io, kind, directory);
    const vector = io.arena.reserve(SEGMENT);
    io.segment(vector, 0, 0, 40 << 20);
    const results = settle(
      io,
      (who, tag) => io.receive(client, 0, 10, who, tag),
      (who, tag) => io.send(client, vector, 1, who, tag),
      (who, tag) => io.accept(listener, who, tag),
      (who, tag) => {
        const act = () => {
          io.shutdown(client);
          io.shutdown(listener);
          who.complete(tag, 0);
        };
        io.timer(2, { complete: act }, tag);
      },
    );
    assert.equal(results[0], 0);
    assert.equal(results[1], -Errno.EPIPE);
    assert.equal(results[2], -Errno.EINVAL);
    [client, server, listener].forEach((fd) => io.close(fd));
  });
}

testWorlds("connections that cannot be are told", (io, directory) => {
  const listener = io.listen({ kind: "tcp", host: "127.0.0.1", port: 0 });
  const port = io.boundPort(listener);
  io.close(listener);
  const file = `${directory}/file`;
  Deno.writeTextFileSync(file, "");
  const connect = (address: Address) => settleOne(io, (who, tag) => io.connect(address, who, tag));
  assert.equal(connect({ kind: "tcp", host: "127.0.0.1", port }), -Errno.ECONNREFUSED);
  assert.equal(connect({ kind: "unix", path: `${directory}/nobody` }), -Errno.ENOENT);
  assert.equal(connect({ kind: "unix", path: file }), -Errno.ECONNREFUSED);
  assert.throws(
    () => connect({ kind: "tcp", host: "db.example", port: 1 }),
    /tcp:\/\/db\.example:1 .*localhost/,
  );
});

testWorlds(
  "more connections than the queue of a unix listener holds are made in the end",
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

testWorlds("IPv6 works as IPv4 does", (io) => {
  const listener = io.listen({ kind: "tcp", host: "::1", port: 0 });
  const address: Address = { kind: "tcp", host: "::1", port: io.boundPort(listener) };
  const fds = settle(
    io,
    (who, tag) => io.accept(listener, who, tag),
    (who, tag) => io.connect(address, who, tag),
  );
  assert(fds.every((fd) => fd > 2), `descriptors ${fds}`);
  [...fds, listener].forEach((fd) => io.close(fd));
});

testWorlds("TCP connections are without delay and kept alive on both ends", (io, directory) => {
  const IPPROTO_TCP = 6, TCP_NODELAY = 1, SOL_SOCKET = 1, SO_KEEPALIVE = 9;
  const fds = pair(io, "tcp", directory);
  for (const fd of fds.slice(0, 2)) {
    for (const [level, name] of [[IPPROTO_TCP, TCP_NODELAY], [SOL_SOCKET, SO_KEEPALIVE]] as const) {
      const value = new Uint8Array(4);
      assert.equal(libc.getsockopt(fd, level, name, value, new Uint8Array([4, 0, 0, 0])), 0);
      assert.equal(value[0], 1);
    }
  }
  fds.forEach((fd) => io.close(fd));
});

testWorlds("a stale unix socket is replaced; one in use, or a file, is not", (io, directory) => {
  const address = { kind: "unix", path: `${directory}/s` } as const;
  const first = io.listen(address);
  const inUse = (error: unknown) => error instanceof IoError && error.errno === Errno.EADDRINUSE;
  assert.throws(() => io.listen(address), inUse);
  io.close(first);
  const second = io.listen(address);
  io.close(second);
  Deno.removeSync(address.path);
  Deno.writeTextFileSync(address.path, "precious");
  assert.throws(() => io.listen(address), inUse);
  assert.equal(Deno.readTextFileSync(address.path), "precious");
});

testWorlds("a message for a device is one gathered write", (io, directory) => {
  const [client, server, listener] = pair(io, "unix", directory);
  const vector = io.arena.reserve(3 * SEGMENT, SEGMENT);
  fillPattern(io, 4096, 300, 9);
  for (let i = 0; i < 3; i++) io.segment(vector, i, 4096 + 100 * (2 - i), 100);
  assert.equal(settleOne(io, (who, tag) => io.writeVector(client, vector, 3, who, tag)), 300);
  assert.equal(settleOne(io, (who, tag) => io.read(server, 8192, 4096, -1, who, tag)), 300);
  assert.equal(io.arena.u8[8192], patternByte(9, 200));
  assert.equal(io.arena.u8[8192 + 299], patternByte(9, 99));
  assert.equal(settleOne(io, (who, tag) => io.write(client, 4096, 10, -1, who, tag)), 10);
  assert.equal(settleOne(io, (who, tag) => io.read(server, 8192, 4096, -1, who, tag)), 10);
  [client, server, listener].forEach((fd) => io.close(fd));
});

testWorlds("an Io that goes away lets go of what was under way", (io, directory) => {
  const [client, server, listener] = pair(io, "tcp", directory);
  const port = io.boundPort(listener);
  const silent: Completer = { complete: () => assert.fail("told after the end") };
  const event = openEvent();
  io.accept(listener, silent, 0);
  io.receive(client, 0, 10, silent, 1);
  io.read(event, 0, 8, -1, silent, 2);
  io.connect({ kind: "tcp", host: "127.0.0.1", port }, silent, 3);
  io[Symbol.dispose]();
  io[Symbol.dispose]();
  [client, server, listener, event].forEach((fd) => io.close(fd));
  const again = io.listen({ kind: "tcp", host: "127.0.0.1", port });
  io.close(again);
  assert.equal(io.arena.u8[0], 0);
  assert.throws(() => io.run(), /disposed/);
});

testWorlds("children inherit no descriptor", async (io, directory) => {
  const fds = [...pair(io, "tcp", directory), io.files.open(directory), openEvent()];
  const { stdout } = await new Deno.Command("ls", { args: ["-l", "/proc/self/fd"] }).output();
  const listing = new TextDecoder().decode(stdout);
  assert.doesNotMatch(listing, /socket:|io_uring|eventfd|drover-io/);
  fds.forEach((fd) => io.close(fd));
});

for (const kind of KINDS) {
  testWorlds(`waits on a ${kind} socket can be interrupted, and nothing is lost by it`, (io, directory) => {
    const [client, server, listener] = pair(io, kind, directory);
    const vector = io.arena.reserve(SEGMENT);
    const later = (work: () => void): Start => (who, tag) =>
      void io.timer(5, { complete: () => (work(), who.complete(tag, 0)) }, 0);
    const interrupted = settle(
      io,
      (who, tag) => io.receive(server, 8192, 100, who, tag),
      (who, tag) => io.accept(listener, who, tag),
      later(() => {
        io.interrupt(server);
        io.interrupt(listener);
      }),
    );
    assert.deepEqual(interrupted, [-Errno.ECANCELED, -Errno.ECANCELED, 0]);
    // One that is interrupted when its bytes are there already gets them, or they are there for the next one.
    io.arena.u8.fill(9, 4096, 4196);
    io.segment(vector, 0, 4096, 100);
    const [got] = settle(
      io,
      (who, tag) => io.receive(server, 8192, 100, who, tag),
      (who, tag) => io.send(client, vector, 1, who, tag),
      (who, tag) => io.timer(0, { complete: () => (io.interrupt(server), who.complete(tag, 0)) }, 0),
    );
    const again = got === -Errno.ECANCELED
      ? settleOne(io, (who, tag) => io.receive(server, 8192, 100, who, tag))
      : got;
    assert.equal(again, 100);
    io.adoptListener(listener);
    for (const fd of [client, server, listener]) io.close(fd);
  });
}
