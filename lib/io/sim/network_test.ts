import assert from "node:assert/strict";
import fc from "fast-check";
import { Errno, IoError } from "../errno.ts";
import type { Address } from "../io.ts";
import type { SimCluster } from "./cluster.ts";
import type { SimHost } from "./host.ts";
import type { SimIo } from "./io.ts";
import { SLOW_NETWORK } from "./options.ts";
import { everySeed, on, Results, until } from "./testing.ts";

const PORT = 9502;
const ANYWHERE: Address = { kind: "tcp", host: "0.0.0.0", port: PORT };

interface Pair {
  readonly client: SimIo;
  readonly server: SimIo;
  readonly clientFd: number;
  readonly serverFd: number;
}

/** Two processes on two hosts with one connection. */
function connect(
  world: SimCluster,
  a = world.host("a"),
  b = world.host("b"),
  address: Address = ANYWHERE,
): Pair {
  let clientFd = -1, serverFd = -1;
  const server = b.spawn("server", (io) => {
    const listener = io.listen(address);
    io.accept(listener, on((fd) => serverFd = fd), 0);
  });
  const client = a.spawn("client", (io) => {
    io.connect(
      address === ANYWHERE ? { kind: "tcp", host: b.name, port: PORT } : address,
      on((fd) => clientFd = fd),
      0,
    );
  });
  until(world, () => clientFd !== -1 && serverFd !== -1);
  assert(clientFd >= 3 && serverFd >= 3);
  return { client: client.io, server: server.io, clientFd, serverFd };
}

const VECTOR = 0, OUT = 4096, IN = 300 * 1024;

/** Sends `total` bytes counting up, in sends of `piece`; each in up to three segments. */
function sendAll(io: SimIo, fd: number, total: number, piece: number, done: (result: number) => void): void {
  let sent = 0;
  const next = (): void => {
    const length = Math.min(piece, total - sent);
    if (length === 0) return done(sent);
    for (let i = 0; i < length; i++) io.arena.u8[OUT + i] = (sent + i) * 7 + ((sent + i) >> 8);
    const cut = Math.floor(length / 3);
    io.segment(VECTOR, 0, OUT, cut);
    io.segment(VECTOR, 1, OUT + cut, 0);
    io.segment(VECTOR, 2, OUT + cut, length - cut);
    io.send(
      fd,
      VECTOR,
      3,
      on((result) => {
        if (result !== length) return done(result);
        sent += length;
        next();
      }),
      0,
    );
  };
  next();
}

/** Receives until the end; checks that the bytes count up. */
function receiveAll(
  io: SimIo,
  fd: number,
  most: number,
  done: (bytes: number, result: number) => void,
): void {
  let got = 0;
  const next = (): void =>
    io.receive(
      fd,
      IN,
      most,
      on((result) => {
        if (result <= 0) return done(got, result);
        assert(result <= most);
        for (let i = 0; i < result; i++) {
          assert.equal(io.arena.u8[IN + i], ((got + i) * 7 + ((got + i) >> 8)) & 0xff, `byte ${got + i}`);
        }
        got += result;
        next();
      }),
      0,
    );
  next();
}

Deno.test("bytes arrive in order and complete whatever the pieces, the windows and the latencies", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2 ** 40 }),
      fc.integer({ min: 0, max: 200_000 }),
      fc.integer({ min: 1, max: 100_000 }),
      fc.integer({ min: 1, max: 70_000 }),
      (seed, total, piece, most) => {
        everySeed(1, (world) => {
          const { client, server, clientFd, serverFd } = connect(world);
          let got = -1;
          let partials = 0;
          receiveAll(server, serverFd, most, (bytes, result) => {
            partials++;
            assert.equal(result, 0);
            got = bytes;
          });
          sendAll(client, clientFd, total, piece, (sent) => {
            assert.equal(sent, total);
            client.close(clientFd);
          });
          until(world, () => got >= 0);
          assert.equal(got, total);
          assert.equal(partials, 1);
        }, { network: { windowBytes: [512 << (seed % 4), 64 * 1024] }, process: { wakeMs: 0.1 } });
      },
    ),
    { numRuns: 40 },
  );
});

Deno.test("a unix socket connects processes of one host, and a stale one is replaced", () => {
  everySeed(10, (world) => {
    const host = world.host("a");
    const address: Address = { kind: "unix", path: "/run.sock" };
    const first = connect(world, host, host, address);
    const stat = first.server.files.stat("/run.sock");
    assert.equal(stat.kind, "other");
    for (const dead of [...host.processes]) dead.kill();
    world.run(world.now + 1000);
    let refused = 0;
    host.spawn("early", (io) => io.connect(address, on((result) => refused = result), 0));
    until(world, () => refused !== 0);
    assert.equal(refused, -Errno.ECONNREFUSED);
    connect(world, host, host, address);
  });
});

