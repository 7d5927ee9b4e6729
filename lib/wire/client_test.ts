import assert from "node:assert/strict";
import fc from "fast-check";
import { Errno } from "../io/errno.ts";
import type { Io } from "../io/io.ts";
import { pair, testWorlds } from "../io/test_kit.ts";
import { DROP, REFUSE } from "./client.ts";
import { FRAME_BYTES, frameSequence, FrameType, frameType, MAX_ERROR_BYTES } from "./frame.ts";
import { frame, idle, pattern, RawPeer, TestClient, until } from "./test_kit.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);

interface Setup extends Disposable {
  readonly client: TestClient;
  readonly server: RawPeer;
}

function setUp(io: Io, directory: string, room = 256 * 1024): Setup {
  const [client, server, listener] = pair(io, "unix", directory);
  io.close(listener);
  const setup = { client: new TestClient(io, client, room), server: new RawPeer(io, server, 1024 * 1024) };
  return {
    ...setup,
    [Symbol.dispose]() {
      setup.client.end();
      setup.server.close();
    },
  };
}

testWorlds("replies of every kind arrive, in whatever pieces they are sent", (io, directory) => {
  using setup = setUp(io, directory);
  const { client, server } = setup;
  const data = pattern(5000, 1);
  const stream = new Uint8Array([
    ...frame(1, FrameType.RESPONSE, 0, data.length, data),
    ...frame(2, FrameType.RESPONSE, 512, 4096),
    ...frame(3, FrameType.ERROR, 0, 6, utf8("größe")),
    ...frame(4, 99, 0, 0, pattern(300, 2)),
    ...frame(5, FrameType.ENOSPC, 0, 4, utf8("full")),
    ...frame(6, FrameType.EOF, 0, 100, data.subarray(0, 100)),
    ...frame(7, FrameType.READ, 0, 4096),
    ...frame(8, FrameType.ERROR, 0, 0),
    ...frame(9, FrameType.RESPONSE, 0, 0),
  ]);
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 1, maxLength: 20 }),
      (pieces) => {
        client.replies.length = 0;
        for (let at = 0, i = 0; at < stream.length; i++) {
          const piece = stream.subarray(at, at + pieces[i % pieces.length]);
          assert.equal(server.send(piece), piece.length);
          at += piece.length;
        }
        client.wait(7);
        assert.deepEqual(client.replies.map(({ sequence, result, text }) => [sequence, result, text]), [
          [1, data.length, ""],
          [2, 4096, ""],
          [3, -Errno.EIO, "größe"],
          [5, -Errno.ENOSPC, "full"],
          [6, 100, ""],
          [8, -Errno.EIO, ""],
          [9, 0, ""],
        ]);
        assert.deepEqual(client.replies[0].data, data);
        assert.deepEqual(client.replies[4].data, data.subarray(0, 100));
      },
    ),
    { numRuns: 15 },
  );
});

testWorlds("requests leave as they were queued, and payloads come back once", (io, directory) => {
  using setup = setUp(io, directory);
  const { client, server } = setup;
  const data = pattern(3000, 3);
  client.request(0xffff_ffff, FrameType.WRITE, 2 ** 53 - 1, data.length, data);
  client.request(7, FrameType.PING, 0, 0);
  const want = new Uint8Array([
    ...frame(0xffff_ffff, FrameType.WRITE, 2 ** 53 - 1, data.length, data),
    ...frame(7, FrameType.PING, 0, 0),
  ]);
  const got: number[] = [];
  while (got.length < want.length) got.push(...server.receive());
  assert.deepEqual(new Uint8Array(got), want);
  until(io, "the payload", () => client.lent === 0);
});

testWorlds(
  "CLOSE ends the connection in order, what is under way gives its payload back",
  (io, directory) => {
    using setup = setUp(io, directory);
    const { client, server } = setup;
    client.request(1, FrameType.WRITE, 0, 100_000, pattern(100_000, 4));
    server.send(frame(0, FrameType.CLOSE, 0, 0));
    assert.equal(client.waitClosed(), 0);
    assert.equal(client.lent, 0);
  },
);

testWorlds("a server that goes away in the middle of a payload ends the connection", (io, directory) => {
  using setup = setUp(io, directory);
  const { client, server } = setup;
  server.send(frame(1, FrameType.RESPONSE, 0, 4096, pattern(4096, 5)).subarray(0, 1000));
  idle(io);
  io.shutdown(server.fd);
  assert.equal(client.waitClosed(), 0);
  assert.deepEqual(client.replies, []);
});

const BROKEN: readonly [string, (setup: Setup) => Uint8Array][] = [
  ["wrong magic", () => new Uint8Array(FRAME_BYTES).fill(0x47)],
  ["a text without end", () => frame(1, FrameType.ERROR, 0, 0, new Uint8Array(10), MAX_ERROR_BYTES + 1)],
  ["more data than was asked for", ({ client }) => {
    client.place = () => REFUSE;
    return frame(1, FrameType.RESPONSE, 0, 0, new Uint8Array(10));
  }],
];
for (const [what, bytes] of BROKEN) {
  testWorlds(`${what} from the server ends the connection with EPROTO`, (io, directory) => {
    using setup = setUp(io, directory);
    setup.server.send(bytes(setup));
    assert.equal(setup.client.waitClosed(), -Errno.EPROTO);
    assert.deepEqual(setup.client.replies, []);
  });
}

testWorlds("a reply that nobody waits for is thrown away with its data", (io, directory) => {
  using setup = setUp(io, directory);
  const { client, server } = setup;
  const { place } = client;
  client.place = (sequence, length) => sequence === 1 ? DROP : place(sequence, length);
  const large = pattern(300_000, 6);
  server.send(frame(1, FrameType.RESPONSE, 0, large.length, large));
  server.send(frame(2, FrameType.RESPONSE, 0, 3, new Uint8Array([1, 2, 3])));
  client.wait(1);
  assert.deepEqual(client.replies.map(({ sequence, data }) => [sequence, [...data]]), [[2, [1, 2, 3]]]);
});

testWorlds("the longest error text arrives whole", (io, directory) => {
  using setup = setUp(io, directory);
  const text = "x".repeat(MAX_ERROR_BYTES);
  setup.server.send(frame(1, FrameType.ERROR, 0, text.length, utf8(text)));
  setup.client.wait(1);
  assert.equal(setup.client.replies[0].text, text);
});

testWorlds("headers of requests can be read back by a server", (io, directory) => {
  using setup = setUp(io, directory);
  setup.client.request(5, FrameType.UNMAP, 4096, 8192);
  const bytes = setup.server.receive(), view = new DataView(bytes.buffer);
  assert.deepEqual([frameSequence(view, 0), frameType(view, 0)], [5, FrameType.UNMAP]);
});
