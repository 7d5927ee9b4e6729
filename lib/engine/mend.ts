/**
 * Copies the edges of writes to a replica whose lower layers are not there yet.
 *
 * A write that is no whole number of blocks is read, changed and written back by a replica. One that is being filled
 * from below would take what it lacks for zeros. It gets the whole blocks of such a write only; when the complete
 * copies have the write, its first and its last block are read from one of them and written there, before the write
 * is answered. The range stays closed to other changes meanwhile, in whole blocks.
 *
 * @module
 */
import type { Completer, Io } from "../io/io.ts";
import { Edge } from "./copy.ts";
import { MEND_DEPTH, SLOTS } from "./limits.ts";
import { InnerOp, type Slots, type Submitter } from "./slots.ts";

const BLOCK = 4096;

/** What mending needs of the volume. */
export interface MendHost extends Submitter {
  /** Size of the volume, bytes. */
  readonly bytes: number;
  /** Bits of the layered copies. */
  readonly layered: number;
  /** Gives the layered copies up. */
  failLayered(reason: string): void;
  /** All edges of a slot are copied, or there is nobody left to copy them to. */
  mended(slot: number): void;
}

/** See the module text. */
export class Mender implements Completer {
  readonly #memory: number;
  /** Free blocks, by index. */
  readonly #free: number[] = Array.from({ length: MEND_DEPTH }, (_, i) => i);
  /** The slot that a block is used for. */
  readonly #slot = new Int32Array(MEND_DEPTH);
  /** Slots that wait for a block: at most all there are. */
  readonly #waiting: number[] = [];

  /** Takes its memory for good. */
  constructor(io: Io, readonly slots: Slots, readonly volume: MendHost) {
    this.#memory = io.arena.reserve(MEND_DEPTH * BLOCK, BLOCK);
  }

  /** Copies the edges of a slot, one after the other; `mended` follows, never inside the call. */
  mend(slot: number): void {
    const index = this.#free.pop();
    if (index === undefined) {
      this.#waiting.push(slot);
      if (this.#waiting.length > SLOTS) throw new Error("more writes are being mended than there are");
      return;
    }
    this.#slot[index] = slot;
    this.#next(index);
  }

  #next(index: number): void {
    const s = this.slots, slot = this.#slot[index];
    const end = s.offset[slot] + s.length[slot];
    const first = (s.mend[slot] & Edge.FIRST) !== 0;
    s.mend[slot] &= first ? ~Edge.FIRST : ~Edge.LAST;
    const offset = Math.floor((first ? s.offset[slot] : end) / BLOCK) * BLOCK;
    const { volume } = this, length = Math.min(BLOCK, volume.bytes - offset);
    volume.submitInner(
      InnerOp.MEND,
      offset,
      length,
      this.#memory + index * BLOCK,
      this,
      index,
      volume.layered,
    );
  }

  /** An edge was copied. */
  complete(index: number, result: number): void {
    const slot = this.#slot[index];
    if (result < 0) this.volume.failLayered("the edge of a write could not be copied to it");
    if (this.slots.mend[slot] !== 0 && this.volume.layered !== 0) return this.#next(index);
    this.#free.push(index);
    const next = this.#waiting.shift();
    if (next !== undefined) this.mend(next);
    this.volume.mended(slot);
  }
}