Deno.test("nobody listening refuses, a name nobody has cannot be reached, a used port cannot be had", () => {
  everySeed(5, (world) => {
    const results = new Results();
    const host = world.host("a");
    world.host("b", { addresses: ["10.0.0.2"] });
    host.spawn("p", (io) => {
      io.connect({ kind: "tcp", host: "10.0.0.2", port: 1 }, results, 1);
      io.connect({ kind: "tcp", host: "nowhere", port: 1 }, results, 2);
      io.connect({ kind: "unix", path: "/none.sock" }, results, 3);
      const listener = io.listen({ kind: "tcp", host: "127.0.0.1", port: 0 });
      const port = io.boundPort(listener);
      assert(port > 0);
      assert.throws(
        () => io.listen({ kind: "tcp", host: "0.0.0.0", port }),
        (error) => error instanceof IoError && error.errno === Errno.EADDRINUSE,
      );
      assert.throws(() => io.listen({ kind: "tcp", host: "b", port: 1 }), IoError);
      world.host("b").spawn("q", (other) => other.connect({ kind: "tcp", host: "a", port }, results, 4));
    });
    until(world, () => results.count === 4);
    assert.equal(results.of.get(1), -Errno.ECONNREFUSED);
    assert.equal(results.of.get(2), -Errno.EHOSTUNREACH);
    assert.equal(results.of.get(3), -Errno.ENOENT);
    assert.equal(results.of.get(4), -Errno.ECONNREFUSED, "a loopback listener is not reached from elsewhere");
  });
});

Deno.test("a sender without a receiver stops at the window and goes on when there is room", () => {
  everySeed(10, (world) => {
    const { client, server, clientFd, serverFd } = connect(world);
    let sent = 0;
    sendAll(client, clientFd, 200_000, 200_000, (result) => sent = result);
    world.run(world.now + 10_000);
    assert.equal(sent, 0, "the send is not over while its bytes do not fit");
    let got = 0;
    receiveAll(server, serverFd, 1000, (bytes) => got = bytes);
    until(world, () => sent === 200_000);
    client.shutdown(clientFd);
    until(world, () => got === 200_000);
  }, { network: { windowBytes: [4096, 65536] } });
});

/** What the peer of a killed process sees. */
function afterDeath(world: SimCluster, die: (host: SimHost) => void): number | undefined {
  const { client, clientFd } = connect(world);
  let result: number | undefined;
  client.receive(clientFd, IN, 100, on((value) => result = value), 0);
  world.run(world.now + 1);
  die(world.host("b"));
  world.run(world.now + 100_000);
  return result;
}

Deno.test("the peer of a killed process sees the end or a reset, of one whose host lost power nothing", () => {
  const seen = new Set<number | undefined>();
  everySeed(20, (world) => {
    seen.add(afterDeath(world, (host) => [...host.processes].forEach((dead) => dead.kill())));
  });
  assert.deepEqual([...seen].sort(), [-Errno.ECONNRESET, 0].sort());
  everySeed(5, (world) => assert.equal(afterDeath(world, (host) => host.powerCut()), undefined));
});

Deno.test("bytes sent to a host that lost power and came back are answered with a reset", () => {
  everySeed(10, (world) => {
    const { client, clientFd } = connect(world);
    const b = world.host("b");
    b.powerCut();
    world.run(world.now + 50);
    let sent = 0, received: number | undefined;
    client.receive(clientFd, IN, 100, on((result) => received = result), 0);
    sendAll(client, clientFd, 100, 100, (result) => sent = result);
    world.run(world.now + 10_000);
    assert.equal(sent, 100, "the send buffer takes it");
    assert.equal(received, undefined, "nobody says that the host is dead");
    b.boot();
    until(world, () => received !== undefined);
    assert.equal(received, -Errno.ECONNRESET);
  });
});

Deno.test("a host that stays down ends a connection with unacknowledged bytes by ETIMEDOUT, late", () => {
  everySeed(5, (world) => {
    const { client, clientFd } = connect(world);
    world.host("b").powerCut();
    let received: number | undefined;
    client.receive(clientFd, IN, 100, on((result) => received = result), 0);
    const start = world.now;
    sendAll(client, clientFd, 100, 100, () => {});
    until(world, () => received !== undefined, 2_000_000);
    assert.equal(received, -Errno.ETIMEDOUT);
    assert(world.now - start >= 900_000);
  });
});

Deno.test("packets of a partition are held and arrive after it heals, or the connection is reset", () => {
  everySeed(20, (world) => {
    const { client, server, clientFd, serverFd } = connect(world);
    const [a, b] = [world.host("a"), world.host("b")];
    world.network.partition([a], [b]);
    let got: [number, number] | undefined;
    receiveAll(server, serverFd, 100_000, (bytes, result) => got = [bytes, result]);
    sendAll(client, clientFd, 3000, 1000, () => client.shutdown(clientFd));
    let refused: number | undefined;
    a.spawn("late", (io) => {
      io.connect({ kind: "tcp", host: "b", port: 1 }, on((result) => refused = result), 0);
    });
    world.run(world.now + 60_000);
    assert.equal(got, undefined);
    assert.equal(refused, undefined);
    const reset = world.seed % 2;
    world.network.heal(reset);
    until(world, () => got !== undefined && refused !== undefined);
    assert.deepEqual(got, reset ? [0, -Errno.ECONNRESET] : [3000, 0]);
    assert.equal(refused, -Errno.ECONNREFUSED);
  });
});

