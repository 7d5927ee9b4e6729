/**
 * The volume: what the engine is for. Takes requests of the frontends, sends changes to every replica and reads
 * to one, and answers when the durability contract holds:
 *
 * - a completed write is on every healthy replica process;
 * - a completed flush (or durable write) is on the stable storage of every healthy replica;
 * - a replica that missed anything is out of the set before anything that it missed is acknowledged.
 *
 * One owner, one thread, no locks: everything happens in completions of the loop.
 *
 * @module
 */
import { type BlockDevice, Op, SECTOR_BYTES } from "../block/device.ts";
import { Errno } from "../io/errno.ts";
import { type Completer, type Io, NO_TIMER } from "../io/io.ts";
import { Later } from "../io/later.ts";
import { DROP, REFUSE } from "../wire/client.ts";
import { Feature, FrameType, MAX_FRAME_PAYLOAD } from "../wire/frame.ts";
import { ADOPT_SLOT, CHECK_INTERVAL_MS, PING_INTERVAL_MS, REPLICA_TIMEOUT_MS, SLOTS } from "./limits.ts";
import type { Link, LinkOwner } from "./link.ts";
import { Membership, type MembershipHost } from "./membership.ts";
import { Meters } from "./meters.ts";
import { Overlaps } from "./overlap.ts";
import { lateLinks } from "./patience.ts";
import { ReplicaSet } from "./replica_set.ts";
import type { VolumeEvents, VolumeOptions } from "./volume_options.ts";
import { changes, Slots, SlotState } from "./slots.ts";
import { Turns } from "./turns.ts";

const TICK = 0;

/** See the module text. */
export class Volume implements BlockDevice, LinkOwner, MembershipHost, Completer {
  readonly name: string;
  /** The copies. */
  readonly replicas: ReplicaSet;
  /** Counters for metrics. */
  readonly meters: Meters = new Meters();
  readonly #slots = new Slots();
  readonly #overlaps: Overlaps;
  readonly #membership: Membership;
  #bytes: number;
  readonly #turns = new Turns();
  #timer = NO_TIMER;
  #timerMs = 0;
  #started = false;
  readonly #timeoutMs: number;
  /** Slots whose answer must not be given inside `submit`. */
  readonly #later: Later;
  readonly #listeners: (() => void)[] = [];

  /**
   * Begins without copies: dial, admit, start.
   *
   * @param io the volume thread's world
   */
  constructor(readonly io: Io, readonly options: VolumeOptions, readonly events: VolumeEvents) {
    this.name = options.name;
    this.#bytes = options.bytes;
    this.#timeoutMs = options.timeoutMs ?? REPLICA_TIMEOUT_MS;
    this.#overlaps = new Overlaps(this.#slots.offset, this.#slots.length);
    this.#membership = new Membership(io, this);
    this.#later = new Later(io, SLOTS, { complete: (slot, result) => this.#finish(slot, result) });
    this.replicas = new ReplicaSet(io, this, options.local, options.linkSizes);
  }

  /** Size in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Requests under way. */
  get used(): number {
    return this.#slots.used;
  }

