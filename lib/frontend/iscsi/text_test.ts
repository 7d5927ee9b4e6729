import assert from "node:assert/strict";
import fc from "fast-check";
import { TextError } from "./errors.ts";
import { clip, formatHex, formatPairs, MAX_PAIRS, parseBinary, parseNumber, parsePairs } from "./text.ts";

const key = fc.stringMatching(/^[A-Za-z][A-Za-z0-9.\-+@_]{0,30}$/);
const value = fc.stringMatching(/^[ -~]{0,60}$/);

Deno.test("pairs survive the way through their bytes, in their order", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(key, value), { maxLength: 20, selector: ([k]) => k }), (pairs) => {
      assert.deepEqual([...parsePairs(formatPairs(pairs))], pairs);
    }),
  );
});

Deno.test("any bytes are pairs or a TextError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
    try {
      assert.ok(parsePairs(bytes).size <= MAX_PAIRS);
    } catch (error) {
      assert.ok(error instanceof TextError);
    }
  }));
});

Deno.test("a text without its last NUL and with padding is understood", () => {
  const bytes = new TextEncoder().encode("A=1\0B=2");
  assert.deepEqual([...parsePairs(bytes)], [["A", "1"], ["B", "2"]]);
  assert.deepEqual([...parsePairs(new TextEncoder().encode("A=b=c\0\0\0"))], [["A", "b=c"]]);
});

Deno.test("numbers are decimal or hexadecimal and within their range", () => {
  assert.equal(parseNumber("512", 512, 1024), 512);
  assert.equal(parseNumber("0x400", 512, 1024), 1024);
  for (const bad of ["", "-1", "511", "1025", "0x401", "1e3", "12a", " 600", "0600", "99999999999"]) {
    assert.equal(parseNumber(bad, 512, 1024), undefined, bad);
  }
});

Deno.test("binary values come in hexadecimal and base64, within their limit", () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (bytes) => {
    assert.deepEqual(parseBinary(formatHex(bytes), 64), bytes);
    assert.deepEqual(parseBinary(`0b${btoa(String.fromCharCode(...bytes))}`, 64), bytes);
    assert.equal(parseBinary(formatHex(bytes), bytes.length - 1), undefined);
  }));
  assert.deepEqual(parseBinary("0xabc", 8), new Uint8Array([0x0a, 0xbc]));
  for (const bad of ["", "0x", "abcd", "0xzz", "0b", "0b===", "0b!"]) {
    assert.equal(parseBinary(bad, 8), undefined, bad);
  }
});

Deno.test("foreign text in messages is short and has no control characters", () => {
  assert.equal(clip("a\0b\n"), "a?b?");
  assert.equal(clip("x".repeat(200)).length, 83);
});
