import assert from "node:assert/strict";
import fc from "fast-check";
import { type BlockDevice, Op } from "../../block/device.ts";
import type { MemoryDevice } from "../../block/memory_device.ts";
import { Errno } from "../../io/errno.ts";
import { READS } from "./loop_frontend.ts";
import { MAX_DATA_BYTES, Opcode } from "./protocol.ts";
import { args, FakeKernel, readRequest, request, writeRequest } from "./test_kit.ts";

const encoder = new TextEncoder();

function u32(body: Uint8Array<ArrayBuffer>, at: number): number {
  return new DataView(body.buffer).getUint32(at, true);
}

function u64(body: Uint8Array<ArrayBuffer>, at: number): bigint {
  return new DataView(body.buffer).getBigUint64(at, true);
}

function filled(length: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length).fill(value);
}

function agreed(
  depth?: number,
  wrap?: (device: MemoryDevice) => BlockDevice,
  bytes?: number,
): FakeKernel {
  const kernel = new FakeKernel(depth, wrap, bytes);
  kernel.init();
  return kernel;
}

Deno.test("what was written is read back, at its place and nowhere else", () => {
  const kernel = agreed();
  const wrote = kernel.ask(writeRequest(2n, 8192n, filled(4096, 7)));
  assert.deepEqual([wrote.error, wrote.unique, u32(wrote.body, 0)], [0, 2n, 4096]);
  const read = kernel.ask(readRequest(3n, 4096n, 12288));
  assert.deepEqual([read.error, read.unique, read.body.length], [0, 3n, 12288]);
  assert.deepEqual(read.body.subarray(0, 4096), filled(4096, 0));
  assert.deepEqual(read.body.subarray(4096, 8192), filled(4096, 7));
  assert.deepEqual(read.body.subarray(8192), filled(4096, 0));
});

Deno.test("a read ends where the volume ends, and is empty beyond", () => {
  const kernel = agreed(4, undefined, 5 * 512);
  assert.equal(kernel.ask(readRequest(2n, 0n, 4096)).body.length, 2560);
  assert.equal(kernel.ask(readRequest(3n, 4096n, 4096)).body.length, 0);
  assert.equal(kernel.ask(readRequest(4n, 2n ** 62n, 4096)).error, -Errno.EINVAL);
});

Deno.test("the largest write of the protocol arrives whole", () => {
  const kernel = agreed(2, undefined, 4 << 20);
  const reply = kernel.ask(writeRequest(2n, 0n, filled(MAX_DATA_BYTES, 3)));
  assert.deepEqual([reply.error, u32(reply.body, 0)], [0, MAX_DATA_BYTES]);
  assert.equal(kernel.device.chunks, 16);
});

Deno.test("writes beyond the end or off the sectors never reach the volume", () => {
  const kernel = agreed();
  assert.equal(kernel.ask(writeRequest(2n, BigInt(1 << 20), filled(512, 1))).error, -Errno.ENOSPC);
  assert.equal(kernel.ask(writeRequest(3n, 1n, filled(512, 1))).error, -Errno.EINVAL);
  assert.equal(kernel.ask(writeRequest(4n, 0n, filled(100, 1))).error, -Errno.EINVAL);
  assert.equal(kernel.ask(writeRequest(5n, 2n ** 63n, filled(512, 1))).error, -Errno.EINVAL);
  assert.equal(kernel.device.chunks, 0);
});

Deno.test("fsync flushes the volume, closing does not", () => {
  const kernel = agreed();
  assert.equal(kernel.ask(request(Opcode.FLUSH, 2n, 2, args(0n, 0, 0, 0n))).error, 0);
  assert.equal(kernel.ask(request(Opcode.RELEASE, 3n, 2, args(0n, 0, 0, 0n))).error, 0);
  assert.equal(kernel.device.flushes, 0);
  assert.equal(kernel.ask(request(Opcode.FSYNC, 4n, 2, args(0n, 0, 0))).error, 0);
  assert.equal(kernel.device.flushes, 1);
});

