/**
 * The closed loop: a fixed number of operations is under way at any time; when one ends, its latency is counted
 * and the next one begins. Allocates nothing while it runs.
 *
 * Times are those of the loop's passes: an operation begins with the pass that submits it and ends with the pass
 * that sees its end. That costs two readings of the clock per pass instead of two per operation, and counts the
 * work of this program as latency, as every client's would.
 *
 * @module
 */
import { errnoText, IoError } from "../io/errno.ts";
import { type Completer, type Io, NO_TIMER } from "../io/io.ts";
import { Histogram } from "./histogram.ts";
import { checkPattern, fillPattern } from "./pattern.ts";
import { BenchError, type Target, type TargetOwner } from "./target.ts";
import { NO_BLOCK, type Walk } from "./walk.ts";

/** An operation that takes longer than this ends the measurement: nobody answers any more. Milliseconds. */
export const STALL_MS = 30_000;
/** How often that is looked at, milliseconds. */
const WATCH_MS = 1000;

/** One pass over a range: what to do, and when it ends. */
export interface Plan {
  /** Which blocks. */
  readonly walk: Walk;
  /** Share of writes, 0 to 100 percent. */
  readonly writePercent: number;
  /** Not counted at the beginning, milliseconds. */
  readonly rampMs: number;
  /** Counted after that, milliseconds; Infinity: until the walk or the operations end. */
  readonly durationMs: number;
  /** Most operations that are counted. */
  readonly operations: number;
  /** Writes carry the pattern of this seed, and reads are compared with it; undefined: any data. */
  readonly patternSeed: number | undefined;
}

/** Where and how much at once. */
export interface LoopOptions {
  /** Bytes of an operation. */
  readonly blockBytes: number;
  /** Operations under way, over all targets; at least one per target. */
  readonly depth: number;
  /** Arena offset of `depth` buffers of `blockBytes`, page aligned. */
  readonly buffers: number;
}

/** The closed loop; see the module text. */
export class ClosedLoop implements TargetOwner, Completer {
  /** Latencies of counted reads. */
  readonly reads: Histogram = new Histogram();
  /** Latencies of counted writes. */
  readonly writes: Histogram = new Histogram();
  /** Counted time, milliseconds. */
  elapsedMs = 0;
  /** Blocks whose data was wrong. */
  mismatches = 0;
  /** Offset of the first wrong word, or -1. */
  firstMismatch = -1 as number;
  /** Targets, in the order of their indices. */
  readonly targets: Target[] = [];

  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #perTarget: number;
  // Of the operations under way, by slot: a target's tag plus its index times #perTarget.
  readonly #begun: Float64Array;
  readonly #offset: Float64Array;
  readonly #isWrite: Uint8Array;
  #plan: Plan | undefined;
  #done: () => void = () => {};
  #onFailed: (error: BenchError) => void = () => {};
  #underWay = 0;
  #ready = 0;
  #ended = 0;
  #stopping = false;
  #failed = false;
  #start = 0;
  #counting = false;
  #left = 0;
  #watch = NO_TIMER;
  #progress = 0;

  /** Makes the loop; its targets are added by the caller. @param targetCount how many targets there will be */
  constructor(readonly io: Io, readonly options: LoopOptions, readonly targetCount: number) {
    const { depth } = options;
    this.#words = new Uint32Array(io.arena.u8.buffer);
    this.#perTarget = Math.ceil(depth / targetCount);
    const slots = this.#perTarget * targetCount;
    this.#begun = new Float64Array(slots);
    this.#offset = new Float64Array(slots);
    this.#isWrite = new Uint8Array(slots);
  }

  /** Tags of target `index`: its part of the depth. */
  depthOf(index: number): number {
    const { depth } = this.options;
    return Math.floor(depth / this.targetCount) + (index < depth % this.targetCount ? 1 : 0);
  }

  /**
   * Connects all targets.
   *
   * @param ready called when all can take operations
   * @param failed called once when something goes wrong, now or later; nothing else is called afterwards
   */
  open(ready: () => void, failed: (error: BenchError) => void): void {
    this.#done = ready;
    this.#onFailed = failed;
    this.#progress = this.io.now();
    this.#watch = this.io.timer(WATCH_MS, this, 0);
    for (const target of this.targets) {
      try {
        target.open();
      } catch (error) {
        if (error instanceof BenchError) return this.#fail(error);
        if (!(error instanceof IoError)) throw error;
        return this.#fail(new BenchError(error.message, { cause: error }));
      }
    }
  }

