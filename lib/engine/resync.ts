/**
 * Makes copies equal after an unclean stop. Each replica tells which regions it had been writing to; in their
 * union the first copy is read and written to the others, block by block, beside the requests of hosts (a host's
 * write to a block that is being copied waits, and the other way round). Until the end all reads go to the first
 * copy, so that nobody ever sees one version and then the other.
 *
 * When the first copy fails on the way, the next one becomes the source and everything begins again.
 *
 * @module
 */
import type { Completer, Io } from "../io/io.ts";
import { type BufferPool, NO_BUFFER } from "../io/pool.ts";
import { Feature } from "../wire/frame.ts";
import { nextRun, REGION_MAP_BYTES, setRegions } from "../wire/regions.ts";
import { RESYNC_BYTES, RESYNC_DEPTH } from "./limits.ts";
import type { Link } from "./link.ts";
import { InnerOp } from "./slots.ts";
import type { Volume } from "./volume.ts";

/** What came of it. */
export interface ResyncReport {
  /** Bytes of the regions that were made equal. */
  readonly bytes: number;
}

/** See the module text. */
export class Resync implements Completer {
  readonly #map = new Uint8Array(REGION_MAP_BYTES);
  readonly #buffers: number[] = [];
  #source: Link | undefined;
  #asking = 0;
  /** Next byte to copy, and the end of the run of regions it lies in. */
  #next = 0;
  #end = 0;
  #region = 0;
  #underWay = 0;
  #bytes = 0;
  #broken = false;

  /**
   * Does nothing before `start`.
   *
   * @param pool for the buffers of the copies
   * @param done called from the loop when all copies are equal, or only one is left
   */
  constructor(
    readonly io: Io,
    readonly pool: BufferPool,
    readonly volume: Volume,
    readonly done: (report: ResyncReport) => void,
  ) {}

  /** Begins. The volume has been started and reads from one copy. */
  start(): void {
    this.volume.copyTo = this.volume.replicas.readersMask;
    const { readers } = this.volume.replicas;
    this.#source = readers[0];
    this.#broken = false;
    this.#bytes = 0;
    if (readers.length < 2) return this.#finish();
    this.#asking = readers.length;
    [...readers].forEach((link, place) => this.#ask(link, place));
  }

  /** Asks one replica for its map; without one everything may differ there. */
  #ask(link: Link, place: number): void {
    const { volume, pool } = this;
    const at = (link.features & Feature.REGIONS) !== 0 ? pool.allocate(REGION_MAP_BYTES) : NO_BUFFER;
    const told = (result: number) => {
      if (result < 0) setRegions(this.#map, volume.regions.region, 0, volume.bytes);
      else for (let i = 0; i < REGION_MAP_BYTES; i++) this.#map[i] |= this.io.arena.u8[at + i];
      if (at !== NO_BUFFER) pool.release(at);
      if (--this.#asking === 0) this.#copy();
    };
    if (at === NO_BUFFER) return this.io.defer({ runDeferred: () => told(-1) });
    volume.submitInner(
      InnerOp.REGIONS,
      0,
      REGION_MAP_BYTES,
      at,
      { complete: (_, result) => told(result) },
      place,
    );
  }

  #copy(): void {
    const run = nextRun(this.#map, 0);
    this.#setRun(run);
    this.#pump();
  }

  #setRun([first, count]: readonly [number, number]): void {
    const region = this.volume.regions.region;
    this.#region = first + count;
    this.#next = first * region;
    this.#end = Math.min((first + count) * region, this.volume.bytes);
    if (count === 0) this.#next = this.#end = this.volume.bytes;
  }

  /** Keeps a few copies under way. */
  #pump(): void {
    if (this.#source !== this.volume.replicas.readers[0]) this.#broken = true;
    while (this.#underWay < RESYNC_DEPTH && !this.#broken) {
      if (this.#next >= this.#end) {
        if (this.#next >= this.volume.bytes) break;
        this.#setRun(nextRun(this.#map, this.#region));
        continue;
      }
      const length = Math.min(RESYNC_BYTES, this.#end - this.#next);
      const at = this.#buffers.pop() ?? this.pool.allocate(RESYNC_BYTES);
      if (at === NO_BUFFER) {
        if (this.#underWay === 0) this.pool.wait({ runDeferred: () => this.#pump() });
        return;
      }
      this.#underWay++;
      this.#bytes += length;
      this.volume.submitInner(InnerOp.COPY, this.#next, length, at, this, at);
      this.#next += length;
    }
    if (this.#underWay > 0) return;
    for (const at of this.#buffers.splice(0)) this.pool.release(at);
    if (this.#broken && this.volume.serving) this.start();
    else this.#finish();
  }

  /** A copy ended. */
  complete(at: number, result: number): void {
    this.#underWay--;
    this.#buffers.push(at);
    if (result < 0) this.#broken = true;
    this.#pump();
  }

  #finish(): void {
    if (!this.volume.serving) return;
    this.volume.regions.adopt(this.#map);
    this.volume.turns.single = false;
    this.done({ bytes: this.#bytes });
  }
}
