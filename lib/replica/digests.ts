/**
 * Answers DIGEST: reads what may hold data in a range, a few pieces at a time and in order, and puts their sums
 * into the answer; see lib/wire/digest.ts. What the file system knows to be empty is neither read nor looked at.
 *
 * Requests wait for each other, and pieces for buffers of their own: however many ranges an engine asks for, hosts
 * find eight reads of 64 KiB before theirs. While the directory is to be quiet nothing new is read.
 *
 * Writes to the range may be under way. A sector is then told as it was before them or after; who compares must know
 * that they go to all copies (see lib/engine/compare.ts).
 *
 * @module
 */
import { PAGE_BYTES } from "../io/arena.ts";
import { Errno, IoError } from "../io/errno.ts";
import type { Completer, Io } from "../io/io.ts";
import {
  DIGEST_BLOCK_BYTES,
  DIGEST_PIECE_BYTES,
  DIGEST_SUM_BYTES,
  digestBytes,
  isZero,
  MAX_DIGEST_BYTES,
  Murmur128,
} from "../wire/digest.ts";

/** Pieces that are read at once. */
const DEPTH = 8;
/** Blocks of a piece. */
const BLOCKS = DIGEST_PIECE_BYTES / DIGEST_BLOCK_BYTES;

/** What is compared. */
export interface DigestSource {
  /** As `ReplicaStore.read`. */
  read(offset: number, length: number, at: number, who: Completer, tag: number): void;
  /** As `ReplicaDisk.markData`. @throws {IoError} */
  markData(offset: number, length: number, block: number, marks: Uint8Array): void;
}

/** See the module text. A request is known by its tag, a number below the limit. */
export class Digests implements Completer {
  /** Nothing new is read. */
  #paused = false;
  #source: DigestSource | undefined;
  readonly #memory: number;
  readonly #free: number[] = Array.from({ length: DEPTH }, (_, i) => i);
  /** Of each buffer: the request, where its sum goes, the bytes of the piece, and which blocks were read. */
  readonly #tagOf = new Int32Array(DEPTH);
  readonly #sumAt = new Float64Array(DEPTH);
  readonly #lengthOf = new Int32Array(DEPTH);
  readonly #blocksOf = new Uint8Array(DEPTH * BLOCKS);
  /** Number of a block, as it goes into the sum. */
  readonly #number = new Uint8Array(16);
  readonly #sum = new Murmur128();
  // Requests, by tag.
  readonly #offset: Float64Array;
  readonly #length: Float64Array;
  readonly #at: Float64Array;
  readonly #error: Int32Array;
  /** Reads under way, and one while the request is in the queue. */
  readonly #left: Int32Array;
  readonly #who: (Completer | undefined)[];
  /** Tags in order of arrival: a ring. */
  readonly #queue: Int32Array;
  #first = 0;
  #count = 0;
  /** Next block of the first request to be looked at, or -1 before it is known which hold data. */
  #block = -1;
  readonly #marks = new Uint8Array(MAX_DIGEST_BYTES / DIGEST_BLOCK_BYTES);

  /**
   * Takes its memory for good.
   *
   * @param limit most requests at once
   * @param answer gets every result, also from inside `start`: it must not pass it on inside the call
   */
  constructor(
    readonly io: Io,
    readonly limit: number,
    readonly answer: (result: number, who: Completer, tag: number) => void,
  ) {
    this.#memory = io.arena.reserve(DEPTH * DIGEST_PIECE_BYTES, PAGE_BYTES);
    this.#offset = new Float64Array(limit);
    this.#length = new Float64Array(limit);
    this.#at = new Float64Array(limit);
    this.#error = new Int32Array(limit);
    this.#left = new Int32Array(limit);
    this.#who = new Array<Completer | undefined>(limit).fill(undefined);
    this.#queue = new Int32Array(limit);
  }

  /** Digests another directory, or none; requests for the former one fail. */
  use(source: DigestSource | undefined): void {
    this.#source = source;
    for (let i = 0; i < this.#count; i++) {
      this.#error[this.#queue[(this.#first + i) % this.limit]] = -Errno.ENODEV;
    }
    this.#pump();
  }

  /** Stops reading after what is under way, or goes on. */
  set paused(paused: boolean) {
    this.#paused = paused;
    this.#pump();
  }

