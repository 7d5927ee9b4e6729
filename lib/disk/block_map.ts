/**
 * Which file of the chain holds the newest data of each block.
 *
 * A block is 4 KiB, a file is named by a small number, its id (1 to 255). Ids are stable: a file keeps its id
 * when others above or below it come and go, so no operation on the chain has to rewrite the map.
 *
 * Memory follows what was touched, not the size of the volume:
 *
 * | Level | Covers | Costs |
 * |---|---|---|
 * | group | 2 GiB | one pointer; 4 KiB once any of its chunks is known |
 * | chunk | 2 MiB | one number: unknown, the same file throughout, or a page |
 * | page | 512 blocks | 512 bytes, only where files alternate within a chunk |
 *
 * Chunks start out as {@linkcode UNKNOWN} and are filled in on first touch (see chunk_loader.ts); a chain of one
 * file starts out with everything in that file and never allocates anything.
 *
 * @module
 */

/** Bytes of a block: the unit in which a file holds data or lets its parent's data through. */
export const BLOCK_BYTES = 4096;
/** Blocks of a chunk: what is loaded at once. */
export const CHUNK_BLOCKS = 512;
/** Bytes of a chunk. */
export const CHUNK_BYTES = CHUNK_BLOCKS * BLOCK_BYTES;
/** Chunks of a group. */
const GROUP_CHUNKS = 1024;
/** Pages that are allocated together. */
const SLAB_PAGES = 512;
/** Entries from here on are page numbers; below are file ids. */
const FIRST_PAGE = 256;

/** The chunk was not looked at yet. */
export const UNKNOWN = 0;
/** Largest id of a file. */
export const MAX_FILE_ID = 255;

/** Block to file id; see the module text. */
export class BlockMap {
  #blocks: number;
  #fill: number;
  readonly #groups: (Int32Array | undefined)[];
  readonly #slabs: Uint8Array[] = [];
  /** Pages given back, to be used again. At most as long as there are pages. */
  readonly #freePages: number[] = [];
  #pages = 0;

  /**
   * A map in which nothing was touched yet.
   *
   * @param blocks size of the volume in blocks
   * @param fill what every chunk holds at first: {@linkcode UNKNOWN} or the id of the only file
   */
  constructor(blocks: number, fill: number) {
    this.#blocks = blocks;
    this.#fill = fill;
    this.#groups = new Array(Math.ceil(blocks / (CHUNK_BLOCKS * GROUP_CHUNKS))).fill(undefined);
  }

  /** Size of the volume in blocks. */
  get blocks(): number {
    return this.#blocks;
  }

  /** Bytes of memory that the map takes, apart from a constant. */
  get memoryBytes(): number {
    const groups = this.#groups.reduce((sum, group) => sum + (group ? group.byteLength : 0), 0);
    return groups + this.#groups.length * 8 + this.#slabs.length * SLAB_PAGES * CHUNK_BLOCKS;
  }

