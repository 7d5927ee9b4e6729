import assert from "node:assert/strict";
import { Op } from "../../block/device.ts";
import { Errno } from "../../io/errno.ts";
import { bytes, type Client, Kit } from "./test_kit.ts";
import { Form } from "./reply.ts";

const READ = 0, WRITE = 1, DISC = 2, FLUSH = 3, TRIM = 4, CACHE = 5, ZEROES = 6, STATUS = 7;
const FUA = 1, NO_HOLE = 2, DF = 4, REQ_ONE = 8, FAST = 16;
const EIO = 5, EINVAL = 22, ENOSPC = 28, EOVERFLOW = 75, ENOTSUP = 95;
const KIB = 1024, MIB = KIB * KIB;
const FORMS = Object.entries(Form);

function pattern(length: number, seed = 1): Uint8Array {
  const data = new Uint8Array(length);
  for (let i = 0; i < length; i++) data[i] = (i * 7 + (i >> 9) * 13 + seed) & 255;
  return data;
}

/** Sends a request and returns the error of its reply. */
function errorOf(made: Client, ...request: Parameters<Client["request"]>): number {
  made.request(...request);
  return made.reply().error;
}

for (const [name, form] of FORMS) {
  Deno.test(`${name}: what is written is read, in all sizes, at all 512-byte offsets`, () => {
    using kit = new Kit();
    const made = kit.connect().open(form);
    const model = new Uint8Array(16 * MIB);
    let seed = 1;
    for (
      const [offset, length] of [
        [0, 512],
        [512, 4096],
        [4096, 4096],
        [1536, 65_536],
        [65_536, 262_144],
        [100 * 512, MIB],
        [MIB, 4 * MIB],
        [5 * MIB + 512, 3 * MIB - 512],
      ] as const
    ) {
      const data = pattern(length, seed++);
      model.set(data, offset);
      made.write(offset, data);
      assert.deepEqual(made.read(offset, length), data);
    }
    for (let at = 0; at < model.length; at += MIB) {
      assert.deepEqual(made.read(at, MIB), model.subarray(at, at + MIB), `at ${at}`);
    }
    made.request(DISC);
    made.waitForEnd();
    kit.assertClean();
  });

  Deno.test(`${name}: requests that cannot be served are refused, payloads skipped, and the next one works`, () => {
    using kit = new Kit();
    const size = 64 * MIB, made = kit.connect().open(form);
    const payload = (length: number) => ({ payload: pattern(length) });
    assert.equal(errorOf(made, READ, 1, 512), EINVAL);
    assert.equal(errorOf(made, READ, 512, 511), EINVAL);
    assert.equal(errorOf(made, READ, size, 512), EINVAL);
    assert.equal(errorOf(made, READ, size - 512, 1024), EINVAL);
    assert.equal(errorOf(made, READ, (1n << 64n) - 512n, 512), EINVAL);
    assert.equal(errorOf(made, READ, 1n << 63n, 512), EINVAL);
    assert.equal(errorOf(made, WRITE, 3, 700, payload(700)), EINVAL);
    assert.equal(errorOf(made, WRITE, size, 512, payload(512)), ENOSPC);
    assert.equal(errorOf(made, WRITE, size - 4096, 300 * KIB, payload(300 * KIB)), ENOSPC);
    assert.equal(errorOf(made, ZEROES, size, 512), ENOSPC);
    assert.equal(errorOf(made, ZEROES, 0, 511), EINVAL);
    assert.equal(errorOf(made, TRIM, size, 512), EINVAL);
    assert.equal(errorOf(made, CACHE, size, 512), EINVAL);
    assert.equal(errorOf(made, FLUSH, 512, 0), EINVAL);
    assert.equal(errorOf(made, FLUSH, 0, 512), EINVAL);
    for (const command of [8, 9, 255, 65535]) assert.equal(errorOf(made, command), EINVAL);
    assert.equal(errorOf(made, READ, 0, 512, { flags: NO_HOLE }), EINVAL);
    assert.equal(errorOf(made, WRITE, 0, 512, { ...payload(512), flags: DF }), EINVAL);
    assert.equal(errorOf(made, TRIM, 0, 512, { flags: FAST }), EINVAL);
    assert.equal(errorOf(made, ZEROES, 0, 512, { flags: REQ_ONE }), EINVAL);
    assert.equal(errorOf(made, FLUSH, 0, 0, { flags: 0x8000 }), EINVAL);
    assert.equal(errorOf(made, STATUS, 0, 512), EINVAL);
    assert.deepEqual(kit.device.seen, [], "nothing of this reached the volume");
    made.write(0, pattern(512));
    assert.deepEqual(made.read(0, 512), pattern(512));
    made.close();
    kit.assertClean();
  });

  Deno.test(`${name}: empty requests succeed, FUA is taken everywhere, CACHE is no work`, () => {
    using kit = new Kit();
    const made = kit.connect().open(form);
    assert.equal(errorOf(made, READ, 0, 0), 0);
    assert.equal(errorOf(made, WRITE, 512, 0, { payload: new Uint8Array(0) }), 0);
    assert.equal(errorOf(made, TRIM, 512, 0, { flags: FUA }), 0);
    assert.equal(errorOf(made, ZEROES, 512, 0, { flags: FUA }), 0);
    assert.equal(errorOf(made, CACHE, 0, 64 * MIB, { flags: FUA }), 0);
    assert.deepEqual(kit.device.seen, []);
    assert.equal(errorOf(made, FLUSH, 0, 0, { flags: FUA }), 0);
    assert.equal(errorOf(made, WRITE, 0, 512, { payload: pattern(512), flags: FUA }), 0);
    assert.deepEqual(kit.device.seen, [[Op.FLUSH, 0, 0], [Op.WRITE_DURABLE, 0, 512]]);
    made.close();
    kit.assertClean();
  });
}

