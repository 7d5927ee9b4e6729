/**
 * What copies missed that left the set: when one comes back soon, only that is copied to it. Kept in memory; an
 * engine that is started anew knows nothing, and the copy is rebuilt.
 *
 * @module
 */
import { BlockSet } from "./block_set.ts";
import { MAX_REPLICAS, OUTAGE_WINDOW_MS } from "./limits.ts";

interface Journal {
  /** Identifier of the copy. */
  readonly id: string;
  /** When it left, ms of `io.now()`. */
  readonly since: number;
  readonly missed: BlockSet;
}

/** See the module text. */
export class Journals {
  #journals: Journal[] = [];
  /** Longest outage that is made good in this way, milliseconds; 0 switches it off. */
  windowMs: number = OUTAGE_WINDOW_MS;

  /** A change begins. */
  note(offset: number, length: number): void {
    for (let i = 0; i < this.#journals.length; i++) this.#journals[i].missed.addTouched(offset, length);
  }

  /**
   * A copy left.
   *
   * @param id its identifier
   * @param bytes of the volume
   * @param now ms of `io.now()`
   * @param missed what it had missed before
   * @returns what it missed, to be added to
   */
  open(id: string, bytes: number, now: number, missed: BlockSet = new BlockSet(bytes)): BlockSet {
    this.prune(now);
    this.#journals = this.#journals.filter((journal) => journal.id !== id).slice(-(MAX_REPLICAS - 1));
    this.#journals.push({ id, since: now, missed });
    return missed;
  }

  /** What a copy missed; undefined when that is not known (any more). It is not kept on noting. */
  take(id: string, now: number): BlockSet | undefined {
    this.prune(now);
    const found = this.#journals.find((journal) => journal.id === id);
    this.#journals = this.#journals.filter((journal) => journal !== found);
    return found?.missed;
  }

  /** True when {@linkcode take} would tell something. */
  knows(id: string, now: number): boolean {
    this.prune(now);
    return this.#journals.some((journal) => journal.id === id);
  }

  /** Forgets what is too old, or too much. */
  prune(now: number): void {
    this.#journals = this.#journals.filter(({ since, missed }) =>
      !missed.overflown && now - since <= this.windowMs
    );
  }

  /** Forgets everything: the content of the volume changed otherwise. */
  clear(): void {
    this.#journals = [];
  }
}
