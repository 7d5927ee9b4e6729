/**
 * Unmapping: gives space back, and leaves zeros.
 *
 * Requests are served one after another; the kernel punches holes into a file one after another, too. Without
 * anything below the head, one hole in the head is all. Otherwise the range is worked through in pieces, and the
 * order of the steps matters, because a power failure may strike between any two of them:
 *
 * | Step | Why not later or earlier |
 * |---|---|
 * | zeros into the head where data below must stay | they have to be there before anything else vanishes |
 * | sync the head | else the zeros may be lost although the next step is not |
 * | punch removed files, the oldest first, each synced | a newer one hides an older one's stale data until then |
 * | punch the head where nothing below is left | the head hides the removed files' data until they are empty |
 *
 * @module
 */
import type { Completer } from "../io/io.ts";
import { BLOCK_BYTES } from "./block_map.ts";
import { type DiskCore, failure } from "./core.ts";
import { ZERO_BYTES } from "./memory.ts";
import { NO_SLOT, SlotList, type SlotOwner } from "./requests.ts";
import type { RevisionCounter } from "./revision_counter.ts";
import { PLAN_BLOCKS, UnmapPlan } from "./unmap_plan.ts";

/** Steps of the request that is being served. */
const ZEROS = 0;
const SYNC_HEAD = 1;
const PUNCH_REMOVED = 2;
const SYNC_REMOVED = 3;
const PUNCH_HEAD = 4;
/** The one hole of a volume without snapshots. */
const PUNCH_ALL = 5;
/** Waits for others to leave blocks whose zeros failed. */
const TAKE_BACK = 6;

/** Unmaps of an open replica. */
export class UnmapPath implements SlotOwner, Completer {
  readonly #core: DiskCore;
  readonly #counter: RevisionCounter;
  readonly #waiting: SlotList;
  readonly #plan = new UnmapPlan();
  /** The request being served, its step, and its blocks. */
  #slot = NO_SLOT;
  #step = ZEROS;
  #first = 0;
  #end = 0;
  /** The piece being worked on: its first block and length, position within it, length of the current run. */
  #piece = 0;
  #pieceBlocks = 0;
  #position = 0;
  #run = 0;
  #wroteZeros = false;
  #depth = 0;
  #allocatedBefore = 0;
  #error = 0;

  /** Unmaps through `core`; completed requests are counted by `counter`. */
  constructor(core: DiskCore, counter: RevisionCounter) {
    this.#core = core;
    this.#counter = counter;
    this.#waiting = new SlotList(core.requests);
  }

