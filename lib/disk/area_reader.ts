/**
 * Reads one area of the volume into one piece of memory: finds the files that hold its blocks and reads each run
 * of blocks from its file, some of them at the same time. What lies beyond the end of a file that is shorter
 * than the volume reads as zeros. So does what a qcow2 image does not hold; its other clusters are read where they
 * are in its file.
 *
 * @module
 */
import type { Completer } from "../io/io.ts";
import { Later } from "../io/later.ts";
import { BLOCK_BYTES } from "./block_map.ts";
import type { DiskCore } from "./core.ts";
import { type Qcow2Image, STORED, ZEROS } from "./qcow2.ts";
import { REQUEST_SLOTS } from "./requests.ts";

/** Reads under way at once for one area. A power of two. */
const PARALLEL = 4;
const PARALLEL_SHIFT = 2;

/** Told when an area was read. */
export interface AreaListener {
  /**
   * The reading is over.
   *
   * @param result 0 or `-errno`
   */
  areaRead(slot: number, result: number): void;
}

/** Reads areas, one per slot at a time. */
export class AreaReader implements Completer {
  readonly #core: DiskCore;
  readonly #listener: AreaListener;
  readonly #offset = new Float64Array(REQUEST_SLOTS);
  readonly #length = new Float64Array(REQUEST_SLOTS);
  readonly #at = new Float64Array(REQUEST_SLOTS);
  readonly #next = new Float64Array(REQUEST_SLOTS);
  readonly #error = new Int32Array(REQUEST_SLOTS);
  readonly #underWay = new Uint8Array(REQUEST_SLOTS);
  readonly #partAt = new Float64Array(REQUEST_SLOTS * PARALLEL);
  readonly #partLength = new Float64Array(REQUEST_SLOTS * PARALLEL);
  /** Areas that were there without any read. */
  readonly #later: Later;

  /** Reads through `core` and tells `listener`. */
  constructor(core: DiskCore, listener: AreaListener) {
    this.#core = core;
    this.#listener = listener;
    const who = { complete: (slot: number, result: number) => listener.areaRead(slot, result) };
    this.#later = new Later(core.io, REQUEST_SLOTS, who);
  }

  /**
   * Starts reading. With direct I/O everything is aligned to blocks.
   *
   * @returns 0: `areaRead` follows from the loop; or `-errno`: it does not
   */
  start(slot: number, offset: number, length: number, at: number): number {
    const problem = this.#core.know(offset, length);
    if (problem < 0) return problem;
    this.#offset[slot] = offset;
    this.#length[slot] = length;
    this.#at[slot] = at;
    this.#next[slot] = 0;
    this.#error[slot] = 0;
    for (let part = 0; part < PARALLEL && this.#hasMore(slot); part++) this.#issue(slot, part);
    if (this.#underWay[slot] === 0) this.#later.push(slot, this.#error[slot]);
    return 0;
  }

  #hasMore(slot: number): boolean {
    return this.#error[slot] === 0 && this.#next[slot] < this.#length[slot];
  }

  /** Begins the next read, if there is anything left that has to be read. */
  #issue(slot: number, part: number): void {
    const core = this.#core, layers = core.layers;
    while (this.#hasMore(slot)) {
      const done = this.#next[slot], offset = this.#offset[slot] + done;
      const left = this.#length[slot] - done, block = Math.floor(offset / BLOCK_BYTES);
      const run = core.map.run(block, Math.ceil((offset + left) / BLOCK_BYTES) - block);
      const bytes = Math.min((block + run) * BLOCK_BYTES - offset, left), id = core.map.get(block);
      if (id !== layers.imageId) {
        this.#read(slot, part, layers.fdOfId[id], bytes, offset);
        return;
      }
      const image = layers.image as Qcow2Image, kind = image.locate(offset, bytes);
      if (kind === STORED) {
        this.#read(slot, part, layers.fdOfId[id], image.run, image.at);
        return;
      }
      this.#fill(slot, image, kind, offset);
    }
  }

  /** Reads a run of bytes at an offset in a file. */
  #read(slot: number, part: number, fd: number, bytes: number, offset: number): void {
    const i = slot * PARALLEL + part, done = this.#next[slot];
    this.#partAt[i] = this.#at[slot] + done;
    this.#partLength[i] = bytes;
    this.#next[slot] = done + bytes;
    this.#underWay[slot]++;
    this.#core.io.read(fd, this.#partAt[i], bytes, offset, this, i);
  }

  /** Zeros, or the content of a compressed cluster, or an error. */
  #fill(slot: number, image: Qcow2Image, kind: number, offset: number): void {
    if (kind < 0) {
      this.#error[slot] = kind;
      return;
    }
    const at = this.#at[slot] + this.#next[slot], { u8 } = this.#core.io.arena;
    if (kind === ZEROS) u8.fill(0, at, at + image.run);
    else this.#error[slot] = image.unpack(offset, u8.subarray(at, at + image.run));
    this.#next[slot] += image.run;
  }

  /** One run was read. */
  complete(tag: number, result: number): void {
    const slot = tag >>> PARALLEL_SHIFT;
    if (result < 0) {
      if (this.#error[slot] === 0) this.#error[slot] = result;
    } else if (result < this.#partLength[tag]) {
      const at = this.#partAt[tag];
      this.#core.io.arena.u8.fill(0, at + result, at + this.#partLength[tag]);
    }
    this.#underWay[slot]--;
    this.#issue(slot, tag & (PARALLEL - 1));
    if (this.#underWay[slot] === 0) this.#listener.areaRead(slot, this.#error[slot]);
  }
}
