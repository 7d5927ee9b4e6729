import assert from "node:assert/strict";
import { MemoryDevice } from "../block/memory_device.ts";
import { Op } from "../block/device.ts";
import { Errno } from "../io/errno.ts";
import type { Completer, Io } from "../io/io.ts";
import { openIo } from "../io/open.ts";
import { ClosedLoop, type Plan } from "./loop.ts";
import { BenchError, type Target, type TargetOwner } from "./target.ts";
import { type Order, Walk } from "./walk.ts";

const BLOCK = 4096;
const BLOCKS = 64;

/** A target over a memory disk that notes what it is asked for. */
class Fake implements Target, Completer {
  readonly bytes: number;
  readonly offsets: number[] = [];
  writes = 0;
  underWay = 0;
  most = 0;
  /** Set: the block at this offset comes back with a wrong byte. */
  corrupt = -1;
  #at = new Map<number, [number, number]>();

  constructor(
    readonly io: Io,
    readonly index: number,
    readonly device: MemoryDevice,
    readonly owner: TargetOwner,
  ) {
    this.bytes = device.bytes;
  }
  open(): void {
    this.io.defer({ runDeferred: () => this.owner.onReady(this) });
  }
  close(): void {
    this.io.defer({ runDeferred: () => this.owner.onEnded(this, undefined) });
  }
  submit(write: boolean, offset: number, length: number, at: number, tag: number): void {
    assert.ok(!this.#at.has(tag), "a tag is not used twice at once");
    this.#at.set(tag, [offset, at]);
    this.offsets.push(offset);
    if (write) this.writes++;
    this.most = Math.max(this.most, ++this.underWay);
    this.device.submit(write ? Op.WRITE : Op.READ, offset, length, at, this, tag);
  }
  complete(tag: number, result: number): void {
    const [offset, at] = this.#at.get(tag) ?? [0, 0];
    this.#at.delete(tag);
    this.underWay--;
    if (offset === this.corrupt) this.io.arena.u8[at + 100]++;
    // By a timer, as a disk in memory completes within the pass, in which the clock stands still.
    this.io.timer(0, { complete: () => this.owner.onDone(this, tag, result, "") }, 0);
  }
}

/** A loop over fakes with a depth of 6. */
function scene(targets: number): { io: Io; loop: ClosedLoop; fakes: Fake[]; device: MemoryDevice } {
  const io = openIo({ arenaBytes: 1 << 20, world: "poll" });
  const device = new MemoryDevice(io, "d", BLOCK * BLOCKS);
  const buffers = io.arena.reserve(8 * BLOCK, 4096);
  const loop = new ClosedLoop(io, { blockBytes: BLOCK, depth: 6, buffers }, targets);
  const fakes = Array.from({ length: targets }, (_, i) => new Fake(io, i, device, loop));
  loop.targets.push(...fakes);
  return { io, loop, fakes, device };
}

function plan(order: Order, writePercent: number, more: Partial<Plan> = {}): Plan {
  return {
    walk: new Walk(order, BLOCKS),
    writePercent,
    rampMs: 0,
    durationMs: Infinity,
    operations: Infinity,
    patternSeed: 7,
    ...more,
  };
}

/** Runs plans one after the other to the end; returns the error if there is one. */
function run(
  io: Io,
  loop: ClosedLoop,
  plans: Plan[],
  between: () => void = () => {},
): BenchError | undefined {
  let failure: BenchError | undefined;
  const next = (): void => {
    const first = plans.shift();
    if (first) {
      loop.begin(first, () => {
        between();
        next();
      });
    } else loop.close(() => io.stop());
  };
  loop.open(next, (error) => {
    failure = error;
    io.stop();
  });
  io.run();
  return failure;
}

Deno.test("a pass touches every block once, at the depth asked for, and what is read back is compared", () => {
  for (const targets of [1, 2, 4]) {
    const { io, loop, fakes } = scene(targets);
    using _ = io;
    const failure = run(io, loop, [plan("shuffled", 100), plan("once", 0)], () => {
      const offsets = fakes.flatMap((fake) => fake.offsets.splice(0)).sort((a, b) => a - b);
      assert.deepEqual(offsets, Array.from({ length: BLOCKS }, (_, i) => i * BLOCK));
    });
    assert.equal(failure, undefined);
    assert.equal(fakes.reduce((n, fake) => n + fake.most, 0), 6);
    assert.equal(loop.reads.count, BLOCKS);
    assert.equal(loop.mismatches, 0);
  }
});

Deno.test("a block that comes back wrong is counted, and its place is told", () => {
  const { io, loop, fakes } = scene(1);
  using _ = io;
  run(io, loop, [plan("once", 100), plan("once", 0)], () => fakes[0].corrupt = 5 * BLOCK);
  assert.equal(loop.mismatches, 1);
  assert.equal(loop.firstMismatch, 5 * BLOCK + 100);
});

Deno.test("a mixed load of so many operations has about its share of writes", () => {
  const { io, loop, fakes } = scene(2);
  using _ = io;
  const mixed = plan("random", 30, { operations: 4000, patternSeed: undefined });
  assert.equal(run(io, loop, [mixed]), undefined);
  assert.equal(loop.reads.count + loop.writes.count, 4000);
  const share = loop.writes.count / 4000;
  assert.ok(share > 0.25 && share < 0.35, `${share}`);
  const submitted = fakes[0].offsets.length + fakes[1].offsets.length;
  assert.ok(submitted >= 4000 && submitted < 4006, `${submitted}`);
});

Deno.test("the ramp is not counted, and the time ends the load", () => {
  const { io, loop, fakes } = scene(1);
  using _ = io;
  const timed = plan("sequential", 0, { rampMs: 5, durationMs: 5, patternSeed: undefined });
  assert.equal(run(io, loop, [timed]), undefined);
  assert.ok(loop.reads.count > 0 && loop.reads.count < fakes[0].offsets.length);
  assert.ok(loop.elapsedMs >= 5);
});

Deno.test("a failed operation ends the load and is named", () => {
  const { io, loop, device } = scene(1);
  using _ = io;
  device.failAt = { offset: 9 * BLOCK, result: -Errno.ENOSPC };
  const failure = run(io, loop, [plan("once", 100)]);
  assert.ok(failure instanceof BenchError);
  assert.match(failure.message, /^write of 4096 bytes at offset 36864 failed: no space left on device/);
});
