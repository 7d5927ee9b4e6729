/**
 * Who copies which part of a file: parts are handed out to whoever asks, and come back when the one who had it is
 * gone. So the sources of a rebuild share a file by their speed, and any of them may fail.
 *
 * @module
 */

/** Smallest part, bytes. */
const MIN_PART_BYTES = 64 * 1024 * 1024;
/**
 * A part is an eighth of what is left, but at most so many bytes: between two parts a sender has nothing under way,
 * which with parts of 64 MiB was a tenth of its time, and towards the end small ones let all senders end together.
 */
const SHARES = 8, MAX_PART_BYTES = 512 * 1024 * 1024;
/** A file has about so many parts, so that a huge sparse one is not a matter of asking for parts. */
const PARTS = 256;

/** A range of the file. */
export interface Part {
  /** First byte. */
  readonly begin: number;
  /** The byte after the last. */
  readonly end: number;
}

/** The parts of one file. */
export class Parts {
  readonly #back: Part[];
  readonly #out = new Map<unknown, Part>();
  readonly #least: number;
  #next = 0;
  readonly #waiting: (() => void)[] = [];

  /** All parts of a file of this size. @param only these, instead */
  constructor(readonly size: number, only?: readonly Part[]) {
    this.#back = [...only ?? []];
    if (only) this.#next = size;
    this.#least = Math.max(1, Math.ceil(size / PARTS / MIN_PART_BYTES)) * MIN_PART_BYTES;
  }

  /** Bytes of the next part, which begins on a multiple of the smallest one. */
  get #step(): number {
    const share = Math.min(MAX_PART_BYTES, (this.size - this.#next) / SHARES);
    return Math.max(this.#least, Math.floor(share / MIN_PART_BYTES) * MIN_PART_BYTES);
  }

  /** Everything is in place. */
  get complete(): boolean {
    return this.#next >= this.size && this.#back.length === 0 && this.#out.size === 0;
  }

  /**
   * The next part for somebody; what they had before is in place.
   *
   * @returns `wait` while others are at the last ones, `done` when everything is in place
   */
  next(who: unknown): Part | "wait" | "done" {
    if (this.#out.delete(who) && this.complete) this.wake();
    let part = this.#back.pop();
    if (!part && this.#next < this.size) {
      part = { begin: this.#next, end: Math.min(this.size, this.#next + this.#step) };
      this.#next = part.end;
    }
    if (part) {
      this.#out.set(who, part);
      return part;
    }
    return this.#out.size > 0 ? "wait" : "done";
  }

  /** Whether somebody has a part. */
  has(who: unknown): boolean {
    return this.#out.has(who);
  }

  /** Somebody is gone: what they had is copied again. */
  leave(who: unknown): void {
    const part = this.#out.get(who);
    if (part) this.#back.push(part);
    if (this.#out.delete(who)) this.wake();
  }

  /** Waits until a part came back, or everything is in place; not longer than so many milliseconds. */
  changed(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** Ends all waiting. */
  wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** The whole file is in place already. */
  skip(): void {
    this.#next = this.size;
    this.#back.length = 0;
    this.#out.clear();
    this.wake();
  }
}
