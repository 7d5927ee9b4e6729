/**
 * The host's side: random reads, writes, unmaps and flushes against a volume, every answer checked by the model.
 *
 * @module
 */
import { Op } from "../../lib/block/device.ts";
import type { Volume } from "../../lib/engine/volume.ts";
import type { Io } from "../../lib/io/io.ts";
import { type BufferPool, NO_BUFFER } from "../../lib/io/pool.ts";
import type { Random } from "../../lib/io/sim/mod.ts";
import { fillSector, type Model, type Read, SECTOR, type Write } from "./model.ts";

/** Largest request, sectors. */
const MOST_SECTORS = 64;
/** Sectors of a block: what an unmap frees. */
const BLOCK = 8;

/** A request under way. */
interface Request {
  readonly op: Op;
  readonly first: number;
  readonly count: number;
  readonly at: number;
  readonly write?: Write;
  readonly read?: Read;
  readonly flush?: number;
}

/** Closed loop of `depth` requests over one life of the engine. */
export class Client {
  /** Requests answered well. */
  good = 0;
  /** Requests answered with an error. */
  failed = 0;
  readonly #requests = new Map<number, Request>();
  #next = 0;
  #left: number;
  #paused = false;

  /** Submits nothing yet. @param operations how many requests to submit in all */
  constructor(
    public io: Io,
    public pool: BufferPool,
    public volume: Volume,
    readonly model: Model,
    readonly random: Random,
    readonly depth: number,
    operations: number,
  ) {
    this.#left = operations;
  }

  /** True when everything was submitted and answered. */
  get idle(): boolean {
    return this.#left === 0 && this.#requests.size === 0;
  }

  /** True when nothing is under way. */
  get quiet(): boolean {
    return this.#requests.size === 0;
  }

  /** Submits nothing until {@linkcode Client.goOn}. */
  pause(): void {
    this.#paused = true;
  }

  /** Goes on, with the volume of another process if one is given. To be called in its process. */
  goOn(to?: { readonly io: Io; readonly pool: BufferPool; readonly volume: Volume }): void {
    if (to) {
      this.io = to.io;
      this.pool = to.pool;
      this.volume = to.volume;
    }
    this.#paused = false;
    this.pump();
  }

  /** Submits nothing more. */
  finish(): void {
    this.#left = 0;
  }

  /** Submits up to the depth. To be called in the engine's process. */
  pump(): void {
    while (!this.#paused && this.#left > 0 && this.#requests.size < this.depth) {
      if (!this.#submit()) return;
      this.#left--;
    }
  }

  /** Reads the whole disk once, in order; `idle` tells when it is done. */
  sweep(): void {
    for (let first = 0; first < this.model.sectors; first += MOST_SECTORS) {
      const at = this.pool.allocate(MOST_SECTORS * SECTOR);
      if (at === NO_BUFFER) throw new Error(`buffers leaked: ${this.pool.free} bytes are left`);
      this.#start(Op.READ, first, Math.min(MOST_SECTORS, this.model.sectors - first), at);
    }
  }

  #submit(): boolean {
    const { random, model } = this;
    const op = random.pick([
      Op.READ,
      Op.READ,
      Op.WRITE,
      Op.WRITE,
      Op.WRITE,
      Op.WRITE_DURABLE,
      Op.UNMAP,
      Op.FLUSH,
    ]);
    const blocks = random.chance(0.7) ? random.between(1, 2) : random.between(1, MOST_SECTORS / BLOCK);
    const aligned = op === Op.UNMAP || random.chance(0.7);
    const unit = aligned ? BLOCK : 1;
    const count = op === Op.FLUSH ? 0 : aligned ? blocks * BLOCK : random.between(1, blocks * BLOCK);
    const places = Math.floor((model.sectors - count) / unit);
    // Half of the requests go to a hot spot, so that they overlap each other and old data.
    const place = random.chance(0.5) ? random.between(0, Math.min(places, 16)) : random.between(0, places);
    const data = op !== Op.UNMAP && op !== Op.FLUSH;
    const at = data ? this.pool.allocate(count * SECTOR) : NO_BUFFER;
    if (data && at === NO_BUFFER) return false;
    this.#start(op, op === Op.FLUSH ? 0 : place * unit, count, at);
    return true;
  }

  #start(op: Op, first: number, count: number, at: number): void {
    const { model, io } = this, tag = this.#next++;
    let request: Request = { op, first, count, at };
    if (op === Op.READ) request = { ...request, read: model.read(first, count) };
    else if (op === Op.FLUSH) request = { ...request, flush: model.flush() };
    else {
      const write = model.submit(first, count, op === Op.UNMAP);
      request = { ...request, write };
      if (op !== Op.UNMAP) {
        for (let i = 0; i < count; i++) {
          fillSector(io.arena.u8.subarray(at + i * SECTOR, at + (i + 1) * SECTOR), write, first + i);
        }
      }
    }
    this.#requests.set(tag, request);
    this.volume.submit(op, first * SECTOR, count * SECTOR, Math.max(at, 0), this, tag);
  }

  /** An answer. */
  complete(tag: number, result: number): void {
    const request = this.#requests.get(tag);
    if (!request) throw new Error(`answered twice, or never asked: ${tag}`);
    this.#requests.delete(tag);
    const { op, count, at, write, read, flush } = request, { model } = this;
    if (result < 0) this.failed++;
    else this.good++;
    if (write) model.answered(write, result >= 0, op === Op.WRITE_DURABLE);
    if (flush !== undefined && result >= 0) model.flushed(flush);
    if (read && result >= 0) model.check(read, this.io.arena.u8.subarray(at, at + count * SECTOR));
    if (at !== NO_BUFFER) this.pool.release(at);
    this.pump();
  }
}
