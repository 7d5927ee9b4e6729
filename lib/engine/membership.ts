/**
 * Who belongs to the volume, recorded where it matters: on the replicas themselves.
 *
 * A write that one replica missed must never be lost because that replica is believed later. Therefore, when a
 * replica leaves the set, every remaining one records durably "from now on the members are these", and no
 * write, unmap or flush is acknowledged until they have. At the next start the newest record tells which
 * copies are complete ({@linkcode elect} in election.ts).
 *
 * The record is ordered by (generation, revision): the generation is raised at every start of an engine and
 * lets replicas refuse an engine that was superseded; the revision is raised at every change of the members.
 *
 * Replicas of Longhorn know nothing of this; they are left out, and the order of things is then Longhorn's.
 *
 * @module
 */
import type { Completer, Io } from "../io/io.ts";
import { Feature, SUPERSEDED_TEXT } from "../wire/frame.ts";
import { ADOPT_RETRY_MS } from "./limits.ts";
import type { Link } from "./link.ts";

/** What the members record. */
export interface MemberRecord {
  /** Raised at every start of an engine; 1 for the first. */
  readonly generation: number;
  /** Raised at every change of the members within a generation. */
  readonly revision: number;
  /** Identifiers of the replicas whose copies are complete. */
  readonly members: readonly string[];
}

/** What the membership needs from the volume. */
export interface MembershipHost {
  /** Links in use (RW and WO), in order. */
  participants(): readonly Link[];
  /** Gives a replica up. Leads to {@linkcode Membership.change} again. */
  fail(link: Link, reason: string): void;
  /** The members are recorded: what was held may be acknowledged. */
  onRecorded(): void;
}

const RETRY = 0;

/** Keeps the record of members; see the module text. */
export class Membership implements Completer {
  #generation = 0;
  #revision = 0;
  /** Links that have not answered this round. */
  #pending = 0;
  #again = false;
  #settled = true;

  /**
   * Records nothing before `begin`.
   *
   * @param io for the retry timer
   */
  constructor(readonly io: Io, readonly host: MembershipHost) {}

  /** True when what is recorded is true: acknowledgements may go out. */
  get settled(): boolean {
    return this.#settled;
  }

  /** The present record. */
  get record(): MemberRecord {
    const members = this.host.participants().filter(keeps).filter((link) => link.mode === "RW").map((link) =>
      link.id
    );
    return { generation: this.#generation, revision: this.#revision, members };
  }

  /** Begins a generation: all members record it on both connections. */
  begin(generation: number): void {
    this.#generation = generation;
    this.#revision = 0;
    for (const link of this.host.participants()) link.rejoin();
    this.#start();
  }

  /** The set of complete replicas changed. */
  change(): void {
    if (this.#generation === 0) return;
    this.#settled = false;
    if (this.#pending !== 0) this.#again = true;
    else this.#start();
  }

  #start(): void {
    this.#settled = false;
    this.#again = false;
    this.#revision++;
    this.#pending = 0;
    const record = this.record;
    // A copy that is being filled is no member, but from now on copies can differ: replicas note dirty regions.
    const json = new TextEncoder().encode(
      JSON.stringify({ ...record, copies: this.host.participants().length }),
    );
    for (const link of this.host.participants()) {
      // With no complete copy there is nothing to record: the last record still names the one that was.
      if (!keeps(link) || record.members.length === 0) continue;
      if (link.adopting) {
        // Left over from a round that a failure cut short; this round starts again when it is answered.
        this.#again = true;
        this.#pending |= link.bit;
        continue;
      }
      this.#pending |= link.bit;
      link.adopt(json);
    }
    this.#advance();
  }

  /** A replica answered ADOPT. */
  onReply(link: Link, result: number, text: string): void {
    this.#pending &= ~link.bit;
    // Superseded: this will never be recorded, and what is held must not wait for it.
    const complete = this.host.participants().filter((one) => one.mode === "RW");
    const last = complete.length === 1 && complete[0] === link;
    if (result < 0 && (!last || text.includes(SUPERSEDED_TEXT))) {
      return this.host.fail(link, `cannot record the members: ${text}`);
    }
    if (result < 0) {
      // The last copy cannot record that it is the last (its disk errs, or is full and has no spare). Nothing may be acknowledged
      // until it can: the others would be believed at the next start.
      this.io.timer(ADOPT_RETRY_MS, this, RETRY);
      return;
    }
    this.#advance();
  }

  /** A link went down. The caller has taken it out of the set already. */
  onDown(link: Link): void {
    this.#pending &= ~link.bit;
    this.change();
  }

  #advance(): void {
    if (this.#pending !== 0) return;
    if (this.#again) return this.#start();
    this.#settled = true;
    this.host.onRecorded();
  }

  /** The retry timer. */
  complete(): void {
    if (this.#pending === 0 && !this.#settled) this.#start();
  }
}

function keeps(link: Link): boolean {
  return (link.features & Feature.GENERATION) !== 0;
}
