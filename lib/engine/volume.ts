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
import { type BlockDevice, Op } from "../block/device.ts";
import type { Completer, Io } from "../io/io.ts";
import { Heartbeat } from "./heartbeat.ts";
import { LOCAL_READS_PER_TURN, READS_PER_TURN, REPLICA_TIMEOUT_MS, SLOTS } from "./limits.ts";
import type { Link } from "./link.ts";
import { type MemberRecord, Membership, type MembershipHost } from "./membership.ts";
import { RegionKeeper } from "./region_keeper.ts";
import { ReplicaSet } from "./replica_set.ts";
import { Requests } from "./requests.ts";
import { changes, SlotState } from "./slots.ts";
import type { VolumeEvents, VolumeOptions } from "./volume_options.ts";

/** See the module text. */
export class Volume extends Requests implements BlockDevice, MembershipHost {
  readonly name: string;
  /** The copies. */
  override readonly replicas: ReplicaSet;
  readonly #membership: Membership;
  /** True between a start and a retirement. */
  serving = false;
  /** True while it comes to rest: nothing new of its own begins. Copies that fail are noted as ever. */
  resting = false;
  readonly #heartbeat: Heartbeat;
  /** Which regions may differ between copies. */
  override readonly regions: RegionKeeper;
  readonly #listeners: (() => void)[] = [];

  /** Begins without copies: dial, admit, start. */
  constructor(io: Io, readonly options: VolumeOptions, readonly events: VolumeEvents) {
    super(io, options.bytes);
    this.name = options.name;
    this.#membership = new Membership(io, this);
    this.replicas = new ReplicaSet(io, this, options.local, options.linkSizes);
    this.#heartbeat = new Heartbeat(io, this.slots, this.replicas, options.timeoutMs ?? REPLICA_TIMEOUT_MS);
    this.regions = new RegionKeeper(io, this);
  }

  /** See {@linkcode Requests}. */
  protected override onBusy(): void {
    this.#heartbeat.busy();
  }

  /** See {@linkcode Requests}. */
  protected override onDiffer(): void {
    this.events.onDiffer();
  }

  /** See {@linkcode Requests}. */
  protected override onAdopted(link: Link, result: number, text: string): void {
    this.#membership.onReply(link, result, text);
  }

  /** See {@linkcode BlockDevice.onResize}. */
  onResize(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Begins service with the admitted replicas. They record `generation`; `onRecorded` follows. */
  start(generation: number): void {
    this.goOn();
    this.#membership.begin(generation);
  }

  /** True while copies may be made equal. */
  get working(): boolean {
    return this.serving && !this.resting;
  }

  /** Begins nothing more of its own, so that what is under way comes to an end. */
  rest(): void {
    this.resting = true;
    this.regions.stop();
  }

  /** Undoes {@linkcode Volume.rest} and {@linkcode Volume.retire}, with what is recorded as it is. */
  goOn(): void {
    this.serving = true;
    this.resting = false;
    this.#heartbeat.start();
    this.regions.begin();
  }

  /** The record of members. */
  get record(): MemberRecord {
    return this.#membership.record;
  }

  /** Makes a connected replica part of the volume. Before {@linkcode start}, or expect a new record of members. */
  admit(name: string, mode: "RW" | "WO"): void {
    this.replicas.admit(name, mode);
    this.turns.perTurn = this.replicas.allLocal ? LOCAL_READS_PER_TURN : READS_PER_TURN;
    if (this.serving) this.#membership.change();
  }

  /** True when the members are recorded as they are; a replica is admitted only then. */
  override get settled(): boolean {
    return this.#membership.settled;
  }

  /** A copy that was being filled is complete. */
  promote(link: Link): void {
    this.replicas.promote(link);
    this.#membership.change();
  }

  /** The volume has grown on all copies. */
  resize(bytes: number): void {
    if (bytes === this.bytes) return;
    this.bytes = bytes;
    this.regions.resize();
    this.journals.clear();
    for (const listener of this.#listeners) listener();
  }

  /** A flush of the engine's own. */
  flush(who: Completer): void {
    this.submitInner(Op.FLUSH, 0, 0, 0, who, 0);
  }

  /** See {@linkcode MembershipHost}. */
  participants(): readonly Link[] {
    return this.replicas.writers;
  }

  /** See {@linkcode MembershipHost}. */
  fail(link: Link, reason: string): void {
    link.close(reason);
  }

  // ---- links ---------------------------------------------------------------------------------------------

  /** A dialed replica answers. */
  override onUp(link: Link): void {
    this.events.onConnected(link.name);
  }

  /** A replica is out: its requests end on the others, and the members are recorded anew. */
  override onDown(link: Link, reason: string): void {
    const complete = link.mode === "RW" || link.catchingUp !== undefined;
    const tookPart = this.replicas.drop(link, reason) && this.serving;
    // While copies may differ, it also lacks what was not made equal yet: that is nowhere noted block by block.
    if (tookPart && complete && !this.turns.single) this.#openJournal(link);
    if (tookPart) this.#membership.onDown(link);
    this.answerWithout(link);
    this.events.onFailed(link.name, reason);
  }

  /** From now on it is noted what a copy misses: everything under way, and what comes. */
  #openJournal(link: Link): void {
    if (link.id === "") return;
    const set = this.journals.open(
        link.id,
        this.record.generation,
        this.bytes,
        this.io.now(),
        link.catchingUp,
      ),
      s = this.slots;
    for (let slot = 0; slot < SLOTS; slot++) {
      if (s.state[slot] === SlotState.FREE || !changes(s.op[slot])) continue;
      set.addTouched(s.offset[slot], s.length[slot]);
    }
  }

  /** A link's memory is free. */
  override onGone(link: Link): void {
    this.replicas.gone(link);
  }

  /** The members are recorded: what was held may be answered. */
  onRecorded(): void {
    this.answerHeld();
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
