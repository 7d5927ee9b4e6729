/** The world as a whole: time, order, chance, processes, failures, and that a seed replays. */
import assert from "node:assert/strict";
import { type Deferred, MAX_TIMERS } from "../io.ts";
import { SimCluster, SimFailure } from "./cluster.ts";
import { drawOptions } from "./options.ts";
import type { SimIo } from "./io.ts";
import { EventQueue } from "./queue.ts";
import { Random } from "./random.ts";
import { everySeed, on, Results, until } from "./testing.ts";

const SMALL = { arenaBytes: 64 * 1024 };

/** A busy world: an echo service that logs to a file, clients, kills, power cuts, partitions. */
function busy(seed: number, reads = 0): { hash: number; lines: string[]; events: number } {
  using world = new SimCluster(seed, drawOptions(seed));
  const server = (io: SimIo): void => {
    const fd = io.files.open("/log", { write: true, create: 0o600 });
    const listener = io.listen({ kind: "tcp", host: "0.0.0.0", port: 10 });
    let slot = 0, logged = 0;
    const accept = (): void =>
      io.accept(
        listener,
        on((socket) => {
          if (socket < 0) return;
          accept();
          const at = 1024 * slot++ % (32 * 1024);
          const next = (): void =>
            io.receive(
              socket,
              at,
              512,
              on((got) => {
                if (got <= 0) return io.close(socket);
                io.write(
                  fd,
                  at,
                  got,
                  logged = (logged + got) % 100_000,
                  on(() => {
                    io.segment(at + 1000 - 1000 % 16, 0, at, got);
                    io.send(
                      socket,
                      at + 1000 - 1000 % 16,
                      1,
                      on((sent) => sent < 0 ? io.close(socket) : next()),
                      3,
                    );
                  }),
                  2,
                );
              }),
              1,
            );
          next();
        }),
        0,
      );
    accept();
    const sync = (): void => void io.timer(5, on(() => io.syncData(fd, on(sync), 5)), 4);
    sync();
  };
  const client = (io: SimIo): void => {
    const connect = (): void =>
      io.connect(
        { kind: "tcp", host: "s", port: 10 },
        on((socket) => {
          if (socket < 0) return void io.timer(10 + io.random32() % 50, on(connect), 7);
          const end = (): void => {
            io.close(socket);
            connect();
          };
          const next = (): void => {
            io.segment(0, 0, 1024, 1 + io.random32() % 500);
            io.send(
              socket,
              0,
              1,
              on((sent) => {
                if (sent < 0) return end();
                io.receive(
                  socket,
                  4096,
                  512,
                  on((got) => got <= 0 ? end() : next()),
                  9,
                );
              }),
              8,
            );
          };
          next();
        }),
        6,
      );
    connect();
  };
  const s = world.host("s"), c = world.host("c");
  s.spawn("server", server, SMALL);
  for (let n = 0; n < 3; n++) c.spawn(`client ${n}`, client, SMALL);
  const trouble = (): void => {
    for (let n = 0; n < reads; n++) s.disk.random.next32();
    const what = world.random.below(5);
    if (what === 0) {
      for (const self of [...s.processes]) self.kill();
      world.schedule(20, () => s.up && s.processes.size === 0 && s.spawn("server", server, SMALL));
    } else if (what === 1) {
      s.powerCut();
      world.schedule(50, () => {
        s.boot();
        s.spawn("server", server, SMALL);
      });
    } else if (what === 2) {
      world.network.partition([s], [c]);
      world.schedule(30, () => world.network.heal(0.5));
    } else if (what === 3) world.network.cut(c, s);
    world.schedule(100 + world.random.below(100), trouble);
  };
  world.schedule(50, trouble);
  world.run(2000);
  return { hash: world.trace.hash, lines: world.trace.lines(), events: world.events };
}

Deno.test("the same seed gives the same events, another seed or one draw more gives others", () => {
  const hashes = new Set<number>();
  for (let seed = 1; seed <= 8; seed++) {
    const one = busy(seed), two = busy(seed);
    assert.deepEqual(one, two);
    assert(one.events > 1000);
    hashes.add(one.hash);
    assert.notEqual(busy(seed, 1).hash, one.hash);
  }
  assert.equal(hashes.size, 8);
});

