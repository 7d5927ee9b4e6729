import assert from "node:assert/strict";
import { HUGE_PAGE_BYTES } from "./arena.ts";
import { giveAligned, isAligned, takeAligned } from "./direct_write.ts";
import { mapHuge } from "./libc.ts";

const MIB = 1024 * 1024;

Deno.test("large buffers share huge pages, and nobody has another one's bytes", () => {
  const buffers = [takeAligned(MIB), takeAligned(MIB), takeAligned(MIB)];
  for (const [index, buffer] of buffers.entries()) {
    assert.equal(buffer.length, MIB);
    assert.ok(isAligned(buffer, 0));
    buffer.fill(index + 1);
  }
  for (const [index, buffer] of buffers.entries()) assert.ok(buffer.every((byte) => byte === index + 1));
  assert.equal(new Set(buffers.map(({ buffer }) => buffer)).size, 2);
  buffers.forEach(giveAligned);
});

Deno.test("what somebody holds stays when its neighbour in a huge page is given back", () => {
  const [one, other] = [takeAligned(MIB / 2), takeAligned(MIB / 2)];
  assert.equal(one.buffer, other.buffer);
  one.fill(1);
  other.fill(2);
  giveAligned(one);
  assert.ok(other.every((byte) => byte === 2));
  giveAligned(other);
  // Both are free: their memory went back to the system, and comes again as zeros.
  const again = takeAligned(MIB / 2);
  assert.ok(again.every((byte) => byte === 0));
  giveAligned(again);
});

Deno.test("small buffers have pages of their own and are used again", () => {
  const first = takeAligned(8192);
  assert.ok(isAligned(first, 4096));
  giveAligned(first);
  assert.equal(takeAligned(8192), first);
  giveAligned(first);
});

Deno.test("a buffer that was not taken is refused", () => {
  assert.throws(() => giveAligned(new Uint8Array(4096)), TypeError);
});

Deno.test("memory in huge pages begins on one of them, all of it usable", () => {
  const { address, buffer } = mapHuge(2 * HUGE_PAGE_BYTES);
  assert.equal(address % HUGE_PAGE_BYTES, 0);
  const bytes = new Uint8Array(buffer);
  assert.equal(bytes.length, 2 * HUGE_PAGE_BYTES);
  bytes[0] = bytes[bytes.length - 1] = 7;
  assert.equal(bytes[bytes.length - 1], 7);
});
