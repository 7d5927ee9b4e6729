/**
 * Flushing: everything that completed before a flush is on stable storage when it completes.
 *
 * One sync serves all flushes that it can serve: flushes that arrive while one is running share the next one, or
 * the running one when nothing was written since it began; and when nothing was written since the last one that
 * succeeded, there is nothing to do.
 *
 * A sync that fails is final. The kernel reports a lost write once and forgets it; a second sync would succeed
 * without the data. So the replica is declared bad and never trusted again.
 *
 * @module
 */
import type { Completer } from "../io/io.ts";
import type { DiskCore } from "./core.ts";
import { SlotList, type SlotOwner } from "./requests.ts";
import type { RevisionCounter } from "./revision_counter.ts";

/** Flushes of an open replica. */
export class FlushPath implements SlotOwner, Completer {
  readonly #core: DiskCore;
  readonly #counter: RevisionCounter;
  /** Flushes that the running sync serves. */
  readonly #served: SlotList;
  /** Flushes that wait for the next one. */
  readonly #waiting: SlotList;
  /** Flushes that are about to be told. */
  readonly #done: SlotList;
  /** Syncs under way: of the head, and of the counter. */
  #underWay = 0;
  #result = 0;
  /** State of the counters of changes when the running sync began, and at the last one that succeeded. */
  #begun = 0;
  #begunCounter = 0;
  #synced: number;
  #syncedCounter = 0;

  /**
   * Syncs the head and the counter.
   *
   * @param clean nothing is known to be unsynced in the head
   */
  constructor(core: DiskCore, counter: RevisionCounter, clean: boolean) {
    this.#core = core;
    this.#counter = counter;
    this.#served = new SlotList(core.requests);
    this.#waiting = new SlotList(core.requests);
    this.#done = new SlotList(core.requests);
    this.#synced = clean ? core.changes : core.changes - 1;
  }

  /** True when everything that completed is on stable storage. */
  get clean(): boolean {
    return this.#synced === this.#core.changes && this.#syncedCounter === this.#counter.changes;
  }

  /** Head and counter were synced by other means, while no request was under way. */
  noteSynced(): void {
    this.#synced = this.#core.changes;
    this.#syncedCounter = this.#counter.changes;
  }

  /** See `ReplicaDisk.flush`. */
  flush(who: Completer, tag: number): void {
    const core = this.#core, slot = core.requests.acquire(this, 0, 0, 0, who, tag);
    const refusal = core.refusal(0, 0);
    if (refusal < 0 || (this.clean && this.#underWay === 0)) {
      core.requests.finishLater(slot, refusal);
    } else if (this.#underWay === 0) {
      this.#served.push(slot);
      this.#start();
    } else if (this.#begun === core.changes && this.#begunCounter === this.#counter.changes) {
      this.#served.push(slot);
    } else {
      this.#waiting.push(slot);
    }
  }

  #start(): void {
    const core = this.#core, counter = this.#counter;
    this.#result = 0;
    this.#begun = core.changes;
    this.#begunCounter = counter.changes;
    const head = this.#begun !== this.#synced, counted = this.#begunCounter !== this.#syncedCounter;
    this.#underWay = (head ? 1 : 0) + (counted ? 1 : 0);
    if (head) core.io.syncData(core.headFd, this, 0);
    if (counted) core.io.syncData(counter.fd, this, 0);
  }

  /** A sync is over. */
  complete(_tag: number, result: number): void {
    if (result < 0) {
      this.#result = result;
      this.#core.fail("a sync failed: what was written before may be lost");
    }
    if (--this.#underWay > 0) return;
    const requests = this.#core.requests, outcome = this.#result;
    this.#done.take(this.#served);
    if (this.#result === 0) {
      this.#synced = this.#begun;
      this.#syncedCounter = this.#begunCounter;
    }
    if (this.#waiting.count > 0) {
      // The next sync starts before anyone is told, so that flushes sent in reply find it running.
      if (this.#result === 0 && !this.clean) {
        this.#served.take(this.#waiting);
        this.#start();
      } else {
        this.#done.take(this.#waiting);
      }
    }
    for (let n = this.#done.count; n > 0; n--) requests.finish(this.#done.shift(), outcome);
  }

  /** Flushes lock nothing. */
  lockGranted(): void {}

  /** Flushes copy nothing. */
  bufferGranted(): void {}
}
