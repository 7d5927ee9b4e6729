/**
 * A disk with a volatile cache, as real ones have: what was written is read back at once, but only what was flushed
 * survives a cut of the power. The file always holds the newest contents; what a cut takes back is remembered here
 * as the old contents of each write since the last flush.
 *
 * Taking back goes from the newest write to the oldest, sector by sector. A sector that was written twice can so end
 * with any of its three contents, as on a real disk.
 *
 * @module
 */

/** What a cut does to writes that were not flushed. */
export type Loss = "all" | "none" | "some";

/** Bytes that a disk writes whole or not at all. */
export const SECTOR_BYTES = 512;
/** A cache of this size writes its oldest contents back by itself, bytes. */
export const CACHE_BYTES = 64 * 1024 * 1024;

interface OldContents {
  readonly offset: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** See the module text. */
export class VolatileCache implements Disposable {
  readonly #file: Deno.FsFile;
  /** Oldest first. */
  #unflushed: OldContents[] = [];
  #held = 0;
  /** Writes since the disk was opened. */
  writes = 0;
  /** Flushes since then. */
  flushes = 0;

  /** Opens a file as the disk. */
  constructor(path: string) {
    this.#file = Deno.openSync(path, { read: true, write: true });
  }

  /** Bytes of the disk. */
  get bytes(): number {
    return this.#file.statSync().size;
  }

  /** Bytes that a cut could take back. */
  get unflushedBytes(): number {
    return this.#held;
  }

  /** Fills `into`. */
  read(offset: number, into: Uint8Array<ArrayBuffer>): void {
    this.#file.seekSync(offset, Deno.SeekMode.Start);
    for (let done = 0; done < into.length;) {
      const count = this.#file.readSync(into.subarray(done));
      if (count === null) {
        throw new Error(`a read at ${offset} of ${into.length} bytes is beyond the disk's end`);
      }
      done += count;
    }
  }

  /** Writes; taken back by a cut unless `durable`, or flushed before. */
  write(offset: number, data: Uint8Array<ArrayBuffer>, durable = false): void {
    this.writes++;
    if (!durable) {
      const bytes = new Uint8Array(data.length);
      this.read(offset, bytes);
      this.#unflushed.push({ offset, bytes });
      this.#held += bytes.length;
      this.#limit();
    }
    this.#store(offset, data);
  }

  #store(offset: number, data: Uint8Array): void {
    this.#file.seekSync(offset, Deno.SeekMode.Start);
    for (let done = 0; done < data.length;) done += this.#file.writeSync(data.subarray(done));
  }

  #limit(): void {
    let drop = 0;
    for (; this.#held > CACHE_BYTES; drop++) this.#held -= this.#unflushed[drop]?.bytes.length ?? 0;
    if (drop > 0) this.#unflushed.splice(0, drop);
  }

  /** Everything written so far stays. */
  flush(): void {
    this.flushes++;
    this.#unflushed = [];
    this.#held = 0;
  }

  /**
   * The power goes. @param random for `some`: each sector is lost with a chance of one half
   * @returns bytes that were taken back
   */
  cut(loss: Loss, random: () => number = Math.random): number {
    let lost = 0;
    for (const { offset, bytes } of loss === "none" ? [] : this.#unflushed.toReversed()) {
      for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
        if (loss === "some" && random() < 0.5) continue;
        const sector = bytes.subarray(at, at + SECTOR_BYTES);
        this.#store(offset + at, sector);
        lost += sector.length;
      }
    }
    this.flush();
    return lost;
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}
