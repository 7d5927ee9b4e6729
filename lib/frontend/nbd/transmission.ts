/**
 * The transmission phase of one connection: takes requests from the stream, runs them on the device and queues
 * the replies.
 *
 * A request that cannot start because slots or buffers are short stays in the receive window. Payloads go from the socket into a buffer of the pool and from there to the
 * device, and for reads the other way round; they are never copied in between.
 *
 * A READ or WRITE longer than the device takes becomes parts. They are made one after the other, each with a
 * slot and a buffer of its own that come back independently, so a long request never waits for memory that it
 * holds itself.
 *
 * @module
 */
import { Op } from "../../block/device.ts";
import type { Completer } from "../../io/io.ts";
import type { Stream } from "../../io/stream.ts";
import { deviceFailure, type Refusal, Refusals } from "./errors.ts";
import { Holdings } from "./holdings.ts";
import type { Host } from "./host.ts";
import { Command, CommandFlag } from "./protocol.ts";
import { Form, Replies } from "./reply.ts";
import { Request } from "./request.ts";
import { NO_SLOT, type Slots, Use } from "./slots.ts";
import { Zeroing, type ZeroingOwner } from "./zeroing.ts";

/** The transmission phase of a connection; see the module text. */
export class Transmission implements Completer, ZeroingOwner {
  readonly #host: Host;
  readonly #stream: Stream;
  readonly #slots: Slots;
  readonly #holdings: Holdings;
  readonly #zeroing: Zeroing;
  readonly #replies: Replies;
  readonly #request = new Request();
  readonly #idle: () => void;
  readonly #broken: (complaint: string) => void;
  #allocation = false;
  /** Operations on the device under way. */
  #operations = 0;
  /** The slot whose payload is being received. */
  #filling = NO_SLOT;
  /** The reply to give once a refused request's payload is skipped; the request is still in `#request`. */
  #refused: Refusal | undefined;
  /** The long request whose parts are being made, and how far that got. */
  #whole = NO_SLOT;
  #cursor = 0;
  #leaving = false;
  #closed = false;
  #suspended = false;

  /**
   * Waits for {@linkcode begin}.
   *
   * @param host what the connections share
   * @param stream the connection
   * @param idle called when nothing is under way and the client left, the stream is gone or the frontend stops
   * @param broken called when the client breaks the protocol
   */
  constructor(host: Host, stream: Stream, idle: () => void, broken: (complaint: string) => void) {
    this.#host = host;
    this.#stream = stream;
    this.#slots = host.slots;
    this.#holdings = new Holdings(host, stream);
    this.#zeroing = new Zeroing(host, this);
    this.#replies = new Replies(stream);
    this.#idle = idle;
    this.#broken = broken;
  }

  /** Sets what the handshake agreed on. */
  begin(form: Form, allocation: boolean): void {
    this.#replies.form = form;
    this.#allocation = allocation;
  }

  /** True while the device works on requests of this connection. */
  get busy(): boolean {
    return this.#operations > 0;
  }

  /** Takes no new request, ends those that were begun. @returns true when it is between two requests */
  suspend(): boolean {
    this.#suspended = true;
    return this.#whole === NO_SLOT && this.#filling === NO_SLOT && !this.#refused;
  }

  /** Undoes {@linkcode suspend}. */
  resume(): void {
    this.#suspended = false;
  }

