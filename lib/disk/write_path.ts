/**
 * Writing. Data always goes to the head, and always in whole blocks where there is anything below the head: half
 * a block in the head would hide the other half. The common case, an aligned write, is one write; everything
 * else goes through a bounce buffer, piece by piece, with the missing parts of the edge blocks read first.
 *
 * The map changes when the data is there, not before: until then reads see the old data, not a hole.
 *
 * @module
 */
import type { Completer } from "../io/io.ts";
import { NO_BUFFER } from "../io/pool.ts";
import { type AreaListener, AreaReader } from "./area_reader.ts";
import { BLOCK_BYTES } from "./block_map.ts";
import type { DiskCore } from "./core.ts";
import { BOUNCE_BYTES } from "./memory.ts";
import type { SlotOwner } from "./requests.ts";
import type { RevisionCounter } from "./revision_counter.ts";

const BLOCK_MASK = BLOCK_BYTES - 1;

/** Phases of a slot. */
const PLAIN = 0;
/** Waiting for a bounce buffer, or between pieces. */
const PIECE = 1;
/** Reading the block that the request begins in. */
const FIRST_EDGE = 2;
/** Reading the block that the request ends in. */
const LAST_EDGE = 3;
/** A piece is being written. */
const WRITING = 4;
/** The write failed; the blocks are to be taken back once nobody else writes to them. */
const TAKE_BACK = 5;

/** Writes of an open replica. */
export class WritePath implements SlotOwner, Completer, AreaListener {
  readonly #core: DiskCore;
  readonly #counter: RevisionCounter;
  readonly #areas: AreaReader;

  /** Writes through `core`; completed writes are counted by `counter`. */
  constructor(core: DiskCore, counter: RevisionCounter) {
    this.#core = core;
    this.#counter = counter;
    this.#areas = new AreaReader(core, this);
  }

  /** See `ReplicaDisk.write`. */
  write(offset: number, length: number, at: number, durable: boolean, who: Completer, tag: number): void {
    const core = this.#core, requests = core.requests;
    const slot = requests.acquire(this, offset, length, at, who, tag);
    requests.durable[slot] = durable ? 1 : 0;
    let refusal = core.refusal(offset, length);
    if (refusal === 0 && length > 0) refusal = core.beforeChange();
    if (refusal === 0 && core.layered) refusal = core.know(offset, length);
    if (refusal < 0 || length === 0) {
      requests.finishLater(slot, refusal);
      return;
    }
    const end = offset + length;
    // The last block of a volume may be shorter than the others; it is whole then.
    const whole = (offset & BLOCK_MASK) === 0 && ((end & BLOCK_MASK) === 0 || end === core.size);
    const partly = !whole && (core.direct || core.layered);
    requests.phase[slot] = partly || (core.direct && (at & BLOCK_MASK) !== 0) ? PIECE : PLAIN;
    if (core.locks.acquire(slot, Math.floor(offset / BLOCK_BYTES), Math.ceil(end / BLOCK_BYTES), partly)) {
      this.lockGranted(slot);
    }
  }

  /** The blocks are ours: begin, or do what was put off until now. */
  lockGranted(slot: number): void {
    const core = this.#core, requests = core.requests, offset = requests.offset[slot];
    switch (requests.phase[slot]) {
      case PLAIN:
        this.#write(slot, requests.at[slot], requests.length[slot], offset);
        break;
      case PIECE: {
        const end = Math.ceil((offset + requests.length[slot]) / BLOCK_BYTES) * BLOCK_BYTES;
        const buffer = core.bounce.acquire(
          slot,
          Math.min(end - offset + (offset & BLOCK_MASK), BOUNCE_BYTES),
        );
        if (buffer !== NO_BUFFER) this.bufferGranted(slot, buffer);
        break;
      }
      default:
        this.#takeBack(slot);
    }
  }

