/**
 * Helpers of this room's tests: a client whose replies are collected, a handler that answers when it is told to, raw
 * bytes on a socket, and waiting on a loop.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Errno } from "../io/errno.ts";
import type { Address, Completer, Io } from "../io/io.ts";
import { Later } from "../io/later.ts";
import { BufferPool } from "../io/pool.ts";
import { StreamMemory, type StreamSizes } from "../io/stream_memory.ts";
import { settleOne } from "../io/test_kit.ts";
import { DROP, FrameClient, type FrameClientOwner } from "./client.ts";
import { FRAME_BYTES, FrameType, MAX_ERROR_BYTES, MAX_FRAME_PAYLOAD, putFrame } from "./frame.ts";
import type { FrameHandler, FrameServerOptions } from "./handler.ts";
import { FrameServer } from "./server.ts";

/** Bytes. */
export const KIB = 1024;
/** Bytes. */
export const MIB: number = KIB * KIB;

/** Runs the loop until the condition holds. Gives up after ten seconds, with `what` in the error. */
export function until(io: Io, what: string, condition: () => boolean): void {
  const limit = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > limit) throw new Error(`waited ten seconds for ${what}`);
    io.timer(1, { complete: () => io.stop() }, 0);
    io.run();
  }
}

/** Lets the loop run for a while, for things that must not happen. */
export function idle(io: Io, ms = 20): void {
  settleOne(io, (who, tag) => io.timer(ms, who, tag));
}

/** One reply. */
export interface Received {
  /** Number of the request. */
  readonly sequence: number;
  /** As for `FrameClientOwner.onReply`. */
  readonly result: number;
  /** Of an error, else empty. */
  readonly text: string;
  /** A copy of what came. */
  readonly data: Uint8Array;
}

/** A client in the test's own loop. */
export class TestClient implements FrameClientOwner {
  /** The connection. */
  readonly client: FrameClient;
  /** In order of arrival. */
  readonly replies: Received[] = [];
  /** Result of `onClosed`. */
  closed: number | undefined;
  /** Payloads that are not given back yet. */
  lent = 0;
  /** Decides where replies go; default: room for anything. */
  place: (sequence: number, length: number) => number = () => this.#inbox;
  readonly #inbox: number;
  readonly #outbox: number;
  #used = 0;

  /**
   * Takes a connected socket.
   *
   * @param room bytes that may be sent in all, and received at once
   */
  constructor(readonly io: Io, fd: number, readonly room = MAX_FRAME_PAYLOAD, sizes: StreamSizes = {}) {
    this.#inbox = io.arena.reserve(room, 4096);
    this.#outbox = io.arena.reserve(room, 4096);
    const memory = new StreamMemory(io, { segments: 4096, headers: 128 * 1024, ...sizes, client: true });
    this.client = new FrameClient(io, fd, memory, io.arena.reserve(MAX_ERROR_BYTES), this);
  }

  /** Connects. */
  static connect(io: Io, address: Address, room?: number): TestClient {
    const fd = settleOne(io, (who, tag) => io.connect(address, who, tag));
    assert(fd >= 0, `connect: ${fd}`);
    return new TestClient(io, fd, room);
  }

