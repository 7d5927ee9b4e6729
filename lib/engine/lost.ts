/**
 * What a copy lost whose machine stopped without warning: writes that it had answered and not flushed. They lie in
 * the regions it had been writing to. These count as missed at once, so that nobody forgets them when the copy goes
 * away again; then they are compared with a complete copy by digests, and what is equal is not missed.
 *
 * The copy gets all writes by now, so that what is found equal stays equal (compare.ts says why). That is not true of
 * writes that began before it came: they may still be on their way to the others, and change what was just found
 * equal. They are among those that it missed, and whatever it missed is copied, equal or not.
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import type { BufferPool } from "../io/pool.ts";
import { nextRun } from "../wire/regions.ts";
import { type BlockSet, SET_BLOCK_BYTES } from "./block_set.ts";
import { Compare, type ComparePlan } from "./compare.ts";
import type { Link } from "./link.ts";
import { RegionWalk } from "./region_walk.ts";
import type { Volume } from "./volume.ts";

/** See the module text. */
export class LostWrites extends RegionWalk implements ComparePlan {
  readonly #compare: Compare;
  /** What it missed, without what it lost. */
  readonly #missedBefore: BlockSet;

  /**
   * Does nothing before `start`.
   *
   * @param link the copy: it gets writes, and is not complete
   * @param missed what it missed; in the end with what it lost
   * @param done called from the loop when all is known, or the copy is gone
   */
  constructor(
    io: Io,
    pool: BufferPool,
    volume: Volume,
    readonly link: Link,
    readonly missed: BlockSet,
    readonly done: () => void,
  ) {
    super(io, pool, volume);
    this.#compare = new Compare(io, pool, volume, this);
    this.#missedBefore = missed.copy();
  }

  /** Asks the copy for its map, and begins. */
  start(): void {
    this.ask(this.link, () => {
      this.#add();
      this.#compare.run();
    });
  }

  /** All regions that it had been writing to are missed until they were compared. */
  #add(): void {
    const { volume, missed, link } = this, { region } = volume.regions, { map } = this;
    for (let [first, count] = nextRun(map, 0); count > 0; [first, count] = nextRun(map, first + count)) {
      missed.addTouched(first * region, Math.min(count * region, volume.bytes - first * region));
    }
    if (missed.overflown) link.close("it lost more than can be noted; rebuild it");
    else link.catchingUp = missed;
  }

  /** See {@linkcode ComparePlan}. */
  get links(): readonly Link[] {
    const [first] = this.volume.replicas.readers;
    return first && this.link.up ? [first, this.link] : [];
  }

  /** See {@linkcode ComparePlan}. */
  stopped(): boolean {
    return !this.link.up || !this.volume.serving;
  }

  /** See {@linkcode ComparePlan}. */
  same(offset: number, length: number): void {
    const { missed } = this, before = this.#missedBefore;
    missed.removeTouched(offset, length);
    if (before.count === 0) return;
    const end = Math.ceil((offset + length) / SET_BLOCK_BYTES);
    for (let block = Math.floor(offset / SET_BLOCK_BYTES); block < end; block++) {
      if (before.has(block)) missed.addTouched(block * SET_BLOCK_BYTES, SET_BLOCK_BYTES);
    }
  }

  /** See {@linkcode ComparePlan}. What differs stays missed. */
  compared(): void {
    const { found } = this.#compare, over = found.length === 0 || this.stopped();
    found.length = 0;
    if (over) this.done();
    else this.#compare.run();
  }
}
