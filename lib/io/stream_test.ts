import assert from "node:assert/strict";
import { byteAt, RawReceiver, RawSender, Recorder, testBytes, World } from "./stream_test_kit.ts";
import { Stream, StreamMemory } from "./stream.ts";

const KIB = 1024;

Deno.test("a congested stream does not receive, and goes on when the peer reads again", () => {
  using w = new World();
  const [a, b] = w.pair();
  const owner = new Recorder();
  const source = w.io.arena.reserve(1024 * KIB);
  let received = 0;
  const stream = new Stream(w.io, a, new StreamMemory(w.io, { segments: 8 }), owner);
  owner.data = (s) => {
    assert.ok(!s.congested, "data while congested");
    // Every byte costs a megabyte of answer, more than a socket takes: an echo that amplifies.
    received++;
    s.consume(1);
    if (!s.congested) s.payload(source, 1024 * KIB, received);
  };
  const sender = new Stream(w.io, b, new StreamMemory(w.io), new Recorder());
  sender.pause(); // sends, does not read
  sender.header(20);
  w.passes(20);
  assert.ok(stream.congested);
  assert.ok(received <= 8, `${received} answers queued`);
  sender.resume();
  for (let n = 0; n < 2000 && received < 20; n++) w.passes(1);
  assert.equal(received, 20);
  assert.ok(!stream.closing && !sender.closing);
});

Deno.test("two ends that both have much to say wait for each other, unless one is the client", () => {
  for (const client of [false, true]) {
    using w = new World();
    const [a, b] = w.pair();
    const source = w.io.arena.reserve(1024 * KIB);
    const received = [0, 0];
    const ends = [a, b].map((fd, i) => {
      const owner = new Recorder();
      owner.data = (s) => {
        received[i] = (received[i] as number) + s.available;
        s.consume(s.available);
      };
      const memory = new StreamMemory(w.io, { segments: 8, client: client && i === 0 });
      const stream = new Stream(w.io, fd, memory, owner);
      for (let n = 0; n < 6; n++) stream.payload(source, 1024 * KIB, n);
      return stream;
    });
    assert.ok(ends.every((stream) => stream.congested));
    for (let n = 0; n < 300; n++) w.passes(1);
    assert.deepEqual(received, client ? [6 * 1024 * KIB, 6 * 1024 * KIB] : [0, 0]);
  }
});

Deno.test("close gives every payload back once, whatever is under way", () => {
  for (let round = 0; round < 6; round++) {
    using w = new World();
    const [a, b] = w.pair();
    const owner = new Recorder();
    const stream = new Stream(w.io, a, new StreamMemory(w.io), owner);
    const source = w.io.arena.reserve(1024 * KIB);
    const count = 1 + round * 100;
    for (let i = 0; i < count; i++) stream.payload(source, round === 0 ? 10 : 1024 * KIB, i);
    stream.header(20);
    w.passes(round); // the peer does not read: a send is under way, or not yet
    stream.close(-104);
    assert.ok(stream.closing);
    stream.close(-5); // the first reason counts
    owner.closed = () => w.io.stop();
    if (owner.ends.length === 0) w.run();
    assert.deepEqual(owner.ends, [-104]);
    assert.deepEqual(owner.tokens.toSorted((x, y) => x - y), Array.from({ length: count }, (_, i) => i));
    w.io.close(b);
  }
});

Deno.test("the descriptor is closed when the owner hears of the end", () => {
  using w = new World();
  const [a, b] = w.pair();
  const owner = new Recorder();
  const open = () => [...Deno.readDirSync("/proc/self/fd")].some((entry) => entry.name === String(a));
  assert.ok(open());
  owner.closed = () => {
    assert.ok(!open());
    w.io.stop();
  };
  new Stream(w.io, a, new StreamMemory(w.io), owner);
  w.passes(2);
  w.io.close(b);
  w.run();
  assert.deepEqual(owner.ends, [0]);
});

