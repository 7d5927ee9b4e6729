/**
 * What a disk may answer: the memory of every write that a test submitted, sector by sector, and which of them a
 * read may return now. It knows three things about a write: submitted, completed, flushed.
 *
 * | event | effect on a sector |
 * |---|---|
 * | write submitted | its value is possible from now on, now and after any crash |
 * | write completed | what was completed before its submission is not possible any more |
 * | write refused | copies may differ there until they were made equal: the one that is read from may leave before |
 * | flush completed | the same for what may be found after a loss of power everywhere |
 * | read completed | with no write under way meanwhile, only what was seen is possible any more |
 * | all copies lost power | possible is what a loss of power may leave |
 *
 * A sector's bytes are its write's number and its own, repeated: a torn or misplaced sector is no value at all.
 * An unmap is a write of zeros; zeros on the disk stand for any of them, and for the beginning.
 *
 * @module
 */

/** Bytes of a sector: what a device writes as a whole. */
export const SECTOR = 512;

/** One write or unmap of the test; the model's own record of it. */
export interface Write {
  /** What its sectors hold. */
  readonly id: number;
  /** An unmap. */
  readonly zeros: boolean;
  /** First sector. */
  readonly first: number;
  /** Sectors. */
  readonly count: number;
  /** Order of its submission. */
  readonly submitted: number;
  /** Order of its successful completion; Infinity while it has none. */
  completed: number;
  /** Order of its answer, good or bad; Infinity while it is under way. */
  ended: number;
}

/** A read under way. */
export interface Read {
  /** First sector. */
  readonly first: number;
  /** Order of its submission. */
  readonly submitted: number;
  /** Per sector: what it may return, besides what is submitted after it. */
  readonly allowed: readonly ReadonlySet<Write>[];
}

/** What a snapshot may hold. */
export interface Snapshot {
  /** Its name. */
  readonly name: string;
  /** Per sector: what was possible when it was asked for. */
  readonly allowed: readonly ReadonlySet<Write>[];
  /** Order of its request, and of its answer. */
  readonly begun: number;
  /** Infinity while it is under way. */
  ended: number;
}

/** A read that returned what it must not. */
export class ModelViolation extends Error {
  /** The class, for logs. */
  override readonly name = "ModelViolation";
}

/** See the module text. */
export class Model {
  readonly #writes: Write[] = [];
  /** Per sector: what a read may return, and what may be found after every copy lost power. */
  #possible: Set<Write>[];
  #durable: Set<Write>[];
  /** Per sector: copies may hold different possible values. */
  #loose: Uint8Array;
  #clock = 1;

  /** A disk of zeros. @param sectors its size */
  constructor(public sectors: number) {
    const nothing = this.#add(0, sectors, true);
    nothing.completed = nothing.ended = nothing.submitted;
    this.#possible = Array.from({ length: sectors }, () => new Set([nothing]));
    this.#durable = Array.from({ length: sectors }, () => new Set([nothing]));
    this.#loose = new Uint8Array(sectors);
  }