Deno.test("punching holes and zeroing ranges unmap; reserving space does not", () => {
  const kernel = agreed();
  const fallocate = (unique: bigint, mode: number, offset = 0n, length = 65536n) =>
    kernel.ask(request(Opcode.FALLOCATE, unique, 2, args(0n, offset, length, mode, 0))).error;
  for (const mode of [0x03, 0x10, 0x11]) {
    kernel.ask(writeRequest(2n, 0n, filled(65536, 1)));
    assert.equal(kernel.device.chunks, 1);
    assert.equal(fallocate(3n, mode), 0);
    assert.equal(kernel.device.chunks, 0);
  }
  for (const mode of [0, 1, 2, 0x08, 0x20, 0x43]) assert.equal(fallocate(4n, mode), -Errno.EOPNOTSUPP);
  assert.equal(fallocate(5n, 3, 0n, 0n), -Errno.EINVAL);
  assert.equal(fallocate(6n, 3, 1n, 512n), -Errno.EINVAL);
  assert.equal(fallocate(7n, 3, 1n << 20n, 512n), -Errno.EINVAL);
  assert.equal(fallocate(8n, 3, 2n ** 63n, 2n ** 63n), -Errno.EINVAL);
});

Deno.test("an error of the volume is the error of the request, and the slot is free again", () => {
  const kernel = agreed(1);
  kernel.device.failAt = { offset: 0, result: -Errno.EIO };
  for (let unique = 2n; unique < 10n; unique++) {
    assert.equal(kernel.ask(readRequest(unique, 0n, 4096)).error, -Errno.EIO);
  }
  kernel.device.failAt = { offset: 0, result: -4000 };
  assert.equal(kernel.ask(readRequest(10n, 0n, 4096)).error, -Errno.EIO, "no number that the kernel rejects");
  kernel.device.failAt = undefined;
  assert.equal(kernel.ask(readRequest(11n, 0n, 4096)).error, 0);
});

Deno.test("there is one file, as large as the volume, and its size cannot be set", () => {
  const kernel = agreed();
  const lookup = (name: string, node = 1) =>
    kernel.ask(request(Opcode.LOOKUP, 2n, node, encoder.encode(`${name}\0`)));
  const found = lookup("volume");
  assert.deepEqual([u64(found.body, 0), u64(found.body, 40 + 8), u32(found.body, 40 + 60)], [
    2n,
    1n << 20n,
    0o100600,
  ]);
  for (const name of ["volum", "volume2", "Volume", "vol\0me", ""]) {
    assert.equal(u64(lookup(name).body, 0), 0n);
  }
  assert.equal(u64(lookup("volume", 2).body, 0), 0n);
  const root = kernel.ask(request(Opcode.GETATTR, 3n, 1, args(0, 0, 0n)));
  assert.equal(u32(root.body, 16 + 60), 0o040500);
  assert.equal(kernel.ask(request(Opcode.GETATTR, 4n, 77, args(0, 0, 0n))).error, -Errno.ENOENT);
  const setSize = (valid: number, size: bigint) =>
    kernel.ask(
      request(Opcode.SETATTR, 5n, 2, args(valid, 0, 0n, size, 0n, 0n, 0n, 0n, 0, 0, 0, 0, 0, 0, 0, 0)),
    );
  assert.equal(setSize(1 << 3, 0n).error, -Errno.EPERM);
  assert.equal(setSize(1 << 3, 1n << 20n).error, 0);
  assert.equal(setSize(1 << 5, 0n).error, 0, "times may be set, to no effect");
});

Deno.test("a resize is told, and the next look at the file sees it", () => {
  const kernel = agreed();
  kernel.device.resize(2 << 20);
  assert.deepEqual(kernel.resized, [2 << 20]);
  const attributes = kernel.ask(request(Opcode.GETATTR, 2n, 2, args(0, 0, 0n)));
  assert.equal(u64(attributes.body, 16 + 8), 2n << 20n);
  assert.equal(u64(attributes.body, 0), 0n, "attributes are not to be remembered");
});

Deno.test("opening bypasses the page cache; discards have the granularity of a block", () => {
  const kernel = agreed();
  const open = kernel.ask(request(Opcode.OPEN, 2n, 2, args(2, 0)));
  assert.equal(u32(open.body, 8) & 1, 1);
  assert.equal(kernel.ask(request(Opcode.OPEN, 3n, 1, args(0, 0))).error, -Errno.EISDIR);
  assert.equal(u32(kernel.ask(request(Opcode.STATFS, 4n, 1)).body, 40), 4096);
});

