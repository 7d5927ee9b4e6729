/**
 * Writes the replies of the transmission phase in the three forms a client may have chosen.
 *
 * @module
 */
import type { Stream } from "../../io/stream.ts";
import type { Refusal } from "./errors.ts";
import {
  ALLOCATION_CONTEXT_ID,
  Chunk,
  CHUNK_DONE,
  EXTENDED_REPLY_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from "./protocol.ts";

/** The form of replies on a connection. */
export const Form = {
  /** One header with an error number; the payload of reads follows. */
  SIMPLE: 0,
  /** Chunks. Replies without payload may still be simple, and are, as they are shorter. */
  STRUCTURED: 1,
  /** Chunks with 64-bit lengths, for every reply. */
  EXTENDED: 2,
} as const;

/** One of {@linkcode Form}. */
export type Form = typeof Form[keyof typeof Form];

const SIMPLE_BYTES = 16;
const STRUCTURED_BYTES = 20;
const EXTENDED_BYTES = 32;
/** An error chunk: error, length of the text. */
const ERROR_BYTES = 6;
const TWO_32 = 2 ** 32;
/** Largest descriptor length of the narrow block status, kept a multiple of 4096. */
const MAX_EXTENT_32 = TWO_32 - 4096;

/** Most bytes one call here puts into the send queue, without payload: an error chunk with its text. */
export const MAX_REPLY_BYTES = 128;

/** The writer of one connection. Cookies are two halves, so that no big integer is ever made. */
export class Replies {
  readonly #view: DataView;
  /** The form the client negotiated; set when the transmission phase begins. */
  form: Form = Form.SIMPLE;

  /** Begins in the simple form. @param stream where replies go */
  constructor(readonly stream: Stream) {
    this.#view = stream.io.arena.view;
  }

  /** Success without a payload. */
  done(high: number, low: number, offset: number): void {
    if (this.form === Form.EXTENDED) this.#chunk(Chunk.NONE, CHUNK_DONE, high, low, offset, 0, 0);
    else this.#simple(high, low, 0);
  }

  /** The end of a reply in chunks. Not for the simple form. */
  finished(high: number, low: number, offset: number): void {
    this.#chunk(Chunk.NONE, CHUNK_DONE, high, low, offset, 0, 0);
  }

  /** A failure; ends the reply. */
  failed(high: number, low: number, offset: number, why: Refusal): void {
    if (this.form === Form.SIMPLE) return this.#simple(high, low, why.error);
    const text = why.text;
    const length = ERROR_BYTES + text.length;
    const at = this.#chunk(Chunk.ERROR, CHUNK_DONE, high, low, offset, length, length);
    this.#view.setUint32(at, why.error);
    this.#view.setUint16(at + 4, text.length);
    this.stream.io.arena.u8.set(text, at + ERROR_BYTES);
  }

  /**
   * Data of a read, sent from where it lies; `onSent(token)` gives the buffer back.
   *
   * @param start offset the request began at
   * @param offset where these bytes lie in the volume
   * @param last whether this is the whole of the reply
   */
  data(
    high: number,
    low: number,
    start: number,
    offset: number,
    length: number,
    at: number,
    token: number,
    last: boolean,
  ): void {
    if (this.form === Form.SIMPLE) this.#simple(high, low, 0);
    else {
      const where = this.#chunk(Chunk.OFFSET_DATA, last ? CHUNK_DONE : 0, high, low, start, length + 8, 8);
      this.#wide(where, offset);
    }
    this.stream.payload(at, length, token);
  }

  /** The allocation status of a range: one extent, allocated. */
  allocated(high: number, low: number, offset: number, length: number): void {
    const view = this.#view;
    if (this.form === Form.EXTENDED) {
      const at = this.#chunk(Chunk.BLOCK_STATUS_EXT, CHUNK_DONE, high, low, offset, 24, 24);
      view.setUint32(at, ALLOCATION_CONTEXT_ID);
      view.setUint32(at + 4, 1);
      this.#wide(at + 8, length);
      this.#wide(at + 16, 0);
      return;
    }
    const at = this.#chunk(Chunk.BLOCK_STATUS, CHUNK_DONE, high, low, offset, 12, 12);
    view.setUint32(at, ALLOCATION_CONTEXT_ID);
    view.setUint32(at + 4, Math.min(length, MAX_EXTENT_32));
    view.setUint32(at + 8, 0);
  }

  #simple(high: number, low: number, error: number): void {
    const at = this.stream.header(SIMPLE_BYTES);
    const view = this.#view;
    view.setUint32(at, SIMPLE_REPLY_MAGIC);
    view.setUint32(at + 4, error);
    view.setUint32(at + 8, high);
    view.setUint32(at + 12, low);
  }

  /** @returns where the first `inline` bytes of the chunk's payload are to be written */
  #chunk(
    type: number,
    flags: number,
    high: number,
    low: number,
    offset: number,
    length: number,
    inline: number,
  ): number {
    const extended = this.form === Form.EXTENDED;
    const bytes = extended ? EXTENDED_BYTES : STRUCTURED_BYTES;
    const at = this.stream.header(bytes + inline);
    const view = this.#view;
    view.setUint32(at, extended ? EXTENDED_REPLY_MAGIC : STRUCTURED_REPLY_MAGIC);
    view.setUint16(at + 4, flags);
    view.setUint16(at + 6, type);
    view.setUint32(at + 8, high);
    view.setUint32(at + 12, low);
    if (extended) {
      this.#wide(at + 16, offset);
      this.#wide(at + 24, length);
    } else view.setUint32(at + 16, length);
    return at + bytes;
  }

  #wide(at: number, value: number): void {
    this.#view.setUint32(at, Math.floor(value / TWO_32));
    this.#view.setUint32(at + 4, value >>> 0);
  }
}
