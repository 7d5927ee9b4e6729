/**
 * The requests of a volume: taken from frontends and from the engine itself, sent to replicas, and answered when the
 * durability contract holds. What the replicas are, and who belongs to the volume, is the business of volume.ts.
 *
 * @module
 */
import { type BlockDevice, Op, SECTOR_BYTES } from "../block/device.ts";
import { Errno } from "../io/errno.ts";
import type { Completer, Io } from "../io/io.ts";
import { Later } from "../io/later.ts";
import { DROP, REFUSE } from "../wire/client.ts";
import { Feature, FrameType, MAX_FRAME_PAYLOAD } from "../wire/frame.ts";
import { BlockSet, SET_BLOCK_BYTES } from "./block_set.ts";
import { sendToAll, spread } from "./copy.ts";
import { Journals } from "./journals.ts";
import { ADOPT_SLOT, SLOTS } from "./limits.ts";
import type { Link, LinkOwner } from "./link.ts";
import { Mender, type MendHost } from "./mend.ts";
import { Meters } from "./meters.ts";
import { Overlaps } from "./overlap.ts";
import type { ReplicaSet } from "./replica_set.ts";
import { changes, copies, InnerOp, readBytes, reads, Slots, SlotState } from "./slots.ts";
import { Turns } from "./turns.ts";
import { judge } from "./verdict.ts";

/** See the module text. */
export abstract class Requests implements Pick<BlockDevice, "submit">, LinkOwner, MendHost {
  /** The copies. */
  abstract readonly replicas: ReplicaSet;
  /** True when the members are recorded as they are: acknowledgements may go out. */
  abstract readonly settled: boolean;
  /** Notes the regions that a change touches. */
  abstract readonly regions: { touch(offset: number, length: number): void };
  /** Counters for metrics. */
  readonly meters: Meters = new Meters();
  /** Whom to read from; `single` while copies may differ. */
  readonly turns: Turns = new Turns();
  /** What copies missed that left a while ago. */
  readonly journals: Journals = new Journals();
  /** How often copies began to differ; see {@linkcode Requests.onDiffer}. */
  differed = 0;
  /** The columns of all requests. */
  protected readonly slots: Slots = new Slots();
  readonly #overlaps: Overlaps;
  readonly #later: Later; // slots whose answer must not be given inside `submit`
  #mender: Mender | undefined;
  #still: (() => void) | undefined;

  /** Begins without requests. @param bytes size of the volume */
  constructor(readonly io: Io, public bytes: number) {
    this.#overlaps = new Overlaps(this.slots.offset, this.slots.length);
    this.#later = new Later(io, SLOTS, { complete: (slot, result) => this.#finish(slot, result) });
  }

  /** A request was submitted: the clock is to look more often. */
  protected abstract onBusy(): void;
  /** All copies refused a change for lack of space: they may differ where it was, and reads go to one of them. */
  protected abstract onDiffer(): void;
  /** A replica answered ADOPT. */
  protected abstract onAdopted(link: Link, result: number, text: string): void;
  /** See {@linkcode LinkOwner}. */
  abstract onUp(link: Link): void;
  /** See {@linkcode LinkOwner}. */
  abstract onDown(link: Link, reason: string): void;
  /** See {@linkcode LinkOwner}. */
  abstract onGone(link: Link): void;

  /** Requests under way. */
  get used(): number {
    return this.slots.used;
  }

  /** True when no change is under way in a range. */
  quiet(offset: number, length: number): boolean {
    return this.#overlaps.quiet(offset, length);
  }

