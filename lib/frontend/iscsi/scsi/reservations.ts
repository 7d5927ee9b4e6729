/**
 * Who holds the disk: persistent reservations (SPC-4 section 5.13) and RESERVE/RELEASE (SPC-2 section 5.5), kept
 * in memory as long as the target runs. Registrations belong to initiator ports by name and outlive sessions.
 *
 * Every change is turned at once into one number per nexus (`conflictFrom`), so that a command costs one
 * comparison.
 *
 * @module
 */
import { Access } from "./command.ts";
import { type Nexus, NO_CONFLICT } from "./nexus.ts";
import { Asc } from "./sense.ts";

/** Types of persistent reservations, SPC-4 table 64. */
export const ReservationType = {
  NONE: 0,
  WRITE_EXCLUSIVE: 1,
  EXCLUSIVE_ACCESS: 3,
  WRITE_EXCLUSIVE_REGISTRANTS: 5,
  EXCLUSIVE_ACCESS_REGISTRANTS: 6,
  WRITE_EXCLUSIVE_ALL: 7,
  EXCLUSIVE_ACCESS_ALL: 8,
} as const;

/** Most registered initiator ports. */
export const MAX_REGISTRATIONS = 64;

/** A registered initiator port. */
export interface Registration {
  /** Name of the initiator port. */
  readonly port: string;
  /** The reservation key, 64 bits. */
  key: bigint;
}

/** The reservations of a disk as JSON. Keys are hexadecimal; ports are empty where there is nobody. */
export interface ReservationState {
  /** See {@linkcode Reservations.generation}. */
  readonly generation: number;
  /** See {@linkcode Reservations.type}. */
  readonly type: number;
  /** Registered ports, oldest first. */
  readonly registrations: readonly { readonly port: string; readonly key: string }[];
  /** Who holds the persistent reservation. */
  readonly holder: string;
  /** Who did RESERVE. */
  readonly legacy: string;
}

/** True for the six types there are. */
export function isType(type: number): boolean {
  return type === 1 || type === 3 || (type >= 5 && type <= 8);
}

/** True when every registrant holds the reservation. */
function isAll(type: number): boolean {
  return type === ReservationType.WRITE_EXCLUSIVE_ALL || type === ReservationType.EXCLUSIVE_ACCESS_ALL;
}

function isWriteExclusive(type: number): boolean {
  return type === ReservationType.WRITE_EXCLUSIVE || type === ReservationType.WRITE_EXCLUSIVE_REGISTRANTS ||
    type === ReservationType.WRITE_EXCLUSIVE_ALL;
}

/** What a request ends with. */
export const Outcome = { DONE: 0, CONFLICT: 1, INVALID_RELEASE: 2, NO_RESOURCES: 3, BAD_KEY: 4 } as const;

/** The reservations of one disk. */
export class Reservations {
  /** PRgeneration: counts changes of registrations. */
  generation = 0;
  /** Registered ports, oldest first. */
  readonly registrations: Registration[] = [];
  /** Type of the persistent reservation. */
  type: number = ReservationType.NONE;
  #holder: Registration | undefined;
  /** The nexus that did RESERVE. */
  #legacy: Nexus | undefined;

  /**
   * Nothing is reserved.
   *
   * @param nexuses those logged in, kept by the owner
   */
  constructor(readonly nexuses: readonly Nexus[]) {}

  /** Registration of a port. */
  find(nexus: Nexus): Registration | undefined {
    return this.registrations.find((r) => r.port === nexus.port);
  }

