/**
 * A world with connected sockets, owners and peers for tests of streams and of what stands on them.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Completer, Deferred, Io } from "./io.ts";
import { type KernelWorld, openIo } from "./open.ts";
import type { Stream, StreamOwner } from "./stream.ts";

const PATIENCE_MS = 20_000;

/** A generator of numbers from a seed (mulberry32). */
export function random(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** The byte at a place of the test stream. */
export function byteAt(position: number): number {
  return (position * 131 + (position >>> 8) * 17 + (position >>> 16)) & 255;
}

/** A world with a connected pair of sockets; disposing closes what is left. */
export class World implements Disposable, Completer {
  /** Its Io. */
  readonly io: Io;
  readonly #directory = Deno.makeTempDirSync();
  #fds: number[] = [];
  #listener = -1;

  /** Opens it. @param world which one; default: the best */
  constructor(world?: KernelWorld, arenaBytes = 64 * 1024 * 1024) {
    this.io = openIo({ arenaBytes, ...(world ? { world } : {}) });
  }

  /** Two ends of a connection. */
  pair(): [number, number] {
    const address = { kind: "unix", path: `${this.#directory}/s` } as const;
    if (this.#listener < 0) this.#listener = this.io.listen(address);
    this.#fds = [];
    this.io.accept(this.#listener, this, 0);
    this.io.connect(address, this, 1);
    this.io.run();
    const [a, b] = this.#fds;
    assert.ok(a !== undefined && b !== undefined && a >= 0 && b >= 0);
    return [a, b];
  }

  /** Takes the ends of a pair. */
  complete(tag: number, result: number): void {
    this.#fds[tag] = result;
    if (this.#fds[0] !== undefined && this.#fds[1] !== undefined) this.io.stop();
  }

  /** Runs the loop until somebody stops it; too long is a failure. */
  run(): void {
    let late = false;
    const guard: Completer = { complete: () => (late = true, this.io.stop()) };
    const timer = this.io.timer(PATIENCE_MS, guard, 0);
    this.io.run();
    this.io.cancel(timer);
    assert.ok(!late, "nothing happens any more");
  }

  /** Runs the loop for some passes. */
  passes(count: number): void {
    const task: Deferred & Completer = {
      runDeferred: () => {},
      complete: () => {
        if (--count > 0) this.io.timer(0, task, 0);
        else this.io.stop();
      },
    };
    this.io.timer(0, task, 0);
    this.io.run();
  }

  /** Frees everything. */
  [Symbol.dispose](): void {
    if (this.#listener >= 0) this.io.close(this.#listener);
    this.io[Symbol.dispose]();
    Deno.removeSync(this.#directory, { recursive: true });
  }
}

/** An owner that records; tests override what they need. */
export class Recorder implements StreamOwner {
  /** Called by onData. */
  data: (stream: Stream) => void = (stream) => stream.consume(stream.available);
  /** Called by onFilled. */
  filled: (stream: Stream) => void = () => {};
  /** Called by onSent. */
  sent: (stream: Stream, token: number) => void = () => {};
  /** Called by onClosed. */
  closed: (stream: Stream, result: number) => void = () => {};
  /** Results of onClosed: never more than one. */
  readonly ends: number[] = [];
  /** Tokens that came back. */
  readonly tokens: number[] = [];
  /** Calls of onData without bytes. */
  nudges = 0;

  /** See StreamOwner. */
  onData(stream: Stream): void {
    assert.equal(this.ends.length, 0, "data after the end");
    if (stream.available === 0) {
      this.nudges++;
      return;
    }
    this.data(stream);
  }
  /** See StreamOwner. */
  onFilled(stream: Stream): void {
    assert.equal(this.ends.length, 0, "filled after the end");
    this.filled(stream);
  }
  /** See StreamOwner. */
  onSent(stream: Stream, token: number): void {
    assert.equal(this.ends.length, 0, "sent after the end");
    this.tokens.push(token);
    this.sent(stream, token);
  }
  /** See StreamOwner. */
  onClosed(stream: Stream, result: number): void {
    this.ends.push(result);
    this.closed(stream, result);
  }
}

/** Sends bytes in given cuts, each in a pass of its own, then closes. */
export class RawSender implements Completer {
  readonly #vector: number;
  readonly #at: number;
  #done = 0;
  /** Starts to send. */
  constructor(readonly io: Io, readonly fd: number, bytes: Uint8Array, readonly cuts: number[]) {
    this.#vector = io.arena.reserve(16, 16);
    this.#at = io.arena.reserve(bytes.length);
    io.arena.u8.set(bytes, this.#at);
    this.#next();
  }
  #next(): void {
    const cut = this.cuts.shift();
    if (cut === undefined) return this.io.close(this.fd);
    this.io.segment(this.#vector, 0, this.#at + this.#done, cut);
    this.#done += cut;
    this.io.send(this.fd, this.#vector, 1, this, 0);
  }
  /** A cut was sent. */
  complete(_tag: number, result: number): void {
    if (result < 0) this.io.close(this.fd);
    else this.#next();
  }
}

/** Receives everything up to the end, at most `step` bytes at once and, if asked, with a pause in between. */
export class RawReceiver implements Completer {
  /** All bytes so far. */
  readonly received: number[] = [];
  /** True at the end of the stream. */
  ended = false;
  readonly #at: number;
  /** Starts to receive. */
  constructor(readonly io: Io, readonly fd: number, readonly step: number, readonly pauseMs = 0) {
    this.#at = io.arena.reserve(step);
    this.#receive();
  }
  #receive(): void {
    this.io.receive(this.fd, this.#at, this.step, this, 0);
  }
  /** Bytes came, the end came, or a pause is over. */
  complete(tag: number, result: number): void {
    if (tag === 1) return this.#receive();
    if (result <= 0) {
      this.ended = true;
      return this.io.close(this.fd);
    }
    for (let i = 0; i < result; i++) this.received.push(this.io.arena.u8[this.#at + i] as number);
    if (this.pauseMs > 0) this.io.timer(this.pauseMs, this, 1);
    else this.#receive();
  }
}

/** Bytes of the test stream. */
export function testBytes(total: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(total);
  for (let i = 0; i < total; i++) bytes[i] = byteAt(i);
  return bytes;
}
