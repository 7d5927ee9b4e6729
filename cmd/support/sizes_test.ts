import assert from "node:assert/strict";
import { formatSize, parseRate, parseSize, SizeError } from "./sizes.ts";

Deno.test("sizes are powers of 1024 however they are written", () => {
  for (const text of ["10g", "10G", "10GiB", "10gb", "10 GB", "10240m", "10737418240"]) {
    assert.equal(parseSize(text), 10 * 1024 ** 3, text);
  }
  assert.equal(parseSize("42kb"), 43008);
  assert.equal(parseSize("1.5k"), 1536);
});

Deno.test("what is not a size is refused by name", () => {
  for (const text of ["", "ten", "10x", "-1", "1e3", "99999999999999999999"]) {
    assert.throws(
      () => parseSize(text),
      (error) => error instanceof SizeError && error.message.includes(text),
    );
  }
});

Deno.test("a rate is a size per second, or none", () => {
  for (const text of ["50MiB", "50m/s", " 50 MiB/s "]) assert.equal(parseRate(text), 50 * 1024 ** 2, text);
  for (const text of ["none", "0", "None"]) assert.equal(parseRate(text), 0, text);
  for (const text of ["", "/s", "fast", "-1"]) {
    assert.throws(
      () => parseRate(text),
      (error) => error instanceof SizeError && /no rate/.test(error.message),
    );
  }
});

Deno.test("sizes print short", () => {
  assert.equal(formatSize(0), "0 B");
  assert.equal(formatSize(1536), "1.5 KiB");
  assert.equal(formatSize(10 * 1024 ** 3), "10 GiB");
});
