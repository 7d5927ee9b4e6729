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
import type { Completer, Io } from "../io/io.ts";
import { Later } from "../io/later.ts";
import { DROP, REFUSE } from "../wire/client.ts";
import { Feature, FrameType, MAX_FRAME_PAYLOAD } from "../wire/frame.ts";
import { ADOPT_SLOT, LOCAL_READS_PER_TURN, READS_PER_TURN, REPLICA_TIMEOUT_MS, SLOTS } from "./limits.ts";
import type { Link, LinkOwner } from "./link.ts";
import { spread } from "./copy.ts";
import { Heartbeat } from "./heartbeat.ts";
import { Membership, type MembershipHost } from "./membership.ts";
import { Meters } from "./meters.ts";
import { Overlaps } from "./overlap.ts";
import { RegionKeeper } from "./region_keeper.ts";
import { ReplicaSet } from "./replica_set.ts";
import type { VolumeEvents, VolumeOptions } from "./volume_options.ts";
import { changes, InnerOp, reads, Slots, SlotState } from "./slots.ts";
import { Turns } from "./turns.ts";
import { judge } from "./verdict.ts";

/** See the module text. */
export class Volume implements BlockDevice, LinkOwner, MembershipHost {
  readonly name: string;
  /** In bytes. */
  bytes: number;
  /** The copies. */
  readonly replicas: ReplicaSet;
  /** Counters for metrics. */
  readonly meters: Meters = new Meters();
  readonly #slots = new Slots();
  readonly #overlaps: Overlaps;
  readonly #membership: Membership;
  /** Bits of the links that a COPY writes to. */
  copyTo = 0xffff;
  /** Whom to read from; `single` while copies may differ. */
  readonly turns: Turns = new Turns();
  /** True between a start and a retirement. */
  serving = false;
  readonly #heartbeat: Heartbeat;
  /** Which regions may differ between copies. */
  readonly regions: RegionKeeper;
  readonly #later: Later; // slots whose answer must not be given inside `submit`
  readonly #listeners: (() => void)[] = [];

  /** Begins without copies: dial, admit, start. */
  constructor(readonly io: Io, readonly options: VolumeOptions, readonly events: VolumeEvents) {
    this.name = options.name;
    this.bytes = options.bytes;
    this.#overlaps = new Overlaps(this.#slots.offset, this.#slots.length);
    this.#membership = new Membership(io, this);
    this.#later = new Later(io, SLOTS, { complete: (slot, result) => this.#finish(slot, result) });
    this.replicas = new ReplicaSet(io, this, options.local, options.linkSizes);
    this.#heartbeat = new Heartbeat(io, this.#slots, this.replicas, options.timeoutMs ?? REPLICA_TIMEOUT_MS);
    this.regions = new RegionKeeper(io, this);
  }

  /** Requests under way. */
  get used(): number {
    return this.#slots.used;
  }