Deno.test("the events of a queue come by time, and by insertion at the same time", () => {
  const random = new Random(5);
  const queue = new EventQueue();
  const target = { fire: (): void => {} };
  let pushed = 0;
  let last = { time: -1, value: -1 };
  for (let round = 0; round < 5000; round++) {
    if (random.chance(0.55)) queue.push(last.time + random.below(20), target, 1, pushed++);
    else if (queue.pop()) {
      assert(queue.time > last.time || (queue.time === last.time && queue.value > last.value));
      last = { time: queue.time, value: queue.value };
      assert.equal(queue.target, target);
    }
  }
  let left = queue.size;
  while (queue.pop()) left--;
  assert.equal(left, 0);
  assert.equal(queue.nextTime, Infinity);
});

Deno.test("chance: equal seeds are equal, draws are spread evenly, forks are their own", () => {
  const a = new Random(2 ** 40 + 1), b = new Random(2 ** 40 + 1), other = new Random(1);
  const counts = new Array<number>(10).fill(0);
  let same = 0;
  for (let n = 0; n < 10_000; n++) {
    const value = a.next32();
    assert.equal(value, b.next32());
    if (value === other.next32()) same++;
    counts[a.below(10)]!++;
    b.below(10);
  }
  assert(same < 3);
  for (const count of counts) assert(count > 850 && count < 1150, `${counts}`);
  const fork = a.fork();
  assert.notEqual(fork.next32(), a.next32());
  assert.equal(a.chance(0), false);
  assert.equal(a.chance(1), true);
});

Deno.test("nothing completes inside the submitting call; several completions may come in one pass", () => {
  let most = 0;
  everySeed(20, (world) => {
    world.host("a").spawn("p", (io) => {
      const fd = io.files.open("/f", { write: true, create: 0o600 });
      let inCall = true, inPass = 0;
      const count = on(() => {
        assert(!inCall);
        if (inPass++ === 0) io.defer({ runDeferred: () => void (inPass = 0) });
        most = Math.max(most, inPass);
      });
      for (let n = 0; n < 20; n++) io.write(fd, 0, 512, 512 * n, count, n);
      io.read(77, 0, 1, 0, count, 20);
      io.timer(0, count, 21);
      inCall = false;
    }, SMALL);
    world.runToEnd();
  });
  assert(most > 3);
});

Deno.test("deferred work runs after the completions at hand, and what it defers in the same pass", () => {
  everySeed(10, (world) => {
    const order: string[] = [];
    world.host("a").spawn("p", (io) => {
      const later = (name: string, then?: Deferred): Deferred => ({
        runDeferred: () => {
          order.push(name);
          if (then !== undefined) io.defer(then);
        },
      });
      io.defer(later("first", later("second")));
      order.push("main");
      io.timer(
        1,
        on(() => {
          io.defer(later("third"));
          order.push("timer");
        }),
        0,
      );
    }, SMALL);
    world.runToEnd();
    assert.deepEqual(order, ["main", "first", "second", "timer", "third"]);
  });
});

Deno.test("timers fire at their time or later, never when cancelled, even in the same pass", () => {
  everySeed(20, (world) => {
    const results = new Results();
    world.host("a").spawn("p", (io) => {
      const start = io.now();
      const handles = [10, 20, 30].map((ms, tag) =>
        io.timer(
          ms,
          on(() => {
            assert(io.now() - start >= ms - 1e-6);
            results.complete(tag, 0);
          }),
          tag,
        )
      );
      const doomed = io.timer(15, results, 9);
      io.timer(5, on(() => io.cancel(doomed)), 0);
      // Both fall due before the loop wakes up; whoever runs first cancels the other.
      let pair = [0, 0];
      pair = [0, 1].map((n) =>
        io.timer(
          40,
          on(() => {
            results.complete(100 + n, 0);
            io.cancel(pair[1 - n] ?? -1);
          }),
          0,
        )
      );
      io.cancel(-1);
      io.cancel(12345678);
      world.schedule(39, () => [...world.host("a").processes].forEach((self) => self.pause(20)));
      world.schedule(100, () => handles.forEach((handle) => io.cancel(handle)));
    }, SMALL);
    world.runToEnd();
    assert.equal(results.order.filter((tag) => tag < 100).join(), "0,1,2");
    assert.equal(results.count, 4);
  });
});

