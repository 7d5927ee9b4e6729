/**
 * The ring of bytes in shared memory through which the main thread hands requests to a volume thread: one
 * writer, one reader, no locks.
 *
 * ```text
 * 0   u32  head: bytes taken so far, modulo 2^32; written by the reader
 * 4   u32  tail: bytes put so far, modulo 2^32; written by the writer, after the bytes
 * 8   u32  starving: the writer has something that does not fit and wants to hear of free space
 * 12  u32  stop: the reader is asked to end its loop
 * 64  ...  records, wrapping: u32 length (little endian), then so many bytes of JSON
 * ```
 *
 * @module
 */

/** Bytes of the ring unless told otherwise: room for many requests; the largest ones carry lists of extents. */
export const MAILBOX_BYTES = 1024 * 1024;

const HEADER_BYTES = 64;
const LENGTH_BYTES = 4;
const HEAD = 0;
const TAIL = 1;
const STARVING = 2;
const STOP = 3;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** Makes the shared memory of a ring. @param bytes of records, a power of two */
export function makeRingMemory(bytes: number = MAILBOX_BYTES): SharedArrayBuffer {
  if (!Number.isInteger(Math.log2(bytes)) || bytes < 1024) {
    throw new RangeError(`a mailbox of ${bytes} bytes: must be a power of two from 1024 on`);
  }
  return new SharedArrayBuffer(HEADER_BYTES + bytes);
}

/** Either end of the ring. */
export class MailboxRing {
  /** Bytes of records the ring can hold, their lengths included. */
  readonly capacity: number;
  readonly #header: Uint32Array<SharedArrayBuffer>;
  readonly #bytes: Uint8Array<SharedArrayBuffer>;

  /** Takes one end of the ring in `memory`, which {@linkcode makeRingMemory} made. */
  constructor(memory: SharedArrayBuffer) {
    this.capacity = memory.byteLength - HEADER_BYTES;
    this.#header = new Uint32Array(memory, 0, HEADER_BYTES / 4);
    this.#bytes = new Uint8Array(memory, HEADER_BYTES);
  }

  /** A record for {@linkcode put}. */
  static encode(
    value: { readonly id: number; readonly kind: string; readonly body: unknown },
  ): Uint8Array<ArrayBuffer> {
    const json = encoder.encode(JSON.stringify(value));
    const record = new Uint8Array(LENGTH_BYTES + json.length);
    new DataView(record.buffer).setUint32(0, json.length, true);
    record.set(json, LENGTH_BYTES);
    return record;
  }

  /**
   * Writer: puts a record.
   *
   * @returns false when there is no room now; the reader then says so when there is, see
   *   {@linkcode takeStarving}
   */
  put(record: Uint8Array): boolean {
    if (!this.#fits(record.length)) {
      Atomics.store(this.#header, STARVING, 1);
      // The reader may have made room before it could see the mark.
      if (!this.#fits(record.length)) return false;
    }
    const tail = Atomics.load(this.#header, TAIL);
    const at = tail & (this.capacity - 1);
    const first = Math.min(record.length, this.capacity - at);
    this.#bytes.set(record.subarray(0, first), at);
    this.#bytes.set(record.subarray(first), 0);
    Atomics.store(this.#header, TAIL, (tail + record.length) >>> 0);
    return true;
  }

  /** Reader: takes the oldest record, undefined when there is none. */
  take(): unknown {
    const head = Atomics.load(this.#header, HEAD);
    if (Atomics.load(this.#header, TAIL) === head) return undefined;
    const length = new DataView(this.#copy(head, LENGTH_BYTES).buffer).getUint32(0, true);
    const json = this.#copy(head + LENGTH_BYTES, length);
    Atomics.store(this.#header, HEAD, (head + LENGTH_BYTES + length) >>> 0);
    return JSON.parse(decoder.decode(json));
  }

  /** Reader: whether the writer waits for room; true once per wait. */
  takeStarving(): boolean {
    return Atomics.exchange(this.#header, STARVING, 0) !== 0;
  }

  /** Writer: asks the reader to end its loop. */
  askStop(): void {
    Atomics.store(this.#header, STOP, 1);
  }

  /** Reader: whether it is asked to end its loop. */
  get stopAsked(): boolean {
    return Atomics.load(this.#header, STOP) !== 0;
  }

  #fits(bytes: number): boolean {
    const used = (Atomics.load(this.#header, TAIL) - Atomics.load(this.#header, HEAD)) >>> 0;
    return this.capacity - used >= bytes;
  }

  #copy(from: number, length: number): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(length);
    const at = from & (this.capacity - 1);
    const first = Math.min(length, this.capacity - at);
    out.set(this.#bytes.subarray(at, at + first));
    out.set(this.#bytes.subarray(0, length - first), first);
    return out;
  }
}