  /** Keeps changes from starting. @param still called from the loop when none is under way any more */
  hold(still: () => void): void {
    this.#overlaps.held = true;
    this.#still = still;
    this.io.defer({ runDeferred: () => this.#checkStill() });
  }

  #checkStill(): void {
    if (!this.#overlaps.held || this.#overlaps.active > 0) return;
    const still = this.#still;
    this.#still = undefined;
    still?.();
  }

  /** Lets changes go on. */
  release(): void {
    this.#overlaps.held = false;
    this.#still = undefined;
    this.#startBlocked();
  }

  /** Makes a copy layered, or whole: see {@linkcode Link.layered}. Only while changes are held. */
  setLayered(link: Link, layered: boolean): void {
    if (layered) this.#mender ??= new Mender(this.io, this.slots, this);
    link.layered = layered;
    link.trims = layered ? new BlockSet(this.bytes) : undefined;
    this.#overlaps.grain = this.layered === 0 ? 1 : SET_BLOCK_BYTES;
  }

  /** Bits of the layered copies. */
  get layered(): number {
    return this.replicas.writers.reduce((bits, link) => link.layered ? bits | link.bit : bits, 0);
  }

  /** See {@linkcode MendHost}. */
  failLayered(reason: string): void {
    for (const link of [...this.replicas.writers]) if (link.layered) link.close(reason);
  }

  /** See {@linkcode MendHost}. */
  mended(slot: number): void {
    this.#finish(slot, this.slots.result[slot]);
  }

  // ---- requests --------------------------------------------------------------------------------------------

  /** See {@linkcode BlockDevice.submit}. */
  submit(op: Op, offset: number, length: number, at: number, who: Completer, tag: number): void {
    this.submitInner(op, offset, length, at, who, tag);
  }

  /** See {@linkcode Submitter}. */
  submitInner(
    op: Op | InnerOp,
    offset: number,
    length: number,
    at: number,
    who: Completer,
    tag: number,
    to = 0,
  ): void {
    const s = this.slots, slot = s.take();
    s.op[slot] = op;
    s.offset[slot] = offset;
    s.length[slot] = length;
    s.at[slot] = at;
    s.who[slot] = who;
    s.tag[slot] = tag;
    s.to[slot] = to;
    s.result[slot] = 0;
    s.startedAt[slot] = this.io.now();
    this.onBusy();
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
    const s = this.slots;
    s.state[slot] = SlotState.ACTIVE;
    s.sentAt[slot] = this.io.now();
    switch (s.op[slot]) {
      case Op.READ:
        return this.#read(slot);
      case Op.WRITE:
        return this.#toAll(slot, FrameType.WRITE, s.length[slot], 0);
      case Op.WRITE_DURABLE:
        return this.#toAll(slot, FrameType.WRITE_DURABLE, s.length[slot], Feature.FLUSH);
      case Op.UNMAP:
        return this.#toAll(slot, FrameType.UNMAP, 0, 0);
      case InnerOp.COPY:
      case InnerOp.MEND:
        return this.#readFrom(slot, this.replicas.readers[0], FrameType.READ);
      case InnerOp.REGIONS:
        return this.#readFrom(slot, this.#one(slot), FrameType.REGIONS);
      case InnerOp.DIGEST:
        return this.#readFrom(slot, this.#one(slot), FrameType.DIGEST);
      case InnerOp.TRIM:
        return this.#readFrom(slot, this.#one(slot), FrameType.UNMAP);
      case InnerOp.CLEAN:
        return this.#toAll(slot, FrameType.CLEAN, 0, Feature.REGIONS);
      default:
        return this.#toAll(slot, FrameType.FLUSH, 0, Feature.FLUSH);
    }
  }

  #toAll(slot: number, type: number, payload: number, feature: number): void {
    const s = this.slots;
    if (s.op[slot] <= Op.WRITE_DURABLE && s.op[slot] !== Op.FLUSH) {
      this.journals.note(s.offset[slot], s.length[slot]);
    }
    sendToAll(s, this.replicas, slot, type, payload, feature);
    if (s.waiting[slot] !== 0) return;
    this.#answerLater(slot, this.replicas.readers.length > 0 && s.op[slot] === Op.FLUSH ? 0 : -Errno.EIO);
  }

  /** The one link that an operation is for. */
  #one(slot: number): Link | undefined {
    return this.replicas.writers.find(({ bit }) => bit === this.slots.to[slot]);
  }

