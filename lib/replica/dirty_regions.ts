/**
 * The record of regions that were written to and not yet known to be equal on all copies: `drover.regions` in the
 * replica directory. A region is recorded durably before its first write; the engine clears it when everything
 * in it is flushed everywhere and nothing is under way. After an unclean stop only these regions can differ.
 *
 * | offset | bytes | content | guards against |
 * |-------:|------:|---------|----------------|
 * |      0 |     8 | `DRVREGN1` | another file, another format |
 * |      8 |     8 | size of the volume, little endian | a map of the volume before it grew |
 * |     16 |  4080 | zeros | |
 * |   4096 |  4096 | the map, see lib/wire/regions.ts | |
 *
 * While writes meet unrecorded regions again and again, neighbours are recorded ahead: a write waits for a record, and
 * a region too many costs a comparison at most. One that nobody wrote to in the end is taken back by itself, since
 * it is as it was; only what was written to needs the engine's word that all copies are equal.
 *
 * A torn write of the map leaves a mixture of old and new sectors. While bits are set, a missing one belongs to
 * a write that has not begun; while they are cleared, a left-over one costs a comparison. Both are safe.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import { PAGE_BYTES } from "../io/arena.ts";
import type { Completer, Io } from "../io/io.ts";
import {
  clearRegions,
  coversRegions,
  nextRun,
  REGION_MAP_BYTES,
  regionBytes,
  setRegions,
} from "../wire/regions.ts";

/** Name of the file. Longhorn looks at none of that name. */
export const REGIONS_FILE = "drover.regions";

const MAGIC = "DRVREGN1";
const FILE_BYTES = PAGE_BYTES + REGION_MAP_BYTES;

/** Misses count for half after this time, milliseconds. */
const MISS_HALF_LIFE_MS = 500;
/**
 * From so many misses on, so many regions are recorded together: a power of two. The fiercest first: who misses that
 * often writes all over the volume, and it takes 75 records and 0.2 s until all of 100 GiB is recorded; without it
 * 475 and 1.5 s.
 */
const AHEAD = [
  { misses: 128, regions: 128 },
  { misses: 64, regions: 16 },
  { misses: 16, regions: 4 },
] as const;
/** Regions that were recorded ahead have this time to be written to at least, milliseconds; twice this at most. */
const AHEAD_MS = 5_000;

/** Continues what waited for a region to be recorded. @param result 0, or `-errno` */
export type Parked = (result: number) => void;

/** Memory in the arena, reserved once per volume thread. */
export function reserveRegionMap(io: Io): number {
  return io.arena.reserve(REGION_MAP_BYTES, PAGE_BYTES);
}

/** See the module text. */
export class DirtyRegions implements Completer {
  /** Bytes of a region. */
  readonly region: number;
  /** Bits of the regions recorded durably, and of those to be recorded with the next write. */
  readonly #map = new Uint8Array(REGION_MAP_BYTES);
  readonly #wanted = new Uint8Array(REGION_MAP_BYTES);
  /** Bits of the regions that were written to, or that were recorded before this process; the others are ahead. */
  readonly #written = new Uint8Array(REGION_MAP_BYTES);
  /** Bits of the regions that were ahead when that was looked at last, and when that was, ms. */
  readonly #aged = new Uint8Array(REGION_MAP_BYTES);
  #agedAt = 0;
  /** Writes that met an unrecorded region, older ones for less; and when the last one did, ms. */
  #misses = 0;
  #missedAt = 0;
  readonly #regions: number;
  #parked: Parked[] = [];
  #writing: Parked[] = [];
  #busy = false;

  private constructor(
    readonly io: Io,
    readonly path: string,
    readonly fd: number,
    readonly page: number,
    bytes: number,
  ) {
    this.region = regionBytes(bytes);
    this.#regions = Math.ceil(bytes / this.region);
  }

  /**
   * Opens the record of a volume of so many bytes; what it holds is kept. A missing one is made; one that is
   * damaged or of another size means that everything may differ.
   *
   * @param page from {@linkcode reserveRegionMap}
   * @param unclean a missing record means "everything" instead of "nothing"
   * @throws {IoError} there is no record then, which after an unclean stop means "everything"
   */
  static open(io: Io, directory: string, bytes: number, page: number, unclean: boolean): DirtyRegions {
    const { files } = io, path = `${directory}/${REGIONS_FILE}`;
    const fd = files.open(path, { write: true, create: 0o600 });
    try {
      return DirtyRegions.#read(io, directory, fd, bytes, page, unclean);
    } catch (error) {
      files.close(fd);
      files.unlink(path);
      files.syncDirectory(directory);
      throw error;
    }
  }