  /** See {@linkcode BlockDevice.onResize}. */
  onResize(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Begins service with the admitted replicas: they record `generation`, then `onRecorded` is called. */
  start(generation: number): void {
    this.#started = true;
    this.#membership.begin(generation);
    this.#arm();
  }

  /** Makes a connected replica part of the volume. Before {@linkcode start}, or expect a new record of members. */
  admit(name: string, mode: "RW" | "WO"): void {
    this.replicas.admit(name, mode);
    if (this.#started) this.#membership.change();
  }

  /** Reads go to one replica only from now on: the copies may differ where requests failed. */
  readFromOne(): void {
    this.#turns.single = true;
  }

  /** See {@linkcode MembershipHost}. */
  participants(): readonly Link[] {
    return this.replicas.writers;
  }

  /** See {@linkcode MembershipHost}. */
  fail(link: Link, reason: string): void {
    link.close(reason);
  }

  // ---- requests --------------------------------------------------------------------------------------------

  /** See {@linkcode BlockDevice.submit}. */
  submit(op: Op, offset: number, length: number, at: number, who: Completer, tag: number): void {
    const s = this.#slots, slot = s.take();
    s.op[slot] = op;
    s.offset[slot] = offset;
    s.length[slot] = length;
    s.at[slot] = at;
    s.who[slot] = who;
    s.tag[slot] = tag;
    s.result[slot] = 0;
    s.startedAt[slot] = this.io.now();
    if (this.#timerMs !== CHECK_INTERVAL_MS) this.#arm();
    if (
      !(offset >= 0 && length >= 0 && offset + length <= this.#bytes) || offset % SECTOR_BYTES ||
      length % SECTOR_BYTES
    ) {
      return this.#answerLater(slot, -Errno.EINVAL);
    }
    if ((op === Op.READ || op === Op.WRITE) && length > MAX_FRAME_PAYLOAD) {
      return this.#answerLater(slot, -Errno.EINVAL);
    }
    if (!changes(op) || this.#overlaps.enter(slot)) this.#dispatch(slot);
    else s.state[slot] = SlotState.BLOCKED;
  }

  #dispatch(slot: number): void {
    const s = this.#slots;
    s.state[slot] = SlotState.ACTIVE;
    s.sentAt[slot] = this.io.now();
    switch (s.op[slot]) {
      case Op.READ:
        return this.#read(slot);
      case Op.WRITE:
        return this.#toAll(slot, FrameType.WRITE, s.length[slot], s.length[slot], 0);
      case Op.WRITE_DURABLE:
        return this.#toAll(slot, FrameType.WRITE_DURABLE, s.length[slot], s.length[slot], Feature.FLUSH);
      case Op.UNMAP:
        return this.#toAll(slot, FrameType.UNMAP, s.length[slot], 0, 0);
      default:
        return this.#toAll(slot, FrameType.FLUSH, 0, 0, Feature.FLUSH);
    }
  }

  /** Sends a change or a flush to every writer. Longhorn's replicas get the plain form where there is one. */
  #toAll(slot: number, type: number, size: number, payload: number, feature: number): void {
    const s = this.#slots, sequence = s.sequence(slot);
    const writers = this.replicas.writers;
    for (let i = 0; i < writers.length; i++) {
      const link = writers[i];
      let as = type;
      if ((link.features & feature) !== feature) {
        if (type === FrameType.FLUSH) continue;
        as = FrameType.WRITE;
      }
      s.waiting[slot] |= link.bit;
      if (payload > 0) s.holds[slot]++;
      link.send(slot, sequence, as, s.offset[slot], size, s.at[slot], payload);
    }
    if (s.waiting[slot] !== 0) return;
    this.#answerLater(slot, this.replicas.readers.length > 0 && s.op[slot] === Op.FLUSH ? 0 : -Errno.EIO);
  }

  #read(slot: number): void {
    const s = this.#slots, readers = this.replicas.preferred;
    if (readers.length === 0) {
      return this.#answerLater(slot, s.result[slot] < 0 ? s.result[slot] : -Errno.EIO);
    }
    const link = readers[this.#turns.next(readers.length)];
    s.waiting[slot] = link.bit;
    link.send(slot, s.sequence(slot), FrameType.READ, s.offset[slot], s.length[slot], 0, 0);
  }

  // ---- replies ---------------------------------------------------------------------------------------------

  /** Where the data of a reply goes. */
  destination(link: Link, sequence: number, length: number): number {
    const s = this.#slots, slot = s.find(sequence);
    if (slot < 0 || (s.waiting[slot] & link.bit) === 0) return DROP;
    if (s.op[slot] !== Op.READ || length > s.length[slot]) return REFUSE;
    s.holds[slot]++;
    return s.at[slot];
  }

  /** An answer of a replica. */
  onReply(link: Link, sequence: number, result: number, length: number, text: string): void {
    if (sequence === ADOPT_SLOT) return this.#membership.onReply(link, result, text);
    const s = this.#slots, slot = s.find(sequence);
    if (slot < 0 || (s.waiting[slot] & link.bit) === 0) return;
    link.outstanding--;
    s.waiting[slot] &= ~link.bit;
    if (s.op[slot] === Op.READ) {
      if (length > 0) s.holds[slot]--;
      if (length === s.length[slot]) return this.#finish(slot, length);
      return this.#readFailed(
        slot,
        link,
        result < 0 ? text : `answered a read of ${s.length[slot]} bytes with ${length}`,
      );
    }
    if (result >= 0) {
      s.good[slot] |= link.bit;
      if (result > s.result[slot] || s.good[slot] === link.bit) s.result[slot] = result;
    } else {
      s.bad[slot] |= link.bit;
      link.reason = text;
      if (result === -Errno.ENOSPC || text.includes("no space left on device")) s.full[slot] |= link.bit;
    }
    if (s.waiting[slot] === 0) this.#settle(slot);
  }

  #readFailed(slot: number, link: Link, reason: string): void {
    const s = this.#slots;
    s.result[slot] = -Errno.EIO;
    if (this.replicas.readers.length > 1) {
      s.state[slot] = SlotState.RETRYING;
      link.close(`read failed: ${reason}`);
      return this.#retry(slot);
    }
    // The last copy: an unreadable block is the initiator's to know about, the rest stays usable.
    this.#finish(slot, -Errno.EIO);
  }

  #retry(slot: number): void {
    const s = this.#slots;
    if (s.state[slot] !== SlotState.RETRYING || s.holds[slot] > 0) return;
    this.#dispatch(slot);
  }

