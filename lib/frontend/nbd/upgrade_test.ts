import assert from "node:assert/strict";
import { Op } from "../../block/device.ts";
import { suspend } from "../test_parcel.ts";
import { Form } from "./reply.ts";
import { bytes, Kit } from "./test_kit.ts";

const READ = 0, WRITE = 1, DISC = 2;
const KIB = 1024, MIB = KIB * KIB;
const filled = (length: number, byte: number) => new Uint8Array(length).fill(byte);

Deno.test("clients of every form go on with the next process without noticing", () => {
  using kit = new Kit();
  const clients = [Form.SIMPLE, Form.STRUCTURED, Form.EXTENDED].map((form) =>
    kit.connect().open(form, false)
  );
  for (let round = 1; round <= 10; round++) {
    for (const [i, client] of clients.entries()) {
      client.request(WRITE, i * MIB, 64 * KIB, { payload: filled(64 * KIB, round), cookie: round });
    }
    kit.move();
    for (const client of clients) assert.deepEqual([client.reply().error, client.end], [0, undefined]);
    for (const [i, client] of clients.entries()) {
      assert.deepEqual(client.read(i * MIB, 64 * KIB), filled(64 * KIB, round));
    }
  }
  kit.connect().open().write(0, filled(4096, 99));
  for (const client of clients) client.request(DISC);
  assert.ok(kit.frontend.endpoint.includes("vol?socket="), kit.frontend.endpoint);
});

Deno.test("a request that came in part is ended by the next process", () => {
  using kit = new Kit();
  const client = kit.connect().open();
  const request = bytes(0x25609513, [0, 2], [READ, 2], [7, 8], [0, 8], 4096);
  for (const cut of [1, 15, 27]) {
    client.send(request.subarray(0, cut));
    kit.settle();
    kit.move();
    client.send(request.subarray(cut));
    assert.deepEqual([client.reply().cookie, client.end], [7, undefined]);
  }
});

Deno.test("handshakes under way go on, and who came meanwhile is greeted once", () => {
  using kit = new Kit();
  const silent = kit.connect(), half = kit.connect();
  half.greet();
  assert.equal(half.option(8)[0]?.[0], 1);
  assert.equal(suspend(kit.frontend, (c) => kit.until(c)), "");
  kit.frontend.resume();
  kit.move();
  half.form = Form.STRUCTURED;
  assert.equal(half.option(7, bytes(0, [0, 2])).at(-1)?.[0], 1);
  half.write(0, filled(512, 5));
  silent.open().write(0, filled(512, 6));
  assert.deepEqual(half.read(0, 512), filled(512, 6));
});

Deno.test("what is under way on the disk ends before the handover, and new requests wait for the next process", () => {
  using kit = new Kit();
  const client = kit.connect().open();
  kit.device.hold = true;
  client.request(WRITE, 0, 4096, { payload: filled(4096, 1), cookie: 1 });
  kit.until(() => kit.device.held.length === 1);
  let problem: string | undefined;
  kit.frontend.suspend(10_000, (text) => problem = text);
  client.request(READ, 0, 4096, { cookie: 2 });
  kit.settle();
  assert.deepEqual([problem, kit.device.seen.length], [undefined, 1]);
  kit.device.hold = false;
  kit.device.release();
  assert.equal(client.reply().cookie, 1);
  kit.until(() => problem !== undefined);
  assert.deepEqual([problem, kit.device.seen.length], ["", 1]);
  kit.move();
  assert.equal(client.reply().cookie, 2);
  assert.deepEqual(kit.device.seen.map(([op]) => op), [Op.WRITE, Op.READ]);
});

Deno.test("a client that does not end its payload makes the handover fail, and goes on where it was", () => {
  using kit = new Kit();
  const client = kit.connect().open();
  client.request(WRITE, 0, 8192, { payload: filled(4096, 3), cookie: 1 });
  kit.settle();
  assert.match(suspend(kit.frontend, (c) => kit.until(c), 20), /neither ends its request/);
  kit.frontend.resume();
  client.send(filled(4096, 3));
  assert.equal(client.reply().error, 0);
  assert.deepEqual(client.read(0, 8192), filled(8192, 3));
  kit.move();
  assert.deepEqual(client.read(0, 8192), filled(8192, 3));
});

Deno.test("long requests are ended whole by who began them", () => {
  using kit = new Kit({ largest: 64 * KIB, size: 16 * MIB });
  const client = kit.connect().open();
  const data = new Uint8Array(MIB).map((_, i) => i % 253);
  client.request(WRITE, 0, MIB, { payload: data.subarray(0, 300 * KIB) });
  kit.settle();
  let problem: string | undefined;
  kit.frontend.suspend(10_000, (text) => problem = text);
  kit.settle();
  client.send(data.subarray(300 * KIB));
  kit.until(() => problem !== undefined);
  assert.equal(problem, "");
  kit.move();
  assert.equal(client.reply().error, 0);
  assert.deepEqual(client.read(0, MIB), data);
});
