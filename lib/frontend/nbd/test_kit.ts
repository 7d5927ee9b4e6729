/**
 * What the tests of the NBD frontend share: a server and its clients in one loop, and a device whose
 * completions a test can hold back.
 *
 * @module
 */
import assert from "node:assert/strict";
import { World } from "../../io/stream_test_kit.ts";
import type { BlockDevice, Op } from "../../block/device.ts";
import { MemoryDevice } from "../../block/memory_device.ts";
import type { Address, Completer } from "../../io/io.ts";
import { BufferPool } from "../../io/pool.ts";
import { Stream, StreamMemory, type StreamOwner } from "../../io/stream.ts";
import { move } from "../test_parcel.ts";
import { NbdFrontend, type NbdOptions } from "./frontend.ts";
import { Form } from "./reply.ts";

const PATIENCE_MS = 20_000;
const KIB = 1024;

/** Big-endian bytes: a number is 32 bits, `[n, 2]` and `[n, 8]` are other sizes, a string is its characters. */
export function bytes(...fields: (number | [number | bigint, 2 | 8] | string | Uint8Array)[]): Uint8Array {
  const out: number[] = [];
  for (const field of fields) {
    if (typeof field === "string") out.push(...new TextEncoder().encode(field));
    else if (field instanceof Uint8Array) { for (const byte of field) out.push(byte); }
    else {
      const [value, size] = typeof field === "number" ? [field, 4] as const : field;
      for (let i = size - 1; i >= 0; i--) out.push(Number((BigInt(value) >> BigInt(8 * i)) & 255n));
    }
  }
  return new Uint8Array(out);
}

/** A device that passes operations on when the test says so. */
export class HeldDevice implements BlockDevice {
  /** Operations not passed on yet. */
  readonly held: (() => void)[] = [];
  /** Every operation seen: `[op, offset, length]`. */
  readonly seen: [Op, number, number][] = [];
  /** True: operations wait for {@linkcode HeldDevice.release}. */
  hold = false;

  /** Wraps a device. */
  constructor(readonly device: MemoryDevice) {}
  /** See `BlockDevice`. */
  get name(): string {
    return this.device.name;
  }
  /** See `BlockDevice`. */
  get bytes(): number {
    return this.device.bytes;
  }
  /** See `BlockDevice`. */
  onResize(listener: () => void): void {
    this.device.onResize(listener);
  }
  /** See `BlockDevice`. */
  submit(op: Op, offset: number, length: number, at: number, who: Completer, tag: number): void {
    this.seen.push([op, offset, length]);
    const start = () => this.device.submit(op, offset, length, at, who, tag);
    if (this.hold) this.held.push(start);
    else start();
  }
  /** Passes on the oldest operations. */
  release(count = Infinity): void {
    for (const start of this.held.splice(0, Math.min(count, this.held.length))) start();
  }
}

/** One reply, or one chunk of one. */
export interface Reply {
  /** Cookie, as a number. */
  readonly cookie: number;
  /** Error of a simple reply or an error chunk, 0 otherwise. */
  readonly error: number;
  /** Chunk type; 0 for simple replies. */
  readonly type: number;
  /** Chunk flags; 1 for simple replies. */
  readonly flags: number;
  /** Payload of the chunk. */
  readonly payload: Uint8Array;
}

/** A client: queues bytes, keeps what comes. */
export class Client implements StreamOwner {
  /** The form of replies; set by {@linkcode Client.open}. */
  form: Form = Form.SIMPLE;
  /** The end of the stream, once it came. */
  end: number | undefined;
  readonly #kit: Kit;
  readonly #stream: Stream;
  #received: number[] = [];

