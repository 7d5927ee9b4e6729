import assert from "node:assert/strict";
import fc from "fast-check";
import { BlockSet, SET_BLOCK_BYTES } from "./block_set.ts";
import { Journals, type PackedJournal } from "./journals.ts";
import { HANDED_PAGES, OUTAGE_WINDOW_MS } from "./limits.ts";

const CHUNK = 128 * 1024 * 1024, BYTES = 5 * CHUNK + SET_BLOCK_BYTES;

function blocks(set: BlockSet): [number, number][] {
  const runs: [number, number][] = [];
  for (let [first, count] = set.next(0, 1e9); count > 0; [first, count] = set.next(first + count, 1e9)) {
    runs.push([first, count]);
  }
  return runs;
}

function handedOver(packed: readonly PackedJournal[]): PackedJournal[] {
  return JSON.parse(JSON.stringify(packed));
}

Deno.test("a set of blocks is the same after it was packed and unpacked, and goes on", () => {
  const range = fc.record({
    chunk: fc.integer({ min: 0, max: 5 }),
    near: fc.integer({ min: 0, max: 100_000 }),
    length: fc.oneof(fc.integer({ min: 1, max: 60_000 }), fc.constantFrom(CHUNK, 2 * CHUNK)),
    add: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 10 }), fc.array(range, { maxLength: 3 }), (before, after) => {
      const change = (set: BlockSet, ranges: typeof before) =>
        ranges.forEach(({ chunk, near, length, add }) => {
          const offset = Math.min(BYTES - 1, chunk * CHUNK + near), most = Math.min(length, BYTES - offset);
          if (add) set.addTouched(offset, most);
          else set.removeTouched(offset, most);
        });
      const set = new BlockSet(BYTES);
      change(set, before);
      const other = BlockSet.unpack(BYTES, JSON.parse(JSON.stringify(set.pack())));
      assert.deepEqual([blocks(other), other.count, other.pages], [blocks(set), set.count, set.pages]);
      change(set, after);
      change(other, after);
      assert.deepEqual([blocks(other), other.count], [blocks(set), set.count]);
    }),
    { numRuns: 20 },
  );
});

Deno.test("what was packed of another size, or is damaged, is refused", () => {
  const set = new BlockSet(BYTES);
  set.addTouched(5000, 1);
  const good = set.pack();
  const bad = [
    { ...good, pages: "" },
    { ...good, pages: "AAAA" + good.pages },
    { ...good, chunks: [...good.chunks, [0, 1] as const] },
    { ...good, chunks: [[3, 6] as const] },
    { ...good, chunks: [[0, -1] as const] },
    { ...good, chunks: [[0, 2 ** 40] as const] },
    { ...good, chunks: [] },
  ];
  for (const packed of bad) assert.throws(() => BlockSet.unpack(BYTES, packed), RangeError);
  assert.throws(() => BlockSet.unpack(2 * BYTES, good), RangeError);
});

Deno.test("journals go on in another engine: what was missed, for how long, and since which generation", () => {
  const giver = new Journals(), taker = new Journals();
  giver.open("a", 4, BYTES, 1000).addTouched(0, 4096);
  giver.note(CHUNK, 8192);
  giver.open("b", 6, BYTES, 2000);
  giver.note(2 * CHUNK, 1);
  assert.deepEqual(taker.adopt(handedOver(giver.pack(3000)), BYTES, 50), []);
  assert.deepEqual([taker.leftAt("a", 50), taker.leftAt("b", 50), taker.leftAt("c", 50)], [4, 6, 0]);
  taker.note(3 * CHUNK, 1);
  const block = CHUNK / SET_BLOCK_BYTES;
  const a = taker.take("a", 50), b = taker.take("b", 50);
  assert.ok(a && b);
  assert.deepEqual(blocks(a), [[0, 1], [block, 2], [2 * block, 1], [3 * block, 1]]);
  assert.deepEqual(blocks(b), [[2 * block, 1], [3 * block, 1]]);
  // The giver's are as they were: it may have to go on.
  assert.equal(giver.leftAt("a", 3000), 4);
  // Time goes on from when a copy left.
  taker.adopt(handedOver(giver.pack(3000)), BYTES, 50);
  assert.deepEqual(
    [taker.leftAt("a", 50 + OUTAGE_WINDOW_MS - 1999), taker.leftAt("b", 50 + OUTAGE_WINDOW_MS - 1999)],
    [0, 6],
  );
});

Deno.test("what is too much to be kept or handed over is told as lost, the copies that left first before others", () => {
  const giver = new Journals(), taker = new Journals();
  const bytes = 2000 * CHUNK,
    scattered = (set: BlockSet) => {
      for (let chunk = 0; chunk < 1500; chunk++) set.addTouched(chunk * CHUNK, 1);
    };
  for (const id of ["a", "b", "c"]) scattered(giver.open(id, 1, bytes, 0));
  assert.ok(3 * 1500 > HANDED_PAGES && 2 * 1500 < HANDED_PAGES);
  assert.deepEqual(taker.adopt(handedOver(giver.pack(0)), bytes, 0), ["a"]);
  assert.deepEqual([taker.leftAt("a", 0), taker.leftAt("b", 0), taker.leftAt("c", 0)], [0, 1, 1]);
  const small = new BlockSet(BYTES, 0);
  small.addTouched(1, 1);
  const other = new Journals();
  other.open("x", 1, BYTES, 0, small);
  assert.deepEqual(new Journals().adopt(handedOver(other.pack(0)), BYTES, 0), ["x"]);
  // One of another size of the volume is none.
  assert.deepEqual(new Journals().adopt(handedOver(taker.pack(0)), BYTES, 0), ["b", "c"]);
});