  #entry(chunk: number): number {
    const group = this.#groups[chunk >>> 10];
    return group === undefined ? this.#fill : group[chunk & (GROUP_CHUNKS - 1)];
  }

  #setEntry(chunk: number, entry: number): void {
    let group = this.#groups[chunk >>> 10];
    if (group === undefined) {
      if (entry === this.#fill) return;
      group = new Int32Array(GROUP_CHUNKS);
      if (this.#fill !== 0) group.fill(this.#fill);
      this.#groups[chunk >>> 10] = group;
    }
    group[chunk & (GROUP_CHUNKS - 1)] = entry;
  }

  /** True when the chunk's blocks have known files. */
  isKnown(chunk: number): boolean {
    return this.#entry(chunk) !== UNKNOWN;
  }

  /** The id of the file that holds a block, or {@linkcode UNKNOWN}. */
  get(block: number): number {
    const chunk = Math.floor(block / CHUNK_BLOCKS);
    const entry = this.#entry(chunk);
    if (entry < FIRST_PAGE) return entry;
    const page = entry - FIRST_PAGE;
    return this.#slabs[page >>> 9][((page & (SLAB_PAGES - 1)) << 9) + (block - chunk * CHUNK_BLOCKS)];
  }

  /** How many blocks from `block` on are in the same file as it, at most `limit`. */
  run(block: number, limit: number): number {
    const id = this.get(block);
    let length = 0;
    while (length < limit) {
      const chunk = Math.floor((block + length) / CHUNK_BLOCKS);
      const within = block + length - chunk * CHUNK_BLOCKS;
      const most = Math.min(CHUNK_BLOCKS - within, limit - length);
      const entry = this.#entry(chunk);
      if (entry < FIRST_PAGE) {
        if (entry !== id) return length;
        length += most;
        continue;
      }
      const page = entry - FIRST_PAGE, slab = this.#slabs[page >>> 9];
      const from = ((page & (SLAB_PAGES - 1)) << 9) + within;
      for (let i = 0; i < most; i++, length++) {
        if (slab[from + i] !== id) return length;
      }
    }
    return length;
  }

  /** Puts `count` blocks from `block` on into a file. Chunks touched in part must be known. */
  set(block: number, count: number, id: number): void {
    for (let done = 0; done < count;) {
      const chunk = Math.floor((block + done) / CHUNK_BLOCKS);
      const within = block + done - chunk * CHUNK_BLOCKS;
      const n = Math.min(CHUNK_BLOCKS - within, count - done);
      const entry = this.#entry(chunk);
      if (entry !== id) this.#setInChunk(chunk, entry, within, n, id);
      done += n;
    }
  }

  #setInChunk(chunk: number, entry: number, within: number, n: number, id: number): void {
    if (n === CHUNK_BLOCKS) {
      if (entry >= FIRST_PAGE) this.#freePages.push(entry - FIRST_PAGE);
      this.#setEntry(chunk, id);
      return;
    }
    if (entry === UNKNOWN) throw new RangeError(`chunk ${chunk} was not loaded`);
    let page = entry - FIRST_PAGE;
    if (page < 0) {
      page = this.#allocatePage();
      const from = (page & (SLAB_PAGES - 1)) << 9;
      this.#slabs[page >>> 9].fill(entry, from, from + CHUNK_BLOCKS);
      this.#setEntry(chunk, page + FIRST_PAGE);
    }
    const slab = this.#slabs[page >>> 9], base = (page & (SLAB_PAGES - 1)) << 9;
    slab.fill(id, base + within, base + within + n);
    // A sequential writer has just completed the chunk: the page may have become uniform.
    if (within + n === CHUNK_BLOCKS && uniform(slab, base, id)) {
      this.#freePages.push(page);
      this.#setEntry(chunk, id);
    }
  }

  #allocatePage(): number {
    const free = this.#freePages.pop();
    if (free !== undefined) return free;
    if (this.#pages === this.#slabs.length * SLAB_PAGES) {
      this.#slabs.push(new Uint8Array(SLAB_PAGES * CHUNK_BLOCKS));
    }
    return this.#pages++;
  }

  /**
   * Makes a chunk known.
   *
   * @param ids one id per block of the chunk; what lies beyond the volume's end must repeat the last one
   */
  load(chunk: number, ids: Uint8Array): void {
    if (this.isKnown(chunk)) throw new RangeError(`chunk ${chunk} is already loaded`);
    if (uniform(ids, 0, ids[0])) {
      this.#setEntry(chunk, ids[0]);
      return;
    }
    const page = this.#allocatePage();
    this.#slabs[page >>> 9].set(ids.subarray(0, CHUNK_BLOCKS), (page & (SLAB_PAGES - 1)) << 9);
    this.#setEntry(chunk, page + FIRST_PAGE);
  }

  /** Forgets everything about a chunk; it will be loaded again. Only for maps that started out unknown. */
  forget(chunk: number): void {
    const entry = this.#entry(chunk);
    if (entry >= FIRST_PAGE) this.#freePages.push(entry - FIRST_PAGE);
    this.#setEntry(chunk, UNKNOWN);
  }

  /** Forgets everything; all chunks will be loaded again. For chains whose files were exchanged. */
  reset(): void {
    this.#fill = UNKNOWN;
    this.#groups.fill(undefined);
    this.#slabs.length = 0;
    this.#freePages.length = 0;
    this.#pages = 0;
  }

  /** Grows the volume; the new blocks are as unknown, or as certain, as the first ones were. */
  grow(blocks: number): void {
    if (blocks < this.#blocks) throw new RangeError(`a volume cannot shrink to ${blocks} blocks`);
    this.#blocks = blocks;
    const groups = Math.ceil(blocks / (CHUNK_BLOCKS * GROUP_CHUNKS));
    while (this.#groups.length < groups) this.#groups.push(undefined);
  }
}

function uniform(ids: Uint8Array, from: number, id: number): boolean {
  for (let i = from; i < from + CHUNK_BLOCKS; i++) {
    if (ids[i] !== id) return false;
  }
  return true;
}
