/** What of a file's contents survives: random histories against a model of what may be found afterwards. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { SimCluster } from "./cluster.ts";
import { drawOptions } from "./options.ts";
import type { SimIo } from "./io.ts";
import type { SimProcess } from "./process.ts";
import { Results, until } from "./testing.ts";

const SECTOR = 512, SECTORS = 40, BYTES = SECTOR * SECTORS;
const PATH = "/file";

/** For each sector every content it may have after a power cut, the seen one last; and the same for the size. */
class Model {
  seen = new Uint8Array(BYTES);
  size = 0;
  sectors: Uint8Array[][] = Array.from({ length: SECTORS }, () => [new Uint8Array(SECTOR)]);
  sizes = [0];

  write(offset: number, bytes: Uint8Array): void {
    this.seen.set(bytes, offset);
    this.#resize(Math.max(this.size, offset + bytes.length));
    this.#note(offset, bytes.length);
  }

  #resize(size: number): void {
    this.size = size;
    if (this.sizes.at(-1) !== size) this.sizes.push(size);
  }

  zero(offset: number, length: number): void {
    this.seen.fill(0, offset, offset + length);
    this.#note(offset, length);
  }

  truncate(size: number): void {
    if (size < this.size) this.zero(size, BYTES - size);
    this.#resize(size);
  }

  #note(offset: number, length: number): void {
    for (let sector = Math.floor(offset / SECTOR); sector * SECTOR < offset + length; sector++) {
      this.sectors[sector]?.push(this.#sector(sector));
    }
  }

  #sector(sector: number): Uint8Array {
    return this.seen.slice(sector * SECTOR, (sector + 1) * SECTOR);
  }

  sync(): void {
    this.syncRange(0, BYTES);
    this.sizes = [this.size];
  }

  /** What a durable write promises: its own sectors, and a size that covers them. */
  syncRange(offset: number, length: number): void {
    for (let sector = Math.floor(offset / SECTOR); sector * SECTOR < offset + length; sector++) {
      this.sectors[sector] = [this.#sector(sector)];
    }
    if (length === BYTES) return;
    this.sizes = this.sizes.map((size) => Math.max(size, Math.min(this.size, offset + length)));
  }

  check(found: Uint8Array): void {
    // A write may get its size half way: anything between is possible, anything outside is a loss.
    const [least, most] = [Math.min(...this.sizes), Math.max(...this.sizes)];
    assert(least <= found.length && found.length <= most, `size ${found.length} of ${this.sizes}`);
    for (let sector = 0; sector * SECTOR < found.length; sector++) {
      const part = found.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      const known = this.sectors[sector]?.some((old) => part.every((byte, i) => byte === old[i]));
      assert(
        known,
        `sector ${sector} has ${part[0]}, may have ${this.sectors[sector]?.map((old) => old[0])}`,
      );
    }
  }

  restart(found: Uint8Array): void {
    this.seen = new Uint8Array(BYTES);
    this.seen.set(found);
    this.size = found.length;
    this.sync();
  }
}

type Step =
  | {
    readonly do: "write" | "writeAt" | "writeDurable" | "punch" | "zero";
    readonly offset: number;
    length: number;
  }
  | { readonly do: "truncate"; readonly size: number }
  | { readonly do: "sync" | "syncData" | "kill" | "cut" };

