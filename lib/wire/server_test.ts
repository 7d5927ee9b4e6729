import assert from "node:assert/strict";
import fc from "fast-check";
import { Errno } from "../io/errno.ts";
import { testWorlds } from "../io/test_kit.ts";
import {
  FRAME_BYTES,
  frameDataLength,
  FrameType,
  frameType,
  MAX_FRAME_PAYLOAD,
  NO_SPACE_TEXT,
} from "./frame.ts";
import {
  frame,
  idle,
  KIB,
  MIB,
  pattern,
  RawPeer,
  sameBytes,
  setUpServer as setUp,
  TestClient,
  until,
} from "./test_kit.ts";

testWorlds("payloads from one byte to 16 MiB are stored and read back", (io, directory) => {
  using setup = setUp(io, directory, {
    diskBytes: MAX_FRAME_PAYLOAD,
    poolBytes: MAX_FRAME_PAYLOAD,
    largest: MAX_FRAME_PAYLOAD,
  });
  const client = setup.connect(MAX_FRAME_PAYLOAD);
  for (const length of [1, 511, 4096, 65_537, 256 * KIB - 25, MIB + 3, MAX_FRAME_PAYLOAD]) {
    const data = pattern(length, length), offset = MAX_FRAME_PAYLOAD - length;
    assert.equal(client.ask(FrameType.WRITE, offset, length, data).result, length);
    const read = client.ask(FrameType.READ, offset, length);
    assert.equal(read.result, length);
    assert.ok(sameBytes(read.data, data), `${length} bytes`);
  }
});

testWorlds("any mixture of requests, in any pieces, gives the replies of a disk", (io, directory) => {
  using setup = setUp(io, directory);
  const { handler } = setup;
  const peer = RawPeer.connect(io, setup.address, MIB), model = new Uint8Array(handler.disk.length);
  const request = fc.record({
    type: fc.constantFrom(FrameType.READ, FrameType.WRITE, FrameType.UNMAP, FrameType.PING, 99),
    offset: fc.nat(60 * KIB),
    size: fc.nat(4 * KIB),
  });
  fc.assert(
    fc.property(fc.array(request, { minLength: 1, maxLength: 30 }), fc.integer({ min: 1, max: 5000 }), (
      requests,
      piece,
    ) => {
      const sent: number[] = [], want: number[] = [];
      requests.forEach(({ type, offset, size }, i) => {
        const at = type === FrameType.PING ? 0 : offset, n = type === FrameType.PING ? 0 : size;
        const data = type === FrameType.WRITE || type === 99 ? pattern(n, i) : new Uint8Array();
        sent.push(...frame(i, type, at, n, data));
        if (type === FrameType.WRITE) model.set(data, at);
        if (type === FrameType.UNMAP) model.fill(0, at, at + n);
        const read = type === FrameType.READ ? model.slice(at, at + n) : new Uint8Array();
        if (type !== 99) want.push(...frame(i, FrameType.RESPONSE, at, n, read));
      });
      for (let at = 0; at < sent.length; at += piece) {
        peer.send(new Uint8Array(sent.slice(at, at + piece)));
      }
      const got: number[] = [];
      while (got.length < want.length) got.push(...peer.receive());
      assert.deepEqual(got, want);
      assert.deepEqual(handler.disk, model);
    }),
    { numRuns: 20 },
  );
  peer.close();
});

testWorlds(
  "replies go out in the order in which requests end, each with its sequence number",
  (io, directory) => {
    using setup = setUp(io, directory);
    const { handler } = setup, client = setup.connect();
    handler.auto = false;
    handler.disk.set(pattern(handler.disk.length, 9));
    for (let i = 0; i < 50; i++) client.request(i, FrameType.READ, i * KIB, 100 + i);
    until(io, "all requests", () => handler.held.length === 50);
    const order: number[] = [];
    for (let i = 0; handler.held.length > 0; i++) {
      const request = handler.held[(i * 17) % handler.held.length];
      order.push(request.offset / KIB);
      handler.answer(request);
    }
    client.wait(50);
    assert.deepEqual(client.replies.map(({ sequence }) => sequence), order);
    for (const { sequence: i, data } of client.replies) {
      assert.deepEqual(data, handler.disk.subarray(i * KIB, i * KIB + 100 + i));
    }
  },
);

testWorlds("requests of unknown types are skipped with their payload, without a reply", (io, directory) => {
  using setup = setUp(io, directory);
  const client = setup.connect(MIB);
  client.request(1, 77, 0, 0, pattern(64 * KIB, 1));
  client.request(2, FrameType.RESPONSE, 0, 0, pattern(10, 1));
  client.request(3, FrameType.CLOSE, 0, 0);
  client.request(4, 0xffff_ffff, -1, 0);
  assert.equal(client.ask(FrameType.PING, 0, 0).result, 0);
  assert.equal(setup.handler.taken, 1);
});

testWorlds("a write has the length of its payload, whatever its size field says", (io, directory) => {
  using setup = setUp(io, directory);
  const { handler } = setup, client = setup.connect(), data = pattern(100, 1);
  handler.disk.fill(7);
  assert.equal(client.ask(FrameType.WRITE, 0, 4096, data).result, 100);
  assert.equal(client.ask(FrameType.WRITE, 200, 4096).result, 0, "no payload: nothing to be written");
  assert.deepEqual(handler.disk.subarray(0, 100), data);
  assert.ok(handler.disk.subarray(100).every((byte) => byte === 7), "bytes that nobody sent were written");
});

