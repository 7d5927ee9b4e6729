/**
 * The handshake: greeting, client flags, and options until one of them opens the export.
 *
 * Works on the receive window of a stream, one option at a time, and remembers nothing but what was agreed.
 * Lengths are checked against what is really there; an option longer than anything sensible is skipped and
 * answered, one longer than the protocol's own limit ends the connection.
 *
 * @module
 */
import type { Stream } from "../../io/stream.ts";
import { SECTOR_BYTES } from "../../block/device.ts";
import { Form } from "./reply.ts";
import {
  ALLOCATION_CONTEXT,
  ALLOCATION_CONTEXT_ID,
  EXPORT_NAME_PADDING,
  Handshake,
  Info,
  INIT_MAGIC_HIGH,
  INIT_MAGIC_LOW,
  MAX_PAYLOAD_BYTES,
  MAX_STRING_BYTES,
  Option,
  OPTION_BYTES,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_BYTES,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
  OptionReply,
  Transmission,
} from "./protocol.ts";
import { Fields } from "./fields.ts";

/** What the handshake shows of a volume. */
export interface Export {
  /** The name clients ask for; the empty name means the same. */
  readonly name: string;
  /** A text for people. */
  readonly description: string;
  /** Size in bytes, now. */
  readonly bytes: number;
  /** Longest READ or WRITE, bytes. */
  readonly maximum: number;
}

/** Where the handshake stands after {@linkcode Haggle.feed}. */
export const Step = {
  /** It needs more bytes, or room in the send queue. */
  MORE: 0,
  /** The export is open: transmission begins with the next byte. */
  OPEN: 1,
  /** The client said goodbye: close when all is sent. */
  GOODBYE: 2,
  /** The client breaks the protocol: close now. {@linkcode Haggle.complaint} says why. */
  BROKEN: 3,
} as const;

/** One of {@linkcode Step}. */
export type Step = typeof Step[keyof typeof Step];

/** Longest option data that is looked at, bytes; with its header it must fit half a receive window. */
export const MAX_OPTION_BYTES = 64 * 1024;
/** The block size clients should prefer, bytes: a block of the volume. */
const PREFERRED_BLOCK_BYTES = 4096;
const CLIENT_FLAGS_BYTES = 4;
const NO_OPTION = 0;
const TWO_32 = 2 ** 32;
const encoder = new TextEncoder();

/** A handshake that is under way. */
export interface HaggleState {
  /** See {@linkcode Haggle.form}. */
  readonly form: Form;
  /** See {@linkcode Haggle.allocation}. */
  readonly allocation: boolean;
  /** The client has sent its flags. */
  readonly flagsSeen: boolean;
  /** The client wants the padding of the old handshake. */
  readonly padding: boolean;
}

/** One handshake. */
export class Haggle {
  /** The form of replies agreed on. */
  form: Form = Form.SIMPLE;
  /** Whether the client selected `base:allocation`. */
  allocation = false;
  /** After {@linkcode Step.BROKEN}: what the client did. */
  complaint = "";
  readonly #stream: Stream;
  readonly #export: Export;
  #flagsSeen = false;
  #padding = true;
  #skipping = NO_OPTION;
  #opened = false;

  /**
   * Queues the greeting.
   *
   * @param stream the connection
   * @param volume what can be opened
   * @param said of a handshake that another process began: there is no second greeting
   */
  constructor(stream: Stream, volume: Export, said?: HaggleState) {
    this.#stream = stream;
    this.#export = volume;
    if (said) {
      this.form = said.form;
      this.allocation = said.allocation;
      this.#flagsSeen = said.flagsSeen;
      this.#padding = said.padding;
      return;
    }
    const at = stream.header(18), view = stream.io.arena.view;
    view.setUint32(at, INIT_MAGIC_HIGH);
    view.setUint32(at + 4, INIT_MAGIC_LOW);
    view.setUint32(at + 8, OPTION_MAGIC_HIGH);
    view.setUint32(at + 12, OPTION_MAGIC_LOW);
    view.setUint16(at + 16, Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES);
  }