Deno.test("a peer that goes in the middle of a payload ends the stream; the payload is not reported", () => {
  for (const length of [50_000, 500_000]) {
    using w = new World();
    const [a, b] = w.pair();
    const owner = new Recorder();
    const buffer = w.io.arena.reserve(length);
    owner.data = (s) => assert.equal(s.fill(buffer, length), false);
    owner.filled = () => assert.fail("filled");
    owner.closed = () => w.io.stop();
    new Stream(w.io, a, new StreamMemory(w.io), owner);
    new RawSender(w.io, b, testBytes(40_000), [10, 20_000, 19_990]);
    w.run();
    assert.deepEqual(owner.ends, [0]);
  }
});

Deno.test("finish sends what is queued, then the peer sees the end", () => {
  using w = new World();
  const [a, b] = w.pair();
  const owner = new Recorder();
  const source = w.io.arena.reserve(1024 * KIB);
  w.io.arena.u8.set(testBytes(1024 * KIB), source);
  const stream = new Stream(w.io, a, new StreamMemory(w.io), owner);
  stream.payload(source, 1000 * KIB, 7);
  const at = stream.header(4);
  for (let i = 0; i < 4; i++) w.io.arena.u8[at + i] = byteAt(1000 * KIB + i);
  stream.finish();
  const receiver = new RawReceiver(w.io, b, 64 * KIB);
  owner.closed = () => w.io.stop();
  w.run();
  while (!receiver.ended) w.passes(2);
  assert.equal(receiver.received.length, 1000 * KIB + 4);
  assert.ok(receiver.received.every((byte, i) => byte === byteAt(i)));
  assert.deepEqual([owner.ends, owner.tokens], [[0], [7]]);
});

Deno.test("finish of an idle stream ends it at once", () => {
  using w = new World();
  const [a, b] = w.pair();
  const owner = new Recorder();
  owner.closed = () => w.io.stop();
  const stream = new Stream(w.io, a, new StreamMemory(w.io), owner);
  w.passes(2);
  stream.finish();
  w.run();
  assert.deepEqual(owner.ends, [0]);
  w.io.close(b);
});

Deno.test("a paused stream delivers nothing; resume delivers what came meanwhile", () => {
  using w = new World();
  const [a, b] = w.pair();
  const owner = new Recorder();
  let bytes = 0, paused = false;
  owner.data = (s) => {
    assert.ok(!paused, "data while paused");
    bytes += 1;
    s.consume(1);
    s.pause();
    paused = true;
  };
  owner.closed = () => w.io.stop();
  const stream = new Stream(w.io, a, new StreamMemory(w.io), owner);
  new RawSender(w.io, b, testBytes(20), [5, 5, 10]);
  for (let i = 1; i <= 20; i++) {
    for (let n = 0; n < 200 && bytes < i; n++) w.passes(1);
    assert.equal(bytes, i);
    w.passes(2);
    assert.equal(bytes, i);
    paused = false;
    stream.resume();
    stream.resume();
  }
  w.run();
  assert.deepEqual(owner.ends, [0]);
});

Deno.test("the owner hears that it may go on, even when no bytes are waiting", () => {
  using w = new World();
  const [a, b] = w.pair();
  const owner = new Recorder();
  const stream = new Stream(w.io, a, new StreamMemory(w.io, { segments: 8 }), owner);
  w.passes(2);
  assert.equal(owner.nudges, 0);
  stream.pause();
  stream.resume();
  w.passes(2);
  assert.equal(owner.nudges, 1);
  const source = w.io.arena.reserve(1024 * KIB);
  for (let i = 0; i < 6; i++) stream.payload(source, 1024 * KIB, i);
  assert.ok(stream.congested);
  w.passes(5);
  assert.equal(owner.nudges, 1);
  const receiver = new RawReceiver(w.io, b, 1024 * KIB);
  for (let n = 0; n < 1000 && stream.congested; n++) w.passes(1);
  w.passes(2);
  assert.equal(owner.nudges, 2);
  stream.close();
  while (!receiver.ended) w.passes(2);
});