testWorlds("failures carry the handler's text, cut at 384 bytes", (io, directory) => {
  using setup = setUp(io, directory);
  const { handler } = setup, client = setup.connect();
  const reply = client.ask(FrameType.READ, 10 * MIB, 16);
  assert.deepEqual([reply.result, reply.text], [-Errno.EIO, `failed with ${-Errno.EINVAL}`]);
  handler.text = () => "é".repeat(400);
  assert.equal(client.ask(FrameType.READ, 10 * MIB, 16).text, "é".repeat(192));
  handler.fail = () => -Errno.EIO;
  handler.text = ({ type, offset, size, result }) => `${type} ${offset} ${size} ${result}`;
  assert.equal(client.ask(FrameType.UNMAP, 5, 6).text, `7 5 6 ${-Errno.EIO}`);
});

for (const noSpaceFrames of [false, true]) {
  const form = noSpaceFrames ? "an ENOSPC frame" : "an Error frame";
  testWorlds(`lack of space is ${form} with the text that peers look for`, (io, directory) => {
    using setup = setUp(io, directory, { noSpaceFrames });
    setup.handler.fail = () => -Errno.ENOSPC;
    const peer = RawPeer.connect(io, setup.address);
    peer.send(frame(1, FrameType.WRITE, 0, 4, new Uint8Array(4)));
    const bytes = peer.receive(), view = new DataView(bytes.buffer);
    assert.equal(frameType(view, 0), noSpaceFrames ? FrameType.ENOSPC : FrameType.ERROR);
    assert.equal(frameDataLength(view, 0), NO_SPACE_TEXT.length);
    assert.equal(new TextDecoder().decode(bytes.subarray(FRAME_BYTES)), NO_SPACE_TEXT);
    peer.close();
  });
}

const HOSTILE: readonly [string, Uint8Array, RegExp][] = [
  ["a wrong magic", frame(1, 0, 0, 0).fill(0x47, 0, 2), /wrong magic 0x4747, expected 0x1b01/],
  [
    "a payload of 4 GiB",
    frame(1, 1, 0, 0, new Uint8Array(), 0xffff_ffff),
    /write with 4294967295 bytes of payload/,
  ],
  [
    "a payload above the limit",
    frame(1, 1, 0, 0, new Uint8Array(), 64 * KIB + 1),
    /at most 65536 are accepted/,
  ],
  [
    "an unknown type with 4 GiB",
    frame(1, 99, 0, 0, new Uint8Array(), 0xffff_ffff),
    /type 99 with 4294967295/,
  ],
  ["a read of 4 GiB", frame(1, 0, 0, 0xffff_ffff), /read of 4294967295 bytes/],
  ["a read above the limit", frame(1, 0, 0, 64 * KIB + 1), /at most 65536 can be read at once/],
  ["a read with a payload", frame(1, 0, 0, 4, new Uint8Array(4)), /read of 4 bytes with 4 bytes of payload/],
  [
    "a digest with a payload",
    frame(1, FrameType.DIGEST, 0, 512, new Uint8Array(4)),
    /with 4 bytes of payload/,
  ],
];
for (const [what, bytes, problem] of HOSTILE) {
  testWorlds(`${what} ends the connection it came on, and no other`, (io, directory) => {
    using setup = setUp(io, directory);
    const good = setup.connect(), free = setup.pool.free;
    const peer = RawPeer.connect(io, setup.address, 64 * KIB);
    peer.send(
      new Uint8Array([...frame(0, FrameType.PING, 0, 0), ...bytes, ...frame(2, FrameType.PING, 0, 0)]),
    );
    assert.ok(peer.receiveAll() <= FRAME_BYTES, "it is served further");
    assert.match(setup.problems.join(), problem);
    assert.equal(setup.pool.free, free);
    assert.equal(good.ask(FrameType.PING, 0, 0).result, 0);
    peer.close();
  });
}

testWorlds("stopping waits for the requests that are under way", (io, directory) => {
  using setup = setUp(io, directory);
  const { handler, server } = setup, client = setup.connect();
  handler.auto = false;
  client.request(1, FrameType.WRITE, 0, 4096, pattern(4096, 1));
  until(io, "the request", () => handler.held.length === 1);
  let done = 0;
  server.stop(() => done++);
  server.stop(() => done += 100);
  idle(io);
  assert.equal(done, 0);
  handler.answer(handler.held[0]);
  until(io, "the end", () => done > 0);
  idle(io);
  assert.equal(done, 1);
  setup.stopped = true;
  assert.equal(client.waitClosed(), 0);
  assert.throws(() => TestClient.connect(io, setup.address), /connect/);
});

testWorlds("connections can be chosen and ended", (io, directory) => {
  using setup = setUp(io, directory);
  const { handler } = setup, [a, b] = [setup.connect(), setup.connect()];
  handler.auto = false;
  a.request(1, FrameType.PING, 0, 0);
  until(io, "the request", () => handler.held.length === 1);
  const { peer } = handler.held[0];
  handler.answer(handler.held[0]);
  a.wait(1);
  setup.server.dropWhere((other) => other !== peer);
  assert.equal(b.waitClosed(), 0);
  handler.auto = true;
  assert.equal(a.ask(FrameType.PING, 0, 0).result, 0);
});
