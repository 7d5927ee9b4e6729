/**
 * An I_T nexus: one initiator port as the logical unit sees it, with the unit attentions it has not been told
 * yet (SAM-5 section 5.14).
 *
 * @module
 */
import { Asc } from "./sense.ts";

/** Unit attentions in the order they are reported (SAM-5 table 51 puts resets first). */
const ATTENTIONS: readonly number[] = [
  Asc.POWER_ON,
  Asc.BUS_DEVICE_RESET,
  Asc.NEXUS_LOSS,
  Asc.COMMANDS_CLEARED,
  Asc.CAPACITY_CHANGED,
  Asc.MODE_PARAMETERS_CHANGED,
  Asc.RESERVATIONS_PREEMPTED,
  Asc.RESERVATIONS_RELEASED,
  Asc.REGISTRATIONS_PREEMPTED,
];

/** The conditions that a reset in front of them makes pointless: they are cleared with it. */
const RESETS = 0b111;

/** {@linkcode Nexus.conflictFrom} of a port that no reservation keeps out. */
export const NO_CONFLICT = 99;

/** One initiator port; see the module text. */
export class Nexus {
  /** Conditions not reported yet, one bit each. 0 = none: the hot path looks at nothing else. */
  attentions = 0;
  /** PREVENT ALLOW MEDIUM REMOVAL said prevent. */
  preventsRemoval = false;
  /** Commands of this kind of access and above conflict with a reservation; see `Access`. */
  conflictFrom: number = NO_CONFLICT;
  /** Name of the initiator port, RFC 7143 section 4.4.1: what reservations are kept under. */
  readonly port: string;

  /**
   * A port without conditions.
   *
   * @param initiatorName iSCSI name
   * @param isid initiator session id, 12 hexadecimal digits
   */
  constructor(readonly initiatorName: string, readonly isid: string) {
    this.port = `${initiatorName.toLowerCase()},i,0x${isid}`;
  }

  /** Notes a condition; it is reported once. */
  attend(asc: number): void {
    const bit = ATTENTIONS.indexOf(asc);
    if (bit >= 0) this.attentions |= 1 << bit;
  }

  /** The conditions not reported yet, as additional sense codes. */
  get pending(): number[] {
    return ATTENTIONS.filter((_, bit) => (this.attentions & (1 << bit)) !== 0);
  }

  /** Takes the condition to report next, as additional sense code; {@linkcode Asc.NONE} when there is none. */
  take(): number {
    if (this.attentions === 0) return Asc.NONE;
    const bit = 31 - Math.clz32(this.attentions & -this.attentions);
    this.attentions &= ~(1 << bit);
    if ((1 << bit) & RESETS) this.attentions &= ~RESETS;
    return ATTENTIONS[bit];
  }
}
