/** Reads, writes and unmaps against a model, over chains made by hand, on a real file system. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import type { Io } from "../io/io.ts";
import { openIo } from "../io/open.ts";
import { settle, type Start } from "../io/test_kit.ts";
import { quickPlace } from "../../tests/support/loop_image.ts";
import { tempDir } from "../../tests/support/temp.ts";
import { DiskMemory } from "./memory.ts";
import type { OpenReplicaOptions } from "./open_options.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import { Awaited, BLOCK, block, type HandmadeDisk, longhornView, make, put } from "./test_kit.ts";

const VOLUME = 5 * 1024 * 1024 + 16 * BLOCK;
/** Not a multiple of a block: direct I/O has to give way. */
const ODD_VOLUME = 3 * 1024 * 1024 + 512;
const LONGEST = 300 * 1024;
const ARENA = 64 * 1024 * 1024;
/** Bytes of the file system: the volume in all its files, several times over. */
const PLACE = 256 * 1024 * 1024;

interface Step {
  readonly kind: "write" | "durable" | "unmap" | "read" | "flush";
  readonly offset: number;
  readonly length: number;
  readonly shift: number;
  readonly fill: number;
}

/** Offsets and lengths that like blocks, chunks and odd places. */
function steps(volume: number): fc.Arbitrary<Step[][]> {
  const place = fc.oneof(
    fc.nat(volume / 512 - 1).map((n) => n * 512),
    fc.nat(Math.floor(volume / BLOCK) - 1).map((n) => n * BLOCK),
    fc.nat(volume - 1),
    fc.constantFrom(0, 2 * 1024 * 1024 - BLOCK, 2 * 1024 * 1024 - 100, volume - 512),
  );
  const length = fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 1, max: 8 }).map((n) => n * BLOCK) },
    { weight: 2, arbitrary: fc.integer({ min: 1, max: 40 }).map((n) => n * 512) },
    { weight: 2, arbitrary: fc.integer({ min: 1, max: 10000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: LONGEST }) },
  );
  const step = fc.record({
    kind: fc.constantFrom<Step["kind"]>(
      "write",
      "write",
      "write",
      "durable",
      "unmap",
      "unmap",
      "read",
      "flush",
    ),
    offset: place,
    length,
    shift: fc.constantFrom(0, 0, 0, 1, 512, 4095),
    fill: fc.integer({ min: 1, max: 255 }),
  }).map((s) => ({ ...s, length: Math.min(s.length, volume - s.offset) }));
  return fc.array(fc.array(step, { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 25 });
}

