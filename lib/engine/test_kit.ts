/**
 * Helpers of this room's tests: a volume over replicas that do as they are told, in a simulated cluster, so that
 * seconds of patience cost nothing and every run is the same.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import { Errno } from "../io/errno.ts";
import type { Completer, Io } from "../io/io.ts";
import { Later } from "../io/later.ts";
import { BufferPool, NO_BUFFER } from "../io/pool.ts";
import { SimCluster, type SimHost, type SimOverrides, type SimProcess } from "../io/sim/mod.ts";
import { Stream, StreamMemory, type StreamOwner, type StreamSizes } from "../io/stream.ts";
import { DIGEST_PIECE_BYTES, DIGEST_SUM_BYTES, Murmur128 } from "../wire/digest.ts";
import { Feature, FRAME_BYTES, FrameType } from "../wire/frame.ts";
import { type FrameHandler, FrameServer } from "../wire/server.ts";
import type { MemberRecord } from "./membership.ts";
import { Volume } from "./volume.ts";
import type { VolumeEvents, VolumeOptions } from "./volume_options.ts";

/** Bytes of the volumes. */
export const VOLUME_BYTES = 1024 * 1024;
/** Port of every replica's data server. */
const PORT = 10001;
const ARENA_BYTES = 24 * 1024 * 1024;
const SIZES: StreamSizes = { window: 64 * 1024, headers: 64 * 1024, segments: 1100 };

/** One request that a replica got. */
export interface Got {
  /** Type of the frame. */
  readonly type: number;
  /** Its offset field. */
  readonly offset: number;
  /** Its size: of the payload where it has one. */
  readonly size: number;
  /** Where its data lies, or goes, in the arena. */
  readonly at: number;
  /** Who is to be told the end. */
  readonly who: Completer;
  /** And under which number. */
  readonly tag: number;
}

/** What a replica does with a request: nothing special, a failure, or nothing until it is told to. */
export type Behaviour = (request: Got) => number | "hold" | undefined;

/** A replica on a simulated host. */
export class FakeReplica implements FrameHandler {
  /** Address people know it by. */
  readonly name: string;
  /** Its process. */
  readonly process: SimProcess;
  /** Content. */
  readonly disk: Uint8Array = new Uint8Array(VOLUME_BYTES);
  /** Everything but pings, in order of arrival. */
  readonly requests: Got[] = [];
  /** What waits for {@linkcode FakeReplica.release}. */
  readonly held: Got[] = [];
  /** Records of members it was given. */
  readonly records: MemberRecord[] = [];
  /** See {@linkcode Behaviour}. */
  behave: Behaviour = () => undefined;
  /** Text of its errors. */
  text = "input/output error";
  #later: Later | undefined;
  #due: Got[] = [];

  /** Starts to listen. @param features what engines are to be told that it announces */
  constructor(readonly host: SimHost, readonly features: number) {
    this.name = `tcp://${host.name}:10000`;
    this.process = host.spawn("replica", (io) => {
      this.#later = new Later(io, 4096, { complete: () => this.#finish(this.#due.shift()) });
      const pool = new BufferPool(io, 4 * 1024 * 1024, 1024 * 1024);
      new FrameServer(io, pool, { kind: "tcp", host: host.name, port: PORT }, this, { streamSizes: SIZES });
    }, { arenaBytes: ARENA_BYTES });
  }

  serves(type: number): boolean {
    return type !== FrameType.RESPONSE;
  }

  start(
    type: number,
    offset: number,
    size: number,
    at: number,
    _peer: number,
    who: Completer,
    tag: number,
  ): void {
    const request = { type, offset, size, at, who, tag };
    if (type !== FrameType.PING) this.requests.push(request);
    if (type === FrameType.ADOPT) {
      const bytes = this.process.io.arena.u8.slice(at, at + size);
      const { copies: _, ...record } = JSON.parse(new TextDecoder().decode(bytes));
      this.records.push(record);
    }
    if (this.behave(request) === "hold") this.held.push(request);
    else this.#soon(request);
  }

