/**
 * What a copy lost whose machine stopped without warning: writes that it had answered and not flushed. They lie in
 * the regions it had been writing to. These count as missed at once, so that nobody forgets them when the copy goes
 * away again; then they are compared with a complete copy by digests, and what is equal is not missed.
 *
 * The copy gets all writes by now, so that what is found equal stays equal (compare.ts says why).
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import { type BufferPool, NO_BUFFER } from "../io/pool.ts";
import { Feature } from "../wire/frame.ts";
import { nextRun, REGION_MAP_BYTES, setRegions } from "../wire/regions.ts";
import type { BlockSet } from "./block_set.ts";
import { Compare, type ComparePlan } from "./compare.ts";
import type { Link } from "./link.ts";
import { InnerOp } from "./slots.ts";
import type { Volume } from "./volume.ts";

/** See the module text. */
export class LostWrites implements ComparePlan {
  readonly #map = new Uint8Array(REGION_MAP_BYTES);
  readonly #compare: Compare;
  /** See {@linkcode ComparePlan}: a stretch is a run of regions. */
  next = 0;
  /** See {@linkcode ComparePlan}. */
  end = 0;
  #region = 0;

  /**
   * Does nothing before `start`.
   *
   * @param link the copy: it gets writes, and is not complete
   * @param missed what it missed; in the end with what it lost
   * @param done called from the loop when all is known, or the copy is gone
   */
  constructor(
    readonly io: Io,
    readonly pool: BufferPool,
    readonly volume: Volume,
    readonly link: Link,
    readonly missed: BlockSet,
    readonly done: () => void,
  ) {
    this.#compare = new Compare(io, pool, volume, this);
  }

  /** Asks the copy for its map, and begins. */
  start(): void {
    const { volume, pool, link } = this;
    const at = (link.features & Feature.REGIONS) !== 0 ? pool.allocate(REGION_MAP_BYTES) : NO_BUFFER;
    const told = (result: number) => {
      if (at === NO_BUFFER || result < 0) setRegions(this.#map, volume.regions.region, 0, volume.bytes);
      else this.#map.set(this.io.arena.u8.subarray(at, at + REGION_MAP_BYTES));
      if (at !== NO_BUFFER) pool.release(at);
      this.#add();
      this.#compare.run();
    };
    if (at === NO_BUFFER) return told(0);
    const who = { complete: (_: number, result: number) => told(result) };
    volume.submitInner(InnerOp.REGIONS, 0, REGION_MAP_BYTES, at, who, 0, link.bit);
  }

  /** All regions that it had been writing to are missed until they were compared. */
  #add(): void {
    const { volume, missed, link } = this, { region } = volume.regions, map = this.#map;
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
  advance(): boolean {
    const { volume } = this, region = volume.regions.region;
    const [first, count] = nextRun(this.#map, this.#region);
    if (count === 0) return false;
    this.#region = first + count;
    this.next = first * region;
    this.end = Math.min(this.#region * region, volume.bytes);
    return true;
  }

  /** See {@linkcode ComparePlan}. */
  same(offset: number, length: number): void {
    this.missed.removeTouched(offset, length);
  }

  /** See {@linkcode ComparePlan}. What differs stays missed. */
  compared(): void {
    const { found } = this.#compare, over = found.length === 0 || this.stopped();
    found.length = 0;
    if (over) this.done();
    else this.#compare.run();
  }
}
