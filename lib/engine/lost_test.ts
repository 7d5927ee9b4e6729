import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import { Errno } from "../io/errno.ts";
import { DIGEST_PIECE_BYTES } from "../wire/digest.ts";
import { Feature, FrameType } from "../wire/frame.ts";
import { BlockSet, SET_BLOCK_BYTES } from "./block_set.ts";
import type { Link } from "./link.ts";
import { LostWrites } from "./lost.ts";
import { Bench, FEATURES, VOLUME_BYTES } from "./test_kit.ts";

const PIECE_BLOCKS = DIGEST_PIECE_BYTES / SET_BLOCK_BYTES;

/** Two complete copies, and a third one that comes back; it has no map, so that all may be lost. */
class Return implements Disposable {
  readonly bench: Bench;
  readonly missed = new BlockSet(VOLUME_BYTES);
  over = false;

  constructor(features = FEATURES | Feature.DIGEST) {
    this.bench = new Bench({ replicas: 3, bare: true });
    const { bench } = this;
    for (const replica of bench.replicas) bench.dial(replica, features);
    bench.until("all replicas to be connected", () => bench.connected.length === 3);
    for (const { disk } of bench.replicas) for (let i = 0; i < disk.length; i++) disk[i] = i >> 12;
    bench.enter(() => {
      for (const i of [0, 1]) bench.volume.admit(bench.replicas[i].name, "RW");
      bench.volume.start(1);
    });
    bench.until("the members to be recorded", () => bench.recorded.length > 0);
    bench.enter(() => bench.volume.admit(bench.replicas[2].name, "WO"));
  }

  get link(): Link {
    return this.bench.volume.replicas.find(this.bench.replicas[2].name);
  }

  start(): void {
    const { bench, link, missed } = this;
    bench.enter(() =>
      new LostWrites(bench.process.io, bench.pool, bench.volume, link, missed, () => void (this.over = true))
        .start()
    );
  }

  ended(): void {
    this.bench.until("the end of the comparison", () => this.over);
  }

  /** Blocks that are missed. */
  blocks(): number[] {
    const blocks: number[] = [];
    for (
      let [first, count] = this.missed.next(0, 1);
      count > 0;
      [first, count] = this.missed.next(first + 1, 1)
    ) {
      blocks.push(first);
    }
    return blocks;
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
  }
}

function piece(n: number): number[] {
  return Array.from({ length: PIECE_BLOCKS }, (_, i) => n * PIECE_BLOCKS + i);
}

Deno.test("of what a copy may have lost, what differs is missed, and what is equal is not", () => {
  using back = new Return();
  back.bench.replicas[2].disk[3 * DIGEST_PIECE_BYTES + 5]++;
  back.bench.replicas[2].disk[VOLUME_BYTES - 1]++;
  back.missed.addTouched(8192, 4096);
  back.start();
  back.ended();
  // What it missed stays missed though it is equal: a write that began before may be on its way to the others still.
  assert.deepEqual(back.blocks(), [2, ...piece(3), ...piece(VOLUME_BYTES / DIGEST_PIECE_BYTES - 1)]);
  assert.equal(back.bench.replicas[1].count(FrameType.DIGEST), 0, "one complete copy is enough");
});

Deno.test("until it was compared all of it is missed", () => {
  using back = new Return();
  const { bench } = back, [, , third] = bench.replicas;
  third.behave = ({ type }) => type === FrameType.DIGEST ? "hold" : undefined;
  assert.equal(back.link.catchingUp, undefined);
  back.start();
  bench.until("a digest to be held", () => third.held.length > 0);
  assert.equal(back.missed.count, VOLUME_BYTES / SET_BLOCK_BYTES);
  assert.equal(back.link.catchingUp, back.missed);
  bench.enter(() => back.link.close("a test"));
  back.ended();
  assert.equal(back.missed.count, VOLUME_BYTES / SET_BLOCK_BYTES);
});

Deno.test("a copy that was compared with one that is gone now may have lost everything", () => {
  using back = new Return();
  const { bench } = back, [first] = bench.replicas;
  first.behave = ({ type }) => type === FrameType.DIGEST ? "hold" : undefined;
  back.start();
  bench.until("a digest to be held", () => first.held.length > 0);
  bench.enter(() => bench.volume.replicas.find(first.name).close("a test"));
  back.ended();
  assert.equal(back.missed.count, VOLUME_BYTES / SET_BLOCK_BYTES);
});

Deno.test("what cannot be compared is missed", () => {
  using old = new Return(FEATURES);
  old.start();
  old.ended();
  assert.equal(old.missed.count, VOLUME_BYTES / SET_BLOCK_BYTES);
  using bad = new Return();
  bad.bench.replicas[2].behave = ({ type }) => type === FrameType.DIGEST ? -Errno.EIO : undefined;
  bad.start();
  bad.ended();
  assert.equal(bad.missed.count, VOLUME_BYTES / SET_BLOCK_BYTES);
});

Deno.test("what hosts write during the comparison is on the copy, missed or not", () => {
  using back = new Return();
  const { bench } = back, [first, , third] = bench.replicas;
  third.behave = ({ type }) => type === FrameType.DIGEST ? "hold" : undefined;
  back.start();
  bench.until("a digest to be held", () => third.held.length > 0);
  assert.equal(bench.ask(Op.WRITE, 0, 4096, 0xaa).result, 4096);
  third.behave = () => undefined;
  third.release();
  back.ended();
  assert.deepEqual(third.disk, first.disk);
});