  /** What was said so far; only between two options. */
  get state(): HaggleState {
    const { form, allocation } = this;
    return { form, allocation, flagsSeen: this.#flagsSeen, padding: this.#padding };
  }

  /** Takes whole messages out of the window. */
  feed(): Step {
    const stream = this.#stream;
    while (!stream.congested && !stream.closing) {
      const step = this.#flagsSeen ? this.#option() : this.#clientFlags();
      if (step !== Step.OPEN) return step;
      if (this.#opened) return Step.OPEN;
    }
    return Step.MORE;
  }

  /** The data of an option that was too long has been skipped. */
  skipped(): void {
    const option = this.#skipping;
    this.#skipping = NO_OPTION;
    this.#refuse(option, OptionReply.TOO_BIG, `more than ${MAX_OPTION_BYTES} bytes of option data`);
  }

  #clientFlags(): Step {
    const stream = this.#stream;
    if (stream.available < CLIENT_FLAGS_BYTES) return Step.MORE;
    const flags = stream.io.arena.view.getUint32(stream.position);
    stream.consume(CLIENT_FLAGS_BYTES);
    if ((flags & ~(Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES)) !== 0) {
      return this.#broken(`sent client flags that were not offered: 0x${flags.toString(16)}`);
    }
    this.#padding = (flags & Handshake.NO_ZEROES) === 0;
    this.#flagsSeen = true;
    return Step.OPEN;
  }

  /** @returns OPEN to go on, or why not */
  #option(): Step {
    const stream = this.#stream, view = stream.io.arena.view;
    if (this.#skipping !== NO_OPTION || stream.available < OPTION_BYTES) return Step.MORE;
    const at = stream.position;
    if (view.getUint32(at) !== OPTION_MAGIC_HIGH || view.getUint32(at + 4) !== OPTION_MAGIC_LOW) {
      return this.#broken("sent an option without its magic");
    }
    const option = view.getUint32(at + 8), length = view.getUint32(at + 12);
    if (length > MAX_OPTION_BYTES) {
      if (length > MAX_PAYLOAD_BYTES || option === Option.EXPORT_NAME) {
        return this.#broken(`announced ${length} bytes of data for option ${option}`);
      }
      stream.consume(OPTION_BYTES);
      this.#skipping = option;
      if (!stream.discard(length)) return Step.MORE;
      this.skipped();
      return Step.OPEN;
    }
    if (stream.available < OPTION_BYTES + length) return Step.MORE;
    const step = this.#answer(option, new Fields(stream.io.arena, at + OPTION_BYTES, length));
    stream.consume(OPTION_BYTES + length);
    return step;
  }

  #answer(option: number, data: Fields): Step {
    switch (option) {
      case Option.EXPORT_NAME:
        return this.#exportName(data.text(data.left));
      case Option.ABORT:
        this.#acknowledge(option);
        return Step.GOODBYE;
      case Option.LIST:
        if (data.left > 0) this.#refuse(option, OptionReply.INVALID, "LIST takes no data");
        else this.#list(option);
        return Step.OPEN;
      case Option.INFO:
      case Option.GO:
        return this.#info(option, data);
      case Option.STRUCTURED_REPLY:
        if (data.left > 0) this.#refuse(option, OptionReply.INVALID, "STRUCTURED_REPLY takes no data");
        else if (this.form === Form.EXTENDED) {
          const type = OptionReply.EXTENDED_HEADERS_REQUIRED;
          this.#refuse(option, type, "extended headers were agreed on already");
        } else this.#agree(option, Form.STRUCTURED);
        return Step.OPEN;
      case Option.EXTENDED_HEADERS:
        if (data.left > 0) this.#refuse(option, OptionReply.INVALID, "EXTENDED_HEADERS takes no data");
        else this.#agree(option, Form.EXTENDED);
        return Step.OPEN;
      case Option.LIST_META_CONTEXT:
      case Option.SET_META_CONTEXT:
        this.#contexts(option, data);
        return Step.OPEN;
      case Option.STARTTLS:
        this.#refuse(option, OptionReply.UNSUPPORTED, "this server does not do TLS");
        return Step.OPEN;
      default:
        this.#refuse(option, OptionReply.UNSUPPORTED, "this option is not known here");
        return Step.OPEN;
    }
  }