  /** What was agreed on in the handshake. */
  get agreed(): { readonly form: Form; readonly allocation: boolean } {
    return { form: this.#replies.form, allocation: this.#allocation };
  }

  /** Takes requests out of the window. */
  serve(): void {
    const stream = this.#stream;
    while (!stream.closing && !stream.congested && !this.#leaving) {
      if (this.#whole === NO_SLOT && this.#suspended) break;
      if (!(this.#whole === NO_SLOT ? this.#next() : this.#part())) break;
    }
    this.#checkIdle();
  }

  /** A payload is complete. */
  filled(): void {
    const refused = this.#refused;
    if (refused) {
      this.#refused = undefined;
      return this.#refuseNow(refused);
    }
    const slot = this.#filling;
    this.#filling = NO_SLOT;
    this.#write(slot);
  }

  /** A read's payload was sent or dropped. */
  sent(slot: number): void {
    this.#holdings.give(slot);
  }

  /** Lets a connection that waits for a slot try again. */
  wake(): void {
    this.#holdings.wake();
  }

  /** The frontend stops: what is under way ends, what comes is refused. */
  stop(): void {
    if (this.#holdings.waiting) this.#holdings.wake();
    else this.#checkIdle();
  }

  /** The stream is gone. Operations on the device may still be under way. */
  closed(): void {
    this.#closed = true;
    this.#refused = undefined;
    if (this.#filling !== NO_SLOT) {
      const slot = this.#filling, whole = this.#slots.whole[slot];
      this.#filling = NO_SLOT;
      this.#holdings.give(slot);
      if (whole !== NO_SLOT) this.#partDone(whole, 0);
    }
    if (this.#whole !== NO_SLOT) {
      const whole = this.#whole;
      this.#whole = NO_SLOT;
      this.#partDone(whole, 0);
    }
  }

  #checkIdle(): void {
    if (!this.#leaving && !this.#closed && !this.#host.stopping) return;
    if (this.#operations > 0 || this.#filling !== NO_SLOT || this.#whole !== NO_SLOT || this.#refused) return;
    this.#idle();
  }

  // ---- requests --------------------------------------------------------------------------------------------

  /** Takes one request. @returns false when the loop has to end: bytes, slots or buffers are missing */
  #next(): boolean {
    const stream = this.#stream, request = this.#request, form = this.#replies.form;
    const bytes = Request.bytes(form);
    if (stream.available < bytes) return false;
    const complaint = request.parse(stream.io.arena, stream.position, form);
    if (complaint !== undefined) {
      this.#broken(complaint);
      return false;
    }
    if (request.type === Command.DISC) {
      stream.consume(bytes);
      stream.pause();
      this.#leaving = true;
      return false;
    }
    const host = this.#host;
    const refusal = host.stopping
      ? Refusals.STOPPING
      : request.check(form, host.device.bytes, host.volume.maximum, this.#allocation);
    if (refusal) {
      stream.consume(bytes);
      return this.#refuse(refusal);
    }
    switch (request.type) {
      case Command.READ:
      case Command.WRITE:
        return this.#transfer(bytes);
      case Command.FLUSH:
        return this.#flush(bytes);
      case Command.TRIM:
      case Command.WRITE_ZEROES:
        return this.#zero(bytes);
      case Command.BLOCK_STATUS:
        stream.consume(bytes);
        this.#replies.allocated(request.high, request.low, request.offset, request.length);
        return true;
      default: // CACHE: the volume decides by itself what to keep in memory
        stream.consume(bytes);
        this.#done();
        return true;
    }
  }

  #done(): void {
    this.#replies.done(this.#request.high, this.#request.low, this.#request.offset);
  }

  #refuseNow(refusal: Refusal): void {
    this.#replies.failed(this.#request.high, this.#request.low, this.#request.offset, refusal);
  }

  /** Answers a request that cannot be served, after its payload, if any. */
  #refuse(refusal: Refusal): boolean {
    if (this.#stream.discard(this.#request.payload)) {
      this.#refuseNow(refusal);
      return true;
    }
    this.#refused = refusal;
    return false;
  }

  /** Writes what the request says into a slot. */
  #label(slot: number): void {
    const slots = this.#slots, request = this.#request;
    slots.cookieHigh[slot] = request.high;
    slots.cookieLow[slot] = request.low;
    slots.flags[slot] = request.flags;
    slots.offset[slot] = request.offset;
    slots.length[slot] = request.length;
  }

  #transfer(bytes: number): boolean {
    const request = this.#request, stream = this.#stream, length = request.length;
    const read = request.type === Command.READ;
    if (length === 0) {
      stream.consume(bytes);
      if (read && this.#replies.form !== Form.SIMPLE) {
        this.#replies.finished(request.high, request.low, request.offset);
      } else this.#done();
      return true;
    }
    if (length > this.#host.volume.maximum) return this.#beginWhole(bytes, read);
    const slot = this.#holdings.slotWithBuffer(read ? Use.READ : Use.WRITE, length);
    if (slot === NO_SLOT) return false;
    stream.consume(bytes);
    this.#label(slot);
    if (!read) return this.#receive(slot);
    this.submit(Op.READ, request.offset, length, this.#slots.buffer[slot], slot);
    return true;
  }

  #receive(slot: number): boolean {
    if (!this.#stream.fill(this.#slots.buffer[slot], this.#slots.length[slot])) {
      this.#filling = slot;
      return false;
    }
    this.#write(slot);
    return true;
  }

  #write(slot: number): void {
    const slots = this.#slots;
    const op = (slots.flags[slot] & CommandFlag.FUA) !== 0 ? Op.WRITE_DURABLE : Op.WRITE;
    this.submit(op, slots.offset[slot], slots.length[slot], slots.buffer[slot], slot);
  }

  /** See {@linkcode ZeroingOwner.submit}. */
  submit(op: Op, offset: number, length: number, at: number, slot: number): void {
    this.#operations++;
    this.#host.device.submit(op, offset, length, at, this, slot);
  }

  #flush(bytes: number): boolean {
    const slot = this.#holdings.slot(Use.FLUSH);
    if (slot === NO_SLOT) return false;
    this.#stream.consume(bytes);
    this.#label(slot);
    this.submit(Op.FLUSH, 0, 0, 0, slot);
    return true;
  }

