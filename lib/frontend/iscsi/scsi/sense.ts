/**
 * Statuses and sense data: how a command tells what became of it (SAM-5 section 5.3, SPC-4 section 4.5).
 *
 * @module
 */

/** Status codes, SAM-5 table 40. */
export const Status = {
  GOOD: 0x00,
  CHECK_CONDITION: 0x02,
  CONDITION_MET: 0x04,
  BUSY: 0x08,
  RESERVATION_CONFLICT: 0x18,
  TASK_SET_FULL: 0x28,
  TASK_ABORTED: 0x40,
} as const;

/** Sense keys, SPC-4 table 53. */
export const Key = {
  NO_SENSE: 0x0,
  NOT_READY: 0x2,
  MEDIUM_ERROR: 0x3,
  HARDWARE_ERROR: 0x4,
  ILLEGAL_REQUEST: 0x5,
  UNIT_ATTENTION: 0x6,
  DATA_PROTECT: 0x7,
  ABORTED_COMMAND: 0xb,
  MISCOMPARE: 0xe,
} as const;

/** Additional sense codes with their qualifiers (code << 8 | qualifier), SPC-4 annex F.2. */
export const Asc = {
  NONE: 0x0000,
  NOT_READY_STOPPED: 0x0402,
  WRITE_ERROR: 0x0c00,
  UNEXPECTED_UNSOLICITED_DATA: 0x0c0c,
  NOT_ENOUGH_UNSOLICITED_DATA: 0x0c0d,
  INVALID_FIELD_IN_INFORMATION_UNIT: 0x0e03,
  UNRECOVERED_READ_ERROR: 0x1100,
  PARAMETER_LIST_LENGTH: 0x1a00,
  MISCOMPARE: 0x1d00,
  INVALID_OPCODE: 0x2000,
  LBA_OUT_OF_RANGE: 0x2100,
  INVALID_FIELD_IN_CDB: 0x2400,
  LUN_NOT_SUPPORTED: 0x2500,
  INVALID_FIELD_IN_PARAMETERS: 0x2600,
  PARAMETER_NOT_SUPPORTED: 0x2601,
  PARAMETER_VALUE_INVALID: 0x2602,
  INVALID_RELEASE: 0x2604,
  WRITE_PROTECTED: 0x2700,
  SOFTWARE_WRITE_PROTECTED: 0x2702,
  SPACE_ALLOCATION_FAILED: 0x2707,
  POWER_ON: 0x2900,
  BUS_DEVICE_RESET: 0x2903,
  NEXUS_LOSS: 0x2907,
  MODE_PARAMETERS_CHANGED: 0x2a01,
  RESERVATIONS_PREEMPTED: 0x2a03,
  RESERVATIONS_RELEASED: 0x2a04,
  REGISTRATIONS_PREEMPTED: 0x2a05,
  CAPACITY_CHANGED: 0x2a09,
  COMMANDS_CLEARED: 0x2f00,
  SAVING_NOT_SUPPORTED: 0x3900,
  INTERNAL_TARGET_FAILURE: 0x4400,
  DATA_PHASE_ERROR: 0x4b00,
  INSUFFICIENT_REGISTRATION_RESOURCES: 0x5504,
} as const;

/** Bytes of sense data in the fixed format. */
export const FIXED_SENSE_BYTES = 18;
/** Bytes of the longest sense data written here: descriptor format with information and sense key specific. */
export const MAX_SENSE_BYTES = 28;

/** No field pointer, no information. */
export const NOTHING = -1 as number;

/** What a failed command has to say. */
export interface Sense {
  /** One of {@linkcode Key}. */
  readonly senseKey: number;
  /** One of {@linkcode Asc}. */
  readonly asc: number;
  /** A logical block address or byte offset of interest; {@linkcode NOTHING} for none. */
  readonly information: number;
  /**
   * Byte of the CDB or parameter list that is wrong; {@linkcode NOTHING} for none. Which of the two follows
   * from the additional sense code.
   */
  readonly field: number;
}

/** SKSV, C/D as SPC-4 table 55: bit 7 valid, bit 6 set when the field lies in the CDB. */
function fieldFlags(asc: number): number {
  return asc === Asc.INVALID_FIELD_IN_PARAMETERS || asc === Asc.PARAMETER_VALUE_INVALID ||
      asc === Asc.PARAMETER_NOT_SUPPORTED || asc === Asc.INVALID_RELEASE
    ? 0x80
    : 0xc0;
}

/**
 * Writes sense data.
 *
 * @param descriptor the format of the control mode page's D_SENSE bit: descriptor (true) or fixed
 * @param at where, with room for {@linkcode MAX_SENSE_BYTES}
 * @returns its length in bytes
 */
export function writeSense(u8: Uint8Array, at: number, sense: Sense, descriptor: boolean): number {
  return descriptor ? writeDescriptor(u8, at, sense) : writeFixed(u8, at, sense);
}

/** SPC-4 section 4.5.3: response code 70h; information has 32 bits, larger values are left out. */
function writeFixed(u8: Uint8Array, at: number, sense: Sense): number {
  u8.fill(0, at, at + FIXED_SENSE_BYTES);
  u8[at] = 0x70;
  u8[at + 2] = sense.senseKey;
  u8[at + 7] = FIXED_SENSE_BYTES - 8;
  u8[at + 12] = sense.asc >> 8;
  u8[at + 13] = sense.asc & 255;
  const information = sense.information;
  if (information >= 0 && information <= 0xffffffff) {
    u8[at] |= 0x80; // VALID
    for (let i = 0; i < 4; i++) u8[at + 3 + i] = information >>> (24 - 8 * i);
  }
  if (sense.field >= 0) {
    u8[at + 15] = fieldFlags(sense.asc);
    u8[at + 16] = sense.field >> 8;
    u8[at + 17] = sense.field & 255;
  }
  return FIXED_SENSE_BYTES;
}

/** SPC-4 section 4.5.2: response code 72h, then descriptors. */
function writeDescriptor(u8: Uint8Array, at: number, sense: Sense): number {
  u8.fill(0, at, at + MAX_SENSE_BYTES);
  u8[at] = 0x72;
  u8[at + 1] = sense.senseKey;
  u8[at + 2] = sense.asc >> 8;
  u8[at + 3] = sense.asc & 255;
  let end = 8;
  if (sense.information >= 0) {
    u8[at + end] = 0x00;
    u8[at + end + 1] = 0x0a;
    u8[at + end + 2] = 0x80;
    let rest = sense.information;
    for (let i = 7; i >= 0; i--) {
      u8[at + end + 4 + i] = rest % 256;
      rest = Math.floor(rest / 256);
    }
    end += 12;
  }
  if (sense.field >= 0) {
    u8[at + end] = 0x02;
    u8[at + end + 1] = 0x06;
    u8[at + end + 4] = fieldFlags(sense.asc);
    u8[at + end + 5] = sense.field >> 8;
    u8[at + end + 6] = sense.field & 255;
    end += 8;
  }
  u8[at + 7] = end - 8;
  return end;
}
