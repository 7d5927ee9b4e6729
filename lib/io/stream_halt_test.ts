import assert from "node:assert/strict";
import { libc } from "./libc.ts";
import { Stream, StreamMemory } from "./stream.ts";
import { byteAt, RawSender, Recorder, testBytes, World } from "./stream_test_kit.ts";

for (const world of ["uring", "poll"] as const) {
  Deno.test(`${world}: a socket that passes from stream to stream under load loses and repeats no byte`, () => {
    using w = new World(world);
    const [a, b] = w.pair();
    const total = 400_000, memories = [new StreamMemory(w.io), new StreamMemory(w.io)];
    let position = 0, moves = 0, fd = a;
    const owner = new Recorder();
    owner.data = (stream) => {
      // Takes messages of 100 bytes only: the rest stays, as the head of a message does.
      while (stream.available >= 100) {
        for (let i = 0; i < 100; i++) {
          assert.equal(w.io.arena.u8[stream.position + i], byteAt(position++));
        }
        stream.consume(100);
      }
    };
    let stream = new Stream(w.io, fd, memories[0], owner);
    const cuts: number[] = [];
    for (let left = total, n = 0; left > 0; n++) {
      cuts.push(Math.min(left, 1 + (n * 7919) % 3000));
      left -= cuts.at(-1) as number;
    }
    // The bytes' last word is no end of the connection: the sender's descriptor stays open with the test.
    new RawSender(w.io, b, testBytes(total), cuts);
    while (position < total) {
      w.passes(1 + moves % 3);
      stream.halt();
      for (let n = 0; n < 100 && !stream.quiet && !stream.closing; n++) w.passes(1);
      if (stream.closing) break;
      assert.ok(stream.quiet, "a halted stream does not come to rest");
      const before = position;
      w.passes(2);
      assert.equal(position, before, "a halted stream delivers");
      if (moves % 4 === 3) stream.go(); // rolled back
      else {
        const unread = stream.unread();
        fd = duplicate(stream);
        stream.leave();
        stream = new Stream(w.io, fd, memories[(moves + 1) % 2], owner, unread);
        assert.ok(stream.quiet);
        stream.go();
      }
      moves++;
    }
    while (owner.ends.length === 0) w.passes(1);
    assert.equal(position, total);
    assert.ok(moves > 10, `${moves} moves`);
    assert.deepEqual(owner.ends, [0]);
  });
}

/** As another process has it: a descriptor of its own of the same socket. */
function duplicate(stream: Stream): number {
  const F_DUPFD_CLOEXEC = 1030;
  return libc.fcntl(stream.fd, F_DUPFD_CLOEXEC, 0);
}

Deno.test("a halted stream sends what it has, and notices the end of the connection when it goes on", () => {
  using w = new World();
  const [a, b] = w.pair();
  const owner = new Recorder(), peer = new Recorder();
  const stream = new Stream(w.io, a, new StreamMemory(w.io), owner);
  const other = new Stream(w.io, b, new StreamMemory(w.io), peer);
  w.passes(2);
  const source = w.io.arena.reserve(1 << 20);
  stream.payload(source, 1 << 20, 5);
  stream.halt();
  assert.ok(!stream.quiet);
  for (let n = 0; n < 1000 && !stream.quiet; n++) w.passes(1);
  assert.ok(stream.quiet);
  assert.deepEqual(owner.tokens, [5]);
  other.close();
  w.passes(3);
  assert.deepEqual(owner.ends, []);
  stream.go();
  owner.closed = () => w.io.stop();
  w.run();
  assert.deepEqual(owner.ends, [0]);
});

Deno.test("more unread bytes than fit a window are refused", () => {
  using w = new World();
  const [a, b] = w.pair();
  const memory = new StreamMemory(w.io, { window: 4096 });
  assert.throws(() => new Stream(w.io, a, memory, new Recorder(), new Uint8Array(4097)), RangeError);
  w.io.close(a);
  w.io.close(b);
});