  /** True when this registration holds the reservation. */
  holds(registration: Registration): boolean {
    return this.type !== ReservationType.NONE && (isAll(this.type) || this.#holder === registration);
  }

  /** The key READ RESERVATION shows; 0 when all registrants hold it. */
  get holderKey(): bigint {
    return isAll(this.type) ? 0n : this.#holder?.key ?? 0n;
  }

  /** REGISTER, and REGISTER AND IGNORE EXISTING KEY with `current` undefined. */
  register(nexus: Nexus, current: bigint | undefined, key: bigint): number {
    const own = this.find(nexus);
    if (current !== undefined && current !== (own?.key ?? 0n)) return Outcome.CONFLICT;
    if (!own && key !== 0n) {
      if (this.registrations.length === MAX_REGISTRATIONS) return Outcome.NO_RESOURCES;
      this.registrations.push({ port: nexus.port, key });
    } else if (own && key !== 0n) own.key = key;
    else if (own) this.#unregister(own);
    else return Outcome.DONE;
    return this.#changed();
  }

  /** A holder that unregisters releases; with an all-registrants type the last one does. */
  #unregister(own: Registration): void {
    const at = this.registrations.indexOf(own);
    this.registrations.splice(at, 1);
    if (this.#holder !== own) return;
    if (isAll(this.type) && this.registrations.length > 0) {
      this.#holder = this.registrations[0];
      return;
    }
    const type = this.type;
    this.#release();
    if (type >= ReservationType.WRITE_EXCLUSIVE_REGISTRANTS) {
      this.#attendRegistered(Asc.RESERVATIONS_RELEASED);
    }
  }

  #release(): void {
    this.type = ReservationType.NONE;
    this.#holder = undefined;
  }

  /** RESERVE. */
  reserve(nexus: Nexus, key: bigint, type: number): number {
    const own = this.find(nexus);
    if (!own || own.key !== key) return Outcome.CONFLICT;
    if (this.type !== ReservationType.NONE) {
      return this.holds(own) && this.type === type ? Outcome.DONE : Outcome.CONFLICT;
    }
    this.type = type;
    this.#holder = own;
    this.refresh();
    return Outcome.DONE;
  }

  /** RELEASE. */
  release(nexus: Nexus, key: bigint, type: number): number {
    const own = this.find(nexus);
    if (!own || own.key !== key) return Outcome.CONFLICT;
    if (!this.holds(own)) return Outcome.DONE;
    if (this.type !== type) return Outcome.INVALID_RELEASE;
    this.#release();
    if (type >= ReservationType.WRITE_EXCLUSIVE_REGISTRANTS) {
      this.#attendRegistered(Asc.RESERVATIONS_RELEASED, own);
    }
    this.refresh();
    return Outcome.DONE;
  }

  /** CLEAR: no registrations, no reservation. */
  clear(nexus: Nexus, key: bigint): number {
    const own = this.find(nexus);
    if (!own || own.key !== key) return Outcome.CONFLICT;
    this.#attendRegistered(Asc.RESERVATIONS_PREEMPTED, own);
    this.registrations.length = 0;
    this.#release();
    return this.#changed();
  }

  /**
   * PREEMPT.
   * @param removed is told every port that lost its registration, for PREEMPT AND ABORT
   */
  preempt(nexus: Nexus, key: bigint, victim: bigint, type: number, removed: (port: string) => void): number {
    const own = this.find(nexus);
    if (!own || own.key !== key) return Outcome.CONFLICT;
    const all = isAll(this.type);
    const reserved = this.type !== ReservationType.NONE;
    const takesOver = reserved && (all ? victim === 0n : this.#holder?.key === victim);
    if (victim === 0n && !(reserved && all)) return Outcome.BAD_KEY;
    const losers = this.registrations.filter((r) =>
      r !== own && (r.key === victim || (all && victim === 0n))
    );
    // Own key: nobody else loses anything, but it must at least exist.
    if (losers.length === 0 && !takesOver && own.key !== victim) return Outcome.CONFLICT;
    for (const loser of losers) {
      this.registrations.splice(this.registrations.indexOf(loser), 1);
      this.#attendPort(loser.port, Asc.REGISTRATIONS_PREEMPTED);
      removed(loser.port);
    }
    if (takesOver) {
      if (this.type !== type && this.type >= ReservationType.WRITE_EXCLUSIVE_REGISTRANTS) {
        this.#attendRegistered(Asc.RESERVATIONS_RELEASED, own);
      }
      this.type = type;
      this.#holder = own;
    } else if (this.#holder && !this.registrations.includes(this.#holder)) {
      this.#holder = this.registrations[0];
    }
    return this.#changed();
  }

  #changed(): number {
    this.generation = (this.generation + 1) >>> 0;
    this.refresh();
    return Outcome.DONE;
  }

