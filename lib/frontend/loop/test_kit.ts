/**
 * The kernel's side of FUSE for unit tests: messages are handed to the reads of a frontend, replies are kept as
 * the gathered writes they are. No kernel is involved.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { BlockDevice } from "../../block/device.ts";
import { MemoryDevice } from "../../block/memory_device.ts";
import { Arena } from "../../io/arena.ts";
import { Errno } from "../../io/errno.ts";
import type { Completer, Deferred, Io } from "../../io/io.ts";
import { LoopFrontend, LoopMemory } from "./loop_frontend.ts";
import { Opcode } from "./protocol.ts";

/** A reply. */
export interface Reply {
  /** Length the header claims. */
  readonly length: number;
  /** 0 or `-errno`. */
  readonly error: number;
  /** Names the request. */
  readonly unique: bigint;
  /** What follows the header. */
  readonly body: Uint8Array<ArrayBuffer>;
}

interface PendingRead {
  readonly at: number;
  readonly length: number;
  readonly who: Completer;
  readonly tag: number;
}

/** Builds a request: header and arguments. */
export function request(
  opcode: number,
  unique: bigint,
  node: number,
  args?: Uint8Array,
  claimed?: number | undefined,
): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(40 + (args?.length ?? 0));
  const view = new DataView(message.buffer);
  view.setUint32(0, claimed ?? message.length, true);
  view.setUint32(4, opcode, true);
  view.setBigUint64(8, unique, true);
  view.setBigUint64(16, BigInt(node), true);
  if (args) message.set(args, 40);
  return message;
}

