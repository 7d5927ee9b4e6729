import assert from "node:assert/strict";
import fc from "fast-check";
import { ReplicaDisk } from "../disk/replica_disk.ts";
import { Errno, IoError } from "../io/errno.ts";
import type { Completer, Io } from "../io/io.ts";
import { SimCluster, type SimProcess } from "../io/sim/mod.ts";
import {
  DIGEST_PIECE_BYTES,
  DIGEST_SUM_BYTES,
  digestBytes,
  digestPieces,
  isZero,
  MAX_DIGEST_BYTES,
  Murmur128,
} from "../wire/digest.ts";
import { Digests, type DigestSource } from "./digests.ts";

const BLOCK = 4096, BYTES = 1024 * 1024, ARENA_BYTES = 8 * BYTES;
/** Where answers go: far from the buffers of the digests. */
const ANSWERS = 3 * 1024 * 1024, ANSWER = digestBytes(MAX_DIGEST_BYTES);

/** What lib/wire/digest.ts says, over the content alone. */
function expected(content: Uint8Array): Uint8Array {
  const sums = new Uint8Array(digestBytes(content.length));
  for (let piece = 0; piece < digestPieces(content.length); piece++) {
    const bytes = content.slice(piece * DIGEST_PIECE_BYTES, (piece + 1) * DIGEST_PIECE_BYTES);
    if (isZero(bytes)) continue;
    const sum = new Murmur128();
    for (let at = 0; at < bytes.length; at += BLOCK) {
      const block = bytes.subarray(at, at + BLOCK), number = new Uint8Array(16);
      if (isZero(block)) continue;
      number[0] = at / BLOCK;
      sum.bytes(number);
      sum.bytes(block);
    }
    sum.finish(sums.subarray(piece * DIGEST_SUM_BYTES, (piece + 1) * DIGEST_SUM_BYTES));
  }
  return sums;
}

/** A directory in memory whose reads end when they are told to. */
class Source implements DigestSource {
  readonly content = new Uint8Array(MAX_DIGEST_BYTES);
  readonly reads: {
    readonly offset: number;
    readonly length: number;
    readonly end: (result?: number) => void;
  }[] = [];
  most = 0;
  refuse = false;

  constructor(readonly io: Io) {}

  read(offset: number, length: number, at: number, who: Completer, tag: number): void {
    const end = (result = length) => {
      this.io.arena.u8.set(this.content.subarray(offset, offset + length), at);
      who.complete(tag, result);
    };
    this.reads.push({ offset, length, end });
    this.most = Math.max(this.most, this.reads.length);
  }

  markData(offset: number, length: number, block: number, marks: Uint8Array): void {
    if (this.refuse) throw new IoError("FIEMAP", "a test", Errno.EIO);
    for (let i = 0; i * block < length; i++) {
      const from = offset + i * block;
      marks[i] = isZero(this.content.slice(from, from + block)) ? 0 : 1;
    }
  }
}

class Setup implements Disposable {
  readonly cluster = new SimCluster(1);
  readonly process: SimProcess;
  readonly answers = new Map<number, number>();
  readonly source: Source;
  readonly digests: Digests;

  constructor() {
    let made: [Source, Digests] | undefined;
    this.process = this.cluster.host("r").spawn("replica", (io) => {
      made = [new Source(io), new Digests(io, 512, (result, who, tag) => who.complete(tag, result))];
      made[1].use(made[0]);
    }, { arenaBytes: ARENA_BYTES });
    assert(made);
    [this.source, this.digests] = made;
  }

  start(tag: number, offset: number, length: number): void {
    const who = { complete: (t: number, result: number) => void this.answers.set(t, result) };
    this.process.enter(() => this.digests.start(offset, length, ANSWERS + tag * ANSWER, who, tag));
  }

  /** Ends the oldest read. */
  end(result?: number): void {
    this.process.enter(() => this.source.reads.shift()?.end(result));
  }

  sums(tag: number, length: number): Uint8Array {
    const at = ANSWERS + tag * ANSWER;
    return this.process.io.arena.u8.slice(at, at + digestBytes(length));
  }

  [Symbol.dispose](): void {
    this.cluster[Symbol.dispose]();
  }
}

