import assert from "node:assert/strict";
import { Op } from "../../block/device.ts";
import { IoError } from "../../io/errno.ts";
import { formatEndpoint, NbdFrontend, NbdMemory, NbdOptionsError } from "./frontend.ts";
import { bytes, type Client, Kit } from "./test_kit.ts";
import { Form } from "./reply.ts";

const READ = 0, WRITE = 1, FLUSH = 3;
const ESHUTDOWN = 108;
const KIB = 1024, MIB = KIB * KIB;

const filled = (length: number, byte: number) => new Uint8Array(length).fill(byte);

function stop(kit: Kit): { readonly done: boolean } {
  const state = { done: false };
  kit.frontend.stop(() => state.done = true);
  return state;
}

Deno.test("endpoints are the URIs that clients take", () => {
  const none = () => assert.fail();
  assert.equal(
    formatEndpoint({ kind: "tcp", host: "127.0.0.1", port: 10809 }, "vol", none),
    "nbd://127.0.0.1:10809/vol",
  );
  assert.equal(
    formatEndpoint({ kind: "tcp", host: "::1", port: 0 }, "a b/c", () => 7),
    "nbd://[::1]:7/a%20b/c",
  );
  assert.equal(
    formatEndpoint({ kind: "unix", path: "/run/x y/s" }, "vol", none),
    "nbd+unix:///vol?socket=/run/x%20y/s",
  );
});

Deno.test("options that cannot be are refused and leave nothing behind", () => {
  using kit = new Kit();
  const address = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
  const make = (options: object) => () =>
    new NbdFrontend(kit.io, kit.pool, kit.device, { address, ...options });
  assert.throws(make({ exportName: "" }), NbdOptionsError);
  assert.throws(make({ exportName: "a\0b" }), /without NUL/);
  assert.throws(make({ exportName: "x".repeat(4097) }), NbdOptionsError);
  for (const maxConnections of [0, 65, 1.5, NaN]) {
    assert.throws(make({ maxConnections }), /maxConnections is .*; it must be 1 to 64/);
  }
  assert.throws(make({ address: { kind: "tcp", host: "nowhere.example", port: 1 } }), IoError);
  assert.throws(make({ maxConnections: 64, address: { kind: "unix", path: "" } }), IoError);
  const descriptors = () => [...Deno.readDirSync("/proc/self/fd")].length;
  const before = descriptors();
  kit.io.arena.reserve(kit.io.arena.free - 100 * KIB);
  assert.throws(make({}), RangeError);
  assert.equal(descriptors(), before, "the listener is closed");
});

Deno.test("a TCP server on port 0 names its port, and works", () => {
  using kit = new Kit({ address: { kind: "tcp", host: "127.0.0.1", port: 0 } });
  const port = Number(/^nbd:\/\/127\.0\.0\.1:(\d+)\/vol$/.exec(kit.frontend.endpoint)?.[1]);
  assert.ok(port > 0);
  assert.equal(kit.frontend.kind, "nbd");
});

Deno.test("a flush on one connection covers the writes completed on another", () => {
  using kit = new Kit();
  const one = kit.connect().open(), two = kit.connect().open(Form.SIMPLE);
  one.write(0, filled(4096, 1));
  two.request(FLUSH);
  assert.equal(two.reply().error, 0);
  assert.deepEqual(kit.device.seen, [[Op.WRITE, 0, 4096], [Op.FLUSH, 0, 0]]);
  assert.deepEqual(two.read(0, 4096), filled(4096, 1));
  one.close();
  assert.deepEqual(two.read(0, 512), filled(512, 1));
  two.close();
  kit.assertClean();
});

Deno.test("clients above the limit are turned away, and a place is free again when one leaves", () => {
  using kit = new Kit({ maxConnections: 2 });
  const one = kit.connect().open(), two = kit.connect();
  two.greet();
  const three = kit.connect();
  three.waitForEnd();
  assert.equal(three.pending, 0);
  assert.match(kit.events.join("\n"), /turned away: there are 2/);
  two.close();
  kit.until(() => kit.frontend.connections === 1);
  for (let round = 0; round < 40; round++) {
    const next = kit.connect().open();
    assert.deepEqual(next.read(0, 512), filled(512, 0));
    next.close();
    kit.until(() => kit.frontend.connections === 1);
  }
  one.close();
  kit.assertClean();
});