  #add(first: number, count: number, zeros: boolean): Write {
    const id = this.#writes.length, submitted = this.#clock++;
    const write: Write = { id, zeros, first, count, submitted, completed: Infinity, ended: Infinity };
    this.#writes.push(write);
    return write;
  }

  /** The disk is larger now: what is new is zeros. */
  grow(sectors: number): void {
    const added = sectors - this.sectors;
    if (added <= 0) return;
    const nothing = this.#add(this.sectors, added, true);
    nothing.completed = nothing.ended = nothing.submitted;
    for (let i = 0; i < added; i++) {
      this.#possible.push(new Set([nothing]));
      this.#durable.push(new Set([nothing]));
    }
    const loose = new Uint8Array(sectors);
    loose.set(this.#loose);
    this.#loose = loose;
    this.sectors = sectors;
  }

  /** A snapshot is asked for. */
  beginSnapshot(name: string): Snapshot {
    const allowed = this.#possible.map((values) => new Set(values));
    return { name, allowed, begun: this.#clock++, ended: Infinity };
  }

  /** It was answered, or its engine died. */
  endSnapshot(snapshot: Snapshot): void {
    snapshot.ended = this.#clock++;
  }

  /** The disk is what a snapshot holds. */
  revert(snapshot: Snapshot): void {
    const now = this.#clock++, reborn = new Map<Write, Write>();
    for (let s = 0; s < this.sectors; s++) {
      const values = this.#heldBy(snapshot, s).map((write) => {
        const known = reborn.get(write) ?? { ...write, submitted: now, completed: now, ended: now };
        reborn.set(write, known);
        return known;
      });
      this.#possible[s] = new Set(values);
      this.#durable[s] = new Set(values);
    }
    this.#loose.fill(0);
  }

  #heldBy(snapshot: Snapshot, sector: number): Write[] {
    // What was not there yet was zeros.
    const before = snapshot.allowed[sector] ?? this.#writes.slice(0, 1);
    const meanwhile = this.#writes.filter((w) =>
      w.submitted > snapshot.begun && w.submitted < snapshot.ended && sector >= w.first &&
      sector < w.first + w.count
    );
    return [...before, ...meanwhile];
  }

  /** A snapshot's content. @throws {ModelViolation} */
  checkSnapshot(snapshot: Snapshot, bytes: Uint8Array): void {
    for (let sector = 0; sector < Math.min(this.sectors, bytes.length / SECTOR); sector++) {
      const id = valueOf(bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR), sector);
      const held = this.#heldBy(snapshot, sector);
      if (id !== undefined && held.some((w) => id === 0 ? w.zeros : w.id === id)) continue;
      throw new ModelViolation(
        `sector ${sector} of snapshot ${snapshot.name} holds write ${id}; possible: ` +
          held.map((w) => w.zeros ? `zeros (${w.id})` : `${w.id}`).join(", "),
      );
    }
  }

  /** A write of `count` sectors, or an unmap, is submitted. */
  submit(first: number, count: number, zeros: boolean): Write {
    const write = this.#add(first, count, zeros);
    for (let s = first; s < first + count; s++) {
      this.#possible[s].add(write);
      this.#durable[s].add(write);
    }
    return write;
  }

  /** A write was answered. @param durable a durable write that went well */
  answered(write: Write, good: boolean, durable: boolean): void {
    write.ended = this.#clock++;
    if (!good) {
      this.#loose.fill(1, write.first, write.first + write.count);
      return;
    }
    write.completed = write.ended;
    for (let s = write.first; s < write.first + write.count; s++) {
      forget(this.#possible[s], write.submitted);
      if (durable) forget(this.#durable[s], write.submitted);
      if (this.#possible[s].size === 1) this.#loose[s] = 0;
    }
  }

  /** A flush is submitted. @returns for {@linkcode flushed} */
  flush(): number {
    return this.#clock++;
  }

  /** A flush went well: what had completed before its submission is durable. */
  flushed(at: number): void {
    for (const values of this.#durable) {
      let newest = 0;
      for (const write of values) if (write.completed < at) newest = Math.max(newest, write.submitted);
      forget(values, newest);
    }
  }

  /** The engine died: nothing is under way, and copies may differ where something was. */
  engineDied(): void {
    const now = this.#clock++;
    for (const write of this.#writes) write.ended = Math.min(write.ended, now);
    this.#loosen();
  }

  /** Every complete copy lost power: what was not flushed may be gone, differently on each. */
  powerLost(): void {
    // From now on none of what may be there is older than the rest: each becomes a write of this moment.
    const now = this.#clock++, reborn = new Map<Write, Write>();
    for (let s = 0; s < this.sectors; s++) {
      const values = [...this.#durable[s]].map((write) => {
        const known = reborn.get(write) ?? { ...write, submitted: now, completed: now, ended: now };
        reborn.set(write, known);
        return known;
      });
      this.#possible[s] = new Set(values);
      this.#durable[s] = new Set(values);
    }
    this.#loosen();
  }

  #loosen(): void {
    for (let s = 0; s < this.sectors; s++) if (this.#possible[s].size > 1) this.#loose[s] = 1;
  }

  /** All copies have been made equal. */
  equal(): void {
    this.#loose.fill(0);
  }

  /** True while copies may differ in a sector. */
  loose(sector: number): boolean {
    return this.#loose[sector] === 1 || [...this.#possible[sector]].some((write) => write.ended === Infinity);
  }

  /** A read of `count` sectors is submitted. */
  read(first: number, count: number): Read {
    const allowed = this.#possible.slice(first, first + count).map((values) => new Set(values));
    return { first, submitted: this.#clock++, allowed };
  }

  /**
   * A read returned these bytes.
   * @throws {ModelViolation} naming the sector, what it holds and what was possible
   */
  check(read: Read, bytes: Uint8Array): void {
    read.allowed.forEach((allowed, i) => {
      const sector = read.first + i;
      const id = valueOf(bytes.subarray(i * SECTOR, (i + 1) * SECTOR), sector);
      const fits = (write: Write) => id === 0 ? write.zeros : write.id === id;
      const covers = (write: Write) => sector >= write.first && sector < write.first + write.count;
      const meanwhile = () => this.#writes.some((w) => w.submitted > read.submitted && covers(w) && fits(w));
      const beside = this.#writes.some((w) => covers(w) && w.ended > read.submitted);
      // A read beside a write may see any part of it.
      if (id === undefined && beside) return;
      if (id === undefined) {
        throw new ModelViolation(`sector ${sector} is torn, or holds another sector's data`);
      }
      if (![...allowed].some(fits) && !meanwhile()) {
        const list = [...allowed].map((w) => w.zeros ? `zeros (${w.id})` : `${w.id}`).join(", ");
        throw new ModelViolation(`sector ${sector} holds write ${id}; possible: ${list}`);
      }
      this.#settle(sector, read, fits);
    });
  }

  /** With nothing under way since the read began, every later read must see the same. */
  #settle(sector: number, read: Read, fits: (write: Write) => boolean): void {
    const values = this.#possible[sector];
    if (this.#loose[sector] || values.size === 1) return;
    for (const write of values) if (write.ended > read.submitted) return;
    const seen = new Set([...values].filter(fits));
    // What was seen can have been overtaken by a write that was answered during the read.
    if (seen.size > 0) this.#possible[sector] = seen;
  }
}

/** Removes what had completed before a write that was submitted at `at` and completed. */
function forget(values: Set<Write>, at: number): void {
  for (const write of values) if (write.completed < at) values.delete(write);
}

/** Fills a sector with the value of a write. */
export function fillSector(bytes: Uint8Array, write: Write, sector: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, SECTOR);
  for (let o = 0; o < SECTOR; o += 8) {
    view.setUint32(o, write.id, true);
    view.setUint32(o + 4, sector, true);
  }
}

/** The write that a sector's bytes come from, 0 for zeros, undefined when they are no whole sector of one. */
function valueOf(bytes: Uint8Array, sector: number): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, SECTOR);
  const id = view.getUint32(0, true), place = id === 0 ? 0 : sector;
  for (let o = 0; o < SECTOR; o += 8) {
    if (view.getUint32(o, true) !== id || view.getUint32(o + 4, true) !== place) return undefined;
  }
  return id;
}
