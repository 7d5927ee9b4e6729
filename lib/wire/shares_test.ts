import assert from "node:assert/strict";
import type { Address, Io } from "../io/io.ts";
import { testWorlds } from "../io/test_kit.ts";
import { FrameType } from "./frame.ts";
import { frame, idle, KIB, MIB, pattern, RawPeer, setUpServer as setUp, until } from "./test_kit.ts";

/** Longer than any test takes. */
const NEVER_MS = 1e6;
/** Soon, and longer than a busy machine stands still. */
const SOON_MS = 500;
/** A pool of 4 MiB with requests of up to 1 MiB, and 4 connections. */
const SMALL = { poolBytes: 4 * MIB, largest: MIB, maxConnections: 4, diskBytes: MIB };

/** Connections that claim a large payload and send the first bytes of it. */
function claim(io: Io, address: Address, count: number): RawPeer[] {
  return Array.from({ length: count }, () => {
    const peer = RawPeer.connect(io, address);
    peer.send(frame(1, FrameType.WRITE, 0, MIB, pattern(100, 1), MIB));
    return peer;
  });
}

/** A connection that asks for a lot and takes no answer. @returns it and the answers that it asked for */
function deaf(io: Io, address: Address, reads: number, bytes: number): RawPeer {
  const peer = RawPeer.connect(io, address, MIB);
  const all = new Uint8Array(26 * reads);
  for (let i = 0; i < reads; i++) all.set(frame(i, FrameType.READ, 0, bytes), 26 * i);
  peer.send(all);
  return peer;
}

testWorlds(
  "who claims large payloads and sends none keeps nobody else from small requests",
  (io, directory) => {
    using setup = setUp(io, directory, { ...SMALL, standstillMs: NEVER_MS });
    const claims = claim(io, setup.address, 3);
    const good = setup.connect(MIB), data = pattern(64 * KIB, 2);
    until(io, "the claims", () => setup.pool.free <= 2 * MIB);
    for (let i = 0; i < 20; i++) {
      assert.equal(good.ask(FrameType.WRITE, 0, data.length, data).result, data.length);
      assert.equal(good.ask(FrameType.READ, 0, data.length).result, data.length);
    }
    assert.deepEqual(setup.problems, []);
    for (const peer of claims) peer.close();
  },
);

testWorlds(
  "who claims large payloads and sends none is closed when others wait for that memory, and they go on",
  (io, directory) => {
    using setup = setUp(io, directory, { ...SMALL, standstillMs: SOON_MS });
    const claims = claim(io, setup.address, 2);
    until(io, "the claims", () => setup.pool.free <= 2 * MIB);
    // Nobody waits: it may take as long as it likes.
    idle(io, 3 * SOON_MS);
    assert.equal(setup.server.connections, 2);
    const good = setup.connect(2 * MIB), data = pattern(MIB, 2);
    assert.equal(good.ask(FrameType.WRITE, 0, MIB, data).result, MIB);
    assert.match(setup.problems.join("\n"), /sent nothing of a payload for 500 ms, and others waited/);
    for (const peer of claims) peer.close();
  },
);

testWorlds("a payload that comes byte by byte is waited for", (io, directory) => {
  using setup = setUp(io, directory, { ...SMALL, standstillMs: SOON_MS });
  const claims = claim(io, setup.address, 2);
  until(io, "the claims", () => setup.pool.free <= 2 * MIB);
  const good = setup.connect(2 * MIB), data = pattern(MIB, 2);
  good.request(1, FrameType.WRITE, 0, MIB, data);
  const end = performance.now() + 4 * SOON_MS;
  while (performance.now() < end) {
    for (const peer of claims) assert.equal(peer.send(new Uint8Array(1)), 1);
  }
  assert.deepEqual([setup.problems, setup.server.connections], [[], 3]);
  assert.equal(good.replies.length, 0, "the test is for nothing: the memory was there");
  for (const peer of claims) peer.close();
  good.wait(1);
  assert.equal(good.replies[0]?.result, MIB);
});

testWorlds("who takes no answers keeps nobody else from slots and small requests", (io, directory) => {
  using setup = setUp(io, directory, {
    ...SMALL,
    depth: 32,
    standstillMs: NEVER_MS,
    streamSizes: { segments: 64, headers: 64 * KIB },
  });
  const free = setup.pool.free, peers = [0, 1, 2].map(() => deaf(io, setup.address, 100, 64 * KIB));
  until(io, "the requests", () => setup.pool.free <= free - MIB);
  idle(io);
  const good = setup.connect(MIB), data = pattern(64 * KIB, 2);
  for (let i = 0; i < 20; i++) {
    assert.equal(good.ask(FrameType.WRITE, 0, data.length, data).result, data.length);
    assert.equal(good.ask(FrameType.PING, 0, 0).result, 0);
  }
  for (const peer of peers) peer.close();
});

testWorlds("who takes no answers is closed when others wait, unless it is trusted", (io, directory) => {
  using setup = setUp(io, directory, { ...SMALL, standstillMs: SOON_MS });
  const { handler } = setup;
  let trusted = true;
  Object.assign(handler, { trusts: () => trusted });
  const peer = deaf(io, setup.address, 20, MIB), good = setup.connect(2 * MIB);
  until(io, "no memory to be left", () => setup.pool.free <= 2 * MIB);
  good.request(1, FrameType.WRITE, 0, MIB, pattern(MIB, 2));
  idle(io, 3 * SOON_MS);
  assert.deepEqual([setup.problems, good.replies.length, setup.server.connections], [[], 0, 2]);
  trusted = false;
  good.wait(1);
  assert.equal(good.replies[0]?.result, MIB);
  assert.match(setup.problems.join("\n"), /took nothing of its answers for 500 ms, and others waited/);
  peer.close();
});

testWorlds("a trusted connection uses what is kept: its large requests go on at once", (io, directory) => {
  using setup = setUp(io, directory, { ...SMALL, standstillMs: NEVER_MS });
  const good = setup.connect(2 * MIB);
  Object.assign(setup.handler, { trusts: (peer: number) => peer === 0 });
  assert.equal(good.ask(FrameType.PING, 0, 0).result, 0);
  const claims = claim(io, setup.address, 3);
  until(io, "the claims", () => setup.pool.free <= 2 * MIB);
  assert.equal(good.ask(FrameType.WRITE, 0, MIB, pattern(MIB, 2)).result, MIB);
  for (const peer of claims) peer.close();
});
