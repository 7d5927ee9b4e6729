/**
 * Keeps a few COPY operations under way until a range giver has no more: what making copies equal and filling a new
 * one have in common.
 *
 * @module
 */
import { type Completer, type Io, NO_TIMER } from "../io/io.ts";
import { type BufferPool, NO_BUFFER } from "../io/pool.ts";
import { COPY_BYTES, COPY_DEPTH } from "./limits.ts";
import type { Pace } from "./pace.ts";
import { InnerOp } from "./slots.ts";
import type { Volume } from "./volume.ts";

/** Says what is to be copied. All calls come from the loop. */
export interface CopyPlan {
  /** True to go no further; asked again whenever a copy has ended. */
  stopped(): boolean;
  /** Where the next bytes lie that are to be copied; at or above `end` there are none in this stretch. */
  next: number;
  /** End of the stretch that `next` lies in. */
  readonly end: number;
  /** Bits of the links that get the data. */
  readonly to: number;
  /** Goes to the next stretch. @returns false when there is none */
  advance(): boolean;
  /** Nothing is under way any more. @param failed a copy failed, or `stopped` said so */
  ended(failed: boolean): void;
}

/** See the module text. */
export class Copies implements Completer {
  readonly #buffers: number[] = [];
  #underWay = 0;
  #failed = false;
  /** While the limit holds it back. */
  #timer = NO_TIMER;

  /**
   * Does nothing before `run`.
   *
   * @param pool for the buffers
   * @param pace may hold it back
   */
  constructor(
    readonly io: Io,
    readonly pool: BufferPool,
    readonly volume: Volume,
    readonly plan: CopyPlan,
    readonly pace?: Pace,
  ) {}

  /** Begins, also again after an end. */
  run(): void {
    this.#failed = false;
    this.#pump();
  }

  /** True while the limit holds it back: it goes on by itself. */
  #mustPause(): boolean {
    if (this.#timer !== NO_TIMER) return true;
    const pause = this.pace?.pause() ?? 0;
    if (pause === 0) return false;
    const goOn = () => {
      this.#timer = NO_TIMER;
      this.#pump();
    };
    this.#timer = this.io.timer(pause, { complete: goOn }, 0);
    return true;
  }

  #pump(): void {
    const { plan, volume } = this;
    this.#failed ||= plan.stopped();
    while (this.#underWay < COPY_DEPTH && !this.#failed) {
      if (plan.next >= plan.end) {
        if (!plan.advance()) break;
        continue;
      }
      if (this.#mustPause()) return;
      const at = this.#buffers.pop() ?? this.pool.allocate(COPY_BYTES);
      if (at === NO_BUFFER) {
        if (this.#underWay === 0) this.pool.wait({ runDeferred: () => this.#pump() });
        return;
      }
      const offset = plan.next, length = Math.min(COPY_BYTES, plan.end - offset);
      this.#underWay++;
      plan.next += length;
      this.pace?.take(length);
      volume.submitInner(InnerOp.COPY, offset, length, at, this, at, plan.to);
    }
    if (this.#underWay > 0) return;
    for (const at of this.#buffers.splice(0)) this.pool.release(at);
    this.io.cancel(this.#timer);
    this.#timer = NO_TIMER;
    plan.ended(this.#failed);
  }

  /** A copy ended. */
  complete(at: number, result: number): void {
    this.#underWay--;
    this.#buffers.push(at);
    if (result < 0) this.#failed = true;
    this.#pump();
  }
}
