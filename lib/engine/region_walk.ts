/**
 * Regions that copies had been writing to, asked from the copies themselves, as stretches to be compared one after the
 * other: what making copies equal and finding a copy's lost writes have in common.
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import { type BufferPool, NO_BUFFER } from "../io/pool.ts";
import { Feature } from "../wire/frame.ts";
import { nextRun, REGION_MAP_BYTES, setRegions } from "../wire/regions.ts";
import type { Link } from "./link.ts";
import { InnerOp } from "./slots.ts";
import type { Volume } from "./volume.ts";

/** See the module text. Its stretches are those of a `ComparePlan`: runs of regions. */
export abstract class RegionWalk {
  /** The regions of all copies that were asked. */
  protected readonly map: Uint8Array = new Uint8Array(REGION_MAP_BYTES);
  /** See {@linkcode ComparePlan}. */
  next = 0;
  /** See {@linkcode ComparePlan}. */
  end = 0;
  /** The region after the stretch. */
  #region = 0;

  /** Knows no region yet. @param pool for the answers of copies */
  constructor(readonly io: Io, readonly pool: BufferPool, readonly volume: Volume) {}

  /** Begins again with the first stretch. */
  protected rewind(): void {
    this.#region = this.next = this.end = 0;
  }

  /**
   * Asks one replica for its map, and adds that; without one everything may differ there.
   *
   * @param told called from the loop, never inside the call
   */
  protected ask(link: Link, told: () => void): void {
    const { volume, pool } = this;
    const at = (link.features & Feature.REGIONS) !== 0 ? pool.allocate(REGION_MAP_BYTES) : NO_BUFFER;
    const answered = (result: number) => {
      if (result < 0) setRegions(this.map, volume.regions.region, 0, volume.bytes);
      else for (let i = 0; i < REGION_MAP_BYTES; i++) this.map[i] |= this.io.arena.u8[at + i];
      if (at !== NO_BUFFER) pool.release(at);
      told();
    };
    if (at === NO_BUFFER) return this.io.defer({ runDeferred: () => answered(-1) });
    const who = { complete: (_: number, result: number) => answered(result) };
    volume.submitInner(InnerOp.REGIONS, 0, REGION_MAP_BYTES, at, who, 0, link.bit);
  }

  /** See {@linkcode ComparePlan}. */
  advance(): boolean {
    const { volume } = this, region = volume.regions.region;
    const [first, count] = nextRun(this.map, this.#region);
    if (count === 0) return false;
    this.#region = first + count;
    this.next = first * region;
    this.end = Math.min(this.#region * region, volume.bytes);
    return true;
  }
}
