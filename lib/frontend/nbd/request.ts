/**
 * One request as it came over the wire, and whether it can be served at all.
 *
 * There is one such object per connection, filled again for every request.
 *
 * @module
 */
import type { Arena } from "../../io/arena.ts";
import { SECTOR_BYTES } from "../../block/device.ts";
import { type Refusal, Refusals } from "./errors.ts";
import {
  Command,
  CommandFlag,
  EXTENDED_REQUEST_BYTES,
  EXTENDED_REQUEST_MAGIC,
  MAX_PAYLOAD_BYTES,
  REQUEST_BYTES,
  REQUEST_MAGIC,
} from "./protocol.ts";
import { Form } from "./reply.ts";

const TWO_32 = 2 ** 32;
/** Unit in which a volume gives space back, bytes. */
export const ZERO_UNIT_BYTES = 4096;

/** Flags that a command takes besides FUA, which every command takes. */
function allowedFlags(type: number, form: Form): number {
  const payload = form === Form.EXTENDED ? CommandFlag.PAYLOAD_LEN : 0;
  switch (type) {
    case Command.READ:
      return CommandFlag.FUA | (form === Form.SIMPLE ? 0 : CommandFlag.DF);
    case Command.WRITE:
      return CommandFlag.FUA | payload;
    case Command.WRITE_ZEROES:
      return CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO;
    case Command.BLOCK_STATUS:
      return CommandFlag.FUA | CommandFlag.REQ_ONE;
    default:
      return CommandFlag.FUA;
  }
}

/** A request; see the module text. */
export class Request {
  /** One of {@linkcode Command}, or anything else. */
  type = 0;
  /** {@linkcode CommandFlag}s. */
  flags = 0;
  /** First half of the cookie. */
  high = 0;
  /** Second half of the cookie. */
  low = 0;
  /** Bytes. Rounded when above 2^53, which is beyond the end of every volume. */
  offset = 0;
  /** Bytes; as above. */
  length = 0;
  /** Bytes that follow the header. */
  payload = 0;
  #alignment = 0;

  /** Bytes of a request in a form. */
  static bytes(form: Form): number {
    return form === Form.EXTENDED ? EXTENDED_REQUEST_BYTES : REQUEST_BYTES;
  }

  /**
   * Reads a request that is wholly there.
   * @returns nothing, or what makes it impossible to go on after it
   */
  parse(arena: Arena, at: number, form: Form): string | undefined {
    const view = arena.view, extended = form === Form.EXTENDED;
    const magic = view.getUint32(at);
    if (magic !== (extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC)) {
      return `sent a request with magic 0x${magic.toString(16)}`;
    }
    this.flags = view.getUint16(at + 4);
    this.type = view.getUint16(at + 6);
    this.high = view.getUint32(at + 8);
    this.low = view.getUint32(at + 12);
    const offsetLow = view.getUint32(at + 20);
    this.offset = view.getUint32(at + 16) * TWO_32 + offsetLow;
    const lengthLow = view.getUint32(extended ? at + 28 : at + 24);
    this.length = extended ? view.getUint32(at + 24) * TWO_32 + lengthLow : lengthLow;
    this.#alignment = (offsetLow | lengthLow) & (SECTOR_BYTES - 1);
    const announced = (this.flags & CommandFlag.PAYLOAD_LEN) !== 0;
    if (extended && this.type === Command.WRITE && !announced) {
      return "sent a write that announces no payload";
    }
    this.payload = (extended ? announced : this.type === Command.WRITE) ? this.length : 0;
    if (this.payload > MAX_PAYLOAD_BYTES) return `announced a payload of ${this.payload} bytes`;
    return undefined;
  }

  /**
   * Why this request cannot be served; nothing if it can.
   *
   * @param bytes size of the volume
   * @param maximum longest single transfer
   * @param allocation whether the client selected `base:allocation`
   */
  check(form: Form, bytes: number, maximum: number, allocation: boolean): Refusal | undefined {
    const type = this.type;
    if (type > Command.BLOCK_STATUS) return Refusals.COMMAND;
    if ((this.flags & ~allowedFlags(type, form)) !== 0) return Refusals.FLAGS;
    if (type === Command.FLUSH) {
      return this.offset !== 0 || this.length !== 0 ? Refusals.RANGE : undefined;
    }
    if (this.#alignment !== 0) return Refusals.MISALIGNED;
    if (this.offset > bytes || this.length > bytes - this.offset) {
      return type === Command.WRITE || type === Command.WRITE_ZEROES ? Refusals.NO_ROOM : Refusals.BEYOND_END;
    }
    switch (type) {
      case Command.READ:
        return this.#checkRead(form, maximum);
      case Command.WRITE_ZEROES:
        return this.#checkZero();
      case Command.BLOCK_STATUS:
        if (!allocation) return Refusals.NO_CONTEXT;
        return this.length === 0 ? Refusals.EMPTY : undefined;
      default:
        return undefined;
    }
  }

  /** A long read is answered in several chunks, which takes a form that has chunks and leave to use them. */
  #checkRead(form: Form, maximum: number): Refusal | undefined {
    if (this.length <= maximum) return undefined;
    if (form === Form.SIMPLE || this.length > MAX_PAYLOAD_BYTES) return Refusals.TOO_LONG;
    return (this.flags & CommandFlag.DF) !== 0 ? Refusals.CANNOT_UNFRAGMENTED : undefined;
  }

  /** Only whole units without NO_HOLE can be zeroed by giving space back, which is what is fast. */
  #checkZero(): Refusal | undefined {
    if ((this.flags & CommandFlag.FAST_ZERO) === 0) return undefined;
    const aligned = this.offset % ZERO_UNIT_BYTES === 0 && this.length % ZERO_UNIT_BYTES === 0;
    return aligned && (this.flags & CommandFlag.NO_HOLE) === 0 ? undefined : Refusals.SLOW_ZERO;
  }
}
