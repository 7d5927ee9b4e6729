/**
 * Finds out where copies differ, without moving their data: every copy is asked for the digest of a range
 * (lib/wire/digest.ts), and the pieces whose sums are not the same on all are kept for who makes them equal.
 *
 * Nobody waits for it: ranges are not closed to hosts. A sector that no write touches meanwhile is told as it is. One
 * that a write touches is told as it was before or after; whatever is compared then, it is equal in the end, for
 * the write goes to all copies, overlapping ones in the same order, and a copy that fails it is out (that all are
 * full, and differ, is counted in {@linkcode Volume.differed}). So what was found equal is equal, and what was not is
 * copied once for nothing at worst.
 *
 * How much is asked for at once follows how long the answers take: ranges without data take no time, and a disk that is
 * busy with hosts must not be given more than it answers before it would be taken for dead.
 *
 * Where a copy cannot tell (Longhorn's, or a range that cannot be read) the range counts as different: the copying
 * finds out what is wrong, and treats the copy accordingly.
 *
 * @module
 */
import type { Completer, Io } from "../io/io.ts";
import { type BufferPool, NO_BUFFER } from "../io/pool.ts";
import {
  DIGEST_PIECE_BYTES,
  DIGEST_SUM_BYTES,
  digestBytes,
  digestPieces,
  MAX_DIGEST_BYTES,
} from "../wire/digest.ts";
import { Feature } from "../wire/frame.ts";
import { COMPARE_BYTES, COMPARE_MS, COMPARE_REQUESTS, MAX_DIFFERENCES, MAX_REPLICAS } from "./limits.ts";
import type { Link } from "./link.ts";
import { InnerOp } from "./slots.ts";
import type { Volume } from "./volume.ts";

/** Says what is to be compared. All calls come from the loop. */
export interface ComparePlan {
  /** True to go no further; asked again whenever a range was compared. */
  stopped(): boolean;
  /** Where the next bytes lie, a multiple of {@linkcode DIGEST_PIECE_BYTES}; at or above `end` there are none. */
  next: number;
  /** End of the stretch that `next` lies in. */
  readonly end: number;
  /** The copies to be compared, each of which gets all writes; those that are gone are not among them. */
  readonly links: readonly Link[];
  /** Goes to the next stretch. @returns false when there is none */
  advance(): boolean;
  /** A range has the same content on all, for good. */
  same(offset: number, length: number): void;
  /** Nothing is under way: all was compared, or much was found, or `stopped` said so. */
  compared(): void;
}

/** A range that is being compared. */
interface Range {
  readonly offset: number;
  readonly length: number;
  /** Memory for one answer after the other. */
  readonly at: number;
  /** Who was asked. */
  readonly links: readonly Link[];
  /** When they were asked, ms. */
  readonly askedAt: number;
  /** Answers to come. */
  left: number;
  /** Bits of the links that could not tell. */
  failed: number;
}

/** Bytes of one answer at most. */
const ANSWER_BYTES = digestBytes(MAX_DIGEST_BYTES);

/** See the module text. */
export class Compare implements Completer {
  /** Where copies differ, in order of discovery: offset and length by turns. For the owner to empty. */
  readonly found: number[] = [];
  readonly #ranges: (Range | undefined)[] = new Array<Range | undefined>(COMPARE_REQUESTS).fill(undefined);
  #underWay = 0;
  /** Bytes of the ranges under way, and how many there may be. */
  #bytes = 0;
  #most: number = COMPARE_BYTES.first;
  readonly #words: Int32Array;

  /**
   * Does nothing before `run`.
   *
   * @param pool for the answers
   */
  constructor(
    readonly io: Io,
    readonly pool: BufferPool,
    readonly volume: Volume,
    readonly plan: ComparePlan,
  ) {
    const { u8 } = io.arena;
    this.#words = new Int32Array(u8.buffer, u8.byteOffset, Math.floor(u8.length / 4));
  }