Deno.test("a stream may be paused while a payload is received, and when it is complete", () => {
  for (const length of [3_000, 200_000]) {
    using w = new World();
    const [a, b] = w.pair();
    const owner = new Recorder();
    const buffer = w.io.arena.reserve(length);
    let filled = 0;
    owner.data = (s) => {
      if (s.fill(buffer, length)) owner.onFilled(s);
    };
    owner.filled = (s) => {
      filled++;
      for (let i = 0; i < length; i++) {
        if (w.io.arena.u8[buffer + i] !== byteAt(i)) assert.fail(`byte ${i}`);
      }
      s.pause();
    };
    const stream = new Stream(w.io, a, new StreamMemory(w.io), owner);
    const half = length >> 1;
    new RawSender(w.io, b, testBytes(length + 100), [half, length - half, 100]);
    stream.pause();
    w.passes(3);
    assert.equal(filled, 0);
    stream.resume();
    for (let n = 0; n < 200 && filled === 0; n++) w.passes(1);
    w.passes(5);
    assert.equal(filled, 1);
    let rest = 0;
    owner.data = (s) => {
      rest += s.available;
      s.consume(s.available);
    };
    owner.closed = () => w.io.stop();
    stream.resume();
    w.run();
    assert.equal(rest, 100);
  }
});

Deno.test("one memory serves one stream after another", () => {
  using w = new World();
  const memory = new StreamMemory(w.io, { window: 8 * KIB, headers: 512, segments: 8 });
  const source = w.io.arena.reserve(64 * KIB);
  let free = 0;
  for (let round = 0; round < 60; round++) {
    const [a, b] = w.pair();
    const owner = new Recorder();
    const echoed: number[] = [];
    owner.data = (s) => {
      while (s.available > 0 && !s.congested) {
        const at = s.header(1);
        w.io.arena.u8[at] = w.io.arena.u8[s.position] as number;
        s.consume(1);
      }
    };
    owner.closed = () => w.io.stop();
    const stream = new Stream(w.io, a, memory, owner);
    const other = new Recorder();
    other.data = (s) => {
      for (let i = 0; i < s.available; i++) echoed.push(w.io.arena.u8[s.position + i] as number);
      s.consume(s.available);
      if (echoed.length === 200) {
        if (round % 3 === 0) s.close();
        else if (round % 3 === 1) stream.close();
        else stream.payload(source, 64 * KIB, 0), s.close();
      }
    };
    otherMemory ??= new StreamMemory(w.io, { window: 4 * KIB });
    const client = new Stream(w.io, b, otherMemory, other);
    w.io.arena.u8.set(testBytes(200), client.header(200));
    w.run();
    while (other.ends.length === 0) w.passes(1);
    assert.deepEqual(echoed, [...testBytes(200)], `round ${round}`);
    assert.equal(owner.ends.length, 1);
    if (round === 1) free = w.io.arena.free;
  }
  otherMemory = undefined;
  assert.ok(free > 0 && w.io.arena.free === free, "streams take no memory of their own from the arena");
});
let otherMemory: StreamMemory | undefined;

Deno.test("mistakes of owners are found", () => {
  using w = new World();
  const [a, b] = w.pair();
  const owner = new Recorder();
  const stream = new Stream(w.io, a, new StreamMemory(w.io, { segments: 4, headers: 64 }), owner);
  assert.throws(() => stream.consume(1), /more than there is/);
  stream.header(40);
  assert.throws(() => stream.header(40), /no room for a header/);
  for (let i = 0; i < 3; i++) stream.payload(0, 1, i);
  assert.throws(() => stream.payload(0, 1, 9), /no room for a segment/);
  owner.closed = () => w.io.stop();
  stream.close();
  w.run();
  assert.deepEqual(owner.tokens, [0, 1, 2]);
  assert.throws(() => stream.payload(0, 1, 10), /over/);
  assert.throws(() => stream.header(1), /over/);
  w.io.close(b);
});
