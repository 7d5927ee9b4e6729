import assert from "node:assert/strict";
import { Errno } from "../io/errno.ts";
import { settleOne, testWorlds } from "../io/test_kit.ts";
import { FRAME_BYTES, FrameType } from "./frame.ts";
import { frame, idle, KIB, MIB, pattern, RawPeer, setUpServer as setUp, until } from "./test_kit.ts";

testWorlds("connections above the limit are closed, and room made by others is used", (io, directory) => {
  using setup = setUp(io, directory, { maxConnections: 3 });
  const clients = [1, 2, 3].map(() => setup.connect());
  for (const client of clients) assert.equal(client.ask(FrameType.PING, 0, 0).result, 0);
  assert.equal(setup.connect().waitClosed(), 0);
  assert.match(setup.problems.join(), /refused a connection: 3 are open, which is the limit/);
  clients[1].end();
  until(io, "the server's side", () => setup.server.connections === 2);
  assert.equal(setup.connect().ask(FrameType.PING, 0, 0).result, 0);
});

testWorlds(
  "with all places taken, who never asked for anything gives its place to a new one",
  (io, directory) => {
    using setup = setUp(io, directory, { maxConnections: 3, silentMs: 700 });
    const asks = setup.connect(), silent = setup.connect(), later = setup.connect();
    assert.equal(asks.ask(FrameType.PING, 0, 0).result, 0);
    assert.equal(setup.connect().waitClosed(), 0, "nobody was silent for long");
    const end = performance.now() + 750;
    until(io, "some time", () => (asks.ask(FrameType.PING, 0, 0), performance.now() > end));
    const another = setup.connect();
    assert.equal(another.ask(FrameType.PING, 0, 0).result, 0);
    assert.equal(silent.waitClosed(), 0);
    assert.match(setup.problems.join(), /asked for nothing in 700 ms, and all 3 places were taken/);
    assert.equal(later.ask(FrameType.PING, 0, 0).result, 0);
    assert.equal(setup.connect().waitClosed(), 0, "all have asked for something");
    assert.equal(asks.ask(FrameType.PING, 0, 0).result, 0);
  },
);

testWorlds("with all slots taken nothing is read, and nothing is lost", (io, directory) => {
  using setup = setUp(io, directory, { depth: 4 });
  const { handler } = setup, clients = [setup.connect(), setup.connect(), setup.connect()];
  handler.auto = false;
  for (const client of clients) for (let i = 0; i < 40; i++) client.request(i, FrameType.PING, 0, 0);
  // Whose requests are with the handler: all get their turn, though none of them ever runs dry.
  const turns: number[] = [];
  for (let answered = 0; answered < 120; answered++) {
    until(io, "a full house", () => handler.held.length === Math.min(4, 120 - answered));
    const [request] = handler.held;
    turns.push(request.peer);
    handler.answer(request);
  }
  for (const client of clients) {
    client.wait(40);
    assert.deepEqual(client.replies.map(({ sequence }) => sequence), Array.from({ length: 40 }, (_, i) => i));
  }
  assert.equal(handler.most, 4);
  const half = turns.slice(10, 60);
  for (const peer of new Set(turns)) {
    const share = half.filter((turn) => turn === peer).length;
    assert.ok(share >= 10, `connection ${peer} got ${share} of 50 slots while all three waited`);
  }
});

testWorlds(
  "a waiting connection that goes away does not take the turn of the next one with it",
  (io, directory) => {
    using setup = setUp(io, directory, { depth: 1 });
    const { handler } = setup;
    handler.auto = false;
    const [first, second, third] = [setup.connect(), setup.connect(), setup.connect()];
    first.request(1, FrameType.PING, 0, 0);
    until(io, "the slot to be taken", () => handler.held.length === 1);
    second.request(2, FrameType.PING, 0, 0);
    idle(io);
    third.request(3, FrameType.PING, 0, 0);
    idle(io);
    const { peer } = handler.held[0];
    setup.server.dropWhere((other) => other === peer + 1);
    second.waitClosed();
    handler.answer(handler.held[0]);
    until(io, "the third one's turn", () => handler.held.length === 1);
    handler.answer(handler.held[0]);
    third.wait(1);
  },
);

testWorlds("with all buffers taken nothing is read, and nothing is lost", (io, directory) => {
  using setup = setUp(io, directory, { poolBytes: 256 * KIB, largest: 64 * KIB });
  const { handler, pool } = setup, clients = [setup.connect(4 * MIB), setup.connect(4 * MIB)];
  handler.auto = false;
  const data = pattern(64 * KIB, 1);
  for (const client of clients) {
    for (let i = 0; i < 30; i++) {
      if (i % 2) client.request(i, FrameType.READ, 0, data.length);
      else client.request(i, FrameType.WRITE, 0, data.length, data);
    }
  }
  until(io, "no memory to be left", () => pool.free === 0);
  for (let answered = 0; answered < 60; answered++) {
    until(io, "a request", () => handler.held.length > 0);
    handler.answer(handler.held[0]);
  }
  for (const client of clients) {
    client.wait(30);
    assert.ok(client.replies.every(({ result }) => result === data.length));
  }
  assert.ok(handler.most <= 4, `${handler.most} buffers of 4`);
});