  /** All replicas have answered a change or a flush, or are out. */
  #settle(slot: number): void {
    const s = this.#slots;
    const readers = this.replicas.readersMask;
    if (s.bad[slot] === 0) return this.#finish(slot, s.good[slot] & readers ? s.result[slot] : -Errno.EIO);
    if (s.good[slot] & readers) {
      this.#failAll(s.bad[slot]);
      return this.#finish(slot, s.result[slot]);
    }
    // No complete copy has it. Copies that are not complete leave; of the complete ones all stay when they are
    // only full (the volume stays readable), otherwise the first one stays, as a disk with a bad block would.
    this.#failAll(s.bad[slot] & ~readers);
    const bad = s.bad[slot] & readers;
    const full = (s.full[slot] & bad) === bad && bad !== 0;
    if (full) this.#turns.single ||= this.replicas.readers.length > 1;
    else this.#failAll(bad & ~(bad & -bad));
    this.#finish(slot, full ? -Errno.ENOSPC : -Errno.EIO);
  }

  #failAll(bits: number): void {
    if (bits === 0) return;
    for (const link of this.replicas.all()) {
      if (bits & link.bit && link.mode !== "ERR") link.close(`request failed: ${link.reason || "error"}`);
    }
  }

  /** The result is known; answers as soon as the buffer is free and the members are recorded. */
  #finish(slot: number, result: number): void {
    const s = this.#slots;
    s.result[slot] = result;
    if (s.holds[slot] > 0) {
      s.state[slot] = SlotState.ENDING;
      return;
    }
    if (!this.#membership.settled && s.op[slot] !== Op.READ) {
      s.state[slot] = SlotState.HELD;
      return;
    }
    this.#answer(slot);
  }

  #answer(slot: number): void {
    const s = this.#slots, who = s.who[slot], tag = s.tag[slot], result = s.result[slot];
    const op = s.op[slot] as Op;
    this.meters.count(op, s.length[slot], this.io.now() - s.startedAt[slot]);
    if (this.#overlaps.has(slot)) this.#overlaps.leave(slot);
    s.give(slot);
    who?.complete(tag, result);
    if (this.#overlaps.blocked > 0) {
      for (let next = this.#overlaps.next(); next >= 0; next = this.#overlaps.next()) this.#dispatch(next);
    }
  }

  #answerLater(slot: number, result: number): void {
    this.#slots.state[slot] = SlotState.ENDING;
    this.#later.push(slot, result);
  }

  #unhold(slot: number): void {
    const s = this.#slots;
    if (--s.holds[slot] > 0) return;
    if (s.state[slot] === SlotState.ENDING) this.#finish(slot, s.result[slot]);
    else if (s.state[slot] === SlotState.RETRYING) this.#retry(slot);
  }

  /** A payload lent to a link is free again. */
  onSent(_link: Link, slot: number): void {
    this.#unhold(slot);
  }

  /** A read's data stopped arriving; its buffer is quiet now. */
  onFillAborted(_link: Link, sequence: number): void {
    const slot = this.#slots.find(sequence);
    if (slot >= 0) this.#unhold(slot);
  }

  // ---- links ---------------------------------------------------------------------------------------------

  /** A dialed replica answers. */
  onUp(link: Link): void {
    this.events.onConnected(link.name);
  }

  /** A replica is out: its requests end on the others, and the members are recorded anew. */
  onDown(link: Link, reason: string): void {
    if (this.replicas.drop(link, reason) && this.#started) this.#membership.onDown(link);
    const s = this.#slots;
    for (let slot = 0; slot < SLOTS; slot++) {
      if (s.state[slot] !== SlotState.ACTIVE || (s.waiting[slot] & link.bit) === 0) continue;
      s.waiting[slot] &= ~link.bit;
      if (s.op[slot] === Op.READ) {
        s.state[slot] = SlotState.RETRYING;
        this.#retry(slot);
      } else if (s.waiting[slot] === 0) this.#settle(slot);
    }
    this.events.onFailed(link.name, reason);
  }

  /** A link's memory is free. */
  onGone(link: Link): void {
    this.replicas.gone(link);
  }

  /** The members are recorded: what was held may be answered. */
  onRecorded(): void {
    const s = this.#slots;
    for (let slot = 0; slot < SLOTS; slot++) {
      if (s.state[slot] !== SlotState.HELD) continue;
      // With no complete copy left nobody recorded that the others missed this: it may be gone after a restart.
      if (this.replicas.readers.length === 0) s.result[slot] = -Errno.EIO;
      this.#answer(slot);
    }
    this.events.onRecorded(this.#membership.record);
  }

  #arm(): void {
    if (!this.#started) return;
    const ms = this.#slots.used > 0 ? CHECK_INTERVAL_MS : PING_INTERVAL_MS;
    if (this.#timer !== NO_TIMER && this.#timerMs === ms) return;
    this.io.cancel(this.#timer);
    this.#timerMs = ms;
    this.#timer = this.io.timer(ms, this, TICK);
  }

  /** The clock: pings, and replicas that take too long. */
  complete(_tag: number, _result: number): void {
    this.#timer = NO_TIMER;
    for (const link of this.replicas.all()) link.tick(this.#timeoutMs);
    if (this.#slots.used > 0) {
      for (const link of lateLinks(this.io.now(), this.#timeoutMs, this.#slots, this.replicas.writers)) {
        link.close(`no answer for more than ${this.#timeoutMs / 1000} s`);
      }
    }
    this.#arm();
  }

  /** Ends service: replicas that go from now on leave in order and stay members. */
  retire(): void {
    this.io.cancel(this.#timer);
    this.#started = false;
  }

  /** Ends all links; requests under way fail. */
  close(): void {
    this.retire();
    for (const link of this.replicas.all()) link.close("the volume is being closed");
  }
}
