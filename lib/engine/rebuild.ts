/**
 * Fills an empty copy from a complete one, or one that was out for a while, while the volume serves: the new copy gets every write from the moment it
 * is admitted (mode WO), and everything older is copied to it block by block. A host's write and the copying of
 * the same block exclude each other, so it does not matter which comes first. At the end everything is flushed;
 * the owner then makes the copy complete ({@linkcode Volume.promote}), which is recorded on all copies before
 * anything that relies on it is answered.
 *
 * An empty copy has one file, its head: it fits volumes without snapshots only.
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import type { BufferPool } from "../io/pool.ts";
import { type BlockSet, SET_BLOCK_BYTES } from "./block_set.ts";
import { Copies, type CopyPlan } from "./copies.ts";
import type { Link } from "./link.ts";
import type { Pace } from "./pace.ts";
import type { Volume } from "./volume.ts";

/** Longest run of missed blocks that is looked up at once: 1 GiB. */
const STRETCH_BLOCKS = 256 * 1024;

/** How far it is. */
export interface RebuildProgress {
  /** The new copy. */
  readonly name: string;
  /** Bytes copied. */
  readonly done: number;
  /** Bytes of the volume, or of what it missed. */
  readonly total: number;
  /** Bytes per second of late; 0 = not known yet. */
  readonly perSecond: number;
  /** Bytes per second at most; 0 = no limit. */
  readonly limit: number;
}

/** See the module text. */
export class Rebuild implements CopyPlan {
  readonly #copies: Copies;
  /** See {@linkcode CopyPlan}: the whole volume is one stretch, or each run of missed blocks is. */
  next = 0;
  /** See {@linkcode CopyPlan}. */
  end: number;
  #done = 0;

  /**
   * Begins with {@linkcode start}.
   *
   * @param link the new copy, connected and admitted as WO
   * @param done called from the loop once: "" = everything is copied and flushed, else why not
   * @param pace its limit, which may change on the way
   * @param missed the blocks to be copied; default: all
   */
  constructor(
    readonly io: Io,
    pool: BufferPool,
    readonly volume: Volume,
    readonly link: Link,
    readonly done: (failure: string) => void,
    readonly pace: Pace,
    readonly missed?: BlockSet,
  ) {
    this.#copies = new Copies(io, pool, volume, this, pace);
    this.end = missed ? 0 : volume.bytes;
  }

  /** Bytes that were copied. */
  get progress(): RebuildProgress {
    const { missed, volume, link: { name }, pace: { perSecond, limit } } = this;
    if (!missed) return { name, done: this.next, total: volume.bytes, perSecond, limit };
    const done = this.#done - (this.end - this.next);
    return { name, done, total: missed.count * SET_BLOCK_BYTES, perSecond, limit };
  }

  /** Begins. */
  start(): void {
    this.pace.begin();
    this.#copies.run();
  }

  /** See {@linkcode CopyPlan}. */
  get to(): number {
    return this.link.bit;
  }

  /** See {@linkcode CopyPlan}. */
  stopped(): boolean {
    return !this.link.up;
  }

  /** See {@linkcode CopyPlan}. */
  advance(): boolean {
    if (!this.missed) return false;
    const [first, count] = this.missed.next(Math.floor(this.end / SET_BLOCK_BYTES), STRETCH_BLOCKS);
    if (count === 0) return false;
    this.next = first * SET_BLOCK_BYTES;
    this.end = Math.min(this.next + count * SET_BLOCK_BYTES, this.volume.bytes);
    this.#done += this.end - this.next;
    return true;
  }

  /** See {@linkcode CopyPlan}. After a failure the owner may begin again with another empty copy. */
  ended(failed: boolean): void {
    if (failed) return this.#end(this.#whyDown("a block could not be copied"));
    this.volume.flush({ complete: (_, result) => this.#flushed(result) });
  }

  #flushed(result: number): void {
    this.#end(result < 0 || !this.link.up ? this.#whyDown("the flush at the end failed") : "");
  }

  #whyDown(otherwise: string): string {
    return this.link.up ? otherwise : this.link.reason || otherwise;
  }

  #end(failure: string): void {
    if (failure !== "") this.link.close(`rebuild failed: ${failure}`);
    this.done(failure);
  }
}