Deno.test("the negotiation takes what is offered, and no writeback cache", () => {
  const kernel = new FakeKernel(64);
  const { error, body } = kernel.init();
  assert.equal(error, 0);
  assert.deepEqual([u32(body, 0), u32(body, 4), u32(body, 20), body.length], [7, 38, 1 << 20, 64]);
  assert.equal(u32(body, 12), 1 | 1 << 5 | 1 << 15 | 1 << 22);
  assert.equal(u32(body, 16) & 0xffff, 62);
  assert.equal(u32(body, 28) & 0xffff, 256);
  const old = new FakeKernel(64).init(7, 23, 1);
  assert.deepEqual([old.error, u32(old.body, 12), u32(old.body, 20), u32(old.body, 28)], [0, 1, 131072, 0]);
});

Deno.test("a kernel too old is refused, a newer major version is asked to come down", () => {
  assert.equal(new FakeKernel().init(7, 22).error, -Errno.EPROTO);
  assert.equal(new FakeKernel().init(6, 99).error, -Errno.EPROTO);
  const kernel = new FakeKernel();
  const higher = kernel.init(8, 0);
  assert.deepEqual([higher.error, u32(higher.body, 0)], [0, 7]);
  assert.equal(kernel.ask(readRequest(2n, 0n, 512)).error, -Errno.EIO, "nothing is served yet");
  assert.equal(kernel.init().error, 0);
  assert.equal(kernel.ask(readRequest(3n, 0n, 512)).error, 0);
});

Deno.test("unknown requests are answered with ENOSYS, forgetting and interrupting needs no answer", () => {
  const kernel = agreed();
  for (const opcode of [0, 5, 22, 28, 36, 46, 47, 50, 51, 4096, 0xffff_ffff]) {
    assert.equal(kernel.ask(request(opcode, 2n, 2)).error, -Errno.ENOSYS);
  }
  assert.deepEqual(kernel.send(request(Opcode.FORGET, 3n, 2, args(1n))), []);
  assert.deepEqual(kernel.send(request(Opcode.BATCH_FORGET, 4n, 0, args(0, 0))), []);
  assert.equal(kernel.reads, READS);
});

Deno.test("messages with wrong lengths are answered with EINVAL and counted", () => {
  const kernel = agreed();
  const wrong = [
    request(Opcode.READ, 2n, 2, args(0n, 0n)),
    request(Opcode.READ, 2n, 2, args(0n, 0n, 512, 0, 0n, 0, 0), 79),
    request(Opcode.GETATTR, 2n, 2, args(0, 0, 0n), 0xffff_ffff),
    request(Opcode.FALLOCATE, 2n, 2, args(0n, 0n, 512n)),
    request(Opcode.SETATTR, 2n, 2, args(0, 0, 0n)),
    request(Opcode.LOOKUP, 2n, 1, encoder.encode("volume")),
    request(Opcode.LOOKUP, 2n, 1),
    request(Opcode.INIT, 2n, 0, args(7, 38)),
    writeRequest(2n, 0n, filled(512, 1), 511),
    writeRequest(2n, 0n, filled(512, 1), 513),
    writeRequest(2n, 0n, filled(512, 1), 0xffff_ffff),
  ];
  for (const message of wrong) assert.equal(kernel.ask(message).error, -Errno.EINVAL);
  assert.equal(kernel.frontend.malformed, wrong.length);
  assert.equal(kernel.device.chunks, 0);
  assert.deepEqual(kernel.send(filled(39, 1)), [], "without a name there is nobody to answer");
  assert.deepEqual(kernel.send(new Uint8Array(0)), []);
  assert.equal(kernel.reads, READS);
});

Deno.test("reads larger than the protocol allows are refused before they reach the volume", () => {
  const kernel = agreed(2, undefined, 64 << 20);
  assert.equal(kernel.ask(readRequest(2n, 0n, MAX_DATA_BYTES + 512)).error, -Errno.EINVAL);
  assert.equal(kernel.ask(readRequest(3n, 0n, 0xffff_ffff)).error, -Errno.EINVAL);
  assert.equal(kernel.ask(readRequest(4n, 0n, 512, 1)).error, -Errno.EINVAL);
});

Deno.test("no message whatever makes the frontend throw, lose a slot or write outside the volume", () => {
  const kernel = agreed(READS);
  const known = fc.constantFrom(...Object.values(Opcode).filter((opcode) => opcode !== Opcode.INIT));
  const message = fc.tuple(
    fc.oneof(known, fc.nat()),
    fc.constantFrom(0, 1, 2, 3),
    fc.uint8Array({ maxLength: 200 }),
    fc.option(fc.nat(), { nil: undefined }),
  );
  fc.assert(fc.property(message, ([opcode, node, bytes, claimed]) => {
    const replies = kernel.send(request(opcode, 5n, node, bytes, claimed));
    assert.ok(replies.length <= 1);
    assert.equal(kernel.reads, READS);
  }));
});

