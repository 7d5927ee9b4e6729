/**
 * Keeps the dirty regions small: replicas record a region before its first write by themselves; the engine tells
 * them when it is clean again. A region is clean when nothing was written to it for a while, nothing is under way
 * in it, and a flush has put everything on all copies.
 *
 * Time runs in periods. A region written in this period is `recent`, one of an earlier period is `older`. At the
 * end of a period the regions that are older and not recent are flushed and cleaned, a few at a time. When all are
 * clean the clock stops.
 *
 * @module
 */
import { type Completer, type Io, NO_TIMER } from "../io/io.ts";
import { Feature } from "../wire/frame.ts";
import { isClean, nextRun, REGION_MAP_BYTES, regionBytes, setRegions } from "../wire/regions.ts";
import { Op } from "../block/device.ts";
import { CLEAN_PERIOD_MS, MAX_CLEANS } from "./limits.ts";
import type { ReplicaSet } from "./replica_set.ts";
import { InnerOp, type Submitter } from "./slots.ts";

/** What the keeper needs of the volume. */
export interface RegionHost extends Submitter {
  /** Size of the volume. */
  readonly bytes: number;
  /** Its copies. */
  readonly replicas: ReplicaSet;
  /** Copies may differ: nothing may be told clean. */
  readonly turns: { readonly single: boolean };
  /** True when no change is under way in a range. */
  quiet(offset: number, length: number): boolean;
}

/** Tags of the keeper's own requests. */
const PERIOD = 0, FLUSHED = 1, CLEANED = 2;

/** See the module text. */
export class RegionKeeper implements Completer {
  /** Bytes of a region. */
  region: number;
  readonly #recent = new Uint8Array(REGION_MAP_BYTES);
  readonly #older = new Uint8Array(REGION_MAP_BYTES);
  /** Regions that the flush under way is for. */
  readonly #candidates = new Uint8Array(REGION_MAP_BYTES);
  #timer: number = NO_TIMER;
  #working = 0;
  #stopped = false;

  /**
   * Begins with every region clean.
   *
   * @param volume whose regions to keep
   */
  constructor(readonly io: Io, readonly volume: RegionHost) {
    this.region = regionBytes(volume.bytes);
  }

  /** A change begins. */
  touch(offset: number, length: number): void {
    if (setRegions(this.#recent, this.region, offset, length)) this.#arm();
  }

  /** Regions that were dirty at the start and are equal now: to be cleaned in time. */
  adopt(map: Uint8Array): void {
    for (let i = 0; i < map.length; i++) this.#older[i] |= map[i];
    this.#arm();
  }

  /** The volume has grown: regions may be larger from now on. */
  resize(): void {
    const before = this.region;
    this.region = regionBytes(this.volume.bytes);
    if (this.region === before) return;
    for (const map of [this.#recent, this.#older, this.#candidates]) {
      const old = map.slice();
      map.fill(0);
      for (let [first, count] = nextRun(old, 0); count > 0; [first, count] = nextRun(old, first + count)) {
        setRegions(map, this.region, first * before, count * before);
      }
    }
  }

  /** Goes on after {@linkcode stop}. */
  begin(): void {
    this.#stopped = false;
    if (!isClean(this.#recent) || !isClean(this.#older)) this.#arm();
  }

  /** Regions that may differ between copies: written to and not cleaned since. */
  map(): Uint8Array {
    return this.#older.map((bits, i) => bits | this.#recent[i]);
  }

  /** Ends. */
  stop(): void {
    this.#stopped = true;
    this.io.cancel(this.#timer);
    this.#timer = NO_TIMER;
  }

  #arm(): void {
    if (this.#timer !== NO_TIMER || this.#stopped) return;
    this.#timer = this.io.timer(CLEAN_PERIOD_MS, this, PERIOD);
  }

  /** The end of a period, of the flush, of a cleaning. */
  complete(tag: number, result: number): void {
    if (tag === PERIOD) {
      this.#timer = NO_TIMER;
      this.#period();
    } else if (tag === FLUSHED) this.#flushed(result);
    else if (--this.#working === 0) this.#cleanMore();
  }

  #period(): void {
    // The candidates are those of the flush under way.
    if (this.#working > 0) return this.#arm();
    const { replicas } = this.volume, region = this.region;
    for (let i = 0; i < REGION_MAP_BYTES; i++) {
      this.#candidates[i] = this.#older[i] & ~this.#recent[i];
      this.#older[i] |= this.#recent[i];
      this.#recent[i] = 0;
    }
    if (isClean(this.#older)) return;
    const able = replicas.readers.length > 1 &&
      replicas.readers.every((r) => (r.features & Feature.REGIONS) !== 0);
    for (
      let [first, count] = nextRun(this.#candidates, 0);
      count > 0;
      [first, count] = nextRun(this.#candidates, first)
    ) {
      // One at a time: a write under way in one region must not keep its neighbours dirty.
      if (!this.volume.quiet(first * region, region)) this.#candidates[first >> 3] &= ~(1 << (first & 7));
      first++;
    }
    // A copy that may differ stays recorded until it was made equal.
    if (!able || this.volume.turns.single || isClean(this.#candidates)) return this.#arm();
    this.#working = 1;
    this.volume.submitInner(Op.FLUSH, 0, 0, 0, this, FLUSHED);
  }

  #flushed(result: number): void {
    if (result < 0) this.#candidates.fill(0);
    this.#working = 0;
    this.#cleanMore();
  }

  /** Cleans some of what the flush was for, and goes on when that is done. */
  #cleanMore(): void {
    const region = this.region, { bytes, turns } = this.volume;
    // What was written to since the flush began is dirty again.
    for (let i = 0; i < REGION_MAP_BYTES; i++) this.#candidates[i] &= ~this.#recent[i];
    let runs = 0;
    for (
      let [first, count] = nextRun(this.#candidates, 0);
      count > 0 && runs < MAX_CLEANS && !turns.single && !this.#stopped;
      [first, count] = nextRun(this.#candidates, first + count), runs++
    ) {
      for (let r = first; r < first + count; r++) {
        this.#older[r >> 3] &= ~(1 << (r & 7));
        this.#candidates[r >> 3] &= ~(1 << (r & 7));
      }
      const offset = first * region, length = Math.min(count * region, bytes - offset);
      this.#working++;
      this.volume.submitInner(InnerOp.CLEAN, offset, length, 0, this, CLEANED);
    }
    if (runs === 0) this.#arm();
  }
}
