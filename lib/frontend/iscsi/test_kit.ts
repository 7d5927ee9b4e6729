/**
 * A target with its disk for tests, in the loop of its initiators.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { BlockDevice, Op } from "../../block/device.ts";
import { MemoryDevice } from "../../block/memory_device.ts";
import type { Completer, Io } from "../../io/io.ts";
import { BufferPool } from "../../io/pool.ts";
import { received } from "../test_parcel.ts";
import { type IscsiEvent, IscsiFrontend, type IscsiOptions } from "./target.ts";
import { Initiator, TARGET } from "./test_initiator.ts";
import type { Script } from "./test_script.ts";

export * from "./test_initiator.ts";
export * from "./test_script.ts";

/** Bytes of the disk in tests. */
export const DISK_BYTES = 32 * 1024 * 1024;

/** A disk that keeps operations until it is told to let them go. */
export class HoldingDevice implements BlockDevice {
  /** What is held. */
  readonly held: (() => void)[] = [];
  /** Hold what comes from now on. */
  holding = false;
  /** Lets everything through until told. */
  constructor(readonly inner: MemoryDevice) {}
  get name(): string {
    return this.inner.name;
  }
  get bytes(): number {
    return this.inner.bytes;
  }
  submit(op: Op, offset: number, length: number, at: number, who: Completer, tag: number): void {
    const go = (): void => this.inner.submit(op, offset, length, at, who, tag);
    if (this.holding) this.held.push(go);
    else go();
  }
  onResize(listener: () => void): void {
    this.inner.onResize(listener);
  }
  /** Lets all held operations go. */
  release(): void {
    this.holding = false;
    for (const go of this.held.splice(0)) go();
  }
}

/** A target with its disk, and what it said. */
export class Bench {
  /** Memory of the target. */
  readonly pool: BufferPool;
  /** The disk itself. */
  readonly memory: MemoryDevice;
  /** The disk as the target sees it. */
  readonly device: HoldingDevice;
  /** The target. */
  frontend: IscsiFrontend;
  /** What it said. */
  readonly events: IscsiEvent[] = [];
  /** Bytes free with nothing going on. */
  readonly free: number;
  /** Starts a target on a free port. */
  constructor(readonly io: Io, options: Partial<IscsiOptions> = {}, poolBytes = 16 * 1024 * 1024) {
    this.pool = new BufferPool(io, poolBytes, Math.min(poolBytes, 4 * 1024 * 1024));
    this.memory = new MemoryDevice(io, "test", DISK_BYTES);
    this.device = new HoldingDevice(this.memory);
    this.frontend = new IscsiFrontend(io, this.pool, this.device, {
      address: { kind: "tcp", host: "127.0.0.1", port: 0 },
      targetName: TARGET,
      onEvent: (event) => this.events.push(event),
      ...options,
    });
    this.free = this.pool.free;
  }

  /** Another target goes on with the sessions, as after a live upgrade. @param graceMs see `Frontend.suspend` */
  *move(graceMs = 5000): Script {
    let problem: string | undefined;
    this.frontend.suspend(graceMs, (text) => problem = text);
    yield () => problem !== undefined;
    assert.equal(problem, "");
    const old = this.frontend, handed = received(old.parcel());
    old.leave();
    this.frontend = new IscsiFrontend(this.io, this.pool, this.device, {
      address: { kind: "tcp", host: "127.0.0.1", port: 0 },
      targetName: TARGET,
      onEvent: (event) => this.events.push(event),
      handed,
    });
    this.frontend.resume();
  }

  /** A logged-in initiator without pending unit attentions. */
  *initiator(keys: Record<string, string> = {}, name = ""): Script<Initiator> {
    const initiator = yield* Initiator.connect(this.io, this.frontend.port);
    if (name !== "") initiator.name = name;
    const response = yield* initiator.login(keys);
    assert.equal(response.u16(36), 0, "login status");
    yield* initiator.clearAttentions();
    return initiator;
  }

  /** The code a connection was closed with, in the order they closed. */
  get closings(): string[] {
    return this.events.filter((event) => event.kind === "closed").map((event) => event.code);
  }

  /** Waits until nothing is held of the pool any more. */
  *settled(): Script {
    yield () => this.pool.free === this.free;
  }

  /** Closes an initiator's side and stops the target; asserts that everything came back. */
  *stop(...initiators: Initiator[]): Script {
    for (const initiator of initiators) initiator.stream.close();
    yield () => initiators.every((i) => i.closed);
    let stopped = false;
    this.frontend.stop(() => void (stopped = true));
    yield () => stopped;
    assert.equal(this.frontend.sessions.length, 0);
    assert.ok(this.pool.free > this.free, "the scratch buffer came back too");
  }
}

/** Bytes to recognise. */
export function pattern(bytes: number, seed = 1): Uint8Array {
  const data = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) data[i] = Math.imul(i + seed * 7919, 0x9e3779b1) >>> 24;
  return data;
}

/** READ(10) or WRITE(10). */
export function rw10(opcode: 0x28 | 0x2a, lba: number, blocks: number, flags = 0): number[] {
  return [
    opcode,
    flags,
    lba >>> 24,
    lba >>> 16 & 255,
    lba >>> 8 & 255,
    lba & 255,
    0,
    blocks >> 8,
    blocks & 255,
    0,
  ];
}
