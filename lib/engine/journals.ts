/**
 * What copies missed that left the set: when one comes back soon, only that is copied to it. Kept in memory, and
 * handed over in a live upgrade; an engine that is started anew knows nothing, and the copy is rebuilt.
 *
 * A journal tells what a copy lacks only if nobody else has used it since. The generation that it recorded last is
 * kept with the journal: another engine would have left another one.
 *
 * @module
 */
import { BlockSet, type PackedSet } from "./block_set.ts";
import { HANDED_PAGES, MAX_REPLICAS, OUTAGE_WINDOW_MS } from "./limits.ts";

interface Journal {
  /** Identifier of the copy. */
  readonly id: string;
  /** Generation of the engine that it left. */
  readonly generation: number;
  /** When it left, ms of `io.now()`. */
  readonly since: number;
  readonly missed: BlockSet;
}

/** A journal as plain data, for the engine that takes over. */
export interface PackedJournal {
  /** Identifier of the copy. */
  readonly id: string;
  /** Generation of the engine that it left. */
  readonly generation: number;
  /** How long ago that was, milliseconds. */
  readonly ageMs: number;
  /** What it missed; null: more than is kept or handed over, so that it must be rebuilt. */
  readonly missed: PackedSet | null;
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
   * @param generation of the engine that it leaves
   * @param bytes of the volume
   * @param now ms of `io.now()`
   * @param missed what it had missed before
   * @returns what it missed, to be added to
   */
  open(
    id: string,
    generation: number,
    bytes: number,
    now: number,
    missed: BlockSet = new BlockSet(bytes),
  ): BlockSet {
    this.prune(now);
    this.#add({ id, generation, since: now, missed });
    return missed;
  }

  #add(journal: Journal): void {
    const others = this.#journals.filter(({ id }) => id !== journal.id).slice(-(MAX_REPLICAS - 1));
    this.#journals = [...others, journal];
  }

  /** What a copy missed; undefined when that is not known (any more). It is not kept on noting. */
  take(id: string, now: number): BlockSet | undefined {
    this.prune(now);
    const found = this.#journals.find((journal) => journal.id === id);
    this.#journals = this.#journals.filter((journal) => journal !== found);
    return found?.missed;
  }

  /** The generation that a copy must have recorded last for {@linkcode take} to be true of it; 0: nothing is known. */
  leftAt(id: string, now: number): number {
    this.prune(now);
    return this.#journals.find((journal) => journal.id === id)?.generation ?? 0;
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

  /** All of them as plain data; nothing is forgotten. The copies that left last come first where not all fit. */
  pack(now: number): PackedJournal[] {
    let left = HANDED_PAGES;
    return this.#journals.toReversed().map(({ id, generation, since, missed }) => {
      const fits = !missed.overflown && missed.pages <= left;
      if (fits) left -= missed.pages;
      return { id, generation, ageMs: now - since, missed: fits ? missed.pack() : null };
    });
  }

  /**
   * Takes what another engine packed.
   *
   * @param bytes of the volume
   * @returns identifiers of the copies of which is not known what they missed
   */
  adopt(packed: readonly PackedJournal[], bytes: number, now: number): string[] {
    const lost: string[] = [];
    for (const { id, generation, ageMs, missed } of packed.toReversed()) {
      try {
        if (missed === null) throw new RangeError("it was too much");
        this.#add({ id, generation, since: now - ageMs, missed: BlockSet.unpack(bytes, missed) });
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        lost.push(id);
      }
    }
    return lost;
  }
}
