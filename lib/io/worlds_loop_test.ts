import assert from "node:assert/strict";
import { type Completer, type Deferred, MAX_TIMERS } from "./io.ts";
import { MAX_DEFERRED } from "./deferred.ts";
import { libc } from "./libc.ts";
import { pair, settle, settleOne, testWorlds } from "./test_kit.ts";

testWorlds("timers fire by deadline, equal ones as armed, cancelled ones not", (io) => {
  const fired: number[] = [];
  const who: Completer = {
    complete(tag, result) {
      assert.equal(result, 0);
      fired.push(tag);
      if (tag === 6) io.stop();
    },
  };
  const started = io.now();
  io.timer(6, who, 6);
  io.timer(2, who, 2);
  const forgotten = io.timer(1, who, 1);
  io.timer(2, who, 3);
  io.timer(0, who, 0);
  io.cancel(forgotten);
  io.cancel(forgotten);
  io.run();
  assert.deepEqual(fired, [0, 2, 3, 6]);
  assert(io.now() - started >= 6);
});

testWorlds("time stands still within a pass and goes on between passes", (io) => {
  let first = 0;
  settle(io, (who, tag) => {
    io.timer(1, {
      complete() {
        first = io.now();
        const wall = io.wallClock();
        for (const end = performance.now() + 3; performance.now() < end;);
        assert.equal(io.now(), first);
        assert.equal(io.wallClock(), wall);
        io.timer(1, who, tag);
      },
    }, 0);
  });
  assert(io.now() >= first + 1);
  assert(Math.abs(io.wallClock() - Date.now()) < 60_000);
});

testWorlds("a timer that arms itself for now does not keep others from their turn", (io, directory) => {
  const [client, server, listener] = pair(io, "tcp", directory);
  let spins = 0;
  const spin: Completer = { complete: () => (spins++, io.timer(0, spin, 0)) };
  io.timer(0, spin, 0);
  const vector = io.arena.reserve(16);
  io.segment(vector, 0, 0, 1);
  const results = settle(
    io,
    (who, tag) => io.receive(server, 100, 10, who, tag),
    (who, tag) => io.send(client, vector, 1, who, tag),
  );
  assert.deepEqual(results, [1, 1]);
  assert(spins > 0);
  [client, server, listener].forEach((fd) => io.close(fd));
});

testWorlds("deferred work runs after the completions at hand, all of it before the loop blocks", (io) => {
  const order: string[] = [];
  const second: Deferred = { runDeferred: () => order.push("second") };
  const first: Deferred = {
    runDeferred() {
      order.push("first");
      io.defer(second);
    },
  };
  const who: Completer = {
    complete(tag) {
      order.push(`timer ${tag}`);
      if (tag === 0) io.defer(first);
      if (tag === 2) io.stop();
    },
  };
  io.timer(0, who, 0);
  io.timer(0, who, 1);
  io.timer(5, who, 2);
  io.run();
  assert.deepEqual(order, ["timer 0", "timer 1", "first", "second", "timer 2"]);
});

testWorlds("no operation ends inside the call that started it", (io, directory) => {
  const fd = io.files.open(`${directory}/a`, { write: true, create: 0o600 });
  let inside = true;
  let open = 5;
  const who: Completer = {
    complete() {
      assert(!inside);
      if (--open === 0) io.stop();
    },
  };
  io.write(fd, 0, 10, 0, who, 0);
  io.read(12345, 0, 10, 0, who, 0);
  io.syncData(fd, who, 0);
  io.connect({ kind: "unix", path: `${directory}/nobody` }, who, 0);
  io.timer(0, who, 0);
  inside = false;
  io.run();
  io.close(fd);
});

testWorlds("what the last pass asked for is handed over before run returns", (io, directory) => {
  const [client, server, listener] = pair(io, "tcp", directory);
  const vector = io.arena.reserve(16);
  io.segment(vector, 0, 0, 5);
  let sent = 0;
  io.timer(0, {
    complete() {
      io.send(client, vector, 1, { complete: (_tag, result) => sent = result }, 0);
      io.stop();
    },
  }, 0);
  io.run();
  // Read behind the Io's back: its loop does not run again before the bytes are there.
  const got = new Uint8Array(10);
  assert.equal(libc.read(server, got, got.length), 5);
  settleOne(io, (who, tag) => io.timer(0, who, tag));
  assert.equal(sent, 5);
  [client, server, listener].forEach((fd) => io.close(fd));
});

testWorlds("what a completer throws leaves run, and run can go on", (io) => {
  let calm = 0;
  io.timer(0, {
    complete() {
      throw new RangeError("thrown by a completer");
    },
  }, 0);
  io.timer(0, { complete: () => (calm++, io.stop()) }, 0);
  assert.throws(() => io.run(), /thrown by a completer/);
  io.run();
  assert.equal(calm, 1);
  io.timer(0, { complete: () => assert.throws(() => io.run(), /running/) }, 0);
  settleOne(io, (who, tag) => io.timer(1, who, tag));
});

testWorlds("bounds of timers and deferred tasks are kept", (io) => {
  const who: Completer = { complete() {} };
  for (let i = 0; i < MAX_TIMERS; i++) io.timer(1e6, who, i);
  assert.throws(() => io.timer(1, who, 0), /more than 1024 timers/);
  const task: Deferred = { runDeferred() {} };
  for (let i = 0; i < MAX_DEFERRED; i++) io.defer(task);
  assert.throws(() => io.defer(task), /more than 16384 tasks/);
});

testWorlds("random numbers are whole and spread over 32 bits", (io) => {
  const numbers = Array.from({ length: 1000 }, () => io.random32());
  assert(numbers.every((n) => Number.isInteger(n) && n >= 0 && n < 2 ** 32));
  assert(new Set(numbers).size > 990);
  assert(numbers.some((n) => n >= 2 ** 31) && numbers.some((n) => n < 2 ** 31));
});