  /** Starts a request of a range that was checked. @param at where the answer goes: `digestBytes(length)` */
  start(offset: number, length: number, at: number, who: Completer, tag: number): void {
    this.#offset[tag] = offset;
    this.#length[tag] = length;
    this.#at[tag] = at;
    this.#error[tag] = 0;
    this.#left[tag] = 1;
    this.#who[tag] = who;
    this.#queue[(this.#first + this.#count++) % this.limit] = tag;
    this.#pump();
  }

  /** Begins reads as long as there are buffers; requests without another piece leave the queue. */
  #pump(): void {
    while (this.#count > 0) {
      const tag = this.#queue[this.#first];
      if (this.#error[tag] === 0) {
        if (this.#paused) return;
        if (this.#block < 0) this.#begin(tag);
      }
      const block = this.#error[tag] === 0 ? this.#marks.indexOf(1, this.#block) : -1;
      if (block >= 0) {
        const buffer = this.#free.pop();
        if (buffer === undefined) return;
        this.#block = block;
        this.#read(tag, Math.floor(block / BLOCKS), buffer);
        continue;
      }
      this.#first = (this.#first + 1) % this.limit;
      this.#count--;
      this.#block = -1;
      this.#ended(tag);
    }
  }

  /** All sums are zero until their pieces were read. */
  #begin(tag: number): void {
    const at = this.#at[tag], length = this.#length[tag];
    this.#block = 0;
    this.io.arena.u8.fill(0, at, at + digestBytes(length));
    try {
      this.#marks.fill(0);
      this.#source?.markData(this.#offset[tag], length, DIGEST_BLOCK_BYTES, this.#marks);
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      this.#error[tag] = -error.errno;
    }
  }

  /** Reads a piece, from its first block with data to the last one. */
  #read(tag: number, piece: number, buffer: number): void {
    const begin = this.#block, marks = this.#marks, end = (piece + 1) * BLOCKS;
    let last = begin;
    for (let block = piece * BLOCKS; block < end; block++) {
      this.#blocksOf[buffer * BLOCKS + block % BLOCKS] = marks[block];
      if (marks[block] === 1) last = block;
    }
    this.#block = end;
    const from = begin * DIGEST_BLOCK_BYTES, within = from - piece * DIGEST_PIECE_BYTES;
    const length = this.#length[tag];
    this.#tagOf[buffer] = tag;
    this.#sumAt[buffer] = this.#at[tag] + piece * DIGEST_SUM_BYTES;
    this.#lengthOf[buffer] = Math.min(DIGEST_PIECE_BYTES, length - piece * DIGEST_PIECE_BYTES);
    this.#left[tag]++;
    const at = this.#memory + buffer * DIGEST_PIECE_BYTES + within;
    const bytes = Math.min((last + 1) * DIGEST_BLOCK_BYTES, length) - from;
    this.#source?.read(this.#offset[tag] + from, bytes, at, this, buffer);
  }

  /** A piece was read. */
  complete(buffer: number, result: number): void {
    const tag = this.#tagOf[buffer];
    if (result < 0) this.#error[tag] ||= result;
    else this.#put(buffer);
    this.#free.push(buffer);
    this.#ended(tag);
    this.#pump();
  }

  /** Puts the sum of a piece into the answer. One of zeros only stays zero. */
  #put(buffer: number): void {
    const { u8 } = this.io.arena, at = this.#memory + buffer * DIGEST_PIECE_BYTES;
    const sum = this.#sum, end = this.#lengthOf[buffer];
    let data = false;
    sum.reset();
    for (let block = 0, from = 0; from < end; block++, from += DIGEST_BLOCK_BYTES) {
      if (this.#blocksOf[buffer * BLOCKS + block] === 0) continue;
      const bytes = u8.subarray(at + from, at + Math.min(from + DIGEST_BLOCK_BYTES, end));
      if (isZero(bytes)) continue;
      data = true;
      this.#number[0] = block;
      sum.bytes(this.#number);
      sum.bytes(bytes);
    }
    if (data) sum.finish(u8.subarray(this.#sumAt[buffer], this.#sumAt[buffer] + DIGEST_SUM_BYTES));
  }

  /** A piece was read, or the last one is under way. */
  #ended(tag: number): void {
    if (--this.#left[tag] > 0) return;
    const who = this.#who[tag];
    this.#who[tag] = undefined;
    if (who) this.answer(this.#error[tag], who, tag);
  }
}
