/**
 * The content of one snapshot, read from the files of its chain through descriptors of its own: what a backup is made
 * of. Works beside the volume thread, which goes on serving: files of snapshots are not written to, and while a
 * backup is under way the agent lets no purge begin.
 *
 * | a layer has, at a place | the snapshot has there |
 * |---|---|
 * | data | that, unless a newer layer has something |
 * | a hole, an allocated range that was never written (as where the volume is served), the end of the file | what the layers below have; below the oldest: the backing image, else zeros |
 *
 * A backing image is no layer: what only it has counts as not written. But it is read, where it is given: a block of a
 * backup is larger than what a volume writes at once, and is written whole at a restore. With zeros for what the
 * volume never wrote, a restored volume would have zeros where the image has data.
 *
 * Extents are asked for window by window and not kept, so a volume of any size and fragmentation needs the same
 * small memory.
 *
 * @module
 */
import type { BlockSource, Extent } from "../../backup/source.ts";
import { SOURCE_UNIT } from "../../backup/source.ts";
import { type BackingFile, openBacking } from "../../disk/backing.ts";
import { readDiskSet } from "../../disk/disk_set.ts";
import { snapshotName } from "../../disk/names.ts";
import type { Files } from "../../io/files.ts";

/** Bytes of a volume whose changes are looked up at once. */
const WINDOW_BYTES = 256 * 1024 ** 2;

interface LayerFile {
  /** Name of the snapshot. */
  readonly name: string;
  readonly fd: number;
  readonly size: number;
}

/** True when the extents leave nothing out of a range. They ascend. */
function covers(extents: readonly Extent[], offset: number, length: number): boolean {
  let end = offset;
  for (const extent of extents) {
    if (extent.offset > end) return false;
    end = extent.offset + extent.length;
  }
  return end >= offset + length;
}

/** See the module text. Dispose it. */
export class SnapshotSource implements BlockSource {
  /** Size of the volume when the snapshot was made. */
  readonly bytes: number;
  /** When the snapshot was made, RFC 3339; may be empty. */
  readonly created: string;
  /** Labels of the snapshot. */
  readonly labels: ReadonlyMap<string, string>;
  readonly #files: Files;
  /** The newest first. */
  readonly #layers: LayerFile[] = [];
  readonly #backing: BackingFile | undefined;
  #closed = false;

  /**
   * Opens all files of a snapshot's chain.
   *
   * @param directory the replica's
   * @param disk file name of the snapshot
   * @param backing the backing image of the volume, or a directory that holds it; "" for none
   * @throws {BackingFileError} when the image cannot be used
   * @throws {ChainError} {@linkcode MetadataError} when the chain is not whole
   * @throws {IoError}
   */
  constructor(files: Files, directory: string, disk: string, backing = "") {
    this.#files = files;
    const set = readDiskSet(files, directory, files.list(directory));
    const record = set.get(disk);
    this.created = record?.created ?? "";
    this.labels = record?.labels ?? new Map();
    try {
      for (const name of set.chain(disk)) {
        const fd = files.open(`${directory}/${name}`);
        this.#layers.push({ name: snapshotName(name) ?? name, fd, size: files.fstat(fd).size });
      }
      const bytes = this.#layers[0]?.size ?? 0;
      if (backing !== "") this.#backing = openBacking(files, backing, false, bytes);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
    this.bytes = this.#layers[0]?.size ?? 0;
  }

  /** See {@linkcode BlockSource.has}. */
  has(snapshot: string): boolean {
    return this.#layers.some(({ name }) => name === snapshot);
  }

  /** See {@linkcode BlockSource.changed}. @throws {RangeError} when `since` is not in the chain */
  *changed(since: string | undefined): Generator<Extent> {
    const end = since === undefined
      ? this.#layers.length
      : this.#layers.findIndex(({ name }) => name === since);
    if (end < 0) throw new RangeError(`there is no snapshot ${since} in this chain`);
    const layers = this.#layers.slice(0, end);
    for (let from = 0; from < this.bytes; from += WINDOW_BYTES) {
      yield* this.#changedIn(layers, from, Math.min(this.bytes, from + WINDOW_BYTES));
    }
  }

  /** Ranges within a part of the volume that have data in any layer, as {@linkcode BlockSource.changed} gives them. */
  ranges(from: number, to: number): Extent[] {
    return [...this.#changedIn(this.#layers, from, to)];
  }

  /** The union of the layers' extents, as ranges of whole units that do not touch. */
  *#changedIn(layers: readonly LayerFile[], from: number, to: number): Generator<Extent> {
    const found = layers.flatMap((layer) => this.#extents(layer, from, to)).sort((a, b) =>
      a.offset - b.offset
    );
    let begin = 0, end = 0;
    for (const extent of found) {
      const first = Math.floor(extent.offset / SOURCE_UNIT) * SOURCE_UNIT;
      const last = Math.min(to, Math.ceil((extent.offset + extent.length) / SOURCE_UNIT) * SOURCE_UNIT);
      if (first > end) {
        if (end > begin) yield { offset: begin, length: end - begin };
        begin = first;
      }
      end = Math.max(end, last);
    }
    if (end > begin) yield { offset: begin, length: end - begin };
  }

  #extents(layer: LayerFile, from: number, to: number): Extent[] {
    const end = Math.min(to, layer.size);
    if (end <= from) return [];
    return this.#files.extents(layer.fd, from, end - from).filter(({ unwritten }) => !unwritten);
  }

  /** See {@linkcode BlockSource.read}. */
  read(offset: number, into: Uint8Array): void {
    let clean = this.#backing !== undefined;
    if (clean) this.#readBacking(offset, into);
    // From the oldest layer on; newer ones write over it.
    for (const layer of this.#layers.toReversed()) {
      const extents = this.#extents(layer, offset, offset + into.length);
      if (!clean && !covers(extents, offset, into.length)) into.fill(0);
      clean = true;
      for (const extent of extents) {
        const part = into.subarray(extent.offset - offset, extent.offset - offset + extent.length);
        this.#readPart(layer.fd, extent.offset, part);
      }
    }
    if (!clean) into.fill(0);
  }

  #readBacking(offset: number, into: Uint8Array): void {
    if (this.#backing === undefined || offset >= this.#backing.size) return void into.fill(0);
    if (this.#backing.image === undefined) this.#readPart(this.#backing.fd, offset, into);
    else this.#backing.image.read(offset, into);
  }

  #readPart(fd: number, offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length;) {
      const got = this.#files.readAt(fd, into.subarray(done), offset + done);
      // The last extent may reach behind the end of the file.
      if (got === 0) return void into.fill(0, done);
      done += got;
    }
  }

  /** Closes the files. */
  [Symbol.dispose](): void {
    for (const { fd } of this.#layers.splice(0)) this.#files.close(fd);
    if (this.#backing !== undefined && !this.#closed) this.#files.close(this.#backing.fd);
    this.#closed = true;
  }
}