const offset = fc.oneof(
  fc.integer({ min: 0, max: BYTES - 1 }),
  fc.integer({ min: 0, max: SECTORS - 1 }).map((n) => n * SECTOR),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom("write" as const, "writeAt" as const, "writeDurable" as const),
      offset,
      length: fc.integer({ min: 1, max: 9000 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("punch" as const, "zero" as const),
      offset,
      length: fc.integer({ min: 1, max: 12000 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("truncate" as const), size: fc.integer({ min: 0, max: BYTES }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("sync" as const, "syncData" as const, "kill" as const, "cut" as const),
    }),
  },
);

/** A process with the file open, and the operations of the steps. */
class Bench {
  readonly model = new Model();
  readonly #world: SimCluster;
  #process: SimProcess;
  #fd = -1;
  #stamp = 0;

  constructor(world: SimCluster) {
    this.#world = world;
    this.#process = this.#start();
    this.#process.io.files.syncDirectory("/");
  }

  #start(): SimProcess {
    return this.#world.host("a").spawn("p", (io) => {
      this.#fd = io.files.open(PATH, { write: true, create: 0o600 });
    }, { arenaBytes: 16 * 1024 });
  }

  #wait(start: (io: SimIo, results: Results) => void): number {
    const results = new Results();
    start(this.#process.io, results);
    until(this.#world, () => results.count === 1);
    return results.of.get(0) ?? NaN;
  }

  take(step: Step): void {
    const { files } = this.#process.io;
    const { model } = this;
    const fd = this.#fd;
    switch (step.do) {
      case "sync":
        files.sync(fd);
        return model.sync();
      case "syncData":
        assert.equal(this.#wait((io, results) => io.syncData(fd, results, 0)), 0);
        return model.sync();
      case "truncate":
        files.truncate(fd, step.size);
        return model.truncate(step.size);
      case "punch":
      case "zero":
        return this.#clear(step.do, step.offset, Math.min(step.length, BYTES - step.offset));
      case "kill":
        this.#process.kill();
        this.#process = this.#start();
        return assert.deepEqual(this.#contents(), model.seen.slice(0, model.size));
      case "cut":
        return this.cut();
      default:
        return this.#write(step.do, step.offset, Math.min(step.length, BYTES - step.offset));
    }
  }

  #clear(kind: "punch" | "zero", offset: number, length: number): void {
    const keep = this.#wait((io, results) => {
      if (kind === "punch") io.punchHole(this.#fd, offset, length, results, 0);
      else io.fallocate(this.#fd, 0x11, offset, length, results, 0);
    });
    assert.equal(keep, 0);
    this.model.zero(offset, length);
  }

  #write(kind: "write" | "writeAt" | "writeDurable", offset: number, length: number): void {
    const bytes = new Uint8Array(length).fill(++this.#stamp & 0xff || 1);
    if (kind === "writeAt") this.#process.io.files.writeAt(this.#fd, bytes, offset);
    else {
      this.#process.io.arena.u8.set(bytes);
      assert.equal(this.#wait((io, results) => io[kind](this.#fd, 0, length, offset, results, 0)), length);
    }
    this.model.write(offset, bytes);
    if (kind === "writeDurable") this.model.syncRange(offset, length);
  }

  #contents(): Uint8Array {
    return this.#process.io.files.readWhole(PATH);
  }

  cut(): void {
    const host = this.#world.host("a");
    host.powerCut();
    host.boot();
    this.#process = this.#start();
    const found = this.#contents();
    this.model.check(found);
    this.#checkExtents(found);
    this.model.restart(found);
  }

  /** What reads as zeros may be a hole or unwritten; anything else is neither. */
  #checkExtents(found: Uint8Array): void {
    const { files } = this.#process.io;
    const covered = new Uint8Array(BYTES + 4096);
    let allocated = 0, end = 0;
    for (const extent of files.extents(this.#fd, 0, BYTES + 4096)) {
      assert(extent.offset >= end, "extents are in order and do not overlap");
      end = extent.offset + extent.length;
      allocated += extent.length;
      if (!extent.unwritten) covered.fill(1, extent.offset, end);
    }
    assert.equal(files.fstat(this.#fd).allocated, allocated);
    assert.equal(this.#world.host("a").disk.usedBytes, allocated);
    const stray = found.findIndex((byte, i) => byte !== 0 && covered[i] === 0);
    assert.equal(stray, -1, "every byte that is not 0 is in a written extent");
  }
}

Deno.test("after power cuts each sector is the last synced one or a later one, and synced is synced", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2 ** 30 }),
      fc.array(step, { minLength: 1, maxLength: 40 }),
      (seed, steps) => {
        using world = new SimCluster(seed, drawOptions(seed, { process: { lingerMs: 0 } }));
        const bench = new Bench(world);
        for (const one of steps) bench.take(one);
        bench.cut();
        bench.cut();
      },
    ),
    { numRuns: 400 },
  );
});