/** Content that differs from byte to byte. */
function content(step: Step): Uint8Array {
  const bytes = new Uint8Array(step.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = step.fill + i * 7 + (i >> 8);
  return bytes;
}

/** Runs steps against a disk and a model. Steps of a group run at once, as far as their bytes do not overlap. */
class Run {
  readonly #buffers: number;
  readonly awaited: Awaited;

  constructor(readonly io: Io, readonly disk: ReplicaDisk, readonly model: Uint8Array, buffers: number) {
    this.#buffers = buffers;
    this.awaited = new Awaited(io, disk, buffers);
  }

  group(group: readonly Step[]): void {
    const chosen: Step[] = [];
    for (const step of group) {
      const clash = chosen.some((o) =>
        step.offset < o.offset + o.length && o.offset < step.offset + step.length
      );
      if (!clash || step.kind === "flush") chosen.push(step);
    }
    const starts = chosen.map((step, i) => this.#start(step, this.#buffers + i * 512 * 1024 + step.shift));
    const results = settle(this.io, ...starts);
    chosen.forEach((step, i) => this.#check(step, results[i], this.#buffers + i * 512 * 1024 + step.shift));
  }

  #start(step: Step, at: number): Start {
    const { io, disk } = this, { offset, length } = step;
    if (step.kind === "flush") return (who, tag) => disk.flush(who, tag);
    if (step.kind === "unmap") return (who, tag) => disk.unmap(offset, length, who, tag);
    if (step.kind === "read") return (who, tag) => disk.read(offset, length, at, who, tag);
    io.arena.u8.set(content(step), at);
    return (who, tag) => disk.write(offset, length, at, step.kind === "durable", who, tag);
  }

  #check(step: Step, result: number, at: number): void {
    const { offset, length } = step;
    if (step.kind === "unmap") {
      assert(result >= 0, `unmap: ${result}`);
      const from = Math.ceil(offset / BLOCK) * BLOCK, to = Math.floor((offset + length) / BLOCK) * BLOCK;
      if (to > from) this.model.fill(0, from, to);
    } else if (step.kind === "flush") {
      assert.equal(result, 0);
    } else {
      assert.equal(result, length, step.kind);
      if (step.kind !== "read") this.model.set(content(step), offset);
      else {same(
          this.io.arena.u8.subarray(at, at + length),
          this.model.subarray(offset, offset + length),
          offset,
        );}
    }
  }

  /** The whole volume reads as the model. */
  compare(): void {
    const piece = 1024 * 1024;
    for (let offset = 0; offset < this.model.length; offset += piece) {
      const length = Math.min(piece, this.model.length - offset);
      const found = this.awaited.read(offset, length);
      assert(typeof found !== "number", `read at ${offset}: ${found}`);
      same(found, this.model.subarray(offset, offset + length), offset);
    }
  }
}

function same(found: Uint8Array, expected: Uint8Array, offset: number): void {
  if (Buffer.compare(found, expected) === 0) return;
  for (let i = 0; i < expected.length; i++) {
    if (found[i] !== expected[i]) {
      assert.fail(
        `byte ${offset + i} (block ${Math.floor((offset + i) / BLOCK)}) is ${found[i]}, not ${expected[i]}`,
      );
    }
  }
}

function scattered(fill: number, every: number, blocks: number): Map<number, Uint8Array> {
  const result = new Map<number, Uint8Array>();
  for (let n = fill; n < blocks; n += every) result.set(n, block(fill));
  return result;
}

interface Case {
  readonly name: string;
  readonly volume: number;
  readonly disks: (blocks: number) => HandmadeDisk[];
  /** Bytes of a backing file. */
  readonly backing?: number;
  readonly options?: OpenReplicaOptions;
}

const CASES: readonly Case[] = [
  { name: "a single head", volume: VOLUME, disks: () => [{ name: "volume-head-000.img" }] },
  {
    name: "a single head of an odd size",
    volume: ODD_VOLUME,
    disks: () => [{ name: "volume-head-000.img" }],
  },
  {
    name: "a head over a backing file",
    volume: VOLUME,
    disks: () => [{ name: "volume-head-000.img" }],
    backing: 3 * 1024 * 1024 + 512,
  },
  {
    name: "two snapshots, the older one shorter than the volume, and data in the head",
    volume: VOLUME,
    disks: (blocks) => [
      { name: "volume-snap-a.img", blocks: scattered(1, 3, 500), size: 4 * 1024 * 1024 - 512 },
      { name: "volume-snap-b.img", parent: "volume-snap-a.img", blocks: scattered(2, 7, blocks) },
      { name: "volume-head-007.img", parent: "volume-snap-b.img", blocks: scattered(3, 50, blocks) },
    ],
  },
  {
    name: "a kept snapshot below two removed ones, over a backing file",
    volume: VOLUME,
    disks: (blocks) => [
      { name: "volume-snap-a.img", blocks: scattered(1, 5, blocks) },
      {
        name: "volume-snap-b.img",
        parent: "volume-snap-a.img",
        removed: true,
        blocks: scattered(2, 3, blocks),
      },
      {
        name: "volume-snap-c.img",
        parent: "volume-snap-b.img",
        removed: true,
        blocks: scattered(3, 4, blocks),
      },
      { name: "volume-head-012.img", parent: "volume-snap-c.img", blocks: scattered(4, 11, blocks) },
    ],
    backing: 1024 * 1024,
  },
  {
    name: "an odd volume with a snapshot",
    volume: ODD_VOLUME,
    disks: (blocks) => [
      { name: "volume-snap-a.img", blocks: scattered(1, 2, blocks - 1) },
      { name: "volume-head-001.img", parent: "volume-snap-a.img" },
    ],
  },
  {
    name: "snapshots that an unmap marks as removed",
    volume: VOLUME,
    disks: (blocks) => [
      { name: "volume-snap-a.img", blocks: scattered(1, 2, blocks) },
      { name: "volume-snap-b.img", parent: "volume-snap-a.img", blocks: scattered(2, 3, blocks) },
      { name: "volume-head-001.img", parent: "volume-snap-b.img" },
    ],
    options: { unmapMarkChainRemoved: true },
  },
];

function check(
  io: Io,
  memory: DiskMemory,
  buffers: number,
  test: Case,
  options: OpenReplicaOptions,
  runs: number,
  place: string | undefined,
) {
  fc.assert(
    fc.property(steps(test.volume), (groups) => {
      using directory = tempDir("t-", place);
      const path = directory.join("r"), blocks = Math.ceil(test.volume / BLOCK);
      const backingFile = test.backing ? directory.join("base") : "";
      const disks = test.disks(blocks);
      if (test.backing) put(io.files, backingFile, new Uint8Array(test.backing).fill(0xbb));
      make(io.files, path, { size: test.volume, disks, backingFile });
      const model = new Uint8Array(test.volume);
      if (test.backing) model.fill(0xbb, 0, test.backing);
      for (const disk of disks) disk.blocks?.forEach((bytes, n) => model.set(bytes, n * BLOCK));

      const all = { ...test.options, ...options, memory };
      let disk = ReplicaDisk.open(io, path, all);
      try {
        const half = Math.ceil(groups.length / 2);
        const first = new Run(io, disk, model, buffers);
        groups.slice(0, half).forEach((group) => first.group(group));
        first.compare();
        disk.close();
        same(longhornView(io.files, path), model, 0);
        disk = ReplicaDisk.open(io, path, all);
        const second = new Run(io, disk, model, buffers);
        second.compare();
        groups.slice(half).forEach((group) => second.group(group));
        second.compare();
      } finally {
        if (disk.underWay === 0) disk.close();
      }
      same(longhornView(io.files, path), model, 0);
    }),
    { numRuns: runs },
  );
}

for (const world of ["uring", "poll"] as const) {
  for (const ioMode of ["direct", "cached"] as const) {
    Deno.test(`${world}, ${ioMode}: a volume reads as what was written and unmapped, also by Longhorn's rules`, async (t) => {
      await using place = await quickPlace(PLACE);
      using io = openIo({ arenaBytes: ARENA, world });
      const memory = new DiskMemory(io), buffers = io.arena.reserve(8 * 512 * 1024, BLOCK);
      for (const test of CASES) {
        await t.step(test.name, () => {
          check(
            io,
            memory,
            buffers,
            test,
            { ioMode, revisionCounter: ioMode === "cached" },
            world === "uring" ? 2 : 1,
            place.path,
          );
        });
      }
    });
  }
}