  #read(slot: number): void {
    const s = this.slots, readers = this.turns.single ? this.replicas.readers : this.replicas.preferred;
    if (readers.length === 0) {
      return this.#answerLater(slot, s.result[slot] < 0 ? s.result[slot] : -Errno.EIO);
    }
    this.#readFrom(slot, readers[this.turns.next(readers.length)], FrameType.READ);
  }

  #readFrom(slot: number, link: Link | undefined, type: number): void {
    const s = this.slots;
    if (link === undefined) return this.#answerLater(slot, -Errno.EIO);
    s.waiting[slot] = link.bit;
    link.send(slot, s.sequence(slot), type, s.offset[slot], s.length[slot], 0, 0);
  }

  /** The source of a COPY answered: the others get what it has. */
  #copyOn(slot: number, source: Link, length: number, text: string): void {
    const s = this.slots;
    if (length !== s.length[slot]) {
      if (this.replicas.readers.length > 1) source.close(`read failed: ${text}`);
      return this.#finish(slot, -Errno.EIO);
    }
    spread(this.io, s, this.replicas, slot, source, s.to[slot]);
    if (s.waiting[slot] === 0) this.#settle(slot);
  }

  // ---- replies ---------------------------------------------------------------------------------------------

  /** Where the data of a reply goes. */
  destination(link: Link, sequence: number, length: number): number {
    const s = this.slots, slot = s.find(sequence);
    if (slot < 0 || (s.waiting[slot] & link.bit) === 0) return DROP;
    const op = s.op[slot];
    if (!reads(op, s.good[slot]) || length > readBytes(op, s.length[slot])) return REFUSE;
    s.holds[slot]++;
    return s.at[slot];
  }

  /** An answer of a replica. */
  onReply(link: Link, sequence: number, result: number, length: number, text: string): void {
    if (sequence === ADOPT_SLOT) return this.onAdopted(link, result, text);
    const s = this.slots, slot = s.find(sequence);
    if (slot < 0 || (s.waiting[slot] & link.bit) === 0) return;
    link.outstanding--;
    s.waiting[slot] &= ~link.bit;
    if (reads(s.op[slot], s.good[slot])) {
      if (length > 0) s.holds[slot]--;
      if (copies(s.op[slot])) return this.#copyOn(slot, link, length, text);
      if (s.op[slot] === InnerOp.REGIONS || s.op[slot] === InnerOp.DIGEST) {
        return this.#finish(slot, length === readBytes(s.op[slot], s.length[slot]) ? 0 : -Errno.EIO);
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
    const s = this.slots;
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
    const s = this.slots;
    if (s.state[slot] !== SlotState.RETRYING || s.holds[slot] > 0) return;
    this.#dispatch(slot);
  }

  /** All replicas have answered a change or a flush, or are out. */
  #settle(slot: number): void {
    const s = this.slots;
    if (s.op[slot] === InnerOp.TRIM) return this.#finish(slot, s.good[slot] === s.to[slot] ? 0 : -Errno.EIO);
    // A copy that is full is no worse than before: making it equal is tried again when there may be space.
    if (s.op[slot] === InnerOp.COPY && s.bad[slot] !== 0 && s.bad[slot] === s.full[slot]) {
      return this.#finish(slot, -Errno.ENOSPC);
    }
    const verdict = judge(s.good[slot], s.bad[slot], s.full[slot], this.replicas.readersMask);
    this.#failAll(verdict.fail);
    if (verdict.differ) {
      this.differed++;
      if (!this.turns.single) this.onDiffer();
      this.turns.single = true;
    }
    if (verdict.answer === "good" && s.mend[slot] !== 0 && this.#mender && this.layered !== 0) {
      s.state[slot] = SlotState.MENDING;
      return this.#mender.mend(slot);
    }
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
    const s = this.slots;
    s.result[slot] = result;
    if (s.holds[slot] > 0) {
      s.state[slot] = SlotState.ENDING;
      return;
    }
    if (!this.settled && s.op[slot] !== Op.READ) {
      s.state[slot] = SlotState.HELD;
      return;
    }
    this.#answer(slot);
  }

  #answer(slot: number): void {
    const s = this.slots, who = s.who[slot], tag = s.tag[slot];
    // With no complete copy left nobody recorded who has this change: the next start may go on without it.
    const lost = this.replicas.readers.length === 0 && s.op[slot] !== Op.READ && s.result[slot] >= 0;
    const result = lost ? -Errno.EIO : s.result[slot];
    this.meters.count(s.op[slot], s.length[slot], this.io.now() - s.startedAt[slot]);
    if (this.#overlaps.has(slot)) this.#overlaps.leave(slot);
    s.give(slot);
    who?.complete(tag, result);
    if (this.#overlaps.blocked > 0) this.#startBlocked();
    if (this.#overlaps.held) this.#checkStill();
  }

  #startBlocked(): void {
    for (let next = this.#overlaps.next(); next >= 0; next = this.#overlaps.next()) this.#dispatch(next);
  }

  #answerLater(slot: number, result: number): void {
    this.slots.state[slot] = SlotState.ENDING;
    this.#later.push(slot, result);
  }

  #unhold(slot: number): void {
    const s = this.slots;
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
    const slot = this.slots.find(sequence);
    if (slot >= 0) this.#unhold(slot);
  }

  // ---- what the owner of the copies tells ---------------------------------------------------------------------

  /** A link is down: no answer comes from it any more. */
  protected answerWithout(link: Link): void {
    const s = this.slots;
    for (let slot = 0; slot < SLOTS; slot++) {
      if (s.state[slot] !== SlotState.ACTIVE || (s.waiting[slot] & link.bit) === 0) continue;
      s.waiting[slot] &= ~link.bit;
      if (reads(s.op[slot], s.good[slot]) && s.op[slot] !== Op.READ) this.#finish(slot, -Errno.EIO);
      else if (s.op[slot] === Op.READ) {
        s.state[slot] = SlotState.RETRYING;
        this.#retry(slot);
      } else if (s.waiting[slot] === 0) this.#settle(slot);
    }
  }

  /** The members are recorded: what was held is answered. */
  protected answerHeld(): void {
    const s = this.slots;
    for (let slot = 0; slot < SLOTS; slot++) {
      if (s.state[slot] !== SlotState.HELD) continue;
      this.#answer(slot);
    }
  }
}
