import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import { Errno } from "../io/errno.ts";
import { DIGEST_PIECE_BYTES, digestBytes } from "../wire/digest.ts";
import { Feature, FRAME_BYTES, FrameType, putFrame } from "../wire/frame.ts";
import { COPY_BYTES } from "./limits.ts";
import { Resync, type ResyncReport } from "./resync.ts";
import { Bench, FEATURES, RogueReplica, VOLUME_BYTES } from "./test_kit.ts";

/** No map of dirty regions: everything may differ. */
const DIGESTS = FEATURES | Feature.DIGEST;

class Equal implements Disposable {
  readonly bench: Bench;
  report: ResyncReport | undefined;

  constructor(features: readonly number[] = [DIGESTS, DIGESTS, DIGESTS], bytes = VOLUME_BYTES) {
    this.bench = new Bench({ replicas: features.length, bare: true, bytes });
    const { bench } = this;
    bench.replicas.forEach((replica, i) => bench.dial(replica, features[i]));
    bench.until("all replicas to be connected", () => bench.connected.length === features.length);
    for (const { disk } of bench.replicas) for (let i = 0; i < disk.length; i++) disk[i] = i >> 12;
  }

  /** Serves, and makes the copies equal. */
  start(): void {
    const { bench } = this;
    bench.enter(() => {
      for (const { name } of bench.replicas) bench.volume.admit(name, "RW");
      bench.volume.turns.single = true;
      bench.volume.start(1);
    });
    bench.until("the members to be recorded", () => bench.recorded.length > 0);
    bench.enter(() =>
      new Resync(bench.process.io, bench.pool, bench.volume, (report) => void (this.report = report)).start()
    );
  }

  run(): ResyncReport {
    this.start();
    return this.ended();
  }

  ended(): ResyncReport {
    this.bench.until("the copies to be equal", () => this.report !== undefined);
    assert(this.report);
    assert.equal(this.bench.volume.turns.single, false);
    return this.report;
  }

  /** Whether copies that are still there have the content of the first one. */
  equal(...others: readonly number[]): boolean {
    const [first, ...rest] = this.bench.replicas.map(({ disk }) => disk);
    return rest.every((disk, i) =>
      (others.length > 0 && !others.includes(i + 1)) || disk.every((byte, at) => byte === first[at])
    );
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
  }
}

Deno.test("copies that are equal are compared and not read", () => {
  using copies = new Equal();
  assert.deepEqual(copies.run(), { bytes: VOLUME_BYTES, copied: 0 });
  for (const replica of copies.bench.replicas) {
    assert.equal(replica.count(FrameType.READ) + replica.count(FrameType.WRITE), 0);
    assert.equal(replica.count(FrameType.DIGEST), 1);
  }
});

Deno.test("what differs on any copy is copied from the first, and nothing else", () => {
  using copies = new Equal();
  const [first, second, third] = copies.bench.replicas;
  second.disk[5 * DIGEST_PIECE_BYTES + 77]++;
  second.disk[6 * DIGEST_PIECE_BYTES]++;
  third.disk[VOLUME_BYTES - 1]++;
  assert.deepEqual(copies.run(), { bytes: VOLUME_BYTES, copied: 3 * DIGEST_PIECE_BYTES });
  assert.ok(copies.equal());
  assert.equal(first.count(FrameType.READ), 3 * DIGEST_PIECE_BYTES / COPY_BYTES);
  assert.equal(first.count(FrameType.WRITE), 0);
});

Deno.test("with a copy that has no digests, all of every region is copied", () => {
  using copies = new Equal([DIGESTS, FEATURES, DIGESTS]);
  copies.bench.replicas[1].disk.fill(99);
  assert.equal(copies.run().copied, VOLUME_BYTES);
  assert.ok(copies.equal());
  for (const replica of copies.bench.replicas) assert.equal(replica.count(FrameType.DIGEST), 0);
});

Deno.test("where a copy cannot tell what it has, everything is copied to it", () => {
  using copies = new Equal();
  const [, second] = copies.bench.replicas;
  second.behave = ({ type }) => type === FrameType.DIGEST ? -Errno.EIO : undefined;
  second.disk.fill(99, 4096, 8192);
  assert.equal(copies.run().copied, VOLUME_BYTES);
  assert.ok(copies.equal());
  assert.equal(copies.bench.modes, "RW RW RW");
});