  #attendPort(port: string, asc: number): void {
    for (const nexus of this.nexuses) if (nexus.port === port) nexus.attend(asc);
  }

  #attendRegistered(asc: number, except?: Registration): void {
    for (const r of this.registrations) if (r !== except) this.#attendPort(r.port, asc);
  }

  // ---- RESERVE(6), RELEASE(6) and the 10-byte ones ---------------------------------------------------------

  /**
   * RESERVE.
   *
   * @returns false when another nexus has it, or persistent reservations are in use
   */
  legacyReserve(nexus: Nexus): boolean {
    if (this.registrations.length > 0 || (this.#legacy && this.#legacy !== nexus)) return false;
    this.#legacy = nexus;
    this.refresh();
    return true;
  }

  /** Releases; from a nexus that does not hold it nothing happens. @returns false as above */
  legacyRelease(nexus: Nexus): boolean {
    if (this.registrations.length > 0) return false;
    if (this.#legacy === nexus) {
      this.#legacy = undefined;
      this.refresh();
    }
    return true;
  }

  /** True when RESERVE of another nexus is in force: then even persistent reservation commands conflict. */
  legacyConflict(nexus: Nexus): boolean {
    return this.#legacy !== undefined && this.#legacy !== nexus;
  }

  /** A nexus is gone: its RESERVE with it. */
  nexusLost(nexus: Nexus): void {
    if (this.#legacy === nexus) this.#legacy = undefined;
    this.refresh();
  }

  /** A logical unit reset ends RESERVE; persistent reservations stay (SPC-4 section 5.13.5). */
  reset(): void {
    this.#legacy = undefined;
    this.refresh();
  }

  // ---- from one process to the next ------------------------------------------------------------------------

  /** Everything, for {@linkcode restore} in another process. */
  save(): ReservationState {
    const { generation, type } = this;
    const registrations = this.registrations.map(({ port, key }) => ({ port, key: key.toString(16) }));
    const holder = this.#holder?.port ?? "", legacy = this.#legacy?.port ?? "";
    return { generation, type, registrations, holder, legacy };
  }

  /** Takes over what another process had. The nexuses are there already. */
  restore(state: ReservationState): void {
    this.generation = state.generation;
    this.registrations.length = 0;
    for (const { port, key } of state.registrations) {
      this.registrations.push({ port, key: BigInt(`0x${key}`) });
    }
    this.#holder = this.registrations.find((r) => r.port === state.holder);
    this.type = this.#holder && isType(state.type) ? state.type : ReservationType.NONE;
    this.#legacy = this.nexuses.find((nexus) => nexus.port === state.legacy);
    this.refresh();
  }

  /** Works out for every nexus what conflicts. */
  refresh(): void {
    for (const nexus of this.nexuses) nexus.conflictFrom = this.#conflictFrom(nexus);
  }

  #conflictFrom(nexus: Nexus): number {
    if (this.legacyConflict(nexus)) return Access.STATUS;
    if (this.type === ReservationType.NONE) return NO_CONFLICT;
    const own = this.find(nexus);
    if (own && (this.holds(own) || this.type >= ReservationType.WRITE_EXCLUSIVE_REGISTRANTS)) {
      return NO_CONFLICT;
    }
    return isWriteExclusive(this.type) ? Access.WRITE : Access.READ;
  }
}
