import assert from "node:assert/strict";
import { Errno } from "./errno.ts";
import { libc, openEvent, signalEvent } from "./libc.ts";
import { type Completer, MAX_OPERATIONS } from "./io.ts";
import { patternByte, settle, settleOne, testWorlds } from "./test_kit.ts";

const BLOCK = 4096;
const FALLOC_ZERO_RANGE_KEEP_SIZE = 0x11;

testWorlds("a file gives back what was written, cut short at its end", (io, directory) => {
  const fd = io.files.open(`${directory}/a`, { write: true, create: 0o600 });
  const { u8 } = io.arena;
  for (let i = 0; i < 10000; i++) u8[i] = patternByte(1, i);
  assert.equal(settleOne(io, (who, tag) => io.write(fd, 0, 10000, 0, who, tag)), 10000);
  assert.equal(settleOne(io, (who, tag) => io.writeDurable(fd, 0, 10000, 10000, who, tag)), 10000);
  assert.equal(settleOne(io, (who, tag) => io.syncData(fd, who, tag)), 0);
  const results = settle(
    io,
    (who, tag) => io.read(fd, 1 << 20, 20000, 0, who, tag),
    (who, tag) => io.read(fd, 2 << 20, 20000, 15000, who, tag),
    (who, tag) => io.read(fd, 3 << 20, 20000, 20000, who, tag),
    (who, tag) => io.read(fd, 3 << 20, 20000, 2 ** 40, who, tag),
  );
  assert.deepEqual(results, [20000, 5000, 0, 0]);
  const at = 1 << 20;
  assert.deepEqual(u8.slice(at, at + 10000), u8.slice(0, 10000));
  assert.deepEqual(u8.slice(at + 10000, at + 20000), u8.slice(0, 10000));
  io.close(fd);
});

testWorlds("offsets beyond 4 GiB reach the right place", (io, directory) => {
  const fd = io.files.open(`${directory}/big`, { write: true, create: 0o600 });
  const offset = 5 * 2 ** 32 + 12345;
  io.arena.u8.fill(0x5a, 0, 100);
  assert.equal(settleOne(io, (who, tag) => io.write(fd, 0, 100, offset, who, tag)), 100);
  assert.equal(io.files.fstat(fd).size, offset + 100);
  assert.equal(settleOne(io, (who, tag) => io.read(fd, 8192, 200, offset, who, tag)), 100);
  assert.equal(io.arena.u8[8192 + 99], 0x5a);
  assert.equal(settleOne(io, (who, tag) => io.read(fd, 8192, 100, 12345, who, tag)), 100);
  assert.equal(io.arena.u8[8192], 0);
  assert.equal(settleOne(io, (who, tag) => io.punchHole(fd, offset - 12345, BLOCK * 16, who, tag)), 0);
  assert.equal(io.files.fstat(fd).allocated, 0);
  io.close(fd);
});

testWorlds("holes are punched and ranges zeroed", (io, directory) => {
  const fd = io.files.open(`${directory}/a`, { write: true, create: 0o600 });
  const { u8 } = io.arena;
  u8.fill(1, 0, 8 * BLOCK);
  assert.equal(settleOne(io, (who, tag) => io.write(fd, 0, 8 * BLOCK, 0, who, tag)), 8 * BLOCK);
  const before = io.files.fstat(fd).allocated;
  const results = settle(
    io,
    (who, tag) => io.punchHole(fd, BLOCK, 2 * BLOCK, who, tag),
    (who, tag) => io.fallocate(fd, FALLOC_ZERO_RANGE_KEEP_SIZE, 5 * BLOCK, BLOCK, who, tag),
  );
  assert.deepEqual(results, [0, 0]);
  assert.equal(io.files.fstat(fd).size, 8 * BLOCK);
  assert.equal(io.files.fstat(fd).allocated, before - 2 * BLOCK);
  assert.equal(settleOne(io, (who, tag) => io.read(fd, 1 << 20, 8 * BLOCK, 0, who, tag)), 8 * BLOCK);
  const blocks = Array.from({ length: 8 }, (_, i) => u8[(1 << 20) + i * BLOCK]);
  assert.deepEqual(blocks, [1, 0, 0, 1, 1, 0, 1, 1]);
  io.close(fd);
});

testWorlds("direct I/O works on pages of the arena, up to an end inside a block", (io, directory) => {
  const path = `${directory}/direct`;
  Deno.writeFileSync(path, Uint8Array.from({ length: 3 * BLOCK + 100 }, (_, i) => patternByte(3, i)));
  const fd = io.files.open(path, { write: true, direct: true });
  const { u8 } = io.arena;
  const at = io.arena.reserve(4 * BLOCK, BLOCK);
  assert.equal(settleOne(io, (who, tag) => io.read(fd, at, 4 * BLOCK, 0, who, tag)), 3 * BLOCK + 100);
  assert.equal(u8[at + 3 * BLOCK + 99], patternByte(3, 3 * BLOCK + 99));
  u8.fill(9, at, at + BLOCK);
  assert.equal(settleOne(io, (who, tag) => io.writeDurable(fd, at, BLOCK, BLOCK, who, tag)), BLOCK);
  assert.equal(settleOne(io, (who, tag) => io.read(fd, at + 1, BLOCK, 0, who, tag)), -Errno.EINVAL);
  io.close(fd);
  assert.equal(Deno.readFileSync(path)[2 * BLOCK - 1], 9);
});