Deno.test("a failed operation is answered with its error, and the connection lives on", () => {
  const errors = [
    [Errno.EIO, EIO],
    [Errno.ENOSPC, ENOSPC],
    [Errno.EDQUOT, ENOSPC],
    [Errno.EFBIG, ENOSPC],
    [Errno.EROFS, 1],
    [Errno.ENOMEM, 12],
    [Errno.ESHUTDOWN, 108],
    [Errno.ETIMEDOUT, EIO],
    [Errno.EINVAL, EINVAL],
  ] as const;
  for (const [, form] of FORMS) {
    using kit = new Kit();
    const made = kit.connect().open(form);
    made.write(0, pattern(8192));
    for (const [errno, error] of errors) {
      kit.memory.failAt = { offset: 4096, result: -errno };
      assert.equal(errorOf(made, READ, 0, 8192), error);
      assert.equal(errorOf(made, WRITE, 4096, 512, { payload: pattern(512) }), error);
      assert.equal(errorOf(made, ZEROES, 0, 8192), error);
      assert.equal(errorOf(made, TRIM, 0, 8192), error);
      kit.memory.failAt = undefined;
      assert.deepEqual(made.read(0, 8192), pattern(8192));
    }
    made.close();
    kit.assertClean();
  }
});

Deno.test("refusals carry a text where the form has room for one", () => {
  using kit = new Kit();
  const made = kit.connect().open(Form.STRUCTURED);
  made.request(READ, 1, 512, { cookie: 99 });
  const reply = made.reply();
  assert.deepEqual([reply.cookie, reply.flags, reply.type], [99, 1, 0x8001]);
  const length = new DataView(reply.payload.buffer).getUint16(4);
  assert.equal(reply.payload.length, 6 + length);
  assert.match(new TextDecoder().decode(reply.payload.subarray(6)), /multiples of 512/);
  made.close();
});

Deno.test("replies go to their requests, in whatever order the volume completes them", () => {
  using kit = new Kit();
  const made = kit.connect().open();
  for (let i = 0; i < 20; i++) made.write(i * 512, pattern(512, i));
  kit.device.hold = true;
  for (let i = 0; i < 20; i++) made.request(READ, i * 512, 512, { cookie: 2 ** 40 + i });
  kit.until(() => kit.device.held.length === 20);
  kit.device.held.reverse();
  kit.device.release();
  for (let i = 19; i >= 0; i--) {
    const reply = made.reply();
    assert.deepEqual([reply.cookie, reply.type, reply.flags], [2 ** 40 + i, 1, 1]);
    assert.deepEqual(reply.payload.subarray(8), pattern(512, i));
  }
  made.close();
  kit.assertClean();
});