  #soon(request: Got): void {
    this.#due.push(request);
    this.#later?.push(0, 0);
  }

  /** Does what was held. @param index of one of them; default: all */
  release(index?: number): void {
    const due = index === undefined ? this.held.splice(0) : this.held.splice(index, 1);
    this.process.enter(() => due.forEach((request) => this.#soon(request)));
  }

  #finish(request: Got | undefined): void {
    assert(request);
    const { type, offset, size, at, who, tag } = request, { u8 } = this.process.io.arena;
    const told = this.behave(request);
    if (typeof told === "number" && told < 0) return who.complete(tag, told);
    if (type === FrameType.READ) u8.set(this.disk.subarray(offset, offset + size), at);
    else if (type === FrameType.WRITE || type === FrameType.WRITE_DURABLE) {
      this.disk.set(u8.subarray(at, at + size), offset);
    } else if (type === FrameType.UNMAP) this.disk.fill(0, offset, offset + size);
    else if (type === FrameType.DIGEST) this.#digest(offset, size, u8, at);
    who.complete(tag, type === FrameType.FLUSH || type >= FrameType.ADOPT ? 0 : size);
  }

  #digest(offset: number, size: number, into: Uint8Array, at: number): void {
    const sum = new Murmur128();
    for (let from = 0; from < size; from += DIGEST_PIECE_BYTES, at += DIGEST_SUM_BYTES) {
      sum.reset();
      sum.bytes(this.disk.subarray(offset + from, offset + Math.min(from + DIGEST_PIECE_BYTES, size)));
      sum.finish(into.subarray(at, at + DIGEST_SUM_BYTES));
    }
  }

  errorText(): string {
    return this.text;
  }

  onGone(): void {}

  /** How many requests of a type it got. */
  count(type: number): number {
    return this.requests.filter((request) => request.type === type).length;
  }
}

/** A replica that answers every request with the same bytes. */
export class RogueReplica implements StreamOwner {
  /** Address people know it by. */
  readonly name: string;

  /**
   * Starts to listen.
   *
   * @param answer makes the bytes of the answer from those of a request's header
   */
  constructor(readonly host: SimHost, readonly answer: (header: Uint8Array) => Uint8Array) {
    this.name = `tcp://${host.name}:10000`;
    host.spawn("replica", (io: Io) => {
      const listener = io.listen({ kind: "tcp", host: host.name, port: PORT });
      const accept: Completer = {
        complete: (_tag, fd) => {
          if (fd < 0) return;
          new Stream(io, fd, new StreamMemory(io, SIZES), this);
          io.accept(listener, accept, 0);
        },
      };
      io.accept(listener, accept, 0);
    }, { arenaBytes: 1024 * 1024 });
  }

  onData(stream: Stream): void {
    if (stream.available < FRAME_BYTES) return;
    const { u8 } = stream.io.arena, at = stream.position;
    const bytes = this.answer(u8.slice(at, at + FRAME_BYTES));
    stream.consume(stream.available);
    if (bytes.length > 0) u8.set(bytes, stream.header(bytes.length));
  }

  onFilled(): void {}
  onSent(): void {}
  onClosed(): void {}
}

/** A request of the test. */
export interface Asked {
  /** What was asked. */
  readonly op: Op;
  /** Where its data lies, or goes, in the arena. */
  readonly at: number;
  /** How many bytes of it. */
  readonly length: number;
  /** Undefined while it is under way. */
  result: number | undefined;
  /** Virtual ms at which it was answered. */
  answeredAt: number;
  /** Content of its buffer when it was answered. */
  data: Uint8Array;
}

/** Options of a bench. */
export interface BenchOptions extends Partial<VolumeOptions> {
  /** How many; default 3. */
  readonly replicas?: number;
  /** Of each replica; default: those of the first version of this software. */
  readonly features?: readonly number[];
  /** What the network is like. */
  readonly world?: SimOverrides;
  /** Of the cluster. */
  readonly seed?: number;
  /** Leave the volume as it is before the replicas are dialed. */
  readonly bare?: boolean;
}

/** What this software's replicas announce, as far as tests are to see it. */
export const FEATURES: number = Feature.FLUSH | Feature.GENERATION;

/** Buffers of bytes that tell who wrote them. */
export function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** See the module text. */
export class Bench implements VolumeEvents, Disposable {
  /** The world. */
  readonly cluster: SimCluster;
  /** Its process. */
  readonly process: SimProcess;
  /** The replicas, r1 first. */
  readonly replicas: FakeReplica[] = [];
  /** Names that connected, and names with reasons that failed. */
  readonly connected: string[] = [];
  /** Names that failed, each with its reason. */
  readonly failed: string[] = [];
  /** Records of members that were complete. */
  readonly recorded: MemberRecord[] = [];
  #volume: Volume | undefined;
  #pool: BufferPool | undefined;