  /** Takes a connected descriptor. */
  constructor(kit: Kit, fd: number) {
    this.#kit = kit;
    this.#stream = new Stream(
      kit.io,
      fd,
      new StreamMemory(kit.io, { headers: 256 * KIB, client: true }),
      this,
    );
  }
  /** Keeps what came. */
  onData(stream: Stream): void {
    const u8 = this.#kit.io.arena.u8;
    for (let i = 0; i < stream.available; i++) this.#received.push(u8[stream.position + i] as number);
    stream.consume(stream.available);
  }
  /** Not used. */
  onFilled(): void {}
  /** Not used. */
  onSent(): void {}
  /** The server closed. */
  onClosed(_stream: Stream, result: number): void {
    this.end = result;
  }
  /** Bytes received and not taken. */
  get pending(): number {
    return this.#received.length;
  }
  /** Queues bytes; large ones in pieces. */
  send(data: Uint8Array): void {
    for (let at = 0; at < data.length; at += 16 * KIB) {
      this.#kit.until(() => !this.#stream.congested || this.end !== undefined, "room to send");
      if (this.end !== undefined) return;
      const part = data.subarray(at, at + 16 * KIB);
      this.#kit.io.arena.u8.set(part, this.#stream.header(part.length));
    }
  }
  /** Waits for `length` bytes and takes them. */
  take(length: number): DataView {
    this.#kit.until(() => this.#received.length >= length, () => `${length} bytes; end ${this.end}`);
    return new DataView(new Uint8Array(this.#received.splice(0, length)).buffer);
  }
  /** Stops or goes on reading. */
  pause(on: boolean): void {
    if (on) this.#stream.pause();
    else this.#stream.resume();
  }
  /** Ends the connection at once. */
  close(): void {
    this.#stream.close();
    this.#kit.until(() => this.end !== undefined, "the client's end");
  }
  /** Waits until the server ended the connection. */
  waitForEnd(): void {
    this.#kit.until(() => this.end !== undefined, "the server to close");
  }
  /** The greeting and the client's flags. */
  greet(flags = 3): void {
    const view = this.take(18);
    assert.equal(view.getBigUint64(0), 0x4e42444d41474943n);
    assert.equal(view.getBigUint64(8), 0x49484156454f5054n);
    assert.equal(view.getUint16(16), 3);
    this.send(bytes(flags));
  }
  /** Sends an option and returns its replies, `[type, data]`, up to the final one. */
  option(option: number, data: Uint8Array = new Uint8Array(0)): [number, Uint8Array][] {
    this.send(bytes("IHAVEOPT", option, data.length, data));
    return this.optionReplies(option);
  }
  /** The replies to an option that was sent. */
  optionReplies(option: number): [number, Uint8Array][] {
    const replies: [number, Uint8Array][] = [];
    for (;;) {
      const head = this.take(20);
      assert.equal(head.getBigUint64(0), 0x3e889045565a9n);
      assert.equal(head.getUint32(8), option);
      const type = head.getUint32(12);
      replies.push([type, new Uint8Array(this.take(head.getUint32(16)).buffer)]);
      if (type === 1 || type >= 0x80000000) return replies;
    }
  }
  /** Goes through the handshake to the transmission phase. */
  open(form: Form = Form.STRUCTURED, allocation = false): this {
    this.greet();
    if (form === Form.STRUCTURED) assert.equal(this.option(8)[0]?.[0], 1);
    if (form === Form.EXTENDED) assert.equal(this.option(11)[0]?.[0], 1);
    if (allocation) assert.equal(this.option(10, bytes(0, 1, 15, "base:allocation")).length, 2);
    assert.equal(this.option(7, bytes(0, [0, 2])).at(-1)?.[0], 1);
    this.form = form;
    return this;
  }
  /** Sends a request. */
  request(
    type: number,
    offset: number | bigint = 0,
    length = 0,
    options: { flags?: number; cookie?: number; payload?: Uint8Array } = {},
  ): void {
    const { flags = 0, cookie = 1, payload } = options;
    if (this.form === Form.EXTENDED) {
      const announced = payload ? flags | 32 : flags;
      this.send(bytes(0x21e41c71, [announced, 2], [type, 2], [cookie, 8], [offset, 8], [length, 8]));
    } else this.send(bytes(0x25609513, [flags, 2], [type, 2], [cookie, 8], [offset, 8], length));
    if (payload) this.send(payload);
  }
  /** Takes a reply; a simple one is followed by `simpleLength` bytes when it is a success. */
  reply(simpleLength = 0): Reply {
    const magic = this.take(4).getUint32(0);
    if (magic === 0x67446698) {
      assert.notEqual(this.form, Form.EXTENDED);
      const view = this.take(12), error = view.getUint32(0);
      const payload = new Uint8Array(this.take(error === 0 ? simpleLength : 0).buffer);
      return { cookie: Number(view.getBigUint64(4)), error, type: 0, flags: 1, payload };
    }
    assert.equal(magic, this.form === Form.EXTENDED ? 0x6e8a278c : 0x668e33ef);
    const view = this.take(this.form === Form.EXTENDED ? 28 : 16);
    const length = this.form === Form.EXTENDED ? Number(view.getBigUint64(20)) : view.getUint32(12);
    const payload = this.take(length);
    const type = view.getUint16(2);
    return {
      cookie: Number(view.getBigUint64(4)),
      error: type >= 0x8000 ? payload.getUint32(0) : 0,
      type,
      flags: view.getUint16(0),
      payload: new Uint8Array(payload.buffer),
    };
  }
  /** Writes and waits for success. */
  write(offset: number, payload: Uint8Array, flags = 0): void {
    this.request(1, offset, payload.length, { payload, flags });
    assert.equal(this.reply().error, 0);
  }
  /** Reads in any form. */
  read(offset: number, length: number): Uint8Array {
    this.request(0, offset, length);
    if (this.form === Form.SIMPLE) return this.reply(length).payload;
    const data = new Uint8Array(length);
    for (;;) {
      const chunk = this.reply();
      assert.equal(chunk.error, 0);
      if (chunk.type === 1) {
        const at = Number(new DataView(chunk.payload.buffer).getBigUint64(0)) - offset;
        data.set(chunk.payload.subarray(8), at);
      }
      if (chunk.flags & 1) return data;
    }
  }
}

/** Settings of a {@linkcode Kit}. */
export interface KitOptions extends Partial<NbdOptions> {
  /** Size of the volume, bytes. */
  readonly size?: number;
  /** Size of the buffer pool, bytes. */
  readonly poolBytes?: number;
  /** Size of the largest buffer, bytes. */
  readonly largest?: number;
  /** Size of the arena, bytes. */
  readonly arenaBytes?: number;
}

/** A server in a world, with clients. */
export class Kit implements Disposable {
  /** The world. */
  readonly world: World;
  /** Its Io. */
  readonly io: World["io"];
  /** Buffers of the server. */
  readonly pool: BufferPool;
  /** All of them, bytes. */
  readonly poolBytes: number;
  /** The disk. */
  readonly memory: MemoryDevice;
  /** The disk as the server sees it. */
  readonly device: HeldDevice;
  /** The server. */
  frontend: NbdFrontend;
  /** What the server logged. */
  readonly events: string[] = [];
  readonly #address: Address;
  readonly #directory = Deno.makeTempDirSync();

  /** Starts a server. */
  constructor(options: KitOptions = {}) {
    const { size = 64 * KIB * KIB, poolBytes = 16 * KIB * KIB, largest = 4 * KIB * KIB, ...rest } = options;
    this.world = new World(undefined, options.arenaBytes ?? 128 * KIB * KIB);
    this.io = this.world.io;
    this.pool = new BufferPool(this.io, poolBytes, largest);
    this.poolBytes = this.pool.free;
    this.memory = new MemoryDevice(this.io, "vol", size);
    this.device = new HeldDevice(this.memory);
    this.#address = rest.address ?? { kind: "unix", path: `${this.#directory}/nbd` };
    const onEvent = (text: string) => void this.events.push(text);
    this.frontend = new NbdFrontend(this.io, this.pool, this.device, {
      onEvent,
      ...rest,
      address: this.#address,
    });
  }

  /** Connects a client. */
  connect(): Client {
    let fd: number | undefined;
    this.io.connect(this.#address, { complete: (_tag, result) => void (fd = result) }, 0);
    this.until(() => fd !== undefined, "a connection");
    assert.ok(fd !== undefined && fd >= 0, `connect: ${fd}`);
    return new Client(this, fd);
  }

  /** Another frontend goes on with the clients, as after a live upgrade. */
  move(): void {
    this.frontend = move(
      this.frontend,
      (condition) => this.until(condition, "rest"),
      (handed) =>
        new NbdFrontend(this.io, this.pool, this.device, {
          onEvent: (text) => void this.events.push(text),
          address: { kind: "unix", path: "/nowhere" },
          handed,
        }),
    );
  }

  /** Runs the loop until something is true. */
  until(condition: () => boolean, what: string | (() => string) = "a condition"): void {
    const deadline = performance.now() + PATIENCE_MS;
    while (performance.now() < deadline) {
      if (condition()) return;
      this.world.passes(1);
    }
    const text = typeof what === "string" ? what : what();
    assert.fail(`waited in vain for ${text}; events: ${this.events.join(" | ")}`);
  }

  /** Runs the loop for a few passes. */
  settle(): void {
    this.world.passes(10);
  }

  /** Asserts that nothing is held once all clients are gone. */
  assertClean(): void {
    this.until(() => this.frontend.connections === 0, "connections to end");
    assert.equal(this.pool.free, this.poolBytes, "buffers leaked");
    assert.equal(this.frontend.slots.free, this.frontend.slots.depth, "slots leaked");
  }

  /** Frees the world. */
  [Symbol.dispose](): void {
    this.world[Symbol.dispose]();
    Deno.removeSync(this.#directory, { recursive: true });
  }
}
