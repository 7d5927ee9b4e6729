/**
 * Fills an empty copy from a complete one while the volume serves: the new copy gets every write from the moment it
 * is admitted (mode WO), and everything older is copied to it block by block. A host's write and the copying of
 * the same block exclude each other, so it does not matter which comes first. At the end everything is flushed;
 * the owner then makes the copy complete ({@linkcode Volume.promote}), which is recorded on all copies before
 * anything that relies on it is answered.
 *
 * This is for volumes without snapshots: the new copy has one file, its head.
 *
 * @module
 */
import { Op } from "../block/device.ts";
import type { Io } from "../io/io.ts";
import type { BufferPool } from "../io/pool.ts";
import { Copies, type CopyPlan } from "./copies.ts";
import type { Link } from "./link.ts";
import type { Volume } from "./volume.ts";

/** How far it is. */
export interface RebuildProgress {
  /** The new copy. */
  readonly name: string;
  /** Bytes copied. */
  readonly done: number;
  /** Bytes of the volume. */
  readonly total: number;
}

/** See the module text. */
export class Rebuild implements CopyPlan {
  readonly #copies: Copies;
  /** See {@linkcode CopyPlan}: the whole volume is one stretch. */
  next = 0;

  /**
   * Begins with {@linkcode start}.
   *
   * @param link the new copy, connected and admitted as WO
   * @param done called from the loop once: "" = everything is copied and flushed, else why not
   */
  constructor(
    readonly io: Io,
    pool: BufferPool,
    readonly volume: Volume,
    readonly link: Link,
    readonly done: (failure: string) => void,
  ) {
    this.#copies = new Copies(io, pool, volume, this);
  }

  /** See {@linkcode CopyPlan}. */
  get end(): number {
    return this.volume.bytes;
  }

  /** Bytes that were copied. */
  get progress(): RebuildProgress {
    return { name: this.link.name, done: this.next, total: this.volume.bytes };
  }

  /** Begins. */
  start(): void {
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
    return false;
  }

  /** See {@linkcode CopyPlan}. After a failure the owner may begin again with another empty copy. */
  ended(failed: boolean): void {
    if (failed) return this.#end(this.#whyDown("a block could not be copied"));
    this.volume.submitInner(Op.FLUSH, 0, 0, 0, { complete: (_, result) => this.#flushed(result) }, 0);
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