  /** Starts a volume over all replicas, unless it is to be bare. */
  constructor(options: BenchOptions = {}) {
    const { replicas = 3, features = [], world, seed = 1, bare, ...volume } = options;
    this.cluster = new SimCluster(seed, world);
    for (let i = 0; i < replicas; i++) {
      this.replicas.push(new FakeReplica(this.cluster.host(`r${i + 1}`), features[i] ?? FEATURES));
    }
    this.process = this.cluster.host("e").spawn("engine", (io) => {
      this.#pool = new BufferPool(io, 8 * 1024 * 1024, 1024 * 1024);
      this.#volume = new Volume(io, { name: "vol", bytes: VOLUME_BYTES, linkSizes: SIZES, ...volume }, this);
    }, { arenaBytes: ARENA_BYTES });
    this.cluster.run(1);
    if (bare) return;
    for (const replica of this.replicas) this.dial(replica);
    this.until("all replicas to be connected", () => this.connected.length === replicas);
    this.enter(() => {
      for (const { name } of this.replicas) this.volume.admit(name, "RW");
      this.volume.start(1);
    });
    this.until("the members to be recorded", () => this.recorded.length > 0);
  }

  /** The volume. */
  get volume(): Volume {
    assert(this.#volume);
    return this.#volume;
  }

  /** Bytes of buffers that are not handed out. */
  get pool(): BufferPool {
    assert(this.#pool);
    return this.#pool;
  }

  /** Runs code in the engine. */
  enter(code: () => void): void {
    this.process.enter(code);
  }

  /** Dials a replica. */
  dial({ name, host }: { name: string; host: SimHost }, features: number = FEATURES): void {
    const data = { kind: "tcp", host: host.name, port: PORT } as const;
    this.enter(() => this.volume.replicas.dial(name, data, `id-${host.name}`, features));
  }

  /** Submits a request. */
  submit(op: Op, offset: number, length: number, fill = 0): Asked {
    const data = op !== Op.UNMAP && op !== Op.FLUSH && length > 0 && length <= VOLUME_BYTES;
    const at = data ? this.pool.allocate(length) : 0;
    assert(at !== NO_BUFFER, "the test is out of buffers");
    const { u8 } = this.process.io.arena;
    if (data) u8.fill(fill, at, at + length);
    const asked: Asked = { op, at, length, result: undefined, answeredAt: 0, data: filled(0, 0) };
    const who: Completer = {
      complete: (_tag, result) => {
        assert.equal(asked.result, undefined, "answered twice");
        asked.result = result;
        asked.answeredAt = this.cluster.now;
        if (!data) return;
        asked.data = u8.slice(at, at + length);
        // Whoever still uses the buffer now shall be found out.
        u8.fill(0xdd, at, at + length);
        this.pool.release(at);
      },
    };
    this.enter(() => {
      this.volume.submit(op, offset, length, at, who, 7);
      assert.equal(asked.result, undefined, "answered inside the call");
    });
    return asked;
  }

  /** Submits and waits for the answer. */
  ask(op: Op, offset: number, length: number, fill = 0): Asked {
    const asked = this.submit(op, offset, length, fill);
    this.until("an answer", () => asked.result !== undefined);
    return asked;
  }

  /** Lets the world go on until a condition holds; at most ten virtual minutes. */
  until(what: string, condition: () => boolean): void {
    if (!this.cluster.runUntil(condition, this.cluster.now + 600_000)) {
      throw new Error(`waited ten minutes for ${what}: ${JSON.stringify(this.volume.replicas.views())}`);
    }
  }

  /** Lets time pass. */
  pass(ms: number): void {
    this.cluster.run(this.cluster.now + ms);
  }

  /** Modes by host: `RW RW ERR`. */
  get modes(): string {
    return this.volume.replicas.views().map(({ mode }) => mode).join(" ");
  }

  onConnected(name: string): void {
    this.connected.push(name);
  }

  onFailed(name: string, reason: string): void {
    this.failed.push(`${name} ${reason}`);
  }

  onRecorded(record: MemberRecord): void {
    this.recorded.push(record);
  }

  onDiffer(): void {}

  /** Ends the world. */
  [Symbol.dispose](): void {
    this.cluster[Symbol.dispose]();
  }
}

/** Result of a failed request. */
export const EIO: number = -Errno.EIO;