  /** See `ReplicaDisk.unmap`. */
  unmap(offset: number, length: number, who: Completer, tag: number): void {
    const core = this.#core, slot = core.requests.acquire(this, offset, length, 0, who, tag);
    let refusal = core.refusal(offset, length);
    if (refusal === 0) refusal = core.beforeChange();
    if (refusal < 0) {
      core.requests.finishLater(slot, refusal);
    } else if (Math.floor((offset + length) / BLOCK_BYTES) <= Math.ceil(offset / BLOCK_BYTES)) {
      // Not one whole block. Peers count such requests, and counters must agree.
      this.#counter.countLater(slot, 0);
    } else {
      this.#waiting.push(slot);
      if (this.#slot === NO_SLOT) this.#next();
    }
  }

  /** Begins the next request, if there is one. */
  #next(): void {
    const core = this.#core, slot = this.#waiting.shift();
    this.#slot = slot;
    if (slot === NO_SLOT) return;
    const offset = core.requests.offset[slot];
    this.#first = Math.ceil(offset / BLOCK_BYTES);
    this.#end = Math.floor((offset + core.requests.length[slot]) / BLOCK_BYTES);
    this.#step = ZEROS;
    if (core.locks.acquire(slot, this.#first, this.#end, false)) this.lockGranted(slot);
  }

  /** The blocks are not in anybody's read-modify-write. */
  lockGranted(_slot: number): void {
    const core = this.#core;
    if (this.#step === TAKE_BACK) {
      core.takeBack(this.#piece + this.#position, this.#piece + this.#position + this.#run);
      this.#finish(this.#error);
      return;
    }
    let problem = 0;
    try {
      this.#depth = core.layered ? core.directory.unmapDepth() : 0;
      this.#allocatedBefore = this.#allocated();
      if (core.layered) {
        this.#piece = this.#first;
        this.#pieceBlocks = 0;
        this.#plan.punch.length = 0;
        this.#startPiece();
      } else {
        this.#step = PUNCH_ALL;
        const start = this.#first * BLOCK_BYTES;
        core.io.punchHole(core.headFd, start, this.#end * BLOCK_BYTES - start, this, 0);
      }
    } catch (error) {
      problem = failure(error);
    }
    if (problem < 0) this.#finishLater(problem);
  }

  /** Bytes allocated by the head and by the removed files right below it. @throws {IoError} */
  #allocated(): number {
    const { io, layers } = this.#core;
    let sum = 0;
    for (let position = layers.count - 1 - this.#depth; position < layers.count; position++) {
      sum += io.files.fstat(layers.at(position).fd).allocated;
    }
    return sum;
  }

  /** Plans the next piece and begins it. There is one. @throws {IoError} */
  #startPiece(): void {
    const core = this.#core;
    this.#piece += this.#pieceBlocks;
    this.#pieceBlocks = Math.min(this.#end - this.#piece, PLAN_BLOCKS);
    core.loader.ensure(this.#piece, this.#piece + this.#pieceBlocks);
    this.#plan.make(core.io.files, core.layers, this.#piece, this.#pieceBlocks, this.#depth);
    this.#position = 0;
    this.#run = 0;
    this.#wroteZeros = false;
    this.#step = ZEROS;
    this.#nextZeros();
  }

  #nextZeros(): void {
    const core = this.#core, from = this.#plan.find(1, this.#position + this.#run);
    if (from === this.#pieceBlocks) {
      this.#step = SYNC_HEAD;
      if (this.#wroteZeros && this.#plan.punch.length > 0) core.io.syncData(core.headFd, this, 0);
      else this.#nextRemoved(0);
      return;
    }
    this.#position = from;
    this.#run = Math.min(this.#plan.find(0, from) - from, ZERO_BYTES / BLOCK_BYTES);
    const start = (this.#piece + from) * BLOCK_BYTES;
    core.io.write(core.headFd, core.memory.zeros, this.#run * BLOCK_BYTES, start, this, 0);
  }

  /** Punches the removed file number `index` of the plan. */
  #nextRemoved(index: number): void {
    const core = this.#core;
    this.#position = index;
    if (index === this.#plan.punch.length) {
      this.#step = PUNCH_HEAD;
      this.#position = 0;
      this.#run = 0;
      this.#nextHole();
      return;
    }
    this.#step = PUNCH_REMOVED;
    const fd = core.layers.at(this.#plan.punch[index]).fd;
    core.io.punchHole(fd, this.#piece * BLOCK_BYTES, this.#pieceBlocks * BLOCK_BYTES, this, 0);
  }

  #nextHole(): void {
    const core = this.#core, from = this.#plan.find(0, this.#position + this.#run);
    if (from < this.#pieceBlocks) {
      this.#position = from;
      this.#run = this.#plan.find(1, from) - from;
      core.io.punchHole(core.headFd, (this.#piece + from) * BLOCK_BYTES, this.#run * BLOCK_BYTES, this, 0);
      return;
    }
    if (this.#piece + this.#pieceBlocks === this.#end) {
      this.#succeed();
      return;
    }
    try {
      this.#startPiece();
    } catch (error) {
      this.#finishLater(failure(error));
    }
  }

  /** A step is over. */
  complete(_tag: number, result: number): void {
    const core = this.#core;
    if (result < 0) {
      this.#failed(result);
      return;
    }
    core.changes++;
    switch (this.#step) {
      case ZEROS:
        this.#wroteZeros = true;
        core.map.set(this.#piece + this.#position, this.#run, core.headId);
        this.#nextZeros();
        break;
      case SYNC_HEAD:
        this.#nextRemoved(0);
        break;
      case PUNCH_REMOVED:
        this.#step = SYNC_REMOVED;
        core.io.syncData(core.layers.at(this.#plan.punch[this.#position]).fd, this, 0);
        break;
      case SYNC_REMOVED:
        this.#nextRemoved(this.#position + 1);
        break;
      case PUNCH_HEAD:
        this.#nextHole();
        break;
      default:
        this.#succeed();
    }
  }

  #failed(result: number): void {
    const core = this.#core, slot = this.#slot;
    if (this.#step === SYNC_HEAD || this.#step === SYNC_REMOVED) {
      core.fail("a sync failed: what was written before may be lost");
    }
    if (this.#step !== ZEROS) {
      this.#finish(result);
      return;
    }
    // As after any write that failed: take it back when nobody else is writing to the blocks.
    this.#step = TAKE_BACK;
    this.#error = result;
    core.changes++;
    core.locks.release(slot);
    const first = this.#piece + this.#position;
    if (core.locks.acquire(slot, first, first + this.#run, true)) this.lockGranted(slot);
  }

  #succeed(): void {
    let freed = 0;
    try {
      // Other writes may have allocated meanwhile: the number is an estimate, as it is for peers.
      freed = Math.max(0, this.#allocatedBefore - this.#allocated());
    } catch (error) {
      failure(error);
    }
    this.#finish(freed);
  }

  /** Ends the request; from the loop. */
  #finish(result: number): void {
    const slot = this.#slot;
    this.#core.locks.release(slot);
    this.#next();
    if (result < 0) this.#core.requests.finish(slot, result);
    else this.#counter.count(slot, result);
  }

  /** Ends a request that failed, perhaps from inside a submitting call. */
  #finishLater(result: number): void {
    const slot = this.#slot;
    this.#core.locks.release(slot);
    this.#core.requests.finishLater(slot, result);
    this.#next();
  }

  /** Unmaps copy nothing. */
  bufferGranted(): void {}
}
