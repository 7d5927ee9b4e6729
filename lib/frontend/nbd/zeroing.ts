/**
 * WRITE_ZEROES and TRIM, in steps: zeroes up to the border of a unit, whole units given back, zeroes after them,
 * and a flush for FUA. One step of a request is under way at a time, so it needs one slot and no buffer.
 *
 * @module
 */
import { Op } from "../../block/device.ts";
import { Errno } from "../../io/errno.ts";
import { type Refusal, Refusals } from "./errors.ts";
import type { Host } from "./host.ts";
import { CommandFlag } from "./protocol.ts";
import { ZERO_UNIT_BYTES } from "./request.ts";
import { Use } from "./slots.ts";

/** Who runs the steps and answers in the end. */
export interface ZeroingOwner {
  /** Starts an operation on the device for a slot. */
  submit(op: Op, offset: number, length: number, at: number, slot: number): void;
  /** Answers a request without payload by the device's result, and frees its slot. */
  answer(slot: number, result: number): void;
  /** Answers a request with a failure, and frees its slot. */
  fail(slot: number, why: Refusal): void;
}

/** The steps of one connection; see the module text. */
export class Zeroing {
  readonly #host: Host;
  readonly #owner: ZeroingOwner;

  /** Begins with nothing under way. */
  constructor(host: Host, owner: ZeroingOwner) {
    this.#host = host;
    this.#owner = owner;
  }

  /** Starts the request in a slot. */
  begin(slot: number): void {
    const slots = this.#host.slots;
    if (slots.use[slot] === Use.TRIM) {
      // A hint: the units that are not wholly inside may keep their content.
      const unit = ZERO_UNIT_BYTES, offset = slots.offset[slot];
      const end = Math.floor((offset + slots.length[slot]) / unit) * unit;
      slots.offset[slot] = Math.ceil(offset / unit) * unit;
      slots.length[slot] = Math.max(0, end - slots.offset[slot]);
    }
    slots.cursor[slot] = slots.offset[slot];
    slots.step[slot] = 0;
    this.#next(slot);
  }

  /** A step ended. A volume that cannot give space back gets zeroes written, unless that is what must not be. */
  stepped(slot: number, result: number): void {
    const slots = this.#host.slots, flags = slots.flags[slot];
    if (result >= 0) slots.cursor[slot] += slots.step[slot];
    else if (result !== -Errno.EOPNOTSUPP || (flags & CommandFlag.NO_HOLE) !== 0) {
      return this.#owner.answer(slot, result);
    } else if (slots.use[slot] === Use.TRIM) return this.#owner.answer(slot, 0);
    else if ((flags & CommandFlag.FAST_ZERO) !== 0) return this.#owner.fail(slot, Refusals.SLOW_ZERO);
    else slots.flags[slot] = flags | CommandFlag.NO_HOLE;
    this.#next(slot);
  }

  #next(slot: number): void {
    const host = this.#host, slots = host.slots, unit = ZERO_UNIT_BYTES;
    const cursor = slots.cursor[slot], flags = slots.flags[slot], last = slots.step[slot];
    const left = slots.offset[slot] + slots.length[slot] - cursor;
    slots.step[slot] = 0;
    if (left <= 0) {
      // The step before this was the flush, or there was nothing to make durable.
      if (last === 0 || (flags & CommandFlag.FUA) === 0) return this.#owner.answer(slot, 0);
      return this.#owner.submit(Op.FLUSH, 0, 0, 0, slot);
    }
    if (host.stopping) return this.#owner.fail(slot, Refusals.STOPPING);
    const inside = cursor % unit, writeAll = (flags & CommandFlag.NO_HOLE) !== 0;
    if (!writeAll && inside === 0 && left >= unit) {
      slots.step[slot] = left - left % unit;
      return this.#owner.submit(Op.UNMAP, cursor, slots.step[slot], 0, slot);
    }
    slots.step[slot] = writeAll ? Math.min(left, host.zeroBytes) : Math.min(left, unit - inside);
    this.#owner.submit(Op.WRITE, cursor, slots.step[slot], host.zeroes, slot);
  }
}
