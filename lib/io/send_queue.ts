/**
 * The send queue of a stream: a ring of segments. The ones being sent come first, those that wait follow. Headers are
 * written into a ring of bytes of their own; payloads are named where they lie.
 *
 * @module
 */
import { AssertionError } from "node:assert";
import type { Io } from "./io.ts";
import { SEND_BATCH, SEND_BYTES, type StreamMemory } from "./stream_memory.ts";

/** No token: the segment is header bytes, which belong to the stream. */
export const NO_TOKEN = -1 as number;

/** A mistake of a stream's owner. Not `assert()`: that makes an array of its arguments on every call. */
export const mistake = (message: string): AssertionError => new AssertionError({ message });

/** See the module text. */
export class SendQueue {
  /** Segments queued, those being sent included. */
  count = 0;
  /** Segments of the send call under way. */
  inFlight = 0;
  /** More than half full, and since then not down to a quarter. */
  congested = false;
  readonly #at: Float64Array;
  readonly #length: Uint32Array;
  readonly #token: Int32Array;
  readonly #headerEnd: Float64Array;
  #first = 0;
  #headerHead = 0;
  #headerTail = 0;

  /** Begins empty. @param memory of the stream */
  constructor(readonly memory: StreamMemory) {
    this.#at = new Float64Array(memory.segments);
    this.#length = new Uint32Array(memory.segments);
    this.#token = new Int32Array(memory.segments);
    this.#headerEnd = new Float64Array(memory.segments);
  }

  /** Room for `bytes` contiguous bytes of header. @returns where @throws {AssertionError} when it is full */
  header(bytes: number): number {
    const memory = this.memory, size = memory.headerBytes;
    // An empty ring begins anew: a large header fits, and the numbers stay small.
    if (this.count === 0) this.#headerHead = this.#headerTail = 0;
    let head = this.#headerHead;
    const room = size - (head % size);
    if (room < bytes) head += room; // does not fit before the end of the ring: go on at its start
    if (head + bytes - this.#headerTail > size) throw mistake("send queue: no room for a header");
    const at = memory.headers + (head % size);
    this.#headerHead = head + bytes;
    const last = (this.#first + this.count - 1) % memory.segments;
    if (
      this.count > this.inFlight && this.#token[last] === NO_TOKEN &&
      this.#at[last] + this.#length[last] === at
    ) {
      this.#length[last] += bytes;
      this.#headerEnd[last] = this.#headerHead;
      this.#feelPressure();
    } else this.push(at, bytes, NO_TOKEN);
    return at;
  }

  /** Queues a segment. @throws {AssertionError} when it is full */
  push(at: number, length: number, token: number): void {
    const memory = this.memory;
    if (this.count === memory.segments) throw mistake("send queue: no room for a segment");
    const i = (this.#first + this.count) % memory.segments;
    this.#at[i] = at;
    this.#length[i] = length;
    this.#token[i] = token;
    this.#headerEnd[i] = this.#headerHead;
    this.count++;
    this.#feelPressure();
  }

  #feelPressure(): void {
    const memory = this.memory, headers = this.#headerHead - this.#headerTail;
    if (this.count > memory.segments / 2 || headers > memory.headerBytes / 2) this.congested = true;
  }

  /** Writes the next segments into the stream's vector; they are in flight then. @returns how many */
  gather(io: Io): number {
    const memory = this.memory;
    const most = Math.min(this.count, SEND_BATCH);
    let n = 0;
    for (let bytes = 0; n < most && bytes < SEND_BYTES; n++) {
      const i = (this.#first + n) % memory.segments;
      io.segment(memory.vector, n, this.#at[i], this.#length[i]);
      bytes += this.#length[i];
    }
    this.inFlight = n;
    return n;
  }

  /** Takes the first segment off. @returns its token */
  release(): number {
    const i = this.#first;
    this.#headerTail = this.#headerEnd[i];
    this.#first = (i + 1) % this.memory.segments;
    this.count--;
    return this.#token[i];
  }

  /** Looks whether the pressure is gone. @returns true when it has just gone */
  relieve(): boolean {
    const memory = this.memory, headers = this.#headerHead - this.#headerTail;
    if (!this.congested || this.count > memory.segments / 4 || headers > memory.headerBytes / 4) return false;
    this.congested = false;
    return true;
  }
}