  /** Begins, or goes on; `compared` follows, never inside the call. */
  run(): void {
    this.io.defer({ runDeferred: () => this.#pump() });
  }

  #pump(): void {
    const { plan } = this;
    while (!plan.stopped() && this.found.length < 2 * MAX_DIFFERENCES) {
      if (plan.next >= plan.end) {
        if (!plan.advance()) break;
        continue;
      }
      const { links } = plan;
      const length = Math.min(MAX_DIGEST_BYTES, this.#most, plan.end - plan.next);
      // At least one range.
      const enough = this.#bytes + length > this.#most ||
        (this.#underWay + 1) * links.length > COMPARE_REQUESTS;
      if (this.#underWay > 0 && enough) return;
      if (links.length < 2 || links.some(({ features }) => (features & Feature.DIGEST) === 0)) {
        this.#differs(plan.next, plan.end - plan.next);
        plan.next = plan.end;
        continue;
      }
      const at = this.pool.allocate(ANSWER_BYTES * MAX_REPLICAS);
      if (at === NO_BUFFER) {
        if (this.#underWay === 0) this.pool.wait({ runDeferred: () => this.#pump() });
        return;
      }
      this.#ask(plan.next, length, at, [...links]);
    }
    if (this.#underWay === 0) plan.compared();
  }

  #ask(offset: number, length: number, at: number, links: readonly Link[]): void {
    const index = this.#ranges.indexOf(undefined);
    this.#ranges[index] = {
      offset,
      length,
      at,
      links,
      askedAt: this.io.now(),
      left: links.length,
      failed: 0,
    };
    this.#underWay++;
    this.#bytes += length;
    this.plan.next += length;
    links.forEach(({ bit }, i) => {
      const tag = index * MAX_REPLICAS + i;
      this.volume.submitInner(InnerOp.DIGEST, offset, length, at + i * ANSWER_BYTES, this, tag, bit);
    });
  }

  /** A copy has told. */
  complete(tag: number, result: number): void {
    const index = Math.floor(tag / MAX_REPLICAS), range = this.#ranges[index];
    if (!range) return;
    if (result < 0) range.failed |= range.links[tag % MAX_REPLICAS].bit;
    if (--range.left > 0) return;
    this.#ranges[index] = undefined;
    this.#underWay--;
    this.#bytes -= range.length;
    this.#pace(this.io.now() - range.askedAt);
    this.#judge(range);
    this.pool.release(range.at);
    this.#pump();
  }

  /** A range took so long, ms. */
  #pace(took: number): void {
    const { least, most } = COMPARE_BYTES;
    if (took > COMPARE_MS.long) this.#most = Math.max(least, this.#most / 2);
    else if (took < COMPARE_MS.soon) this.#most = Math.min(most, this.#most * 2);
  }

  /** All have told: those that are still there count. */
  #judge({ offset, length, at, links, failed }: Range): void {
    const now = this.plan.links, present = now.reduce((mask, { bit }) => mask | bit, 0);
    const answers = links.flatMap(({ bit }, i) => (bit & present) === 0 ? [] : at + i * ANSWER_BYTES);
    // One that came in the place of another was not asked.
    if ((failed & present) !== 0 || answers.length < now.length) return this.#differs(offset, length);
    const [first, ...others] = answers, pieces = digestPieces(length);
    if (first === undefined) return;
    let from = 0;
    for (let piece = 0; piece < pieces; piece++) {
      if (others.every((other) => this.#same(first, other, piece))) continue;
      const within = piece * DIGEST_PIECE_BYTES, bytes = Math.min(DIGEST_PIECE_BYTES, length - within);
      if (within > from) this.plan.same(offset + from, within - from);
      this.#differs(offset + within, bytes);
      from = within + bytes;
    }
    if (length > from) this.plan.same(offset + from, length - from);
  }

  #same(a: number, b: number, piece: number): boolean {
    const words = this.#words, from = piece * DIGEST_SUM_BYTES, end = (a + from + DIGEST_SUM_BYTES) / 4;
    for (let i = (a + from) / 4, j = (b + from) / 4; i < end; i++, j++) {
      if (words[i] !== words[j]) return false;
    }
    return true;
  }

  #differs(offset: number, length: number): void {
    const { found } = this, last = found.length - 2;
    // Neighbours are copied in one go.
    if (last >= 0 && found[last] + found[last + 1] === offset) found[last + 1] += length;
    else found.push(offset, length);
  }
}