Deno.test("long requests are done in parts, up to 32 MiB", () => {
  for (const form of [Form.STRUCTURED, Form.EXTENDED]) {
    using kit = new Kit({ largest: 128 * KIB, poolBytes: 512 * KIB });
    const made = kit.connect().open(form);
    const data = pattern(5 * MIB + 1536);
    made.write(512, data);
    assert.ok(kit.device.seen.every(([op, , length]) => op === Op.WRITE && length <= 128 * KIB));
    assert.equal(kit.device.seen.length, 41);
    assert.deepEqual(made.read(512, data.length), data);
    made.write(0, pattern(MIB), FUA);
    assert.equal(kit.device.seen.at(-1)?.[0], Op.WRITE_DURABLE);
    kit.memory.failAt = { offset: 600 * KIB, result: -Errno.ENOSPC };
    assert.equal(errorOf(made, WRITE, 0, MIB, { payload: pattern(MIB) }), ENOSPC);
    made.request(READ, 0, MIB);
    let last = made.reply(), chunks = 0;
    for (; (last.flags & 1) === 0; last = made.reply()) chunks += last.type === 1 ? 1 : 0;
    assert.deepEqual([last.error, chunks], [ENOSPC, 7]);
    kit.memory.failAt = undefined;
    assert.equal(errorOf(made, READ, 0, MIB, { flags: DF }), EOVERFLOW);
    assert.equal(errorOf(made, READ, 0, 32 * MIB + 512), EINVAL);
    assert.equal(errorOf(made, READ, 0, 64 * KIB, { flags: DF }), 0);
    made.close();
    kit.assertClean();
  }
  using kit = new Kit({ largest: 128 * KIB, poolBytes: 512 * KIB });
  const made = kit.connect().open(Form.SIMPLE);
  assert.equal(errorOf(made, READ, 0, MIB), EINVAL, "a simple reply cannot be cut");
  made.write(0, pattern(MIB));
  assert.deepEqual(made.read(128 * KIB, 128 * KIB), pattern(MIB).subarray(128 * KIB, 256 * KIB));
  made.close();
});

Deno.test("a payload nobody would send ends the connection before a byte of it is read", () => {
  for (const [name, form] of FORMS) {
    using kit = new Kit();
    const made = kit.connect().open(form);
    if (form === Form.EXTENDED) {
      made.send(bytes(0x21e41c71, [32, 2], [1, 2], [1, 8], [0, 8], [2n ** 63n, 8]));
    } else made.send(bytes(0x25609513, [0, 2], [1, 2], [1, 8], [0, 8], 32 * MIB + 1));
    made.waitForEnd();
    kit.assertClean();
    assert.match(kit.events.join("\n"), /announced a payload of/, name);
  }
  using kit = new Kit();
  const made = kit.connect().open(Form.EXTENDED);
  made.send(bytes(0x21e41c71, [0, 2], [1, 2], [1, 8], [0, 8], [512, 8]));
  made.waitForEnd();
  assert.match(kit.events.join("\n"), /announces no payload/);
});

Deno.test("zeroes: whole units are given back, edges are written, NO_HOLE writes all", () => {
  using kit = new Kit();
  const made = kit.connect().open();
  const all = pattern(64 * KIB);
  const check = (offset: number, length: number, flags: number, steps: [number, number, number][]) => {
    made.write(0, all);
    kit.device.seen.length = 0;
    assert.equal(errorOf(made, ZEROES, offset, length, { flags }), 0);
    assert.deepEqual(kit.device.seen, steps);
    const expected = all.slice();
    expected.fill(0, offset, offset + length);
    assert.deepEqual(made.read(0, 64 * KIB), expected);
  };
  check(4096, 8192, 0, [[Op.UNMAP, 4096, 8192]]);
  check(4096, 8192, FAST, [[Op.UNMAP, 4096, 8192]]);
  check(4096, 8192, FUA, [[Op.UNMAP, 4096, 8192], [Op.FLUSH, 0, 0]]);
  check(512, 512, 0, [[Op.WRITE, 512, 512]]);
  check(3584, 1024, 0, [[Op.WRITE, 3584, 512], [Op.WRITE, 4096, 512]]);
  check(3584, 9216, FUA, [
    [Op.WRITE, 3584, 512],
    [Op.UNMAP, 4096, 8192],
    [Op.WRITE, 12288, 512],
    [Op.FLUSH, 0, 0],
  ]);
  check(512, 60 * KIB, NO_HOLE, [[Op.WRITE, 512, 60 * KIB]]);
  kit.device.seen.length = 0;
  assert.equal(errorOf(made, ZEROES, 0, 64 * MIB, { flags: NO_HOLE }), 0);
  assert.equal(kit.device.seen.length, 64);
  kit.device.seen.length = 0;
  assert.equal(errorOf(made, ZEROES, 512, 4096, { flags: FAST }), ENOTSUP);
  assert.equal(errorOf(made, ZEROES, 4096, 4096, { flags: FAST | NO_HOLE }), ENOTSUP);
  assert.deepEqual(kit.device.seen, []);
  assert.ok(
    kit.io.arena.u8.subarray(kit.frontend.zeroes, kit.frontend.zeroes + MIB).every((byte) => byte === 0),
  );
  made.close();
  kit.assertClean();
});

