import assert from "node:assert/strict";
import { byteAt, random, RawReceiver, RawSender, Recorder, testBytes, World } from "./stream_test_kit.ts";
import type { Io } from "./io.ts";
import { Stream, StreamMemory, type StreamSizes } from "./stream.ts";

const KIB = 1024;
/** The script throws bytes away. */
const DISCARDING = -1;

/**
 * Receives a stream of {@linkcode byteAt} bytes by a script: look at a few, fill a buffer, throw some away.
 * Buffers have guard bytes on both sides.
 */
class Scripted extends Recorder {
  position = 0;
  #filling = 0;
  readonly #buffer: number;
  readonly #next: (below: number) => number;
  readonly #sizes: readonly number[];

  constructor(readonly io: Io, readonly total: number, seed: number, sizes: readonly number[]) {
    super();
    this.#next = random(seed);
    this.#sizes = sizes;
    this.#buffer = io.arena.reserve(Math.max(...sizes) + 128, 4096) + 64;
    this.filled = () => this.#check();
    this.data = (stream) => this.#work(stream);
  }

  #work(stream: Stream): void {
    while (stream.available > 0) {
      const size = Math.min(
        this.#sizes[this.#next(this.#sizes.length)] as number,
        this.total - this.position,
      );
      const way = this.#next(4);
      if (way === 0) {
        const n = Math.min(size, stream.available);
        for (let i = 0; i < n; i++) {
          assert.equal(this.io.arena.u8[stream.position + i], byteAt(this.position + i));
        }
        stream.consume(n);
        this.position += n;
      } else if (way === 1) {
        this.position += size;
        this.#filling = DISCARDING;
        if (!stream.discard(size)) return;
      } else {
        this.#filling = size;
        this.io.arena.u8.fill(0xee, this.#buffer - 64, this.#buffer + size + 64);
        if (!stream.fill(this.#buffer, size)) return;
        this.#check();
      }
      if (size === 0 && this.position === this.total) return;
    }
  }

  #check(): void {
    if (this.#filling === DISCARDING) return;
    const u8 = this.io.arena.u8;
    for (let i = 0; i < this.#filling; i++) {
      if (u8[this.#buffer + i] !== byteAt(this.position + i)) {
        assert.fail(`byte ${this.position + i}: ${u8[this.#buffer + i]}, not ${byteAt(this.position + i)}`);
      }
    }
    for (let i = 1; i <= 64; i++) {
      assert.equal(u8[this.#buffer - i], 0xee, "before the buffer");
      assert.equal(u8[this.#buffer + this.#filling + i - 1], 0xee, "after the buffer");
    }
    this.position += this.#filling;
    this.#filling = 0;
  }
}

for (const world of ["uring", "poll"] as const) {
  Deno.test(`${world}: whatever the peer's cuts, the bytes arrive in order, filled, looked at or skipped`, () => {
    for (let seed = 1; seed <= 6; seed++) {
      using w = new World(world);
      const [a, b] = w.pair();
      const next = random(seed);
      const total = 300 * KIB + next(1000);
      const cuts: number[] = [];
      const most = [3, 700, 20_000, 200_000][next(4)] as number;
      let left = total;
      if (most === 3) { // byte by byte only at the borders of things
        cuts.push(total - 2000);
        left = 2000;
      }
      while (left > 0) {
        const cut = Math.min(left, 1 + next(most));
        cuts.push(cut);
        left -= cut;
      }
      new RawSender(w.io, b, testBytes(total), cuts);
      const owner = new Scripted(w.io, total, seed, [
        0,
        1,
        7,
        28,
        512,
        4096,
        65_536,
        65_537,
        100_000,
        131_072,
      ]);
      owner.closed = () => w.io.stop();
      new Stream(w.io, a, new StreamMemory(w.io, { window: seed % 2 ? 4 * KIB : 256 * KIB }), owner);
      w.run();
      assert.equal(owner.position, total);
      assert.deepEqual(owner.ends, [0]);
    }
  });
}

/** Sends messages of headers and payloads as fast as the queue takes them. */
class Producer extends Recorder {
  sentHeaders = 0;
  position = 0;
  #stream: Stream | undefined;
  readonly #source: number;
  readonly #next: (below: number) => number;
  /** Tokens queued and not given back. */
  readonly outstanding = new Set<number>();
  #token = 0;
  mostQueued = 0;

  constructor(readonly io: Io, readonly total: number, seed: number, readonly mostHeader: number) {
    super();
    this.#next = random(seed);
    this.#source = io.arena.reserve(total, 4096);
    io.arena.u8.set(testBytes(total), this.#source);
    this.sent = (_stream, token) => assert.ok(this.outstanding.delete(token), `token ${token} twice`);
  }

  start(stream: Stream): void {
    this.#stream = stream;
    this.io.defer(this);
  }

  runDeferred(): void {
    const stream = this.#stream;
    if (!stream || stream.closing) return;
    while (!stream.congested && this.position < this.total) {
      const left = this.total - this.position;
      if (this.#next(2) === 0) {
        const n = Math.min(left, 1 + this.#next(this.mostHeader));
        const at = stream.header(n);
        for (let i = 0; i < n; i++) this.io.arena.u8[at + i] = byteAt(this.position + i);
        this.position += n;
      } else {
        const n = Math.min(left, 1 + this.#next(this.#next(10) === 0 ? 50_000 : 500));
        this.outstanding.add(this.#token);
        stream.payload(this.#source + this.position, n, this.#token++);
        this.mostQueued = Math.max(this.mostQueued, this.outstanding.size);
        this.position += n;
      }
    }
    if (this.position < this.total) this.io.timer(0, this, 0);
    else stream.finish();
  }

  complete(): void {
    this.runDeferred();
  }
}

const SIZES: readonly (StreamSizes & { readonly mostHeader: number })[] = [
  { window: 4 * KIB, segments: 8, headers: 256, mostHeader: 30 },
  { window: 4 * KIB, segments: 300, headers: 2048, mostHeader: 512 },
  { window: 64 * KIB, segments: 1024, headers: 64 * KIB, mostHeader: 64 },
];

for (const world of ["uring", "poll"] as const) {
  Deno.test(`${world}: headers and payloads leave in order, around the ends of both rings`, () => {
    for (const [i, sizes] of SIZES.entries()) {
      using w = new World(world);
      const [a, b] = w.pair();
      const total = 700 * KIB;
      const producer = new Producer(w.io, total, i + 1, sizes.mostHeader);
      const consumer = new Scripted(w.io, total, i + 9, [1, 20, 3000, 70_000]);
      consumer.closed = () => w.io.stop();
      producer.start(new Stream(w.io, a, new StreamMemory(w.io, sizes), producer));
      new Stream(w.io, b, new StreamMemory(w.io), consumer);
      w.run();
      w.passes(3);
      assert.equal(consumer.position, total);
      assert.equal(producer.outstanding.size, 0);
      assert.deepEqual([producer.ends, consumer.ends], [[0], [0]]);
    }
  });
}

Deno.test("a peer that reads slowly makes the stream congested, never larger, and gets everything", () => {
  using w = new World();
  const [a, b] = w.pair();
  const total = 600 * KIB;
  const producer = new Producer(w.io, total, 5, 100);
  producer.start(new Stream(w.io, a, new StreamMemory(w.io, { segments: 16, headers: 512 }), producer));
  const receiver = new RawReceiver(w.io, b, 16 * KIB, 1);
  producer.closed = () => w.io.stop();
  w.run();
  while (!receiver.ended) w.passes(3);
  assert.equal(receiver.received.length, total);
  assert.ok(receiver.received.every((byte, i) => byte === byteAt(i)));
  assert.ok(producer.mostQueued <= 16);
});