  static #read(
    io: Io,
    directory: string,
    fd: number,
    bytes: number,
    page: number,
    unclean: boolean,
  ): DirtyRegions {
    const { files } = io, path = `${directory}/${REGIONS_FILE}`;
    const regions = new DirtyRegions(io, path, fd, page, bytes);
    const content = new Uint8Array(FILE_BYTES);
    const whole = files.readAt(fd, content, 0) === FILE_BYTES;
    if (whole && validHeader(content, bytes)) regions.#map.set(content.subarray(PAGE_BYTES));
    else {
      if (unclean) setRegions(regions.#map, regions.region, 0, bytes);
      content.fill(0);
      content.set(header(bytes));
      content.set(regions.#map, PAGE_BYTES);
      files.writeAt(fd, content, 0);
      files.sync(fd);
      files.syncDirectory(directory);
    }
    regions.#wanted.set(regions.#map);
    regions.#written.set(regions.#map);
    return regions;
  }

  /**
   * The record of the same volume after it grew; it takes the file over. What was recorded stays recorded. The old
   * header goes first and the new one comes last: after a crash in between the record is of no volume, which
   * means "everything".
   *
   * @param bytes the new size of the volume
   * @throws {IoError}
   */
  grown(bytes: number): DirtyRegions {
    const { files } = this.io, grown = new DirtyRegions(this.io, this.path, this.fd, this.page, bytes);
    for (let [first, count] = nextRun(this.#wanted, 0); count > 0;) {
      setRegions(grown.#map, grown.region, first * this.region, count * this.region);
      [first, count] = nextRun(this.#wanted, first + count);
    }
    grown.#wanted.set(grown.#map);
    grown.#written.set(grown.#map);
    const page = new Uint8Array(PAGE_BYTES);
    files.writeAt(this.fd, page, 0);
    files.sync(this.fd);
    files.writeAt(this.fd, grown.#map, PAGE_BYTES);
    files.sync(this.fd);
    page.set(header(bytes));
    files.writeAt(this.fd, page, 0);
    files.sync(this.fd);
    return grown;
  }

  /** True when a write to this range may begin; it counts as begun then. */
  covers(offset: number, length: number): boolean {
    if (!coversRegions(this.#map, this.region, offset, length)) return false;
    setRegions(this.#written, this.region, offset, length);
    return true;
  }

  /** Records the regions of a range that is going to be written to, then continues. */
  mark(offset: number, length: number, then: Parked): void {
    setRegions(this.#wanted, this.region, offset, length);
    setRegions(this.#written, this.region, offset, length);
    const together = this.#together(), { region } = this;
    if (together > 1) {
      const first = Math.floor(offset / region / together) * together;
      const end = Math.min(this.#regions, Math.ceil((offset + length) / region / together) * together);
      setRegions(this.#wanted, region, first * region, (end - first) * region);
    }
    this.#parked.push(then);
    if (!this.#busy) this.#write();
  }

  /** Forgets regions: the engine says that all copies are equal there. Not durable, for a left-over does no harm. */
  clean(offset: number, length: number, then: Parked): void {
    clearRegions(this.#map, this.region, offset, length);
    clearRegions(this.#wanted, this.region, offset, length);
    clearRegions(this.#written, this.region, offset, length);
    this.#takeBack();
    this.#parked.push(then);
    if (!this.#busy) this.#write();
  }

  /** Notes a miss. @returns how many regions are to be recorded together */
  #together(): number {
    const now = this.io.now();
    this.#misses = this.#misses * 2 ** ((this.#missedAt - now) / MISS_HALF_LIFE_MS) + 1;
    this.#missedAt = now;
    return AHEAD.find(({ misses }) => this.#misses >= misses)?.regions ?? 1;
  }

  /** Takes back what has been ahead for a while. It is not in the next write; one that begins there is a miss again. */
  #takeBack(): void {
    const now = this.io.now();
    if (now - this.#agedAt < AHEAD_MS) return;
    this.#agedAt = now;
    for (let i = 0; i < REGION_MAP_BYTES; i++) {
      const ahead = this.#wanted[i] & ~this.#written[i], old = ahead & this.#aged[i];
      this.#wanted[i] &= ~old;
      this.#map[i] &= ~old;
      this.#aged[i] = ahead & ~old;
    }
  }

  #write(): void {
    this.#busy = true;
    [this.#writing, this.#parked] = [this.#parked, this.#writing];
    this.io.arena.u8.set(this.#wanted, this.page);
    this.io.writeDurable(this.fd, this.page, REGION_MAP_BYTES, PAGE_BYTES, this, 0);
  }

  /** The map was written. */
  complete(_tag: number, result: number): void {
    this.#busy = false;
    // What was asked for meanwhile is not in this write: only the page that was sent counts. What was cleared meanwhile
    // is on disk until the next write, which will not ask who relies on it.
    if (result >= 0) {
      const { u8 } = this.io.arena;
      for (let i = 0; i < REGION_MAP_BYTES; i++) this.#map[i] = u8[this.page + i] & this.#wanted[i];
    }
    const done = this.#writing;
    for (const then of done) then(result < 0 ? result : 0);
    done.length = 0;
    if (this.#parked.length > 0) this.#write();
  }

  /** True while the record is being written. */
  get busy(): boolean {
    return this.#busy;
  }

  /** Copies the map, for the engine. */
  copyTo(bytes: Uint8Array): void {
    bytes.set(this.#wanted);
  }

  /** Closes the file. @param clean all copies are equal: the record is removed */
  close(clean: boolean): void {
    this.io.files.close(this.fd);
    if (clean) removeRegions(this.io, this.path);
  }
}

/** Removes a record, if there is one. @throws {IoError} */
export function removeRegions(io: Io, path: string): void {
  try {
    io.files.unlink(path);
  } catch (error) {
    if (!(error instanceof IoError) || error.errno !== Errno.ENOENT) throw error;
  }
}

function header(bytes: number): Uint8Array {
  const text = new Uint8Array(16);
  text.set(new TextEncoder().encode(MAGIC));
  new DataView(text.buffer).setBigUint64(8, BigInt(bytes), true);
  return text;
}

function validHeader(content: Uint8Array, bytes: number): boolean {
  return header(bytes).every((byte, i) => content[i] === byte);
}