  /** Queues a request. */
  request(sequence: number, type: number, offset: number, size: number, payload?: Uint8Array): void {
    let at = 0;
    if (payload) {
      if (this.lent === 0) this.#used = 0;
      at = this.#outbox + this.#used;
      this.#used += payload.length;
      assert(this.#used <= this.room, "the test client's outbox is too small");
      this.io.arena.u8.set(payload, at);
      this.lent++;
    }
    this.client.request(sequence, type, offset, size, at, payload?.length ?? 0, 1);
  }

  /** Waits for so many replies in all. */
  wait(count: number): void {
    until(
      this.io,
      `${count} replies (there are ${this.replies.length}, closed: ${this.closed})`,
      () => this.replies.length >= count,
    );
  }

  /** Sends a request and waits for its reply, the only one under way. */
  ask(type: number, offset: number, size: number, payload?: Uint8Array): Received {
    const count = this.replies.length;
    this.request(count, type, offset, size, payload);
    this.wait(count + 1);
    return this.replies[count];
  }

  /** Waits for the end of the connection. @returns its result */
  waitClosed(): number {
    until(this.io, "the end of a connection", () => this.closed !== undefined);
    return this.closed as number;
  }

  /** Ends the connection. */
  end(): void {
    if (this.closed === undefined) this.client.stream.close();
    this.waitClosed();
  }

  destination(_client: FrameClient, sequence: number, length: number): number {
    return length > this.room ? DROP : this.place(sequence, length);
  }

  onReply(_client: FrameClient, sequence: number, result: number, length: number, text: string): void {
    const data = this.io.arena.u8.slice(this.#inbox, this.#inbox + length);
    this.replies.push({ sequence, result, text, data });
  }

  onSent(): void {
    this.lent--;
  }

  onClosed(_client: FrameClient, result: number): void {
    this.closed = result;
  }
}

/** A request as the handler got it. */
export interface Taken {
  /** One of `FrameType`. */
  readonly type: number;
  /** Byte offset in the disk. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
  /** Arena offset of the data. */
  readonly at: number;
  /** Number of the connection. */
  readonly peer: number;
  /** Whom to answer. */
  readonly who: Completer;
  /** The server's number for it. */
  readonly tag: number;
}

/** A disk in memory behind a server. Answers by itself, or when told to. */
export class TestHandler implements FrameHandler {
  /** What writes have left. */
  readonly disk: Uint8Array;
  /** Requests that wait for {@linkcode TestHandler.answer}. */
  readonly held: Taken[] = [];
  /** Most requests that were with the handler at once. */
  most = 0;
  /** Requests taken in all. */
  taken = 0;
  /** Answer by itself. */
  auto = true;
  /** Result instead of the work. */
  fail: ((request: Taken) => number) | undefined;
  /** Text of Error frames. */
  text: (request: { type: number; offset: number; size: number; result: number }) => string = ({ result }) =>
    `failed with ${result}`;
  /** Numbers of the connections that ended, in order. */
  readonly gone: number[] = [];
  readonly #later: Later;
  #now: Taken[] = [];

  /** A disk of zeros. */
  constructor(readonly io: Io, bytes: number) {
    this.disk = new Uint8Array(bytes);
    this.#later = new Later(io, 4096, {
      complete: () => {
        const now = this.#now;
        this.#now = [];
        for (const request of now) this.answer(request);
      },
    });
  }

  serves(type: number): boolean {
    return type === FrameType.READ || type === FrameType.WRITE || type === FrameType.UNMAP ||
      type === FrameType.PING;
  }

  start(
    type: number,
    offset: number,
    size: number,
    at: number,
    peer: number,
    who: Completer,
    tag: number,
  ): void {
    const request = { type, offset, size, at, peer, who, tag };
    this.held.push(request);
    this.taken++;
    this.most = Math.max(this.most, this.held.length);
    if (!this.auto) return;
    this.#now.push(request);
    if (this.#now.length === 1) this.#later.push(0, 0);
  }

  /** Does a held request. */
  answer(request: Taken): void {
    const index = this.held.indexOf(request);
    assert(index >= 0, "answered twice");
    this.held.splice(index, 1);
    request.who.complete(request.tag, this.fail?.(request) ?? this.#work(request));
  }

  #work({ type, offset, size, at }: Taken): number {
    const { u8 } = this.io.arena;
    if (type === FrameType.PING) return 0;
    if (!(offset >= 0 && offset + size <= this.disk.length)) return -Errno.EINVAL;
    if (type === FrameType.READ) u8.set(this.disk.subarray(offset, offset + size), at);
    else if (type === FrameType.WRITE) this.disk.set(u8.subarray(at, at + size), offset);
    else this.disk.fill(0, offset, offset + size);
    return size;
  }

  errorText(type: number, offset: number, size: number, result: number): string {
    return this.text({ type, offset, size, result });
  }

  onGone(peer: number): void {
    this.gone.push(peer);
  }
}

/** A header, and a payload if there is one. */
export function frame(
  sequence: number,
  type: number,
  offset: number,
  size: number,
  payload: Uint8Array = new Uint8Array(),
  claimed = payload.length,
): Uint8Array {
  const bytes = new Uint8Array(FRAME_BYTES + payload.length);
  putFrame(new DataView(bytes.buffer), 0, sequence, type, offset, size, claimed);
  bytes.set(payload, FRAME_BYTES);
  return bytes;
}

/** A connection that is used byte by byte. */
export class RawPeer {
  readonly #at: number;
  readonly #vector: number;

