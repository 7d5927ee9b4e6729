/**
 * The open files of a live chain, from the oldest to the head.
 *
 * Two names for a file are kept apart on purpose: its **position** in the chain, which shifts when files are
 * added or removed, and its **id**, which never changes and is what the block map stores. Two ids may lead to
 * the same descriptor: that is how two files become one without touching the map.
 *
 * @module
 */
import { MAX_FILE_ID, UNKNOWN } from "./block_map.ts";
import type { Qcow2Image } from "./qcow2.ts";

/** Most disks in a live chain, the head included, the backing file not. Longhorn opens no more either. */
export const MAX_CHAIN = 250;
/** No descriptor. */
export const NO_FILE = -1 as number;

/** One open file. */
export interface Layer {
  /** Its id in the block map. */
  readonly id: number;
  /** The disk's file name, or the path of the backing file. */
  readonly name: string;
  /** Its descriptor. */
  readonly fd: number;
  /** True for the file below the oldest disk that is never written to. */
  readonly backing: boolean;
}

/** The open files of a live chain. */
export class Layers {
  /** Descriptor by id, {@linkcode NO_FILE} where unused. Index with what the block map says. */
  readonly fdOfId: Int32Array<ArrayBuffer> = new Int32Array(MAX_FILE_ID + 1).fill(NO_FILE);
  /** Id of the layer whose descriptor must not be read at the volume's offsets, or {@linkcode UNKNOWN}. */
  imageId: number = UNKNOWN;
  /** What tells where that layer's data is. */
  image: Qcow2Image | undefined;
  readonly #chain: Layer[] = [];

  /** Number of files. */
  get count(): number {
    return this.#chain.length;
  }

  /** The file at a position: 0 is the oldest. */
  at(position: number): Layer {
    const layer = this.#chain[position];
    if (layer === undefined) throw new RangeError(`no layer at ${position}`);
    return layer;
  }

  /** The newest file: the only one that is written to. */
  get head(): Layer {
    return this.at(this.#chain.length - 1);
  }

  /** Adds a file on top. @throws {RangeError} when all ids are in use */
  push(name: string, fd: number, backing = false, image: Qcow2Image | undefined = undefined): Layer {
    const id = this.fdOfId.indexOf(NO_FILE, 1);
    if (id < 0) throw new RangeError(`more than ${MAX_FILE_ID} files in a chain`);
    const layer = { id, name, fd, backing };
    this.fdOfId[id] = fd;
    this.#chain.push(layer);
    if (image) {
      this.imageId = id;
      this.image = image;
    }
    return layer;
  }

  /** Gives the newest file another name; its id and its descriptor stay. */
  renameHead(name: string): void {
    this.#chain[this.#chain.length - 1] = { ...this.head, name };
  }

  /** Becomes the chain given. The ids mean other files afterwards: the block map must be reset. */
  become(other: Layers): void {
    this.#chain.splice(0, Infinity, ...other.#chain);
    this.fdOfId.set(other.fdOfId);
    this.imageId = other.imageId;
    this.image = other.image;
  }

  /** All descriptors, each once. */
  descriptors(): number[] {
    return [...new Set(this.fdOfId)].filter((fd) => fd !== NO_FILE);
  }
}