Deno.test("a volume that cannot give space back gets zeroes written, unless they must be fast", () => {
  using kit = new Kit();
  const made = kit.connect().open();
  const all = pattern(64 * KIB);
  made.write(0, all);
  const submit = kit.memory.submit.bind(kit.memory);
  kit.memory.submit = (op, offset, length, at, who, tag) => {
    if (op !== Op.UNMAP) return submit(op, offset, length, at, who, tag);
    kit.io.defer({ runDeferred: () => who.complete(tag, -Errno.EOPNOTSUPP) });
  };
  assert.equal(errorOf(made, ZEROES, 4096, 8192, { flags: FAST }), ENOTSUP);
  assert.equal(errorOf(made, TRIM, 4096, 8192, { flags: FUA }), 0);
  assert.deepEqual(made.read(0, 64 * KIB), all);
  kit.device.seen.length = 0;
  assert.equal(errorOf(made, ZEROES, 512, 20 * KIB, { flags: FUA }), 0);
  assert.deepEqual(kit.device.seen, [
    [Op.WRITE, 512, 3584],
    [Op.UNMAP, 4096, 16 * KIB],
    [Op.WRITE, 4096, 16 * KIB + 512],
    [Op.FLUSH, 0, 0],
  ]);
  assert.deepEqual(made.read(0, 64 * KIB), all.map((byte, i) => i >= 512 && i < 512 + 20 * KIB ? 0 : byte));
  made.close();
  kit.assertClean();
});

Deno.test("trim gives back the units that lie wholly inside", () => {
  using kit = new Kit();
  const made = kit.connect().open(Form.SIMPLE);
  for (
    const [offset, length, flags, steps] of [
      [0, 4096, 0, [[Op.UNMAP, 0, 4096]]],
      [512, 8192, 0, [[Op.UNMAP, 4096, 4096]]],
      [512, 7168, 0, []],
      [512, 3000 * 512, FUA, [[Op.UNMAP, 4096, 1_531_904], [Op.FLUSH, 0, 0]]],
      [0, 64 * MIB, 0, [[Op.UNMAP, 0, 64 * MIB]]],
    ] as const
  ) {
    kit.device.seen.length = 0;
    assert.equal(errorOf(made, TRIM, offset, length, { flags }), 0);
    assert.deepEqual(kit.device.seen, steps);
  }
  made.close();
  kit.assertClean();
});

Deno.test("block status reports allocated space, in the width the form has", () => {
  using kit = new Kit({ size: 2 ** 35 });
  const narrow = kit.connect().open(Form.STRUCTURED, true);
  narrow.request(STATUS, 2 ** 34, 4096, { flags: REQ_ONE });
  const status = narrow.reply();
  assert.deepEqual([status.type, status.flags], [5, 1]);
  assert.deepEqual(status.payload, bytes(1, 4096, 0));
  assert.equal(errorOf(narrow, STATUS, 0, 0), EINVAL);
  const wide = kit.connect().open(Form.EXTENDED, true);
  wide.request(STATUS, 0, 2 ** 35);
  const extended = wide.reply();
  assert.deepEqual([extended.type, extended.flags], [6, 1]);
  assert.deepEqual(extended.payload, bytes(1, 1, [2 ** 35, 8], [0, 8]));
  assert.equal(errorOf(wide, TRIM, 2 ** 34, 2 ** 34), 0);
  assert.equal(errorOf(wide, ZEROES, 0, 2 ** 35, { flags: FAST }), 0);
  assert.deepEqual(kit.device.seen, [[Op.UNMAP, 2 ** 34, 2 ** 34], [Op.UNMAP, 0, 2 ** 35]]);
  narrow.close();
  wide.close();
  kit.assertClean();
});

Deno.test("DISC: what is under way is answered, then the server closes", () => {
  using kit = new Kit();
  const made = kit.connect().open();
  kit.device.hold = true;
  made.request(WRITE, 0, 4096, { payload: pattern(4096), cookie: 1 });
  made.request(READ, 8192, 4096, { cookie: 2 });
  made.request(DISC);
  made.request(READ, 0, 512, { cookie: 3 });
  kit.until(() => kit.device.held.length === 2);
  kit.settle();
  assert.equal(made.end, undefined);
  kit.device.hold = false;
  kit.device.release();
  assert.deepEqual([made.reply().cookie, made.reply().cookie], [1, 2]);
  made.waitForEnd();
  assert.equal(made.pending, 0, "nothing after DISC is looked at");
  kit.assertClean();
});

Deno.test("growth is seen by requests at once and by the next handshake", () => {
  using kit = new Kit({ size: MIB });
  const made = kit.connect().open();
  assert.equal(errorOf(made, READ, MIB, 512), EINVAL);
  kit.memory.resize(2 * MIB);
  assert.equal(made.read(MIB, 512).length, 512);
  const next = kit.connect();
  next.greet();
  assert.equal(
    new DataView((next.option(6, bytes(0, [0, 2]))[0]?.[1] as Uint8Array<ArrayBuffer>).buffer).getBigUint64(
      2,
    ),
    BigInt(2 * MIB),
  );
  made.close();
  next.close();
  kit.assertClean();
});