testWorlds("failures of files are told as negative error numbers", (io, directory) => {
  Deno.writeTextFileSync(`${directory}/a`, "x");
  const readOnly = io.files.open(`${directory}/a`);
  const full = io.files.open("/dev/full", { write: true });
  const results = settle(
    io,
    (who, tag) => io.read(12345, 0, 10, 0, who, tag),
    (who, tag) => io.write(readOnly, 0, 10, 0, who, tag),
    (who, tag) => io.syncData(12345, who, tag),
    (who, tag) => io.punchHole(readOnly, 0, BLOCK, who, tag),
    (who, tag) => io.write(full, 0, 10, 0, who, tag),
  );
  assert.deepEqual(results, [-Errno.EBADF, -Errno.EBADF, -Errno.EBADF, -Errno.EBADF, -Errno.ENOSPC]);
  io.close(readOnly);
  io.close(full);
});

testWorlds("a full file system is told although a part of the write fitted", async (io, directory) => {
  const mount = (...args: string[]) => new Deno.Command("mount", { args }).output();
  // A mount of its own, because only a file system with an end cuts a write short.
  const { success } = await mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", directory);
  assert(success, "these tests need the right to mount a tmpfs");
  try {
    const fd = io.files.open(`${directory}/a`, { write: true, create: 0o600 });
    const results = settle(
      io,
      (who, tag) => io.write(fd, 0, 128 * 1024, 0, who, tag),
      (who, tag) => io.writeDurable(fd, 0, 128 * 1024, 1 << 20, who, tag),
    );
    assert.deepEqual(results, [-Errno.ENOSPC, -Errno.ENOSPC]);
    assert.equal(io.files.space(directory).free, 0);
    io.close(fd);
  } finally {
    await new Deno.Command("umount", { args: [directory] }).output();
  }
});

testWorlds("an eventfd is read without an offset when it is signalled", (io) => {
  const fd = openEvent();
  let results = settle(
    io,
    (who, tag) => io.read(fd, 0, 8, -1, who, tag),
    (who, tag) => io.timer(1, { complete: (_, result) => (signalEvent(fd), who.complete(tag, result)) }, tag),
  );
  assert.deepEqual(results, [8, 0]);
  assert.equal(io.arena.view.getBigUint64(0, true), 1n);
  signalEvent(fd);
  signalEvent(fd);
  results = settle(io, (who, tag) => io.read(fd, 0, 8, -1, who, tag));
  assert.equal(io.arena.view.getBigUint64(0, true), 2n);
  libc.close(fd);
});

testWorlds("more operations in one pass than the submission queue holds all end", (io, directory) => {
  const fd = io.files.open(`${directory}/a`, { write: true, create: 0o600 });
  const count = MAX_OPERATIONS;
  for (let i = 0; i < count; i++) io.arena.view.setUint32(i * 8, i);
  const writes = Array.from(
    { length: count },
    (_, i) => (who: Completer, tag: number) => io.write(fd, i * 8, 8, i * 8, who, tag),
  );
  assert(settle(io, ...writes).every((result) => result === 8));
  const reads = Array.from(
    { length: count },
    (_, i) => (who: Completer, tag: number) => io.read(fd, (1 << 20) + i * 8, 8, i * 8, who, tag),
  );
  assert(settle(io, ...reads).every((result) => result === 8));
  for (let i = 0; i < count; i++) assert.equal(io.arena.view.getUint32((1 << 20) + i * 8), i);
  io.close(fd);
});

testWorlds("one operation more than the bound is a defect that is named", (io) => {
  const event = openEvent();
  const who = { complete() {} };
  for (let i = 0; i < MAX_OPERATIONS; i++) io.read(event, 0, 8, -1, who, i);
  assert.throws(() => io.read(event, 0, 8, -1, who, 0), /more than 8192 operations/);
  io[Symbol.dispose]();
  libc.close(event);
});

testWorlds("operations and timers do not grow the heap", (io, directory) => {
  const fd = io.files.open(`${directory}/a`, { write: true, create: 0o600 });
  let left = 0;
  const who = {
    complete(tag: number, result: number) {
      if (result < 0) throw new Error(`result ${result}`);
      if (--left <= 0) return io.stop();
      if (left % 100 === 0) io.cancel(io.timer(1000, who, 0));
      if ((tag & 1) === 0) io.write(fd, tag * BLOCK, BLOCK, tag * BLOCK, who, tag + 1);
      else io.read(fd, tag * BLOCK, BLOCK, (tag - 1) * BLOCK, who, tag - 1);
    },
  };
  const round = (operations: number) => {
    left = operations;
    for (let tag = 0; tag < 32; tag += 2) io.write(fd, tag * BLOCK, BLOCK, tag * BLOCK, who, tag);
    io.run();
    left = 0;
  };
  // One object of 32 bytes per operation would make each round 800 kB. Code that is not compiled yet allocates
  // too, so the first quiet round decides. Over poll(2) the offset of a file operation is a bigint, gone at the
  // next collection.
  const limit = io.world === "poll" ? 1_200_000 : 300_000;
  const grown: number[] = [];
  do {
    const before = Deno.memoryUsage().heapUsed;
    round(25_000);
    grown.push(Deno.memoryUsage().heapUsed - before);
  } while (Math.abs(grown.at(-1) as number) >= limit && grown.length < 40);
  assert(Math.abs(grown.at(-1) as number) < limit, `heap grew by ${grown.join(", ")} bytes`);
  io.close(fd);
});
