import assert from "node:assert/strict";
import fc from "fast-check";
import { Arena, PAGE_BYTES } from "./arena.ts";
import type { Completer, Deferred, Io } from "./io.ts";
import { BufferPool, NO_BUFFER } from "./pool.ts";

/** An Io with nothing but memory and a list of deferred tasks: all a pool needs. */
function worldOf(bytes: number): { io: Io; run(): number } {
  const tasks: Deferred[] = [];
  const io = { arena: new Arena(new ArrayBuffer(bytes), 0n), defer: (task: Deferred) => tasks.push(task) };
  return {
    io: io as unknown as Io,
    run() {
      const now = tasks.splice(0);
      for (const task of now) task.runDeferred();
      return now.length;
    },
  };
}

const KIB = 1024, MIB = 1024 * KIB;

/** Bytes a buffer really takes. */
function sizeOf(bytes: number): number {
  let size = PAGE_BYTES;
  while (size < bytes) size *= 2;
  return size;
}

Deno.test("buffers never overlap, the account is right, and everything merges again", () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant("allocate" as const), value: fc.integer({ min: 0, max: 128 * KIB }) }),
    fc.record({ kind: fc.constant("retain" as const), value: fc.nat() }),
    fc.record({ kind: fc.constant("release" as const), value: fc.nat() }),
    fc.record({ kind: fc.constant("release" as const), value: fc.nat() }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 300 }), fc.integer({ min: 1, max: 5 }), (actions, blocks) => {
      const { io } = worldOf(2 * 1024 * KIB);
      io.arena.reserve(100); // pools do not begin at the arena's begin
      const pool = new BufferPool(io, blocks * 128 * KIB, 128 * KIB);
      const total = pool.free;
      assert.equal(total, blocks * 128 * KIB);
      const model: { at: number; size: number; references: number }[] = [];
      const used = () => model.reduce((sum, b) => sum + b.size, 0);
      for (const { kind, value } of actions) {
        if (kind === "allocate") {
          const at = pool.allocate(value), size = sizeOf(value);
          if (at === NO_BUFFER) {
            assert.ok(used() + size > total || model.length > 0, "an empty pool has room");
            continue;
          }
          assert.equal(at % PAGE_BYTES, 0);
          assert.ok(at >= 100 && at + size <= io.arena.bytes);
          for (const other of model) {
            assert.ok(at + size <= other.at || other.at + other.size <= at, "overlap");
          }
          model.push({ at, size, references: 1 });
        } else if (model.length > 0) {
          const i = value % model.length, buffer = model[i];
          assert.ok(buffer);
          if (kind === "retain") {
            pool.retain(buffer.at);
            buffer.references++;
          } else {
            pool.release(buffer.at);
            if (--buffer.references === 0) model.splice(i, 1);
          }
        }
        assert.equal(pool.free, total - used());
      }
      for (const buffer of model) for (; buffer.references > 0; buffer.references--) pool.release(buffer.at);
      assert.equal(pool.free, total);
      const largest = Array.from({ length: blocks }, () => pool.allocate(128 * KIB));
      assert.equal(largest.filter((at) => at === NO_BUFFER).length, 0, "not all merged back");
      assert.equal(pool.allocate(1), NO_BUFFER);
    }),
    { numRuns: 300 },
  );
});

Deno.test("a pool of single pages hands out every page once", () => {
  const { io } = worldOf(64 * KIB);
  const pool = new BufferPool(io, 16 * PAGE_BYTES, PAGE_BYTES);
  const pages = new Set(Array.from({ length: 16 }, () => pool.allocate(1)));
  assert.equal(pages.size, 16);
  assert.ok(!pages.has(NO_BUFFER));
  assert.equal(pool.allocate(1), NO_BUFFER);
  for (const at of pages) pool.release(at);
  assert.equal(pool.free, 64 * KIB);
});

Deno.test("sizes are rounded up to a power of two of pages", () => {
  const { io } = worldOf(1024 * KIB);
  const pool = new BufferPool(io, 512 * KIB, 64 * KIB);
  for (
    const [bytes, size] of [[0, 4], [1, 4], [4096, 4], [4097, 8], [8192, 8], [8193, 16], [32769, 64], [
      65536,
      64,
    ]]
  ) {
    const before = pool.free;
    const at = pool.allocate(bytes as number);
    assert.equal(before - pool.free, (size as number) * KIB, `${bytes}`);
    pool.release(at);
  }
});

Deno.test("a buffer stays while anybody holds it", () => {
  const { io } = worldOf(64 * KIB);
  const pool = new BufferPool(io, 64 * KIB, 64 * KIB);
  const at = pool.allocate(64 * KIB);
  pool.retain(at);
  pool.retain(at);
  pool.release(at);
  pool.release(at);
  assert.equal(pool.allocate(1), NO_BUFFER);
  pool.release(at);
  assert.notEqual(pool.allocate(1), NO_BUFFER);
});