Deno.test("hosts do not wait for digests, and what they write meanwhile is on all copies", () => {
  using copies = new Equal();
  const { bench } = copies, [, second, third] = bench.replicas;
  second.disk[3 * DIGEST_PIECE_BYTES] ^= 1;
  third.behave = ({ type }) => type === FrameType.DIGEST ? "hold" : undefined;
  copies.start();
  bench.until("a digest to be held", () => third.held.length > 0);
  // The others have told what they had before this.
  assert.equal(bench.ask(Op.WRITE, 2 * DIGEST_PIECE_BYTES, 4096, 0xaa).result, 4096);
  third.behave = () => undefined;
  third.release();
  assert.equal(copies.ended().copied, 2 * DIGEST_PIECE_BYTES);
  assert.ok(copies.equal());
  assert.equal(third.disk[2 * DIGEST_PIECE_BYTES], 0xaa);
});

Deno.test("a copy that goes away during a comparison is left out, and the others are made equal", () => {
  using copies = new Equal();
  const { bench } = copies, [, second, third] = bench.replicas;
  second.disk[0] ^= 1;
  third.disk.fill(99);
  third.behave = ({ type }) => type === FrameType.DIGEST ? "hold" : undefined;
  copies.start();
  bench.until("a digest to be held", () => third.held.length > 0);
  bench.enter(() => bench.volume.replicas.find(third.name).close("a test"));
  assert.equal(copies.ended().copied, DIGEST_PIECE_BYTES);
  assert.ok(copies.equal(1));
  assert.equal(bench.modes, "RW RW ERR");
});

Deno.test("when the first copy goes away the comparison begins again with the next one", () => {
  using copies = new Equal();
  const { bench } = copies, [first, second, third] = bench.replicas;
  third.disk[0] ^= 1;
  first.behave = ({ type }) => type === FrameType.DIGEST ? "hold" : undefined;
  copies.start();
  bench.until("a digest to be held", () => first.held.length > 0);
  bench.enter(() => bench.volume.replicas.find(first.name).close("a test"));
  assert.equal(copies.ended().copied, DIGEST_PIECE_BYTES);
  assert.deepEqual(third.disk, second.disk);
});

Deno.test("a disk that takes its time is asked for less and less at once, one that is quick for more", () => {
  const bytes = 256 * VOLUME_BYTES;
  using copies = new Equal(undefined, bytes);
  const { bench } = copies, [, second] = bench.replicas;
  const sizes = () => second.held.map(({ size }) => size / VOLUME_BYTES);
  second.behave = ({ type }) => type === FrameType.DIGEST ? "hold" : undefined;
  copies.start();
  bench.until("a digest to be held", () => second.held.length > 0);
  bench.pass(50);
  assert.deepEqual(sizes(), [4]);
  for (let i = 0; i < 8; i++) {
    second.release();
    bench.pass(50);
  }
  assert.deepEqual(sizes(), [4, 4, 4, 4, 4, 4, 4, 4]);
  for (let i = 0; i < 6; i++) {
    bench.pass(2000);
    second.release();
    bench.pass(50);
  }
  assert.deepEqual(sizes(), [0.25]);
  second.behave = () => undefined;
  second.release();
  assert.equal(copies.ended().bytes, bytes);
  const asked = second.requests.filter(({ type }) => type === FrameType.DIGEST).sort((a, b) =>
    a.offset - b.offset
  );
  let end = 0;
  for (const { offset, size } of asked) {
    assert.equal(offset, end, "a range was left out, or asked for twice");
    end = offset + size;
  }
  assert.equal(end, bytes);
});

Deno.test("a copy that answers a digest with more than was asked for is out", () => {
  using bench = new Bench({ replicas: 2, bare: true });
  const rogue = new RogueReplica(bench.cluster.host("rogue"), (header) => {
    const view = new DataView(header.buffer), digest = view.getUint32(6, true) === FrameType.DIGEST;
    const length = digest ? digestBytes(VOLUME_BYTES) + 16 : 0, bytes = new Uint8Array(FRAME_BYTES + length);
    putFrame(new DataView(bytes.buffer), 0, view.getUint32(2, true), FrameType.RESPONSE, 0, length, length);
    return bytes;
  });
  for (const replica of [...bench.replicas, rogue]) bench.dial(replica, Feature.DIGEST);
  bench.until("connections", () => bench.connected.length === 3);
  let report: ResyncReport | undefined;
  bench.enter(() => {
    for (const { name } of [...bench.replicas, rogue]) bench.volume.admit(name, "RW");
    bench.volume.start(1);
    new Resync(bench.process.io, bench.pool, bench.volume, (found) => void (report = found)).start();
  });
  bench.until("the copies to be equal", () => report !== undefined);
  assert.equal(bench.modes, "RW RW ERR");
  assert.match(bench.failed.join(), /broke the data protocol/);
});
