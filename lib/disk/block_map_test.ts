import assert from "node:assert/strict";
import fc from "fast-check";
import { BlockMap, CHUNK_BLOCKS, UNKNOWN } from "./block_map.ts";

const TIB_BLOCKS = 2 ** 40 / 4096;

Deno.test("a map of loads and writes answers like a plain list of blocks", () => {
  const blocks = 5 * CHUNK_BLOCKS + 100;
  const write = fc.record({
    block: fc.nat(blocks - 1),
    count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 3 * CHUNK_BLOCKS })),
    id: fc.integer({ min: 1, max: 255 }),
  });
  fc.assert(fc.property(
    fc.constantFrom(UNKNOWN, 1),
    fc.array(fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 4 }), {
      minLength: 6,
      maxLength: 6,
    }),
    fc.array(write, { maxLength: 40 }),
    (fill, contents, writes) => {
      const map = new BlockMap(blocks, fill), model = new Uint8Array(6 * CHUNK_BLOCKS).fill(fill);
      if (fill === UNKNOWN) {
        contents.forEach((pattern, chunk) => {
          const ids = Uint8Array.from({ length: CHUNK_BLOCKS }, (_, i) => pattern[i % pattern.length]);
          assert(!map.isKnown(chunk));
          map.load(chunk, ids);
          assert(map.isKnown(chunk));
          model.set(ids, chunk * CHUNK_BLOCKS);
        });
      }
      for (const { block, count, id } of writes) {
        const n = Math.min(count, blocks - block);
        map.set(block, n, id);
        model.fill(id, block, block + n);
      }
      for (let block = 0; block < blocks;) {
        const run = map.run(block, blocks - block), id = map.get(block);
        assert(run > 0);
        for (let i = 0; i < run; i++) assert.equal(id, model[block + i], `block ${block + i}`);
        if (block + run < blocks) assert.notEqual(model[block + run], id);
        assert.equal(map.run(block, Math.min(3, blocks - block)), Math.min(run, 3));
        block += run;
      }
    },
  ));
});

Deno.test("a volume of 1 TiB costs next to nothing while nobody looks at it", () => {
  for (const fill of [UNKNOWN, 1]) {
    const map = new BlockMap(TIB_BLOCKS, fill);
    assert(map.memoryBytes < 10_000, `${map.memoryBytes} bytes`);
    assert.equal(map.get(TIB_BLOCKS - 1), fill);
  }
});

Deno.test("chunks that are in one file throughout cost no page, and a page that became uniform is given back", () => {
  const map = new BlockMap(TIB_BLOCKS, 1);
  for (let chunk = 0; chunk < 64 * 1024; chunk++) map.set(chunk * CHUNK_BLOCKS, CHUNK_BLOCKS, 2);
  const uniform = map.memoryBytes;
  assert(uniform < 1024 * 1024, `${uniform} bytes`);
  for (let block = 0; block < CHUNK_BLOCKS; block++) map.set(block, 1, 3);
  const slab = map.memoryBytes;
  for (let chunk = 1; chunk < 2000; chunk++) {
    for (let part = 0; part < 4; part++) map.set(chunk * CHUNK_BLOCKS + part * 128, 128, 3);
  }
  assert.equal(map.memoryBytes, slab, "a sequential writer uses one page over and over");
  assert.equal(map.run(0, TIB_BLOCKS), 2000 * CHUNK_BLOCKS);
});

Deno.test("random writes cost at most one byte for each 4 KiB block of what they touch, and 3 MB", () => {
  const map = new BlockMap(TIB_BLOCKS, 1), chunks = 20_000;
  for (let i = 0; i < chunks; i++) map.set(i * 26 * CHUNK_BLOCKS + 7, 1, 2);
  assert(map.memoryBytes <= chunks * CHUNK_BLOCKS + 3e6, `${map.memoryBytes} bytes`);
});

Deno.test("a chunk that was forgotten is loaded again, and a volume can grow", () => {
  const map = new BlockMap(CHUNK_BLOCKS, UNKNOWN);
  map.load(0, new Uint8Array(CHUNK_BLOCKS).fill(2, 1).fill(1, 0, 1));
  map.forget(0);
  assert(!map.isKnown(0));
  assert.throws(() => map.set(0, 1, 1), /was not loaded/);
  map.load(0, new Uint8Array(CHUNK_BLOCKS).fill(5));
  map.grow(TIB_BLOCKS);
  assert.equal(map.get(3), 5);
  assert.equal(map.get(TIB_BLOCKS - 1), UNKNOWN);
});