  #write(slot: number, at: number, length: number, offset: number): void {
    const core = this.#core;
    if (core.requests.durable[slot] === 1) core.io.writeDurable(core.headFd, at, length, offset, this, slot);
    else core.io.write(core.headFd, at, length, offset, this, slot);
  }

  /** A bounce buffer is there: the first piece can start. */
  bufferGranted(slot: number, at: number): void {
    this.#core.requests.bounce[slot] = at;
    this.#advance(slot, PIECE);
  }

  /** Start of the current piece, bytes. */
  #pieceStart(slot: number): number {
    const requests = this.#core.requests, position = requests.offset[slot] + requests.done[slot];
    return position - (position & BLOCK_MASK);
  }

  /** End of the current piece, bytes. */
  #pieceEnd(slot: number): number {
    const requests = this.#core.requests;
    const end = Math.ceil((requests.offset[slot] + requests.length[slot]) / BLOCK_BYTES) * BLOCK_BYTES;
    return Math.min(end, this.#pieceStart(slot) + BOUNCE_BYTES, this.#core.size);
  }

  /** Goes on with the current piece after `phase` is over: reads the edges that are needed, then writes. */
  #advance(slot: number, phase: number): void {
    const core = this.#core, requests = core.requests, buffer = requests.bounce[slot];
    const start = this.#pieceStart(slot), end = this.#pieceEnd(slot), done = requests.done[slot];
    const from = requests.offset[slot] + done,
      to = Math.min(requests.offset[slot] + requests.length[slot], end);
    const lastBlock = to - (to & BLOCK_MASK);
    if (phase === PIECE && from > start) {
      this.#readEdge(slot, FIRST_EDGE, start, buffer);
    } else if (phase < LAST_EDGE && to < end && (lastBlock > start || from === start)) {
      this.#readEdge(slot, LAST_EDGE, lastBlock, buffer + (lastBlock - start));
    } else {
      const source = requests.at[slot] + done;
      core.io.arena.u8.copyWithin(buffer + (from - start), source, source + (to - from));
      requests.phase[slot] = WRITING;
      this.#write(slot, buffer, end - start, start);
    }
  }

  #readEdge(slot: number, phase: number, block: number, at: number): void {
    this.#core.requests.phase[slot] = phase;
    const problem = this.#areas.start(slot, block, Math.min(BLOCK_BYTES, this.#core.size - block), at);
    if (problem < 0) this.#fail(slot, problem, true);
  }

  /** An edge block was read. */
  areaRead(slot: number, result: number): void {
    if (result < 0) this.#fail(slot, result, false);
    else this.#advance(slot, this.#core.requests.phase[slot]);
  }

  /** A write to the head is over: the whole request, or a piece of it. */
  complete(slot: number, result: number): void {
    const core = this.#core, requests = core.requests;
    if (result < 0) {
      if (core.layered) this.#giveUp(slot, result);
      else this.#fail(slot, result, false);
      return;
    }
    if (requests.durable[slot] === 0) core.changes++;
    if (requests.phase[slot] === PLAIN) {
      if (core.layered) this.#placed(requests.offset[slot], requests.offset[slot] + requests.length[slot]);
    } else {
      const start = this.#pieceStart(slot), end = this.#pieceEnd(slot);
      if (core.layered) this.#placed(start, end);
      requests.done[slot] = Math.min(end - requests.offset[slot], requests.length[slot]);
      if (requests.done[slot] < requests.length[slot]) {
        this.#advance(slot, PIECE);
        return;
      }
      core.bounce.release(requests.bounce[slot]);
    }
    core.locks.release(slot);
    this.#counter.count(slot, requests.length[slot]);
  }

  /** The head holds these bytes now. */
  #placed(start: number, end: number): void {
    const first = Math.floor(start / BLOCK_BYTES);
    this.#core.map.set(first, Math.ceil(end / BLOCK_BYTES) - first, this.#core.headId);
  }

  /** Ends a request that failed before anything was written, or where nothing can be hidden. */
  #fail(slot: number, result: number, later: boolean): void {
    const core = this.#core, phase = core.requests.phase[slot], buffer = core.requests.bounce[slot];
    core.locks.release(slot);
    if (later) core.requests.finishLater(slot, result);
    else core.requests.finish(slot, result);
    if (phase !== PLAIN) core.bounce.release(buffer);
  }

  /**
   * A write failed that may have reached some of its blocks. Other writes to the same blocks may be under way,
   * so taking it back waits for them, as an exclusive request of its own.
   */
  #giveUp(slot: number, result: number): void {
    const core = this.#core, requests = core.requests;
    if (requests.phase[slot] !== PLAIN) core.bounce.release(requests.bounce[slot]);
    requests.phase[slot] = TAKE_BACK;
    requests.done[slot] = result;
    core.locks.release(slot);
    const offset = requests.offset[slot], end = offset + requests.length[slot];
    if (core.locks.acquire(slot, Math.floor(offset / BLOCK_BYTES), Math.ceil(end / BLOCK_BYTES), true)) {
      this.#takeBack(slot);
    }
  }

  #takeBack(slot: number): void {
    const core = this.#core, requests = core.requests, offset = requests.offset[slot];
    core.takeBack(
      Math.floor(offset / BLOCK_BYTES),
      Math.ceil((offset + requests.length[slot]) / BLOCK_BYTES),
    );
    core.changes++;
    core.locks.release(slot);
    requests.finish(slot, requests.done[slot]);
  }
}
