/**
 * A disk in memory: the smallest {@linkcode BlockDevice}, for tests of the frontends and for measuring a
 * frontend without a volume behind it. Sparse; nothing survives the process.
 *
 * @module
 */
import { Errno } from "../io/errno.ts";
import type { Completer, Deferred, Io } from "../io/io.ts";
import { type BlockDevice, MAX_TRANSFER_BYTES, Op, SECTOR_BYTES } from "./device.ts";

/** Bytes that are allocated together. */
const CHUNK_BYTES = 64 * 1024;
/** Most operations under way; more than all frontends of a test together. */
const DEPTH = 2048;

/** A disk in memory; see the module text. */
export class MemoryDevice implements BlockDevice, Deferred {
  #bytes: number;
  readonly #chunks = new Map<number, Uint8Array>();
  readonly #listeners: (() => void)[] = [];
  readonly #who: (Completer | undefined)[] = new Array(DEPTH);
  readonly #tag = new Float64Array(DEPTH);
  readonly #result = new Float64Array(DEPTH);
  #first = 0;
  #count = 0;
  /** Number of FLUSH and WRITE_DURABLE operations seen. */
  flushes = 0;
  /** When set, every operation whose range touches this byte offset fails with this (negative) result. */
  failAt: { readonly offset: number; readonly result: number } | undefined;

  /**
   * An empty disk.
   *
   * @param io the world whose loop completes operations
   * @param name volume name
   * @param bytes size, a multiple of 512
   */
  constructor(readonly io: Io, readonly name: string, bytes: number) {
    this.#bytes = bytes;
  }

  /** Size in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Number of 64 KiB chunks that hold data: shows whether unmap gives memory back. */
  get chunks(): number {
    return this.#chunks.size;
  }

  /** Grows the disk and tells the listeners. */
  resize(bytes: number): void {
    this.#bytes = bytes;
    for (const listener of this.#listeners) listener();
  }

  /** See {@linkcode BlockDevice.onResize}. */
  onResize(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** See {@linkcode BlockDevice.submit}. */
  submit(op: Op, offset: number, length: number, at: number, who: Completer, tag: number): void {
    if (this.#count === DEPTH) throw new RangeError("memory device: too many operations under way");
    const i = (this.#first + this.#count++) % DEPTH;
    this.#who[i] = who;
    this.#tag[i] = tag;
    this.#result[i] = this.#run(op, offset, length, at);
    if (this.#count === 1) this.io.defer(this);
  }

  /** Completes what was submitted before. */
  runDeferred(): void {
    for (let n = this.#count; n > 0; n--) {
      const i = this.#first;
      const who = this.#who[i];
      this.#who[i] = undefined;
      this.#first = (i + 1) % DEPTH;
      this.#count--;
      who?.complete(this.#tag[i], this.#result[i]);
    }
    if (this.#count > 0) this.io.defer(this);
  }

  #run(op: Op, offset: number, length: number, at: number): number {
    if (offset % SECTOR_BYTES || length % SECTOR_BYTES || offset < 0 || offset + length > this.#bytes) {
      return -Errno.EINVAL;
    }
    const fail = this.failAt;
    if (fail && op !== Op.FLUSH && fail.offset >= offset && fail.offset < offset + length) return fail.result;
    if (op === Op.FLUSH || op === Op.WRITE_DURABLE) this.flushes++;
    if (op === Op.FLUSH) return 0;
    if (op !== Op.UNMAP && length > MAX_TRANSFER_BYTES) return -Errno.EINVAL;
    const memory = this.io.arena.u8;
    for (let done = 0; done < length;) {
      const position = offset + done,
        chunk = Math.floor(position / CHUNK_BYTES),
        from = position % CHUNK_BYTES;
      const n = Math.min(length - done, CHUNK_BYTES - from);
      let data = this.#chunks.get(chunk);
      if (op === Op.READ) {
        if (data) memory.set(data.subarray(from, from + n), at + done);
        else memory.fill(0, at + done, at + done + n);
      } else if (op === Op.UNMAP) {
        if (n === CHUNK_BYTES) this.#chunks.delete(chunk);
        else data?.fill(0, from, from + n);
      } else {
        if (!data) this.#chunks.set(chunk, data = new Uint8Array(CHUNK_BYTES));
        data.set(memory.subarray(at + done, at + done + n), from);
      }
      done += n;
    }
    return length;
  }
}
