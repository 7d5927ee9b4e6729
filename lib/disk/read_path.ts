/**
 * Reading. The common case, an aligned read of a volume without snapshots, is one read of one file. Otherwise the
 * blocks are looked up in the map, and what direct I/O cannot take goes through a bounce buffer, piece by piece.
 *
 * @module
 */
import type { Completer } from "../io/io.ts";
import { NO_BUFFER } from "../io/pool.ts";
import { AreaReader } from "./area_reader.ts";
import { BLOCK_BYTES } from "./block_map.ts";
import type { DiskCore } from "./core.ts";
import { BOUNCE_BYTES } from "./memory.ts";
import type { SlotOwner } from "./requests.ts";

const BLOCK_MASK = BLOCK_BYTES - 1;
/** Phases of a slot. */
const STRAIGHT = 0;
const BOUNCED = 1;

/** Reads of an open replica. */
export class ReadPath implements SlotOwner, Completer {
  readonly #core: DiskCore;
  readonly #areas: AreaReader;

  /** Reads through `core`. */
  constructor(core: DiskCore) {
    this.#core = core;
    this.#areas = new AreaReader(core, this);
  }

  /** See `ReplicaDisk.read`. */
  read(offset: number, length: number, at: number, who: Completer, tag: number): void {
    const core = this.#core, requests = core.requests;
    const slot = requests.acquire(this, offset, length, at, who, tag);
    const refusal = core.refusal(offset, length);
    if (refusal < 0 || length === 0) {
      requests.finishLater(slot, refusal);
    } else if (core.direct && ((offset | length | at) & BLOCK_MASK) !== 0) {
      requests.phase[slot] = BOUNCED;
      const whole = Math.ceil((offset + length) / BLOCK_BYTES) * BLOCK_BYTES -
        (offset - (offset & BLOCK_MASK));
      const buffer = core.bounce.acquire(slot, Math.min(whole, BOUNCE_BYTES));
      if (buffer === NO_BUFFER) return;
      const problem = this.#startPiece(slot, buffer);
      if (problem < 0) this.#failLater(slot, problem);
    } else if (!core.layered) {
      core.io.read(core.headFd, at, length, offset, this, slot);
    } else {
      requests.phase[slot] = STRAIGHT;
      const problem = this.#areas.start(slot, offset, length, at);
      if (problem < 0) requests.finishLater(slot, problem);
    }
  }

  /** The one read of a volume without snapshots is over. */
  complete(slot: number, result: number): void {
    const requests = this.#core.requests, length = requests.length[slot];
    if (result >= 0 && result < length) {
      const at = requests.at[slot];
      this.#core.io.arena.u8.fill(0, at + result, at + length);
    }
    requests.finish(slot, result < 0 ? result : length);
  }

  /** Reads the next piece into the bounce buffer. @returns 0 or `-errno` */
  #startPiece(slot: number, buffer: number): number {
    const requests = this.#core.requests;
    requests.bounce[slot] = buffer;
    const position = requests.offset[slot] + requests.done[slot], start = position - (position & BLOCK_MASK);
    const end = Math.ceil((requests.offset[slot] + requests.length[slot]) / BLOCK_BYTES) * BLOCK_BYTES;
    return this.#areas.start(slot, start, Math.min(end - start, BOUNCE_BYTES), buffer);
  }

  /** An area was read: the whole request, or a piece of it. */
  areaRead(slot: number, result: number): void {
    const requests = this.#core.requests, length = requests.length[slot];
    if (requests.phase[slot] === STRAIGHT) {
      requests.finish(slot, result < 0 ? result : length);
      return;
    }
    if (result >= 0) {
      const done = requests.done[slot], within = (requests.offset[slot] + done) & BLOCK_MASK;
      const bytes = Math.min(length - done, BOUNCE_BYTES - within), from = requests.bounce[slot] + within;
      this.#core.io.arena.u8.copyWithin(requests.at[slot] + done, from, from + bytes);
      requests.done[slot] = done + bytes;
      if (done + bytes < length) {
        result = this.#startPiece(slot, requests.bounce[slot]);
        if (result === 0) return;
      }
    }
    // First the end of this request, then the buffer to others: they may complete at once.
    const buffer = requests.bounce[slot];
    requests.finish(slot, result < 0 ? result : length);
    this.#core.bounce.release(buffer);
  }

  /** See {@linkcode SlotOwner}. */
  bufferGranted(slot: number, at: number): void {
    const problem = this.#startPiece(slot, at);
    if (problem < 0) this.#failLater(slot, problem);
  }

  #failLater(slot: number, result: number): void {
    const buffer = this.#core.requests.bounce[slot];
    this.#core.requests.finishLater(slot, result);
    this.#core.bounce.release(buffer);
  }

  /** Reads lock nothing. */
  lockGranted(): void {}
}