Deno.test("a client that goes in the middle of anything leaves nothing behind", () => {
  using kit = new Kit({ poolBytes: 8 * MIB });
  for (const form of [Form.SIMPLE, Form.STRUCTURED, Form.EXTENDED]) {
    for (const hold of [false, true]) {
      for (let way = 0; way < 8; way++) {
        const made = kit.connect().open(form);
        kit.device.hold = hold;
        if (way === 0) made.request(WRITE, 0, 0, { payload: new Uint8Array(0) });
        const header = (length: number) =>
          form === Form.EXTENDED
            ? bytes(0x21e41c71, [32, 2], [1, 2], [1, 8], [0, 8], [length, 8])
            : bytes(0x25609513, [0, 2], [1, 2], [1, 8], [0, 8], length);
        if (way === 1) made.send(header(4096));
        if (way === 2) made.send(bytes(header(MIB), filled(100 * KIB, 1)));
        if (way === 3) made.send(bytes(header(20 * MIB), filled(hold ? MIB : 5 * MIB, 1)));
        if (way === 4) { for (let i = 0; i < 100; i++) made.request(READ, i * MIB / 4, MIB / 4); }
        if (way === 5) {
          for (let i = 0; i < 200; i++) made.request(WRITE, i * 512, 512, { payload: filled(512, 2) });
        }
        if (way === 6) made.request(READ, 0, 24 * MIB);
        if (way === 7) made.send(bytes(header(8 * MIB).map((b, i) => i === 16 ? 0xff : b), filled(MIB, 1)));
        for (let n = 0; n < way; n++) kit.world.passes(1);
        made.close();
        kit.settle();
        kit.device.hold = false;
        kit.device.release();
        kit.assertClean();
      }
    }
  }
});

Deno.test("a client that does not read its replies holds its own share only", () => {
  using kit = new Kit({ poolBytes: 64 * MIB });
  const greedy = kit.connect().open();
  greedy.pause(true);
  for (let i = 0; i < 400; i++) greedy.request(READ, 0, MIB, { cookie: i });
  kit.settle();
  const held = kit.poolBytes - kit.pool.free;
  assert.ok(held > 0 && held <= 16 * MIB, `${held} bytes held`);
  const other = kit.connect().open();
  for (let i = 0; i < 50; i++) other.write(i * 4096, filled(4096, i));
  assert.deepEqual(other.read(7 * 4096, 4096), filled(4096, 7));
  greedy.pause(false);
  for (let i = 0; i < 400; i++) assert.equal(greedy.reply().payload.length, MIB + 8);
  greedy.close();
  other.close();
  kit.assertClean();
});

Deno.test("many clients that do not read leave memory to the volume and to those that do", () => {
  using kit = new Kit({ poolBytes: 64 * MIB, arenaBytes: 256 * MIB });
  const greedy = Array.from({ length: 6 }, () => kit.connect().open());
  for (const made of greedy) {
    made.pause(true);
    for (let i = 0; i < 100; i++) made.request(READ, 0, MIB);
  }
  kit.settle();
  const held = kit.poolBytes - kit.pool.free;
  assert.ok(held >= 24 * MIB && held <= 40 * MIB, `${held} bytes held`);
  assert.equal(held, kit.frontend.bytesHeld);
  const other = kit.connect().open();
  for (let i = 0; i < 50; i++) other.write(i * 4096, filled(4096, i));
  assert.deepEqual(other.read(7 * 4096, 4096), filled(4096, 7));
  for (const made of greedy) made.close();
  other.close();
  kit.assertClean();
  assert.equal(kit.frontend.bytesHeld, 0);
});

Deno.test("clients that begin large writes and send no data leave memory to those that do", () => {
  using kit = new Kit({ poolBytes: 128 * MIB, arenaBytes: 512 * MIB });
  const mute = Array.from({ length: 12 }, () => kit.connect().open());
  for (const made of mute) {
    made.request(WRITE, 0, 4 * MIB);
    made.send(filled(1000, 1));
  }
  kit.settle();
  assert.ok(kit.frontend.bytesHeld >= 12 * 4 * MIB, `${kit.frontend.bytesHeld} bytes held`);
  const other = kit.connect().open();
  for (let i = 0; i < 50; i++) other.write(i * 4096, filled(4096, i));
  assert.deepEqual(other.read(7 * 4096, 4096), filled(4096, 7));
  for (const made of mute) made.close();
  other.close();
  kit.assertClean();
});

Deno.test("more requests than slots wait in the sockets and are all answered", () => {
  using kit = new Kit();
  const clients = Array.from({ length: 3 }, () => kit.connect().open());
  kit.device.hold = true;
  for (const made of clients) for (let i = 0; i < 600; i++) made.request(READ, i * 512, 512, { cookie: i });
  kit.settle();
  assert.ok(
    kit.device.held.length <= 256 && kit.device.held.length > 128,
    `${kit.device.held.length} under way`,
  );
  kit.device.hold = false;
  kit.device.release();
  for (const made of clients) {
    const cookies = new Set(Array.from({ length: 600 }, () => made.reply().cookie));
    assert.equal(cookies.size, 600);
    made.close();
  }
  kit.assertClean();
});