/** Arguments as little-endian numbers: plain ones take 32 bits, bigints 64. */
export function args(...fields: (number | bigint)[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(fields.reduce<number>((n, f) => n + (typeof f === "bigint" ? 8 : 4), 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const field of fields) {
    if (typeof field === "bigint") {
      view.setBigUint64(at, field, true);
      at += 8;
    } else {
      view.setUint32(at, field, true);
      at += 4;
    }
  }
  return bytes;
}

/** READ of the file. */
export function readRequest(unique: bigint, offset: bigint, size: number, node = 2): Uint8Array<ArrayBuffer> {
  return request(Opcode.READ, unique, node, args(0n, offset, size, 0, 0n, 0, 0));
}

/** WRITE to the file. */
export function writeRequest(
  unique: bigint,
  offset: bigint,
  data: Uint8Array,
  size: number = data.length,
): Uint8Array<ArrayBuffer> {
  const head = args(0n, offset, size, 0, 0n, 0, 0);
  const all = new Uint8Array(head.length + data.length);
  all.set(head);
  all.set(data, head.length);
  return request(Opcode.WRITE, unique, 2, all);
}

/** A frontend over a memory disk, and the kernel that talks to it. */
export class FakeKernel {
  /** Memory of the frontend. */
  readonly arena: Arena;
  /** The disk that is served. */
  readonly device: MemoryDevice;
  /** What is tested. */
  readonly frontend: LoopFrontend;
  /** Replies so far. */
  readonly replies: Reply[] = [];
  /** Results of `onEnded`. */
  readonly ended: number[] = [];
  /** Sizes told by `onResized`. */
  readonly resized: number[] = [];
  /** Descriptors closed. */
  readonly closed: number[] = [];
  /** What the next replies' writes end with instead of success. */
  replyError = 0;
  readonly #reads: PendingRead[] = [];
  readonly #deferred: Deferred[] = [];
  #now = 0;
  readonly #segments = new Map<number, [number, number]>();

  /**
   * Makes the disk and the frontend.
   *
   * @param depth slots of the frontend
   * @param wrap puts something between frontend and disk
   * @param bytes size of the disk
   * @param handed the frontend goes on for another process
   */
  constructor(
    depth = 4,
    wrap: (device: MemoryDevice) => BlockDevice = (device) => device,
    bytes = 1 << 20,
    handed = false,
  ) {
    this.arena = new Arena(new ArrayBuffer(LoopMemory.bytes(depth) + 65536), 0n);
    const io = this.#io();
    this.device = new MemoryDevice(io, "vol", bytes);
    this.frontend = new LoopFrontend(io, wrap(this.device), {
      fd: 9,
      endpoint: "/x/volume",
      memory: new LoopMemory(io, depth),
      handed,
      events: { onResized: (n) => this.resized.push(n), onEnded: (result) => this.ended.push(result) },
    });
  }

  /** Reads of the frontend under way. */
  get reads(): number {
    return this.#reads.length;
  }

  #io(): Io {
    const partial: Partial<Io> = {
      arena: this.arena,
      read: (fd, at, length, offset, who, tag) => {
        assert.deepEqual([fd, offset], [9, -1]);
        this.#reads.push({ at, length, who, tag });
      },
      segment: (vector, index, at, length) => this.#segments.set(vector + 16 * index, [at, length]),
      writeVector: (fd, vector, count, who, tag) => {
        assert.equal(fd, 9);
        assert.equal(vector % 16, 0);
        const length = this.#reply(vector, count);
        this.#deferred.push({ runDeferred: () => who.complete(tag, this.replyError || length) });
      },
      defer: (task) => void this.#deferred.push(task),
      close: (fd) => void this.closed.push(fd),
      interrupt: (fd) => {
        assert.equal(fd, 9);
        const called = () => {
          for (const { who, tag } of this.#reads.splice(0)) who.complete(tag, -Errno.ECANCELED);
        };
        this.#deferred.push({ runDeferred: called });
      },
      now: () => this.#now++,
      timer: (_ms, who, tag) => {
        this.#deferred.push({ runDeferred: () => who.complete(tag, 0) });
        return 0;
      },
      cancel: () => {},
    };
    return partial as Io;
  }

  #reply(vector: number, count: number): number {
    const parts: number[] = [];
    for (let i = 0; i < count; i++) {
      const [at, length] = this.#segments.get(vector + 16 * i) ?? [0, 0];
      parts.push(...this.arena.u8.subarray(at, at + length));
    }
    const bytes = Uint8Array.from(parts), view = new DataView(bytes.buffer);
    this.replies.push({
      length: view.getUint32(0, true),
      error: view.getInt32(4, true),
      unique: view.getBigUint64(8, true),
      body: bytes.slice(16),
    });
    assert.equal(view.getUint32(0, true), bytes.length, "a reply is as long as it says");
    return bytes.length;
  }

  /** Runs what was deferred until nothing is left. */
  settle(): void {
    for (let task = this.#deferred.shift(); task !== undefined; task = this.#deferred.shift()) {
      task.runDeferred();
    }
  }

  /** Hands a message to the oldest read, without running anything else. */
  post(message: Uint8Array): void {
    const read = this.#reads.shift();
    assert.ok(read, "a read is under way");
    assert.ok(message.length <= read.length, "the message fits the read");
    assert.equal((read.at + 80) % 4096, 0, "data lands on a page boundary");
    this.arena.u8.set(message, read.at);
    read.who.complete(read.tag, message.length);
  }

  /** Ends the oldest read with an error. */
  fail(result: number): void {
    const read = this.#reads.shift();
    assert.ok(read, "a read is under way");
    read.who.complete(read.tag, result);
    this.settle();
  }

  /** Hands a message over and returns the replies it brought. */
  send(message: Uint8Array): Reply[] {
    const before = this.replies.length;
    this.post(message);
    this.settle();
    return this.replies.slice(before);
  }

  /** As {@linkcode send}, for requests with exactly one reply. */
  ask(message: Uint8Array): Reply {
    const [reply, ...more] = this.send(message);
    assert.ok(reply, "there is a reply");
    assert.equal(more.length, 0, "there is one reply");
    return reply;
  }

  /** Negotiates as Linux 6.x does. */
  init(major = 7, minor = 38, flags = 0xffff_ffff): Reply {
    return this.ask(request(Opcode.INIT, 1n, 0, args(major, minor, 1 << 17, flags)));
  }
}