testWorlds("connections that come and go while there is no memory leave nothing behind", (io, directory) => {
  using setup = setUp(io, directory, { poolBytes: 64 * KIB, largest: 64 * KIB });
  const { handler } = setup, client = setup.connect(MIB);
  handler.auto = false;
  client.request(1, FrameType.WRITE, 0, 64 * KIB, pattern(64 * KIB, 1));
  until(io, "no memory to be left", () => handler.held.length === 1);
  const bytes = frame(1, FrameType.READ, 0, 64 * KIB), at = io.arena.reserve(bytes.length);
  const vector = io.arena.reserve(16, 16);
  io.arena.u8.set(bytes, at);
  for (let i = 0; i < 300; i++) {
    const fd = settleOne(io, (who, tag) => io.connect(setup.address, who, tag));
    io.segment(vector, 0, at, bytes.length);
    // Once the limit is reached the server closes at once: then nothing can be sent.
    const sent = settleOne(io, (who, tag) => io.send(fd, vector, 1, who, tag));
    assert.ok(sent === bytes.length || sent === -Errno.EPIPE || sent === -Errno.ECONNRESET, `${sent}`);
    io.close(fd);
  }
  handler.answer(handler.held[0]);
  client.wait(1);
  handler.auto = true;
  for (const request of [...handler.held]) handler.answer(request);
  assert.equal(client.ask(FrameType.READ, 0, 64 * KIB).result, 64 * KIB);
});

testWorlds(
  "a peer that vanishes anywhere in a request or a reply gives its slot and buffer back",
  (io, directory) => {
    using setup = setUp(io, directory, { depth: 8 });
    const { handler, pool } = setup, free = pool.free;
    const write = frame(1, FrameType.WRITE, 0, 60 * KIB, pattern(60 * KIB, 1));
    for (const bytes of [0, 1, 25, 26, 27, 5000, write.length - 1]) {
      const peer = RawPeer.connect(io, setup.address, 64 * KIB);
      if (bytes > 0) peer.send(write.subarray(0, bytes));
      until(io, "the bytes", () => bytes < FRAME_BYTES || pool.free < free);
      peer.close();
      until(io, "the buffer", () => pool.free === free && setup.server.connections === 0);
    }
    assert.equal(handler.taken, 0);
    // Requests that are with the handler when their peer goes end there, and their replies go nowhere.
    handler.auto = false;
    const client = setup.connect();
    for (let i = 0; i < 8; i++) client.request(i, FrameType.READ, 0, 32 * KIB);
    until(io, "the requests", () => handler.held.length === 8);
    client.end();
    until(io, "the end", () => handler.gone.length > 0);
    const other = setup.connect();
    other.request(1, FrameType.PING, 0, 0);
    idle(io);
    assert.equal(handler.held.length, 8, "slots are given back only when the handler is done");
    for (const request of [...handler.held]) handler.answer(request);
    until(io, "the other one", () => handler.held.length === 1);
    handler.answer(handler.held[0]);
    other.wait(1);
    assert.equal(other.replies[0].sequence, 1);
    assert.equal(pool.free, free);
  },
);

testWorlds(
  "a peer that does not read its replies stops being read, and everything comes in the end",
  (io, directory) => {
    using setup = setUp(io, directory, { poolBytes: 4 * MIB, depth: 512 });
    const { handler } = setup;
    handler.text = () => "e".repeat(384);
    handler.fail = (request) => request.type === FrameType.UNMAP ? -Errno.EIO : request.size;
    const peer = RawPeer.connect(io, setup.address, 256 * KIB);
    const some = new Uint8Array(FRAME_BYTES * 1000);
    for (let i = 0; i < 1000; i++) {
      some.set(frame(i, i % 3 ? FrameType.UNMAP : FrameType.READ, 0, 4096), i * FRAME_BYTES);
    }
    // Far more answers than all buffers on the way can hold.
    let sent = 0;
    const vector = io.arena.reserve(16, 16), at = io.arena.reserve(some.length);
    io.arena.u8.set(some, at);
    const send = () => {
      io.segment(vector, 0, at, some.length);
      io.send(peer.fd, vector, 1, { complete: () => ++sent < 20 && send() }, 0);
    };
    send();
    idle(io, 50);
    const before = handler.taken;
    idle(io, 50);
    assert.equal(handler.taken, before, "it goes on reading");
    assert.ok(before < 20_000, `${before} requests were taken`);
    let got = 0;
    const want = 20 * (334 * (FRAME_BYTES + 4096) + 666 * (FRAME_BYTES + 384));
    while (got < want) got += peer.receive().length;
    assert.equal(got, want);
    assert.equal(handler.taken, 20_000);
    peer.close();
  },
);
