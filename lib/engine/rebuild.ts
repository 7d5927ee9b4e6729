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
import type { Completer, Io } from "../io/io.ts";
import { type BufferPool, NO_BUFFER } from "../io/pool.ts";
import { REBUILD_BYTES, REBUILD_DEPTH } from "./limits.ts";
import type { Link } from "./link.ts";
import { InnerOp } from "./slots.ts";
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
export class Rebuild implements Completer {
  readonly #buffers: number[] = [];
  #next = 0;
  #underWay = 0;
  #failure = "";
  #ended = false;

  /**
   * Begins with {@linkcode start}.
   *
   * @param link the new copy, connected and admitted as WO
   * @param ended called from the loop once: "" = everything is copied and flushed, else why not
   */
  constructor(
    readonly io: Io,
    readonly pool: BufferPool,
    readonly volume: Volume,
    readonly link: Link,
    readonly ended: (failure: string) => void,
  ) {}

  /** Bytes that were copied. */
  get progress(): RebuildProgress {
    return { name: this.link.name, done: this.#next, total: this.volume.bytes };
  }

  /** Begins. */
  start(): void {
    this.volume.copyTo = this.link.bit;
    this.#pump();
  }

  #pump(): void {
    const { volume, link } = this;
    if (!link.up) this.#failure ||= link.reason || "the new copy failed";
    while (this.#underWay < REBUILD_DEPTH && this.#next < volume.bytes && this.#failure === "") {
      const at = this.#buffers.pop() ?? this.pool.allocate(REBUILD_BYTES);
      if (at === NO_BUFFER) {
        if (this.#underWay === 0) this.pool.wait({ runDeferred: () => this.#pump() });
        return;
      }
      const length = Math.min(REBUILD_BYTES, volume.bytes - this.#next);
      this.#underWay++;
      volume.submitInner(InnerOp.COPY, this.#next, length, at, this, at);
      this.#next += length;
    }
    if (this.#underWay > 0) return;
    for (const at of this.#buffers.splice(0)) this.pool.release(at);
    if (this.#failure !== "") return this.#end(this.#failure);
    volume.submitInner(Op.FLUSH, 0, 0, 0, { complete: (_, result) => this.#flushed(result) }, 0);
  }

  /** A block was copied, or not: then the caller may begin again with another empty copy. */
  complete(at: number, result: number): void {
    this.#underWay--;
    this.#buffers.push(at);
    if (result < 0) this.#failure = "a block could not be copied";
    this.#pump();
  }

  #flushed(result: number): void {
    this.#end(result < 0 || !this.link.up ? this.link.reason || "the flush at the end failed" : "");
  }

  #end(failure: string): void {
    if (this.#ended) return;
    this.#ended = true;
    if (failure !== "") this.link.close(`rebuild failed: ${failure}`);
    this.ended(failure);
  }
}