Deno.test("a digest speaks of the content, whatever of it is stored", () => {
  using setup = new Setup();
  const { source } = setup;
  const write = fc.record({ block: fc.nat(1023), value: fc.nat(3) });
  let tag = 0;
  fc.assert(
    fc.property(fc.array(write, { maxLength: 40 }), fc.integer({ min: 1, max: 8192 }), (writes, sectors) => {
      const length = sectors * 512, mine = tag++ % 512;
      source.content.fill(0);
      for (const { block, value } of writes) source.content.fill(value, block * BLOCK, block * BLOCK + 700);
      setup.start(mine, 0, length);
      while (source.reads.length > 0) setup.end();
      assert.equal(setup.answers.get(mine), 0);
      setup.answers.delete(mine);
      assert.deepEqual(setup.sums(mine, length), expected(source.content.subarray(0, length)));
    }),
    { numRuns: 60 },
  );
});

Deno.test("however many ranges are asked for, eight pieces are read at once, and empty ones not at all", () => {
  using setup = new Setup();
  const { source } = setup;
  setup.start(0, 0, MAX_DIGEST_BYTES);
  assert.deepEqual([source.reads.length, setup.answers.get(0)], [0, 0]);
  source.content.fill(1);
  for (let tag = 1; tag <= 20; tag++) setup.start(tag, 0, MAX_DIGEST_BYTES);
  let reads = 0;
  for (; source.reads.length > 0; reads++) setup.end();
  assert.deepEqual([source.most, reads, setup.answers.size], [8, 20 * 64, 21]);
});

Deno.test("nothing new is read while the directory is to be quiet", () => {
  using setup = new Setup();
  const { source, digests } = setup;
  source.content.fill(1);
  setup.start(0, 0, MAX_DIGEST_BYTES);
  setup.process.enter(() => digests.paused = true);
  setup.start(1, 0, MAX_DIGEST_BYTES);
  for (let i = 0; i < 8; i++) setup.end();
  assert.deepEqual([source.reads.length, setup.answers.size], [0, 0]);
  setup.process.enter(() => digests.paused = false);
  assert.equal(source.reads.length, 8);
  while (source.reads.length > 0) setup.end();
  assert.deepEqual([...setup.answers], [[0, 0], [1, 0]]);
  assert.deepEqual(setup.sums(1, MAX_DIGEST_BYTES), expected(source.content));
});

Deno.test("a range that cannot be read, or not be looked up, is an error; the next one is answered", () => {
  using setup = new Setup();
  const { source } = setup;
  source.content.fill(1);
  setup.start(0, 0, MAX_DIGEST_BYTES);
  setup.start(1, 0, BYTES);
  setup.end(-Errno.EIO);
  while (source.reads.length > 0) setup.end();
  source.refuse = true;
  setup.start(2, 0, BYTES);
  assert.deepEqual([...setup.answers], [[0, -Errno.EIO], [1, 0], [2, -Errno.EIO]]);
});

Deno.test("requests of a directory that is closed fail when their reads have ended", () => {
  using setup = new Setup();
  const { source, digests } = setup;
  source.content.fill(1);
  setup.start(0, 0, MAX_DIGEST_BYTES);
  setup.start(1, 0, BYTES);
  setup.process.enter(() => digests.use(undefined));
  assert.deepEqual([...setup.answers], [[1, -Errno.ENODEV]]);
  while (source.reads.length > 0) setup.end();
  assert.deepEqual([...setup.answers], [[1, -Errno.ENODEV], [0, -Errno.ENODEV]]);
});

for (const ioMode of ["direct", "cached"] as const) {
  Deno.test(`the data of all files of a chain is marked, and not much more (${ioMode})`, () => {
    using cluster = new SimCluster(3);
    let found: number[] | undefined;
    cluster.host("r").spawn("replica", (io) => {
      ReplicaDisk.create(io, "/replica", { size: BYTES });
      const disk = ReplicaDisk.open(io, "/replica", { ioMode }), at = io.arena.reserve(BLOCK, BLOCK);
      io.arena.u8.fill(9, at, at + BLOCK);
      const write = (block: number, then: () => void) =>
        disk.write(block * BLOCK, BLOCK, at, false, { complete: () => then() }, 0);
      write(3, () => {
        disk.changes.snapshot("s", { userCreated: true, created: "2026-01-01T00:00:00Z" });
        write(100, () => {
          const marks = new Uint8Array(BYTES / BLOCK).fill(5);
          disk.markData(0, BYTES, BLOCK, marks);
          assert.ok(marks.every((mark) => mark <= 1));
          found = [...marks.keys()].filter((block) => marks[block] === 1);
        });
      });
    }, { arenaBytes: ARENA_BYTES });
    assert(cluster.runUntil(() => found !== undefined, 10_000));
    assert.deepEqual(found, [3, 100]);
  });
}