  /** Runs a plan; `done` is called when nothing is under way any more. */
  begin(plan: Plan, done: () => void): void {
    this.#plan = plan;
    this.#done = done;
    this.reads.clear();
    this.writes.clear();
    this.elapsedMs = 0;
    this.#stopping = false;
    this.#start = this.io.now();
    this.#counting = plan.rampMs <= 0;
    this.#left = plan.operations;
    for (const target of this.targets) {
      const depth = this.depthOf(target.index);
      for (let tag = 0; tag < depth; tag++) this.#next(target, tag);
    }
    this.#settle();
  }

  /** Ends all targets; `done` is called when they are gone. */
  close(done: () => void): void {
    this.#done = done;
    this.#plan = undefined;
    this.#stopping = true;
    for (const target of this.targets) target.close();
  }

  /** See {@linkcode TargetOwner}. */
  onReady(_target: Target): void {
    this.#progress = this.io.now();
    if (++this.#ready === this.targetCount && !this.#failed) this.#done();
  }

  /** See {@linkcode TargetOwner}. */
  onDone(target: Target, tag: number, result: number, text: string): void {
    const slot = target.index * this.#perTarget + tag, now = this.io.now(), plan = this.#plan;
    this.#underWay--;
    this.#progress = now;
    if (this.#failed || plan === undefined) return;
    if (result < 0) return this.#failOperation(slot, result, text);
    if (this.#counting && !this.#stopping) {
      const isWrite = this.#isWrite[slot] === 1;
      (isWrite ? this.writes : this.reads).record(now - this.#begun[slot]);
      if (!isWrite && plan.patternSeed !== undefined) this.#check(slot, plan.patternSeed);
      this.elapsedMs = now - this.#start;
      if (--this.#left <= 0 || this.elapsedMs >= plan.durationMs) this.#stopping = true;
    } else if (!this.#stopping && now - this.#start >= plan.rampMs) {
      this.#counting = true;
      this.#start = now;
    }
    this.#next(target, tag);
    this.#settle();
  }

  #next(target: Target, tag: number): void {
    const plan = this.#plan;
    if (this.#stopping || plan === undefined) return;
    const block = plan.walk.next();
    if (block === NO_BLOCK) return;
    const { blockBytes } = this.options;
    const slot = target.index * this.#perTarget + tag;
    const offset = block * blockBytes, at = this.#bufferOf(slot);
    const share = plan.writePercent;
    const isWrite = share >= 100 || (share > 0 && plan.walk.random() % 100 < share);
    this.#begun[slot] = this.io.now();
    this.#offset[slot] = offset;
    this.#isWrite[slot] = isWrite ? 1 : 0;
    if (isWrite && plan.patternSeed !== undefined) {
      fillPattern(this.#words, at, offset, blockBytes, plan.patternSeed);
    }
    this.#underWay++;
    target.submit(isWrite, offset, blockBytes, at, tag);
  }

  #bufferOf(slot: number): number {
    return this.options.buffers + slot * this.options.blockBytes;
  }

  #check(slot: number, seed: number): void {
    const { blockBytes } = this.options;
    const wrong = checkPattern(this.#words, this.#bufferOf(slot), this.#offset[slot], blockBytes, seed);
    if (wrong < 0) return;
    if (this.mismatches++ === 0) this.firstMismatch = wrong;
  }

  #settle(): void {
    if (this.#underWay > 0 || this.#plan === undefined || this.#failed) return;
    this.#plan = undefined;
    this.#done();
  }

  #failOperation(slot: number, result: number, text: string): void {
    const what = this.#isWrite[slot] === 1 ? "write" : "read";
    const why = text === "" ? errnoText(result) : text;
    const where = `${this.options.blockBytes} bytes at offset ${this.#offset[slot]}`;
    this.#fail(new BenchError(`${what} of ${where} failed: ${why}`));
  }

  #fail(error: BenchError): void {
    if (this.#failed) return;
    this.#failed = this.#stopping = true;
    this.io.cancel(this.#watch);
    this.#onFailed(error);
  }

  /** See {@linkcode TargetOwner}. */
  onEnded(_target: Target, error: BenchError | undefined): void {
    if (error !== undefined) return this.#fail(error);
    if (++this.#ended < this.targetCount || this.#failed) return;
    this.io.cancel(this.#watch);
    this.#done();
  }

  /** Looks whether anything happens still. */
  complete(): void {
    if (this.#failed) return;
    if (this.io.now() - this.#progress > STALL_MS) {
      return this.#fail(new BenchError(`no answer for ${STALL_MS / 1000} seconds; giving up`));
    }
    this.#watch = this.io.timer(WATCH_MS, this, 0);
  }
}