  #agree(option: number, form: Form): void {
    this.form = form;
    this.#acknowledge(option);
  }

  #known(name: string): boolean {
    return name === "" || name === this.#export.name;
  }

  get #transmissionFlags(): number {
    return Transmission.HAS_FLAGS | Transmission.SEND_FLUSH | Transmission.SEND_FUA | Transmission.SEND_TRIM |
      Transmission.SEND_WRITE_ZEROES | Transmission.CAN_MULTI_CONN | Transmission.SEND_CACHE |
      Transmission.SEND_FAST_ZERO | (this.form === Form.SIMPLE ? 0 : Transmission.SEND_DF);
  }

  #exportName(name: string): Step {
    if (!this.#known(name)) {
      return this.#broken(`asked for export ${JSON.stringify(name)}, which is not here`);
    }
    const stream = this.#stream;
    const padding = this.#padding ? EXPORT_NAME_PADDING : 0;
    const at = stream.header(10 + padding);
    this.#writeExport(at);
    stream.io.arena.u8.fill(0, at + 10, at + 10 + padding);
    this.#opened = true;
    return Step.OPEN;
  }

  /** Size and flags: 10 bytes. */
  #writeExport(at: number): void {
    const view = this.#stream.io.arena.view, bytes = this.#export.bytes;
    view.setUint32(at, Math.floor(bytes / TWO_32));
    view.setUint32(at + 4, bytes >>> 0);
    view.setUint16(at + 8, this.#transmissionFlags);
  }

  #list(option: number): void {
    const name = encoder.encode(this.#export.name), text = encoder.encode(this.#export.description);
    const at = this.#reply(option, OptionReply.SERVER, 4 + name.length + text.length);
    this.#stream.io.arena.view.setUint32(at, name.length);
    this.#stream.io.arena.u8.set(name, at + 4);
    this.#stream.io.arena.u8.set(text, at + 4 + name.length);
    this.#acknowledge(option);
  }

  #info(option: number, data: Fields): Step {
    const nameLength = data.u32();
    if (nameLength > MAX_STRING_BYTES) data.fail();
    const name = data.text(nameLength);
    let wanted = 0;
    const requests = data.u16();
    for (let i = 0; i < requests && data.good; i++) {
      const kind = data.u16();
      if (kind < 31) wanted |= 1 << kind;
    }
    if (!data.good || data.left > 0) {
      this.#refuse(option, OptionReply.INVALID, "the lengths in this option do not add up");
      return Step.OPEN;
    }
    if (!this.#known(name)) {
      this.#refuse(option, OptionReply.UNKNOWN, "there is no such export here");
      return Step.OPEN;
    }
    const view = this.#stream.io.arena.view;
    let at = this.#reply(option, OptionReply.INFO, 12);
    view.setUint16(at, Info.EXPORT);
    this.#writeExport(at + 2);
    // Always: a client must be told when the sizes are not the defaults, even one that did not ask.
    at = this.#reply(option, OptionReply.INFO, 14);
    view.setUint16(at, Info.BLOCK_SIZE);
    view.setUint32(at + 2, SECTOR_BYTES);
    view.setUint32(at + 6, PREFERRED_BLOCK_BYTES);
    view.setUint32(at + 10, this.#export.maximum);
    if (wanted & (1 << Info.NAME)) this.#infoText(option, Info.NAME, this.#export.name);
    if (wanted & (1 << Info.DESCRIPTION)) {
      this.#infoText(option, Info.DESCRIPTION, this.#export.description);
    }
    this.#acknowledge(option);
    this.#opened = option === Option.GO;
    return Step.OPEN;
  }

  #infoText(option: number, kind: number, text: string): void {
    const bytes = encoder.encode(text);
    const at = this.#reply(option, OptionReply.INFO, 2 + bytes.length);
    this.#stream.io.arena.view.setUint16(at, kind);
    this.#stream.io.arena.u8.set(bytes, at + 2);
  }

  /**
   * Queries are names of contexts. `base:` alone means the whole namespace, but only for a list; no query at
   * all means everything for a list and nothing for a selection.
   */
  #contexts(option: number, data: Fields): void {
    const select = option === Option.SET_META_CONTEXT;
    if (select) this.allocation = false;
    const nameLength = data.u32();
    if (nameLength > MAX_STRING_BYTES) data.fail();
    const name = data.text(nameLength);
    const queries = data.u32();
    let found = queries === 0 && !select;
    for (let i = 0; i < queries && data.good; i++) {
      const query = data.text(data.u32());
      if (query === ALLOCATION_CONTEXT || (!select && query === "base:")) found = true;
    }
    if (!data.good || data.left > 0) {
      return this.#refuse(option, OptionReply.INVALID, "the lengths in this option do not add up");
    }
    if (this.form === Form.SIMPLE) {
      return this.#refuse(option, OptionReply.INVALID, "metadata contexts need structured replies first");
    }
    if (!this.#known(name)) {
      return this.#refuse(option, OptionReply.UNKNOWN, "there is no such export here");
    }
    if (found) {
      const text = encoder.encode(ALLOCATION_CONTEXT);
      const at = this.#reply(option, OptionReply.META_CONTEXT, 4 + text.length);
      this.#stream.io.arena.view.setUint32(at, select ? ALLOCATION_CONTEXT_ID : 0);
      this.#stream.io.arena.u8.set(text, at + 4);
      if (select) this.allocation = true;
    }
    this.#acknowledge(option);
  }

  #broken(complaint: string): Step {
    this.complaint = complaint;
    return Step.BROKEN;
  }

  #acknowledge(option: number): void {
    this.#reply(option, OptionReply.ACK, 0);
  }

  #refuse(option: number, type: number, text: string): void {
    const bytes = encoder.encode(text);
    this.#stream.io.arena.u8.set(bytes, this.#reply(option, type, bytes.length));
  }

  /** Queues the header of a reply. @returns where its data goes */
  #reply(option: number, type: number, length: number): number {
    const at = this.#stream.header(OPTION_REPLY_BYTES + length), view = this.#stream.io.arena.view;
    view.setUint32(at, OPTION_REPLY_MAGIC_HIGH);
    view.setUint32(at + 4, OPTION_REPLY_MAGIC_LOW);
    view.setUint32(at + 8, option);
    view.setUint32(at + 12, type);
    view.setUint32(at + 16, length);
    return at + OPTION_REPLY_BYTES;
  }
}