Deno.test("bytes survive any series of partitions that heal, in order and once", () => {
  everySeed(60, (world) => {
    const { client, server, clientFd, serverFd } = connect(world);
    const [a, b] = [world.host("a"), world.host("b")];
    let got: number | undefined;
    receiveAll(server, serverFd, 3000, (bytes, result) => {
      assert.equal(result, 0);
      got = bytes;
    });
    sendAll(client, clientFd, 100_000, 700, () => client.close(clientFd));
    const trouble = (): void => {
      if (got !== undefined) return;
      const [from, to] = world.random.chance(0.5) ? [a, b] : [b, a];
      if (world.random.chance(0.5)) world.network.partition([a], [b]);
      else world.network.link(from, to).block();
      world.schedule(world.random.unit() * 20, () => world.network.heal());
      world.schedule(20 + world.random.unit() * 20, trouble);
    };
    trouble();
    until(world, () => got !== undefined);
    assert.equal(got, 100_000);
  }, { network: { latency: SLOW_NETWORK, splitSend: 0.5, windowBytes: [4096, 16384] } });
});

Deno.test("an attempt to connect over a blocked link times out", () => {
  everySeed(3, (world) => {
    const [a, b] = [world.host("a"), world.host("b")];
    world.network.link(a, b).block();
    let result: number | undefined;
    a.spawn("p", (io) => io.connect({ kind: "tcp", host: "b", port: 1 }, on((value) => result = value), 0));
    until(world, () => result !== undefined);
    assert.equal(result, -Errno.ETIMEDOUT);
    assert(world.now >= 127_000);
  });
});

Deno.test("one direction may be blocked alone: acknowledgements stop, bytes do not", () => {
  everySeed(10, (world) => {
    const { client, server, clientFd, serverFd } = connect(world);
    world.network.link(world.host("b"), world.host("a")).block();
    let got = 0, sent = 0;
    receiveAll(server, serverFd, 100_000, (bytes) => got = bytes);
    sendAll(client, clientFd, 20_000, 20_000, (result) => sent = result);
    world.run(world.now + 1000);
    assert.equal(sent, 0, "the window is full, as far as the sender knows");
    world.network.heal();
    until(world, () => sent === 20_000);
    client.close(clientFd);
    until(world, () => got === 20_000);
  }, { network: { windowBytes: [8192, 8192] } });
});

Deno.test("a cut connection fails at both ends, once, then ends", () => {
  everySeed(10, (world) => {
    const { client, server, clientFd, serverFd } = connect(world);
    const results = new Results();
    client.receive(clientFd, IN, 10, results, 1);
    server.receive(serverFd, IN, 10, results, 2);
    assert.equal(world.network.cut(world.host("a"), world.host("b")), 1);
    until(world, () => results.count === 2);
    assert.equal(results.of.get(1), -Errno.ECONNRESET);
    assert.equal(results.of.get(2), -Errno.ECONNRESET);
    client.receive(clientFd, IN, 10, results, 3);
    client.segment(VECTOR, 0, OUT, 10);
    client.send(clientFd, VECTOR, 1, results, 4);
    until(world, () => results.count === 4);
    assert.equal(results.of.get(3), 0);
    assert.equal(results.of.get(4), -Errno.EPIPE);
    client.close(clientFd);
    server.close(serverFd);
    assert.equal(world.network.sockets.size, 0);
  });
});

Deno.test("shutdown ends what is under way on both sides", () => {
  everySeed(10, (world) => {
    const { client, server, clientFd, serverFd } = connect(world);
    const results = new Results();
    client.receive(clientFd, IN, 10, results, 1);
    server.receive(serverFd, IN, 10, results, 2);
    client.shutdown(clientFd);
    until(world, () => results.count === 2);
    assert.equal(results.of.get(1), 0);
    assert.equal(results.of.get(2), 0);
    client.close(clientFd);
    server.close(serverFd);
  });
});

Deno.test("a link slowed down delivers later, and a bandwidth is kept", () => {
  everySeed(3, (world) => {
    const { client, server, clientFd, serverFd } = connect(world);
    const link = world.network.link(world.host("a"), world.host("b"));
    link.latency = { minMs: 500, meanMs: 0, stallChance: 0, stallMs: 0 };
    link.bytesPerMs = 10;
    let at = 0;
    const start = world.now;
    receiveAll(server, serverFd, 100_000, () => at = world.now);
    sendAll(client, clientFd, 10_000, 1000, () => client.close(clientFd));
    until(world, () => at > 0);
    assert(at - start >= 1500, `${at - start}`);
  });
});