  /** See {@linkcode BlockDevice.onResize}. */
  onResize(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Begins service with the admitted replicas. They record `generation`; `onRecorded` follows. */
  start(generation: number): void {
    this.serving = true;
    this.#membership.begin(generation);
    this.#heartbeat.start();
  }

  /** Makes a connected replica part of the volume. Before {@linkcode start}, or expect a new record of members. */
  admit(name: string, mode: "RW" | "WO"): void {
    this.replicas.admit(name, mode);
    this.turns.perTurn = this.replicas.allLocal ? LOCAL_READS_PER_TURN : READS_PER_TURN;
    if (this.serving) this.#membership.change();
  }

  /** True when the members are recorded as they are; a replica is admitted only then. */
  get settled(): boolean {
    return this.#membership.settled;
  }

  /** A copy that was being filled is complete. */
  promote(link: Link): void {
    this.replicas.promote(link);
    this.#membership.change();
  }

  /** True when no change is under way in a range. */
  quiet(offset: number, length: number): boolean {
    return this.#overlaps.quiet(offset, length);
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
    this.submitInner(op, offset, length, at, who, tag);
  }

  /** As {@linkcode submit}, also for the engine's own operations. REGIONS: `tag` is the reader's place. */
  submitInner(
    op: Op | InnerOp,
    offset: number,
    length: number,
    at: number,
    who: Completer,
    tag: number,
  ): void {
    const s = this.#slots, slot = s.take();
    s.op[slot] = op;
    s.offset[slot] = offset;
    s.length[slot] = length;
    s.at[slot] = at;
    s.who[slot] = who;
    s.tag[slot] = tag;
    s.result[slot] = 0;
    s.startedAt[slot] = this.io.now();
    this.#heartbeat.busy();
    if (
      !(offset >= 0 && length >= 0 && offset + length <= this.bytes) || offset % SECTOR_BYTES ||
      length % SECTOR_BYTES || ((op === Op.READ || op === Op.WRITE) && length > MAX_FRAME_PAYLOAD)
    ) {
      return this.#answerLater(slot, -Errno.EINVAL);
    }
    if (!changes(op)) return this.#dispatch(slot);
    if (op <= Op.WRITE_DURABLE) this.regions.touch(offset, length);
    if (this.#overlaps.enter(slot)) this.#dispatch(slot);
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
      case InnerOp.COPY:
        return this.#readFrom(slot, this.replicas.readers[0], FrameType.READ);
      case InnerOp.REGIONS:
        return this.#readFrom(slot, this.replicas.readers[s.tag[slot]], FrameType.REGIONS);
      case InnerOp.CLEAN:
        return this.#toAll(slot, FrameType.CLEAN, s.length[slot], 0, Feature.REGIONS);
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
        if (type !== FrameType.WRITE_DURABLE) continue;
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
    this.#readFrom(slot, readers[this.turns.next(readers.length)], FrameType.READ);
  }

  #readFrom(slot: number, link: Link | undefined, type: number): void {
    const s = this.#slots;
    if (link === undefined) return this.#answerLater(slot, -Errno.EIO);
    s.waiting[slot] = link.bit;
    link.send(slot, s.sequence(slot), type, s.offset[slot], s.length[slot], 0, 0);
  }

  /** The source of a COPY answered: the others get what it has. */
  #copyOn(slot: number, source: Link, length: number, text: string): void {
    const s = this.#slots;
    if (length !== s.length[slot]) {
      if (this.replicas.readers.length > 1) source.close(`read failed: ${text}`);
      return this.#finish(slot, -Errno.EIO);
    }
    spread(this.io, s, this.replicas, slot, source, this.copyTo);
    if (s.waiting[slot] === 0) this.#settle(slot);
  }

  // ---- replies ---------------------------------------------------------------------------------------------

  /** Where the data of a reply goes. */
  destination(link: Link, sequence: number, length: number): number {
    const s = this.#slots, slot = s.find(sequence);
    if (slot < 0 || (s.waiting[slot] & link.bit) === 0) return DROP;
    if (!reads(s.op[slot], s.good[slot]) || length > s.length[slot]) return REFUSE;
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
    if (reads(s.op[slot], s.good[slot])) {
      if (length > 0) s.holds[slot]--;
      if (s.op[slot] === InnerOp.COPY) return this.#copyOn(slot, link, length, text);
      if (s.op[slot] === InnerOp.REGIONS) {
        return this.#finish(slot, length === s.length[slot] ? 0 : -Errno.EIO);
      }
      if (length === s.length[slot]) return this.#finish(slot, length);
      return this.#readFailed(slot, link, text || `an answer of ${length} bytes`);
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
    const verdict = judge(s.good[slot], s.bad[slot], s.full[slot], this.replicas.readersMask);
    this.#failAll(verdict.fail);
    if (verdict.differ) this.turns.single = true;
    if (verdict.answer === "good") return this.#finish(slot, s.result[slot]);
    this.#finish(slot, verdict.answer === "full" ? -Errno.ENOSPC : -Errno.EIO);
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
    this.meters.count(s.op[slot], s.length[slot], this.io.now() - s.startedAt[slot]);
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
    if (this.replicas.drop(link, reason) && this.serving) this.#membership.onDown(link);
    const s = this.#slots;
    for (let slot = 0; slot < SLOTS; slot++) {
      if (s.state[slot] !== SlotState.ACTIVE || (s.waiting[slot] & link.bit) === 0) continue;
      s.waiting[slot] &= ~link.bit;
      if (reads(s.op[slot], s.good[slot]) && s.op[slot] !== Op.READ) this.#finish(slot, -Errno.EIO);
      else if (s.op[slot] === Op.READ) {
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

  /** Ends service: replicas that go from now on leave in order and stay members. */
  retire(): void {
    this.#heartbeat.stop();
    this.regions.stop();
    this.serving = false;
  }

  /** Ends all links; requests under way fail. */
  close(): void {
    this.retire();
    for (const link of this.replicas.all()) link.close("the volume is being closed");
  }
}
