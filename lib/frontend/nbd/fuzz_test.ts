import assert from "node:assert/strict";
import { random } from "../../io/stream_test_kit.ts";
import { bytes, type Client, Kit } from "./test_kit.ts";
import { Form } from "./reply.ts";

const KIB = 1024, MIB = KIB * KIB;
const MAGIC = 0x25609513, EXTENDED_MAGIC = 0x21e41c71;

type Next = (below: number) => number;

const pick = <T>(next: Next, from: readonly T[]): T => from[next(from.length)] as T;
const noise = (next: Next, length: number) => new Uint8Array(length).map(() => next(256));

/** Lengths and offsets that break things. */
const NUMBERS = [
  0,
  1,
  511,
  512,
  4096,
  65_535,
  65_536,
  65_537,
  MIB,
  4 * MIB,
  32 * MIB,
  32 * MIB + 1,
  2 ** 31,
  2 ** 32 - 1,
];
const WIDE = [
  ...NUMBERS.map(BigInt),
  2n ** 32n,
  2n ** 53n,
  2n ** 53n + 1n,
  2n ** 63n,
  2n ** 64n - 512n,
  2n ** 64n - 1n,
];

function option(next: Next): Uint8Array {
  const data = next(3) === 0 ? noise(next, next(60)) : bytes(
    pick(next, [0, 3, 4, 0xffffffff]),
    pick(next, ["vol", "", "base:allocation"]),
    pick(next, [0, 1, 0xffff]),
    pick(next, [0, 15, 0x80000000]),
    pick(next, ["base:allocation", "base:", ""]),
  );
  const length = next(5) === 0 ? pick(next, NUMBERS) : data.length;
  return bytes(next(30) === 0 ? "IHAVEOPX" : "IHAVEOPT", next(14), length, data);
}

function request(next: Next, form: Form): Uint8Array {
  const magic = next(60) === 0 ? next(2 ** 31) : form === Form.EXTENDED ? EXTENDED_MAGIC : MAGIC;
  const type = next(10), length = next(6) === 0 ? pick(next, NUMBERS) : 512 * next(40);
  const payload = form === Form.EXTENDED ? next(6) > 0 && type === 1 : type === 1;
  const flags = (next(4) === 0 ? next(65536) & ~32 : 0) | (payload && form === Form.EXTENDED ? 32 : 0);
  const offset = next(4) === 0 ? pick(next, WIDE) : BigInt(512 * next(100_000));
  const head = bytes(magic, [flags, 2], [type, 2], [next(2 ** 31), 8], [offset, 8]);
  const size = form === Form.EXTENDED ? bytes([length, 8]) : bytes(length);
  const data = payload
    ? new Uint8Array(Math.min(length, next(10) === 0 ? next(length + 1) : length, MIB))
    : bytes();
  return bytes(head, size, data);
}

/** Sends what `make` makes until the server has had enough or some messages were sent. */
function attack(made: Client, next: Next, make: () => Uint8Array): void {
  for (let n = next(60); n > 0 && made.end === undefined; n--) {
    const message = make();
    if (next(8) === 0) message[next(message.length)] = next(256);
    made.send(next(15) === 0 ? message.subarray(0, next(message.length)) : message);
  }
}

Deno.test("whatever bytes come, the server goes on serving, and nothing leaks", () => {
  using kit = new Kit({ arenaBytes: 1024 * MIB, poolBytes: 8 * MIB });
  const steady = kit.connect().open();
  steady.write(63 * MIB, new Uint8Array(512).fill(0xa5));
  for (let seed = 1; seed <= 400; seed++) {
    const next = random(seed);
    const made = kit.connect();
    const phase = next(4);
    if (phase === 0) attack(made, next, () => noise(next, 1 + next(200)));
    else if (phase === 1) {
      made.greet();
      attack(made, next, () => option(next));
    } else {
      const form = pick(next, Object.values(Form));
      made.open(form, form !== Form.SIMPLE && next(2) === 0);
      attack(made, next, () => request(next, form));
    }
    if (next(2) === 0) kit.world.passes(1 + next(5));
    made.close();
    if (seed % 20 === 0) assert.equal(steady.read(0, 4096).length, 4096, `seed ${seed}`);
  }
  kit.until(() => kit.frontend.connections === 1);
  kit.settle();
  assert.equal(kit.pool.free, kit.poolBytes);
  assert.equal(kit.frontend.slots.free, kit.frontend.slots.depth);
  steady.close();
  kit.assertClean();
});

Deno.test("random valid requests on several connections agree with a model", () => {
  for (let seed = 1; seed <= 4; seed++) {
    using kit = new Kit({ size: 4 * MIB, largest: 128 * KIB, poolBytes: MIB });
    const next = random(seed), model = new Uint8Array(4 * MIB);
    const clients = [Form.SIMPLE, Form.STRUCTURED, Form.EXTENDED].map((form) => kit.connect().open(form));
    for (let n = 0; n < 400; n++) {
      const made = pick(next, clients);
      const most = pick(next, [1, 8, 9, 64, 256, 2000]);
      const offset = 512 * next(8192), length = Math.min(512 * (1 + next(most)), 4 * MIB - offset);
      const flags = next(2);
      const way = next(5);
      if (way <= 1) {
        const payload = noise(next, length);
        model.set(payload, offset);
        made.write(offset, payload, flags);
      } else if (way === 2) {
        model.fill(0, offset, offset + length);
        made.request(6, offset, length, { flags: flags | pick(next, [0, 2]) });
        assert.equal(made.reply().error, 0);
      } else if (way === 3) {
        made.request(3, 0, 0, { flags });
        assert.equal(made.reply().error, 0);
      } else {
        const readable = made.form === Form.SIMPLE ? Math.min(length, 128 * KIB) : length;
        assert.deepEqual(
          made.read(offset, readable),
          model.subarray(offset, offset + readable),
          `seed ${seed}, ${n}`,
        );
      }
    }
    for (const made of clients) made.close();
    kit.assertClean();
  }
});
