/**
 * Numbers of iSCSI (RFC 7143) and SCSI (SPC-4, SBC-3) as an initiator needs them. All integers on the wire are
 * big-endian. Kept apart from the target's table on purpose: a measuring client that shared it would agree with
 * a target's mistake.
 *
 * A PDU starts with a basic header segment of 48 bytes; a data segment, padded to 4 bytes, may follow. Offsets in
 * the header, by the PDUs that use them:
 *
 * | offset | bytes | what |
 * |---|---|---|
 * | 0 | 1 | opcode; 0x40: immediate |
 * | 1 | 1 | flags; 0x80: final (login: transit) |
 * | 2, 3 | 1 | SCSI Response: response and status; Data-In: 3 = status |
 * | 4 | 1 | additional header words, 0 here |
 * | 5 | 3 | length of the data segment |
 * | 8 | 8 | logical unit; login: ISID 6 and TSIH 2 |
 * | 16 | 4 | initiator task tag |
 * | 20 | 4 | target transfer tag; SCSI Command: expected length |
 * | 24 | 4 | CmdSN; from the target: StatSN |
 * | 28 | 4 | ExpStatSN; from the target: ExpCmdSN |
 * | 32 | 4 | from the target: MaxCmdSN; SCSI Command: CDB, 16 bytes |
 * | 36 | 4 | DataSN; Login Response: status class and detail |
 * | 40 | 4 | Data-In, Data-Out, R2T: offset in the transfer |
 * | 44 | 4 | R2T: desired length |
 *
 * @module
 */

/** Bytes of the basic header segment. */
export const BHS_BYTES = 48;

/** Opcodes of the initiator. */
export const NOP_OUT = 0x00;
/** See {@linkcode NOP_OUT}. */
export const SCSI_COMMAND = 0x01;
/** See {@linkcode NOP_OUT}. */
export const LOGIN_REQUEST = 0x03;
/** See {@linkcode NOP_OUT}. */
export const DATA_OUT = 0x05;
/** See {@linkcode NOP_OUT}. */
export const LOGOUT_REQUEST = 0x06;

/** Opcodes of the target. */
export const NOP_IN = 0x20;
/** See {@linkcode NOP_IN}. */
export const SCSI_RESPONSE = 0x21;
/** See {@linkcode NOP_IN}. */
export const LOGIN_RESPONSE = 0x23;
/** See {@linkcode NOP_IN}. */
export const DATA_IN = 0x25;
/** See {@linkcode NOP_IN}. */
export const LOGOUT_RESPONSE = 0x26;
/** See {@linkcode NOP_IN}. */
export const R2T = 0x31;
/** See {@linkcode NOP_IN}. */
export const ASYNC_MESSAGE = 0x32;
/** See {@linkcode NOP_IN}. */
export const REJECT = 0x3f;

/** Bit of the opcode byte: outside the order of commands. */
export const IMMEDIATE = 0x40;
/** Bits of the opcode byte that are the opcode. */
export const OPCODE_MASK = 0x3f;
/** Flag: final, or transit. */
export const FINAL = 0x80;
/** Flag of a SCSI Command: data comes to us. */
export const READ_FLAG = 0x40;
/** Flag of a SCSI Command: data goes to the target. */
export const WRITE_FLAG = 0x20;
/** Attribute of a SCSI Command: simple, the target may reorder. */
export const SIMPLE_TASK = 0x01;
/** Flag of Data-In: it carries the status. */
export const STATUS_FLAG = 0x01;
/** The tag that means none. */
export const NO_TAG = 0xffffffff;

/** Stage of a login: security. */
export const STAGE_SECURITY = 0;
/** Stage of a login: operational parameters. */
export const STAGE_OPERATIONAL = 1;
/** Stage after a login: full feature. */
export const STAGE_FULL_FEATURE = 3;

/** SCSI operation codes. */
export const TEST_UNIT_READY = 0x00;
/** See {@linkcode TEST_UNIT_READY}. */
export const READ_10 = 0x28;
/** See {@linkcode TEST_UNIT_READY}. */
export const WRITE_10 = 0x2a;
/** See {@linkcode TEST_UNIT_READY}. */
export const READ_16 = 0x88;
/** See {@linkcode TEST_UNIT_READY}. */
export const WRITE_16 = 0x8a;
/** See {@linkcode TEST_UNIT_READY}. Service action READ CAPACITY (16) in byte 1. */
export const SERVICE_ACTION_IN_16 = 0x9e;
/** Service action of {@linkcode SERVICE_ACTION_IN_16}. */
export const READ_CAPACITY_16 = 0x10;
/** Bytes that READ CAPACITY (16) returns. */
export const CAPACITY_BYTES = 32;

/** SCSI status: good. */
export const GOOD = 0;
/** SCSI status: sense data tells more. */
export const CHECK_CONDITION = 2;
/** Sense key: something about the unit changed, such as its power. */
export const UNIT_ATTENTION = 6;

/** Largest data segment that we take, bytes; what Linux' initiator announces. */
export const MAX_RECEIVE_BYTES = 256 * 1024;
/** Largest burst that we propose, bytes; what Linux' initiator proposes. */
export const MAX_BURST_BYTES = 16776192;
/** Largest first burst that we propose, bytes; likewise. */
export const FIRST_BURST_BYTES = 256 * 1024;
/** Data segments above this are taken for an attack, except in Data-In; bytes. */
export const MAX_TEXT_BYTES = 16 * 1024;

/** True when `a` is after `b` in serial number arithmetic (RFC 1982, 32 bits). */
export function serialAfter(a: number, b: number): boolean {
  return ((b - a) | 0) < 0;
}
