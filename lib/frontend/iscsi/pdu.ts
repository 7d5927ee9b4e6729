/**
 * The PDUs of iSCSI: opcodes, field offsets and codes (RFC 7143 chapter 11).
 *
 * Every PDU starts with a basic header segment (BHS) of 48 bytes:
 *
 * | bytes | field | guards against |
 * |---|---|---|
 * | 0 | bit 6 immediate, bits 5..0 opcode | |
 * | 1..3 | opcode specific, mostly flags | |
 * | 4 | length of the additional header segments, 4-byte words | losing the frame |
 * | 5..7 | length of the data segment, bytes, without padding | losing the frame; checked against what was announced |
 * | 8..15 | logical unit number or opcode specific | |
 * | 16..19 | initiator task tag | mixing up tasks |
 * | 20..23 | target transfer tag, or expected data transfer length | data for another request |
 * | 24..27 | CmdSN (to the target), StatSN (from it) | lost, repeated and reordered commands |
 * | 28..31 | ExpStatSN, ExpCmdSN | |
 * | 32..35 | MaxCmdSN (from the target) | more commands than the target has room for |
 * | 36..47 | opcode specific | |
 *
 * Then follow additional header segments, an optional header digest, the data segment padded to 4 bytes and an
 * optional data digest (padding included).
 *
 * @module
 */

/** Bytes of the basic header segment. */
export const BHS_BYTES = 48;
/** Bytes of a digest (CRC32C). */
export const DIGEST_BYTES = 4;

/** Opcodes, RFC 7143 section 11.2.1.2. */
export const Opcode = {
  NOP_OUT: 0x00,
  SCSI_COMMAND: 0x01,
  TASK_MANAGEMENT: 0x02,
  LOGIN: 0x03,
  TEXT: 0x04,
  DATA_OUT: 0x05,
  LOGOUT: 0x06,
  SNACK: 0x10,
  NOP_IN: 0x20,
  SCSI_RESPONSE: 0x21,
  TASK_MANAGEMENT_RESPONSE: 0x22,
  LOGIN_RESPONSE: 0x23,
  TEXT_RESPONSE: 0x24,
  DATA_IN: 0x25,
  LOGOUT_RESPONSE: 0x26,
  R2T: 0x31,
  ASYNC: 0x32,
  REJECT: 0x3f,
} as const;

/** Byte offsets in the BHS. One offset has several names where opcodes give it several meanings. */
export const Field = {
  OPCODE: 0,
  FLAGS: 1,
  RESPONSE: 2,
  STATUS: 3,
  AHS_WORDS: 4,
  DATA_LENGTH: 4,
  LUN: 8,
  ISID: 8,
  TSIH: 14,
  TASK_TAG: 16,
  TRANSFER_TAG: 20,
  EXPECTED_LENGTH: 20,
  REFERENCED_TAG: 20,
  CID: 20,
  CMD_SN: 24,
  STAT_SN: 24,
  EXP_STAT_SN: 28,
  EXP_CMD_SN: 28,
  MAX_CMD_SN: 32,
  CDB: 32,
  DATA_SN: 36,
  BUFFER_OFFSET: 40,
  RESIDUAL: 44,
  DESIRED_LENGTH: 44,
} as const;

/** Bit 6 of byte 0: an immediate command. */
export const IMMEDIATE = 0x40;
/** Bits of byte 0 that hold the opcode. */
export const OPCODE_MASK = 0x3f;
/** Bit 7 of byte 1: the last PDU of a sequence (or, at login, transit). */
export const FINAL = 0x80;
/** Bit 6 of byte 1 of login and text PDUs: the text goes on in the next one. */
export const CONTINUE = 0x40;
/** SCSI Command, byte 1: data flows to the initiator. */
export const READ_FLAG = 0x40;
/** SCSI Command, byte 1: data flows to the target. */
export const WRITE_FLAG = 0x20;
/** SCSI Response and Data-In, byte 1: the initiator expected less than there was. */
export const OVERFLOW = 0x04;
/** SCSI Response and Data-In, byte 1: the initiator expected more than there was. */
export const UNDERFLOW = 0x02;
/** Data-In, byte 1: this PDU carries the status. */
export const STATUS_FLAG = 0x01;
/** The tag that means "none". */
export const NO_TAG = 0xffffffff;

/** Task management functions, RFC 7143 section 11.5.1. */
export const TaskFunction = {
  ABORT_TASK: 1,
  ABORT_TASK_SET: 2,
  CLEAR_ACA: 3,
  CLEAR_TASK_SET: 4,
  LOGICAL_UNIT_RESET: 5,
  TARGET_WARM_RESET: 6,
  TARGET_COLD_RESET: 7,
  TASK_REASSIGN: 8,
} as const;

/** Task management responses, RFC 7143 section 11.6.1. */
export const FunctionResponse = {
  COMPLETE: 0,
  NO_TASK: 1,
  NO_LUN: 2,
  REASSIGN_NOT_SUPPORTED: 4,
  NOT_SUPPORTED: 5,
  REJECTED: 255,
} as const;

/** Reject reasons, RFC 7143 section 11.17.1. */
export const RejectReason = {
  DATA_DIGEST: 0x02,
  SNACK: 0x03,
  PROTOCOL_ERROR: 0x04,
  NOT_SUPPORTED: 0x05,
  TOO_MANY_IMMEDIATE: 0x06,
  TASK_IN_PROGRESS: 0x07,
  INVALID_FIELD: 0x09,
  OUT_OF_RESOURCES: 0x0a,
} as const;

/** Logout reasons and responses, RFC 7143 sections 11.14.1 and 11.15.1. */
export const Logout = {
  CLOSE_SESSION: 0,
  CLOSE_CONNECTION: 1,
  FOR_RECOVERY: 2,
  SUCCESS: 0,
  NO_CID: 1,
  NO_RECOVERY: 2,
} as const;

/** Async events, RFC 7143 section 11.9.1. */
export const AsyncEvent = { LOGOUT_REQUEST: 1, DROP_CONNECTION: 2, DROP_SESSION: 3 } as const;

/** True when `a` is before `b` in serial number arithmetic (RFC 1982, 32 bits). */
export function serialBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** Bytes that pad a data segment of `length` bytes to a multiple of 4. */
export function padding(length: number): number {
  return -length & 3;
}