  // ---- long requests ---------------------------------------------------------------------------------------

  #beginWhole(bytes: number, read: boolean): boolean {
    const slot = this.#holdings.slot(read ? Use.WHOLE_READ : Use.WHOLE_WRITE);
    if (slot === NO_SLOT) return false;
    this.#stream.consume(bytes);
    this.#label(slot);
    this.#slots.pending[slot] = 1;
    this.#whole = slot;
    this.#cursor = 0;
    return true;
  }

  /** Starts the next part of the long request at hand. */
  #part(): boolean {
    const slots = this.#slots, whole = this.#whole;
    const read = slots.use[whole] === Use.WHOLE_READ;
    const length = Math.min(this.#host.volume.maximum, slots.length[whole] - this.#cursor);
    const slot = this.#holdings.slotWithBuffer(read ? Use.READ_PART : Use.WRITE_PART, length);
    if (slot === NO_SLOT) return false;
    slots.whole[slot] = whole;
    slots.flags[slot] = slots.flags[whole];
    slots.offset[slot] = slots.offset[whole] + this.#cursor;
    slots.pending[whole]++;
    this.#cursor += length;
    if (this.#cursor === slots.length[whole]) {
      this.#whole = NO_SLOT;
      slots.pending[whole]--;
    }
    if (!read) return this.#receive(slot);
    this.submit(Op.READ, slots.offset[slot], length, slots.buffer[slot], slot);
    return true;
  }

  #partDone(whole: number, result: number): void {
    const slots = this.#slots;
    if (result < 0 && slots.failure[whole] === 0) slots.failure[whole] = result;
    if (--slots.pending[whole] > 0) return;
    const failure = slots.failure[whole];
    if (failure < 0 || slots.use[whole] === Use.WHOLE_WRITE) return this.answer(whole, failure);
    if (!this.#stream.closing) {
      this.#replies.finished(slots.cookieHigh[whole], slots.cookieLow[whole], slots.offset[whole]);
    }
    this.#holdings.give(whole);
  }

  #zero(bytes: number): boolean {
    const trim = this.#request.type === Command.TRIM;
    const slot = this.#holdings.slot(trim ? Use.TRIM : Use.ZERO);
    if (slot === NO_SLOT) return false;
    this.#stream.consume(bytes);
    this.#label(slot);
    this.#zeroing.begin(slot);
    return true;
  }

  // ---- completions -----------------------------------------------------------------------------------------

  /** The device finished what a slot stands for. */
  complete(slot: number, result: number): void {
    this.#operations--;
    const slots = this.#slots, use = slots.use[slot];
    if (use === Use.READ) {
      if (result < 0 || this.#stream.closing) this.answer(slot, result);
      else this.#data(slot, slots.cookieHigh[slot], slots.cookieLow[slot], slots.offset[slot], true);
    } else if (use === Use.READ_PART || use === Use.WRITE_PART) this.#partComplete(slot, result);
    else if ((use === Use.ZERO || use === Use.TRIM) && !this.#stream.closing) {
      this.#zeroing.stepped(slot, result);
    } else this.answer(slot, result);
    this.#checkIdle();
  }

  #partComplete(slot: number, result: number): void {
    const slots = this.#slots, whole = slots.whole[slot];
    if (slots.use[slot] === Use.READ_PART && result >= 0 && !this.#stream.closing) {
      this.#data(slot, slots.cookieHigh[whole], slots.cookieLow[whole], slots.offset[whole], false);
    } else this.#holdings.give(slot);
    this.#partDone(whole, result);
  }

  #data(slot: number, high: number, low: number, start: number, last: boolean): void {
    const slots = this.#slots;
    const offset = slots.offset[slot], length = slots.length[slot];
    this.#replies.data(high, low, start, offset, length, slots.buffer[slot], slot, last);
  }

  /** See {@linkcode ZeroingOwner.answer}. */
  answer(slot: number, result: number): void {
    if (result < 0) return this.fail(slot, deviceFailure(result));
    const slots = this.#slots;
    if (!this.#stream.closing) {
      this.#replies.done(slots.cookieHigh[slot], slots.cookieLow[slot], slots.offset[slot]);
    }
    this.#holdings.give(slot);
  }

  /** See {@linkcode ZeroingOwner.fail}. */
  fail(slot: number, why: Refusal): void {
    const slots = this.#slots;
    if (!this.#stream.closing) {
      this.#replies.failed(slots.cookieHigh[slot], slots.cookieLow[slot], slots.offset[slot], why);
    }
    this.#holdings.give(slot);
  }
}