Deno.test("a pool that others have emptied makes clients wait, not fail", () => {
  using kit = new Kit({ poolBytes: 4 * MIB });
  const made = kit.connect().open();
  const taken: number[] = [];
  for (let at = kit.pool.allocate(4096); at >= 0; at = kit.pool.allocate(4096)) taken.push(at);
  made.request(WRITE, 0, 4096, { payload: filled(4096, 5) });
  made.request(READ, 0, 4096);
  kit.settle();
  assert.equal(made.pending, 0);
  kit.pool.release(taken.pop() as number);
  assert.equal(made.reply().error, 0);
  assert.deepEqual(made.reply().payload.subarray(8), filled(4096, 5));
  for (const at of taken) kit.pool.release(at);
  made.close();
  kit.assertClean();
});

Deno.test("a client that does not open the export in time is dropped", () => {
  using kit = new Kit({ handshakeMs: 500 });
  const silent = kit.connect(), slow = kit.connect(), opened = kit.connect().open();
  slow.greet();
  silent.waitForEnd();
  slow.waitForEnd();
  assert.match(kit.events.join("\n"), /did not open the volume within 500 ms/);
  assert.equal(opened.read(0, 512).length, 512);
  opened.close();
  kit.assertClean();
});

Deno.test("a stop does not wait for ever for a client that reads nothing", () => {
  using kit = new Kit({ lingerMs: 30 });
  const made = kit.connect().open();
  made.pause(true);
  for (let i = 0; i < 8; i++) made.request(READ, 0, 4 * MIB);
  kit.settle();
  const state = stop(kit);
  kit.until(() => state.done);
  kit.assertClean();
  assert.match(kit.events.join("\n"), /did not take its last replies within 30 ms/);
});

Deno.test("frontends that come and go use one memory", () => {
  using kit = new Kit({ maxConnections: 1 });
  const memory = new NbdMemory(kit.io, 2), free = kit.io.arena.free;
  for (let round = 0; round < 5; round++) {
    const address = { kind: "unix", path: Deno.makeTempDirSync() + "/s" } as const;
    const frontend = new NbdFrontend(kit.io, kit.pool, kit.device, { address, memory });
    let done = false;
    kit.settle();
    frontend.stop(() => done = true);
    kit.until(() => done);
    Deno.removeSync(address.path.slice(0, -2)); // empty: the socket's file is gone
  }
  assert.equal(kit.io.arena.free, free);
  assert.equal(memory.streams.length, 2);
});

Deno.test("stop: what is under way is answered, what comes is refused, then everybody is disconnected", () => {
  using kit = new Kit();
  const busy = kit.connect().open(), idle = kit.connect().open(), haggling = kit.connect();
  haggling.greet();
  kit.device.hold = true;
  busy.request(WRITE, 0, 4096, { payload: filled(4096, 1), cookie: 1 });
  kit.until(() => kit.device.held.length === 1);
  const state = stop(kit);
  assert.throws(() => kit.frontend.stop(() => {}), /stopping already/);
  idle.waitForEnd();
  haggling.waitForEnd();
  busy.request(READ, 0, 4096, { cookie: 2 });
  busy.request(WRITE, 0, 512, { payload: filled(512, 1), cookie: 3 });
  const refused = busy.reply();
  assert.deepEqual([refused.cookie, refused.error], [2, ESHUTDOWN]);
  assert.equal(busy.reply().error, ESHUTDOWN);
  assert.equal(state.done, false);
  kit.device.hold = false;
  kit.device.release();
  assert.deepEqual([busy.reply().cookie, busy.end], [1, undefined]);
  busy.waitForEnd();
  kit.until(() => state.done);
  kit.assertClean();
  assert.throws(() => kit.connect(), /connect/);
});

Deno.test("stop with nobody there ends at once; with a long zeroing, after its current step", () => {
  using kit = new Kit();
  const none = stop(kit);
  kit.until(() => none.done);
  using other = new Kit();
  const made: Client = other.connect().open();
  other.device.hold = true;
  made.request(6, 0, 64 * MIB, { flags: 2 });
  other.until(() => other.device.held.length === 1);
  const state = stop(other);
  other.device.hold = false;
  other.device.release();
  assert.equal(made.reply().error, ESHUTDOWN);
  other.until(() => state.done);
  assert.equal(other.device.seen.length, 1);
  other.assertClean();
});
