import assert from "node:assert/strict";
import { checkPattern, fillPattern } from "./pattern.ts";

Deno.test("a pattern is found right at its own place only", () => {
  const words = new Uint32Array(4096);
  fillPattern(words, 1024, 7 * 512, 4096, 5);
  assert.equal(checkPattern(words, 1024, 7 * 512, 4096, 5), -1);
  assert.equal(checkPattern(words, 1024, 8 * 512, 4096, 5), 8 * 512, "misplaced by a sector");
  assert.equal(checkPattern(words, 1024, 7 * 512 + 2 ** 41, 4096, 5), 7 * 512 + 2 ** 41, "far away");
  assert.equal(checkPattern(words, 1024, 7 * 512, 4096, 6), 7 * 512, "of another run");
});

Deno.test("one wrong bit is found, and where", () => {
  const words = new Uint32Array(1024);
  fillPattern(words, 0, 1 << 20, 4096, 1);
  words[700] ^= 1 << 31;
  assert.equal(checkPattern(words, 0, 1 << 20, 4096, 1), (1 << 20) + 2800);
});

Deno.test("no two sectors are alike", () => {
  const words = new Uint32Array(128 * 4096);
  fillPattern(words, 0, 0, words.byteLength, 1);
  const first = new Set<number>();
  for (let i = 0; i < words.length; i += 128) first.add(words[i]);
  assert.equal(first.size, 4096);
});