  /**
   * Takes a connected socket.
   *
   * @param room most bytes sent at once
   */
  constructor(readonly io: Io, readonly fd: number, readonly room = 64 * 1024) {
    assert(fd >= 0, `no socket: ${fd}`);
    this.#at = io.arena.reserve(room, 4096);
    this.#vector = io.arena.reserve(16, 16);
  }

  /** Connects. */
  static connect(io: Io, address: Address, room?: number): RawPeer {
    return new RawPeer(io, settleOne(io, (who, tag) => io.connect(address, who, tag)), room);
  }

  /** Sends bytes. @returns the result */
  send(bytes: Uint8Array): number {
    assert(bytes.length <= this.room, "too many bytes at once");
    this.io.arena.u8.set(bytes, this.#at);
    this.io.segment(this.#vector, 0, this.#at, bytes.length);
    return settleOne(this.io, (who, tag) => this.io.send(this.fd, this.#vector, 1, who, tag));
  }

  /** Receives what is there. Empty at the end; a reset is an end. */
  receive(): Uint8Array {
    const result = settleOne(
      this.io,
      (who, tag) => this.io.receive(this.fd, this.#at, this.room, who, tag),
    );
    return this.io.arena.u8.slice(this.#at, this.#at + Math.max(0, result));
  }

  /** Receives to the end. @returns the bytes that came */
  receiveAll(): number {
    let sum = 0;
    for (let n = this.receive().length; n > 0; n = this.receive().length) sum += n;
    return sum;
  }

  /** Closes the socket, whatever the peer has sent. */
  close(): void {
    this.io.close(this.fd);
  }
}

/** A pool for a server of tests. */
export function testPool(io: Io, bytes = 32 * 1024 * 1024, largest = MAX_FRAME_PAYLOAD): BufferPool {
  return new BufferPool(io, bytes, largest);
}

/** Deterministic bytes that differ from their neighbours. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = Math.imul(seed * 31 + i + 1, 0x9e3779b1) >>> 24;
  return bytes;
}

/** A server of tests, see {@linkcode setUpServer}. */
export interface ServerSetup extends Disposable {
  /** Where it listens. */
  readonly address: Address;
  /** What does the requests. */
  readonly handler: TestHandler;
  /** Where it takes its buffers. */
  readonly pool: BufferPool;
  /** The server. */
  readonly server: FrameServer;
  /** What it told of connections, in order. */
  readonly problems: string[];
  /** The test has stopped the server itself. */
  stopped: boolean;
  /** Connects a client, which ends with the server. */
  connect(room?: number): TestClient;
}

/** Sizes of a server of tests. */
export interface SetupOptions extends FrameServerOptions {
  /** Size of the disk. */
  readonly diskBytes?: number;
  /** Bytes of the pool. */
  readonly poolBytes?: number;
  /** Largest buffer of the pool, bytes. */
  readonly largest?: number;
}

/** A server whose pool and slots must all have come back at the end. */
export function setUpServer(io: Io, directory: string, options: SetupOptions = {}): ServerSetup {
  const address: Address = { kind: "unix", path: `${directory}/s.sock` };
  const handler = new TestHandler(io, options.diskBytes ?? 64 * KIB);
  const pool = testPool(io, options.poolBytes ?? MIB, options.largest ?? 64 * KIB);
  const problems: string[] = [], free = pool.free, clients: TestClient[] = [];
  const server = new FrameServer(io, pool, address, handler, {
    ...options,
    onProblem: (error) => problems.push(error.message),
  });
  const connect = (room = 256 * KIB) => {
    const client = TestClient.connect(io, address, room);
    clients.push(client);
    return client;
  };
  const setup: ServerSetup = {
    address,
    handler,
    pool,
    server,
    problems,
    stopped: false,
    connect,
    [Symbol.dispose]: dispose,
  };
  return setup;

  function dispose(): void {
    server.stop(() => setup.stopped = true);
    handler.auto = true;
    while (handler.held.length > 0) handler.answer(handler.held[0]);
    until(io, "the server's end, for which every slot must be free", () => setup.stopped);
    for (const client of clients) client.end();
    assert.equal(pool.free, free, "buffers are missing");
    assert.equal(server.connections, 0);
  }
}

/** Compares much faster than `deepEqual`. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
