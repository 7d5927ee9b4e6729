/**
 * Makes copies equal after an unclean stop. Each replica tells which regions it had been writing to; in their
 * union the copies are compared by digests (compare.ts), and where they differ the first copy is read and written to
 * the others, block by block, beside the requests of hosts (a host's write to a block that is being copied waits,
 * and the other way round). Until the end all reads go to the first copy, so that nobody ever sees one version
 * and then the other.
 *
 * Comparing and copying take turns, so that what is noted in between stays small.
 *
 * When the first copy fails on the way, the next one becomes the source and everything begins again.
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import type { BufferPool } from "../io/pool.ts";
import { RESYNC_RETRY_MS } from "./limits.ts";
import { Compare, type ComparePlan } from "./compare.ts";
import { Copies, type CopyPlan } from "./copies.ts";
import type { Link } from "./link.ts";
import { RegionWalk } from "./region_walk.ts";
import type { Volume } from "./volume.ts";

/** What came of it. */
export interface ResyncReport {
  /** Bytes of the regions that were compared. */
  readonly bytes: number;
  /** Bytes that differed and were copied. */
  readonly copied: number;
}

/** See the module text. */
export class Resync extends RegionWalk implements ComparePlan {
  readonly #compare: Compare;
  readonly #copies: Copies;
  #source: Link | undefined;
  #asking = 0;
  #differed = 0;
  #bytes = 0;
  #copied = 0;

  /**
   * Does nothing before `start`.
   *
   * @param pool for the buffers of the copies
   * @param done called from the loop when all copies are equal, or only one is left
   */
  constructor(
    io: Io,
    pool: BufferPool,
    volume: Volume,
    readonly done: (report: ResyncReport) => void,
  ) {
    super(io, pool, volume);
    this.#compare = new Compare(io, pool, volume, this);
    this.#copies = new Copies(io, pool, volume, new Differences(this.#compare.found, this));
  }

  /** Begins. The volume has been started and reads from one copy. */
  start(): void {
    const { readers } = this.volume.replicas;
    this.#differed = this.volume.differed;
    this.#source = readers[0];
    this.#bytes = this.#copied = 0;
    this.rewind();
    this.#compare.found.length = 0;
    if (readers.length < 2) return this.#finish();
    this.#asking = readers.length;
    const told = () => {
      if (--this.#asking === 0) this.#compare.run();
    };
    for (const link of [...readers]) this.ask(link, told);
  }

  /** See {@linkcode ComparePlan}. */
  get links(): readonly Link[] {
    return this.volume.replicas.readers;
  }

  /** See {@linkcode ComparePlan}: another source means to begin again. */
  stopped(): boolean {
    return !this.volume.working || this.#source !== this.volume.replicas.readers[0];
  }

  /** See {@linkcode ComparePlan}. */
  override advance(): boolean {
    if (!super.advance()) return false;
    this.#bytes += this.end - this.next;
    return true;
  }

  /** See {@linkcode ComparePlan}. */
  same(): void {}

  /** See {@linkcode ComparePlan}. */
  compared(): void {
    const { found } = this.#compare;
    if (this.stopped() || found.length === 0) return this.#ended(this.stopped());
    for (let i = 1; i < found.length; i += 2) this.#copied += found[i];
    this.#copies.run();
  }

  /** What was found was copied. */
  made(failed: boolean): void {
    this.#compare.found.length = 0;
    if (failed) return this.#ended(true);
    this.#compare.run();
  }

  #ended(failed: boolean): void {
    // Where copies began to differ meanwhile may lie behind.
    if (!failed && this.volume.differed === this.#differed) return this.#finish();
    if (!this.volume.working) return;
    // The source failed, and another one takes over; or a copy is full, and may have space later.
    if (this.stopped()) return this.start();
    this.io.timer(RESYNC_RETRY_MS, { complete: () => this.volume.working && this.start() }, 0);
  }

  #finish(): void {
    if (!this.volume.working) return;
    this.volume.regions.adopt(this.map);
    this.volume.turns.single = false;
    this.done({ bytes: this.#bytes, copied: this.#copied });
  }
}

/** What copies differ in, as what is to be copied from the first to all others. */
class Differences implements CopyPlan {
  /** See {@linkcode CopyPlan}. */
  next = 0;
  /** See {@linkcode CopyPlan}. */
  end = 0;
  #index = 0;

  constructor(readonly found: readonly number[], readonly resync: Resync) {}

  get to(): number {
    return this.resync.volume.replicas.readersMask;
  }

  stopped(): boolean {
    return this.resync.stopped();
  }

  advance(): boolean {
    const i = this.#index;
    if (i >= this.found.length) return false;
    this.next = this.found[i];
    this.end = this.next + this.found[i + 1];
    this.#index = i + 2;
    return true;
  }

  ended(failed: boolean): void {
    this.#index = this.next = this.end = 0;
    this.resync.made(failed);
  }
}