Deno.test("with all slots taken nothing is read until one is free", () => {
  const held: (() => void)[] = [];
  const hold = (device: MemoryDevice): BlockDevice => ({
    name: "held",
    bytes: device.bytes,
    onResize: () => {},
    submit: (op, offset, length, at, who, tag) => {
      held.push(() => device.submit(op, offset, length, at, who, tag));
    },
  });
  const kernel = agreed(3, hold);
  for (let unique = 2n; kernel.reads > 0; unique++) kernel.post(readRequest(unique, 0n, 512));
  assert.equal(held.length, 3);
  held.pop()?.();
  kernel.settle();
  assert.equal(kernel.reads, 1);
  assert.equal(kernel.replies.at(-1)?.unique, 4n);
});

Deno.test("the end of the connection is told once, when all requests under way have ended", () => {
  const held: (() => void)[] = [];
  const hold = (device: MemoryDevice): BlockDevice => ({
    name: "held",
    bytes: device.bytes,
    onResize: () => {},
    submit: (op, offset, length, at, who, tag) => {
      if (op === Op.FLUSH) held.push(() => device.submit(op, offset, length, at, who, tag));
      else device.submit(op, offset, length, at, who, tag);
    },
  });
  const kernel = agreed(READS + 1, hold);
  let stopped = 0;
  kernel.frontend.stop(() => stopped++);
  kernel.send(request(Opcode.FSYNC, 2n, 2, args(0n, 0, 0)));
  assert.equal(kernel.ask(readRequest(3n, 0n, 512)).error, 0, "served until the kernel ends the connection");
  while (kernel.reads > 0) kernel.fail(-Errno.ENODEV);
  assert.deepEqual([kernel.ended, kernel.closed, stopped], [[], [], 0]);
  kernel.replyError = -Errno.ENODEV;
  held.pop()?.();
  kernel.settle();
  assert.deepEqual([kernel.ended, kernel.closed, stopped], [[0], [9], 1]);
  assert.equal(kernel.frontend.lost, 1);
  kernel.frontend.stop(() => stopped++);
  assert.equal(stopped, 2, "stopping what has ended is done at once");
});

Deno.test("an unexpected end carries its error; passing errors of a read end nothing", () => {
  const kernel = agreed();
  for (const passing of [Errno.ENOENT, Errno.EINTR, Errno.EAGAIN]) kernel.fail(-passing);
  assert.equal(kernel.reads, READS);
  while (kernel.reads > 0) kernel.fail(-Errno.ECONNABORTED);
  assert.deepEqual(kernel.ended, [-Errno.ECONNABORTED]);
  kernel.device.resize(2 << 20);
  assert.deepEqual(kernel.resized, [], "nobody is told after the end");
});

Deno.test("suspended, it takes no request and ends those under way; resumed, it goes on", () => {
  const kernel = agreed();
  let problem: string | undefined;
  kernel.frontend.suspend(1000, (text) => problem = text);
  assert.equal(kernel.reads > 0, true, "reads are being called off");
  kernel.settle();
  assert.deepEqual([kernel.reads, problem], [0, ""]);
  assert.deepEqual(kernel.frontend.parcel(), { state: {}, descriptors: [9] });
  kernel.frontend.resume();
  assert.equal(kernel.ask(writeRequest(2n, 0n, filled(4096, 7))).error, 0);
  kernel.frontend.suspend(1000, () => {});
  kernel.settle();
  kernel.frontend.leave();
  kernel.settle();
  assert.deepEqual([kernel.closed, kernel.ended, kernel.reads], [[9], [], 0]);
});

Deno.test("a request that was read while it came to rest is served before", () => {
  const kernel = agreed();
  let problem: string | undefined;
  kernel.frontend.suspend(1000, (text) => problem = text);
  kernel.post(writeRequest(2n, 0n, filled(4096, 7)));
  kernel.settle();
  assert.deepEqual([kernel.replies.at(-1)?.error, problem], [0, ""]);
});

Deno.test("one that another process handed over serves without a new agreement, once it is told to", () => {
  const kernel = new FakeKernel(4, undefined, undefined, true);
  assert.equal(kernel.reads, 0);
  kernel.frontend.resume();
  assert.equal(kernel.ask(writeRequest(2n, 0n, filled(4096, 7))).error, 0);
});
