import assert from "node:assert/strict";
import fc from "fast-check";
import { BlockIndex } from "./block_index.ts";
import { BackupInputError } from "./errors.ts";
import { blockPath, checksumOf } from "./names.ts";
import { MemoryStore } from "./target/memory.ts";
import { blocksOf, mergeBlocks } from "./upload.ts";

const FOLDER = "x/blocks/";
const sum = (n: number): string => checksumOf(new Uint8Array([n & 0xff, n >> 8]));

function store(count: number): MemoryStore {
  const memory = new MemoryStore();
  for (let i = 0; i < count; i++) memory.put(blockPath(FOLDER, sum(i)), "data");
  memory.put(blockPath(FOLDER, sum(1)), "");
  return memory;
}

Deno.test("for a few questions each is asked, for many the parts that exist are listed once", async () => {
  for (const questions of [10, 1000]) {
    const target = store(20).open();
    const index = new BlockIndex(target, FOLDER, { questions, trustListings: true });
    const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => index.has(sum(i))));
    assert.deepEqual(
      answers,
      Array.from({ length: 40 }, (_, i) => i < 20 && i !== 1),
      "an empty object is none",
    );
    const parts = new Set(Array.from({ length: 20 }, (_, i) => sum(i).slice(0, 2)));
    if (questions === 10) assert.deepEqual([...target.calls], [["head", 40]]);
    else {
      assert.equal(target.calls.get("children"), 1);
      assert.equal(target.calls.get("head"), undefined);
      assert.ok((target.calls.get("list") ?? 0) <= parts.size);
    }
    index.add(sum(39));
    assert.equal(await index.has(sum(39)), true);
  }
});

Deno.test("after removals listings are not trusted", async () => {
  const target = store(3).open();
  const index = new BlockIndex(target, FOLDER, { questions: 1000, trustListings: false });
  assert.equal(await index.has(sum(0)), true);
  assert.deepEqual([...target.calls], [["head", 1]]);
});

Deno.test("ranges become the blocks that they touch, each once", () => {
  const range = fc.record({ offset: fc.nat({ max: 1000 }), length: fc.nat({ max: 200 }) });
  fc.assert(fc.property(fc.array(range), fc.integer({ min: 1, max: 64 }), (ranges, blockBytes) => {
    ranges.sort((a, b) => a.offset - b.offset);
    const bytes = 1000;
    const expected = new Set<number>();
    for (const { offset, length } of ranges) {
      for (let at = offset; at < Math.min(offset + length, bytes); at++) {
        expected.add(Math.floor(at / blockBytes) * blockBytes);
      }
    }
    assert.deepEqual(blocksOf(ranges, blockBytes, bytes), [...expected].sort((a, b) => a - b));
  }));
  assert.throws(() => blocksOf([{ offset: 5, length: 1 }, { offset: 4, length: 1 }], 1, 9), BackupInputError);
});

Deno.test("newer blocks win over older ones at the same offset", () => {
  const list = fc.uniqueArray(
    fc.record({ offset: fc.nat({ max: 40 }), checksum: fc.string({ maxLength: 4 }) }),
    {
      selector: ({ offset }) => offset,
    },
  ).map((blocks) => blocks.sort((a, b) => a.offset - b.offset));
  fc.assert(fc.property(list, list, (older, newer) => {
    const expected = new Map([...older, ...newer].map((block) => [block.offset, block]));
    assert.deepEqual(mergeBlocks(older, newer), [...expected.values()].sort((a, b) => a.offset - b.offset));
  }));
});