Deno.test("waiters are called once, from the loop, after a buffer came back", () => {
  const { io, run } = worldOf(64 * KIB);
  const pool = new BufferPool(io, 64 * KIB, 64 * KIB);
  const at = pool.allocate(64 * KIB);
  pool.retain(at);
  let calls = 0;
  const waiter: Deferred = { runDeferred: () => calls++ };
  pool.wait(waiter);
  pool.wait(waiter);
  pool.release(at);
  assert.equal(run(), 0, "somebody holds the buffer still");
  pool.release(at);
  assert.equal(calls, 0);
  assert.equal(run(), 2);
  assert.equal(calls, 2);
  pool.release(pool.allocate(1));
  assert.equal(run(), 0);
});

Deno.test("mistakes of callers are found", () => {
  const { io } = worldOf(256 * KIB);
  assert.throws(() => new BufferPool(io, 64 * KIB, 3 * PAGE_BYTES), /power of two/);
  assert.throws(() => new BufferPool(io, 1024 * KIB, 64 * KIB), RangeError);
  const pool = new BufferPool(io, 128 * KIB, 64 * KIB);
  assert.throws(() => pool.allocate(64 * KIB + 1), /65536/);
  assert.throws(() => pool.allocate(NaN));
  const at = pool.allocate(16 * KIB);
  assert.throws(() => pool.release(at + PAGE_BYTES), /no buffer/);
  assert.throws(() => pool.release(at + 1), /no buffer/);
  assert.throws(() => pool.release(NO_BUFFER), /no buffer/);
  pool.release(at);
  assert.throws(() => pool.release(at), /no buffer/);
  assert.throws(() => pool.retain(at), /no buffer/);
  assert.equal(pool.free, 128 * KIB);
});

/** As {@linkcode worldOf}, with timers that fire when they are told to, and a list of what was given back. */
function timedWorld(bytes: number): { io: Io; fire(): boolean; given: [at: number, bytes: number][] } {
  const timers: Completer[] = [], given: [number, number][] = [];
  const io = {
    arena: new Arena(new ArrayBuffer(bytes), 0n),
    timer: (_ms: number, who: Completer) => timers.push(who),
    giveBack: (at: number, length: number) => given.push([at, length]),
    hugePages: () => {},
  };
  return {
    io: io as unknown as Io,
    given,
    fire() {
      const [timer] = timers.splice(0);
      timer?.complete(0, 0);
      return timer !== undefined;
    },
  };
}

Deno.test("memory that was touched by many requests goes back to the system when they are over", () => {
  const world = timedWorld(64 * MIB), pool = new BufferPool(world.io, 32 * MIB, 8 * MIB);
  const buffers = [1, 2, 3].map(() => pool.allocate(8 * MIB));
  assert.ok(world.fire(), "somebody looks after a while");
  assert.equal(world.given.length, 0, "what is in use stays");
  const [first, second, third] = buffers;
  pool.release(second);
  pool.release(third);
  pool.retain(first);
  pool.release(first);
  const small = pool.allocate(PAGE_BYTES), blockOf = (at: number) => Math.floor(at / (8 * MIB)) * 8 * MIB;
  assert.ok(world.fire());
  const free = [second, third].filter((at) => at !== blockOf(small));
  const given = world.given.map(([at]) => at);
  assert.ok(free.length > 0 && free.every((at) => given.includes(at)), `${given} instead of ${free}`);
  assert.ok(
    ![first, blockOf(small)].some((at) => given.includes(at)),
    "what has a buffer, however small, stays",
  );
  assert.ok(world.fire(), "there were requests since the last look");
  assert.equal(world.fire(), false, "there were none: what is kept in peace wakes nobody");
  pool.allocate(PAGE_BYTES);
  assert.ok(world.fire(), "with the next request somebody looks again");
});

Deno.test("a pool of which little was touched sets no timer, and gives nothing back", () => {
  const world = timedWorld(64 * MIB), pool = new BufferPool(world.io, 32 * MIB, 8 * MIB);
  for (let round = 0; round < 10; round++) {
    const buffers = Array.from({ length: 200 }, () => pool.allocate(PAGE_BYTES));
    buffers.forEach((buffer) => pool.release(buffer));
  }
  assert.equal(world.fire(), false);
});

Deno.test("a pool that is used all the time keeps what it uses, and is small again at the end", () => {
  const world = timedWorld(64 * MIB), pool = new BufferPool(world.io, 32 * MIB, 8 * MIB);
  let held = [pool.allocate(8 * MIB)];
  for (let look = 0; look < 5; look++) {
    const next = [pool.allocate(8 * MIB)];
    held.forEach((buffer) => pool.release(buffer));
    held = next;
    assert.ok(world.fire());
    assert.ok(world.given.every(([at]) => !held.includes(at)));
    world.given.length = 0;
  }
  held.forEach((buffer) => pool.release(buffer));
  assert.ok(world.fire());
  assert.ok(held.every((at) => world.given.some(([given]) => given === at)));
  assert.equal(world.fire(), false);
});