Deno.test("bounds are asserted: operations, timers, segments, descriptors closed in use", () => {
  using world = new SimCluster(3);
  const results = new Results();
  world.host("a").spawn("p", (io) => {
    const fd = io.files.open("/f", { write: true, create: 0o600 });
    for (let n = 0; n < MAX_TIMERS; n++) io.timer(1, results, n);
    assert.throws(() => io.timer(1, results, 0), /timers armed/);
    for (let n = 0; n < 8192; n++) io.read(fd, 0, 1, 0, results, n);
    assert.throws(() => io.read(fd, 0, 1, 0, results, 0), /operations under way/);
    assert.throws(() => io.close(fd), /under way/);
    assert.throws(() => io.send(fd, 8, 1, results, 0), /aligned/);
    assert.throws(() => io.writeVector(0, 0, 0, results, 0), /not in the simulation/);
  }, SMALL);
  world.runToEnd();
  assert.equal(results.count, MAX_TIMERS + 8192);
});

Deno.test("a process paused does nothing, then all at once", () => {
  everySeed(5, (world) => {
    const results = new Results();
    const self = world.host("a").spawn("p", (io) => {
      for (let n = 0; n < 5; n++) io.timer(n, results, n);
    }, SMALL);
    self.pause(500);
    world.run(499);
    assert.equal(results.count, 0);
    world.run(501);
    assert.equal(results.count, 5);
  });
});

Deno.test("an error thrown in a process comes out of the run with the seed and the last events", () => {
  using world = new SimCluster(77);
  world.host("a").spawn("p", (io) =>
    void io.timer(
      3,
      on(() => {
        throw new TypeError("a defect");
      }),
      42,
    ), SMALL);
  assert.throws(() => world.run(10), (error) => {
    assert(error instanceof SimFailure);
    assert.equal(error.seed, 77);
    assert.match(error.message, /seed 77 failed at 3\.\d+ ms: TypeError: a defect/);
    assert.match(error.message, /a\/p: complete 42 0/);
    return error.cause instanceof TypeError;
  });
});

Deno.test("an exit is reported once the process is dead, and it may be started again", () => {
  using world = new SimCluster(9);
  const host = world.host("a");
  let starts = 0;
  const start = (): void => {
    host.spawn("p", (io, self) => {
      starts++;
      io.timer(10, on(() => self.kill()), 0);
      io.timer(20, on(() => assert.fail("a dead process runs")), 0);
    }, { ...SMALL, onExit: () => starts < 5 && start() });
  };
  start();
  world.run(1000);
  assert.equal(starts, 5);
  assert.equal(host.processes.size, 0);
});

Deno.test("clocks of hosts differ, move with the world, and stand still within a pass", () => {
  using world = new SimCluster(4);
  const seen: number[] = [];
  for (const name of ["a", "b"]) {
    world.host(name).spawn("p", (io) => {
      const before = io.now(), wall = io.wallClock();
      io.timer(
        1000,
        on(() => {
          assert.equal(io.now(), io.now());
          assert(Math.abs(io.now() - before - 1000) < 5);
          assert(Math.abs(io.wallClock() - wall - 1000) < 5);
          seen.push(io.wallClock());
        }),
        0,
      );
    }, SMALL);
  }
  world.run(2000);
  assert.equal(seen.length, 2);
  assert.notEqual(seen[0], seen[1]);
});

Deno.test("run drives the world until stop, for code that is written for any Io", () => {
  using world = new SimCluster(2);
  const { io } = world.host("a").spawn("p", () => {}, SMALL);
  let result = 0;
  const fd = io.files.open("/f", { write: true, create: 0o600 });
  io.write(
    fd,
    0,
    100,
    0,
    on((count) => {
      result = count;
      io.stop();
    }),
    0,
  );
  io.run();
  assert.equal(result, 100);
  assert.throws(() => io.run(), /deadlock/);
});

Deno.test("memory of an arena is zero when it is used again, and of its own", () => {
  for (let round = 0; round < 3; round++) {
    using world = new SimCluster(round);
    const memories = ["p", "q"].map((name) => world.host("a").spawn(name, () => {}, SMALL).io.arena.u8);
    for (const memory of memories) {
      assert(memory.every((byte) => byte === 0));
      memory.fill(1);
    }
    assert.notEqual(memories[0]?.buffer, memories[1]?.buffer);
  }
});

Deno.test("random worlds with trouble run without an end of their own", () => {
  for (let seed = 100; seed < 130; seed++) assert(busy(seed).events > 100, `seed ${seed}`);
  everySeed(1, (world) => until(world, () => true));
});
