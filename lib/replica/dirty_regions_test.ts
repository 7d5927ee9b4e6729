import assert from "node:assert/strict";
import fc from "fast-check";
import type { Io } from "../io/io.ts";
import { SimCluster, type SimProcess } from "../io/sim/mod.ts";
import { DirtyRegions, REGIONS_FILE, reserveRegionMap } from "./dirty_regions.ts";

const MIB = 1024 * 1024, REGIONS = 64;

/** A record of some regions of 1 MiB each. */
class Record implements Disposable {
  readonly cluster: SimCluster;
  readonly process: SimProcess;
  readonly io: Io;
  readonly regions: DirtyRegions;

  constructor(seed = 1, readonly count = REGIONS) {
    this.cluster = new SimCluster(seed);
    let made: [Io, DirtyRegions] | undefined;
    this.process = this.cluster.host("r").spawn("replica", (io) => {
      io.files.makeDirectory("/replica");
      made = [io, DirtyRegions.open(io, "/replica", count * MIB, reserveRegionMap(io), false)];
    });
    assert(made);
    [this.io, this.regions] = made;
  }

  /** The regions that are recorded on disk. */
  recorded(): number[] {
    let bytes = new Uint8Array();
    this.process.enter(() => void (bytes = this.io.files.readWhole(`/replica/${REGIONS_FILE}`)));
    const map = bytes.subarray(4096);
    return Array.from({ length: this.count }, (_, r) => r).filter((r) =>
      (map[r >> 3] & (1 << (r & 7))) !== 0
    );
  }

  /** A write begins as soon as it may; `begun` is told. */
  write(region: number, begun: () => void = () => {}): void {
    this.process.enter(() => {
      if (this.regions.covers(region * MIB, 4096)) begun();
      else this.regions.mark(region * MIB, 4096, (result) => (assert.equal(result, 0), begun()));
    });
  }

  clean(region: number, then: () => void = () => {}): void {
    this.process.enter(() => this.regions.clean(region * MIB, MIB, then));
  }

  pass(ms: number): void {
    this.cluster.run(this.cluster.now + ms);
  }

  [Symbol.dispose](): void {
    this.cluster[Symbol.dispose]();
  }
}

Deno.test("a region is recorded before its first write, alone, and until it is told to be clean", () => {
  using record = new Record();
  let begun = 0;
  record.write(5, () => begun++);
  assert.equal(begun, 0);
  record.pass(100);
  assert.deepEqual([begun, record.recorded()], [1, [5]]);
  record.write(5, () => begun++);
  assert.equal(begun, 2, "the second write waits for nothing");
  record.clean(5);
  record.pass(100);
  assert.deepEqual(record.recorded(), []);
});

Deno.test("where writes keep meeting unrecorded regions, neighbours are recorded with them", () => {
  using record = new Record();
  let waited = 0;
  for (let i = 0; i < 256; i++) {
    const region = (i * 37) % REGIONS;
    let begun = false;
    record.write(region, () => void (begun = true));
    if (!begun) waited++;
    record.pass(2);
  }
  assert.deepEqual(record.recorded().length, REGIONS);
  assert.ok(waited < 40, `${waited} of the 64 first writes waited`);
});

Deno.test("of writes all over a large volume few wait for a record", () => {
  const count = 25_600;
  using record = new Record(1, count);
  let waited = 0;
  for (let i = 0; i < 4 * count; i++) {
    let begun = false;
    record.write((i * 7919) % count, () => void (begun = true));
    if (!begun) waited++;
    if (i % 10 === 0) record.pass(1);
  }
  assert.equal(record.recorded().length, count);
  assert.ok(waited < 500, `${waited} of ${count} first writes waited`);
});

Deno.test("what was recorded ahead and not written to is taken back by itself, and what was written to is not", () => {
  using record = new Record();
  // Every fourth region, until the neighbours come along.
  for (let round = 0; round < 4; round++) {
    for (let region = 0; region < 32; region += 4) record.write(region);
    record.pass(2);
    for (let region = 0; region < 32; region += 4) record.clean(region);
    record.pass(2);
  }
  for (let region = 0; region < 32; region += 4) record.write(region);
  record.pass(100);
  const written = [0, 4, 8, 12, 16, 20, 24, 28];
  assert.ok(record.recorded().length > written.length, "nothing was recorded ahead");
  for (let i = 0; i < 3; i++) {
    record.pass(6000);
    record.clean(63);
    record.pass(100);
  }
  assert.deepEqual(record.recorded(), written);
});

Deno.test("what is taken back while the record is being written does not count as recorded after it", () => {
  for (let delay = 0; delay < 2; delay += 0.02) {
    using record = new Record();
    for (let i = 0; i < 100; i++) {
      record.write(0);
      record.pass(1);
      record.clean(0);
      record.pass(1);
    }
    record.write(32);
    record.pass(6000);
    record.clean(63);
    record.pass(6000);
    assert.ok(record.recorded().includes(40));
    // The page of this one still has all that was ahead; the clean takes it back.
    record.write(63);
    record.clean(62);
    record.pass(delay);
    let begun = false;
    record.write(40, () => void (begun = true));
    record.pass(100);
    assert.ok(begun && record.recorded().includes(40), `after ${delay} ms`);
  }
});

Deno.test("what an earlier process had recorded is kept until it is told to be clean", () => {
  using record = new Record();
  record.write(7);
  record.pass(100);
  record.process.enter(() => {
    record.regions.close(false);
    const again = DirtyRegions.open(record.io, "/replica", REGIONS * MIB, reserveRegionMap(record.io), true);
    for (let i = 1; i < 4; i++) {
      record.io.timer(i * 6000, { complete: () => again.clean(9 * MIB, MIB, () => {}) }, 0);
    }
  });
  record.pass(30_000);
  assert.deepEqual(record.recorded(), [7]);
});

Deno.test("whatever is written and cleaned when: what was written to since it was clean is on the disk", () => {
  const step = fc.record({
    what: fc.constantFrom("write", "write", "write", "burst", "clean", "pass"),
    region: fc.nat(REGIONS - 1),
    ms: fc.oneof(fc.nat(3), fc.constantFrom(100, 5000, 6000)),
  });
  fc.assert(
    fc.property(fc.nat(1000), fc.array(step, { maxLength: 60 }), (seed, steps) => {
      using record = new Record(seed);
      /** Written to since they were clean; those that wait to be; those that are being cleaned. */
      const dirty = new Set<number>(), waiting = new Map<number, number>(), cleaning = new Set<number>();
      const look = () => {
        const recorded = new Set(record.recorded());
        for (const region of dirty) assert.ok(recorded.has(region), `region ${region} is not recorded`);
      };
      const write = (region: number) => {
        // The engine lets no change and no CLEAN of the same region be under way at once.
        if (cleaning.has(region)) return;
        waiting.set(region, (waiting.get(region) ?? 0) + 1);
        record.write(region, () => {
          waiting.set(region, (waiting.get(region) ?? 0) - 1);
          dirty.add(region);
        });
      };
      for (const { what, region, ms } of steps) {
        if (what === "write") write(region);
        else if (what === "burst") { for (let i = 0; i < 40; i++) write((region + i * 5) % REGIONS); }
        else if (what === "pass") record.pass(ms);
        else if ((waiting.get(region) ?? 0) === 0 && !cleaning.has(region)) {
          cleaning.add(region);
          dirty.delete(region);
          record.clean(region, () => cleaning.delete(region));
        }
        look();
      }
      record.pass(1000);
      look();
      assert.ok([...waiting.values()].every((count) => count === 0), "a write never began");
    }),
    { numRuns: 60 },
  );
});
