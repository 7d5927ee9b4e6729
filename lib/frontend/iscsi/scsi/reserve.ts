/**
 * PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE (SPC-4 sections 6.15 and 6.16, SPC-2 sections 7.20 to 7.23).
 *
 * @module
 */
import { Access, command, type CommandSpec } from "./command.ts";
import { reply } from "./reply.ts";
import { isType, Outcome, type Registration, ReservationType } from "./reservations.ts";
import { Asc, Key, NOTHING, Status } from "./sense.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

/** Service actions of PERSISTENT RESERVE IN, SPC-4 table 212. */
const In = { READ_KEYS: 0, READ_RESERVATION: 1, REPORT_CAPABILITIES: 2, READ_FULL_STATUS: 3 } as const;
/** Service actions of PERSISTENT RESERVE OUT, SPC-4 table 224. */
const Out = {
  REGISTER: 0,
  RESERVE: 1,
  RELEASE: 2,
  CLEAR: 3,
  PREEMPT: 4,
  PREEMPT_AND_ABORT: 5,
  REGISTER_AND_IGNORE: 6,
} as const;

/** Bytes of PERSISTENT RESERVE OUT's parameter list (SPC-4 table 226). */
const OUT_BYTES = 24;
/** Byte 20 there: specify initiator ports, all target ports, activate persist through power loss. */
const SPEC_I_PT = 0x08, ALL_TG_PT = 0x04, APTPL = 0x01;
/** Bytes of a full status descriptor before its TransportID. */
const STATUS_BYTES = 24;
/** TransportID of an initiator port of iSCSI: format 01b, protocol 5 (SPC-4 section 7.6.4.7). */
const TRANSPORT_ISCSI_PORT = 0x45;

function prepareIn(unit: LogicalUnit, task: Task): boolean {
  return refuseUnderLegacy(unit, task);
}

/** RESERVE of another nexus keeps persistent reservation commands out. */
function refuseUnderLegacy(unit: LogicalUnit, task: Task): boolean {
  if (!unit.reservations.legacyConflict(task.nexus)) return true;
  task.status = Status.RESERVATION_CONFLICT;
  return false;
}

function allocationLength(unit: LogicalUnit, task: Task): number {
  return unit.view.getUint16(task.cdb + 7);
}

function runReadKeys(unit: LogicalUnit, task: Task): void {
  const { registrations, generation } = unit.reservations;
  const bytes = 8 + 8 * registrations.length;
  const at = reply(unit, task, bytes, allocationLength(unit, task));
  if (at === NOTHING) return;
  unit.view.setUint32(at, generation);
  unit.view.setUint32(at + 4, bytes - 8);
  registrations.forEach((r, i) => unit.view.setBigUint64(at + 8 + 8 * i, r.key));
  unit.end(task);
}

function runReadReservation(unit: LogicalUnit, task: Task): void {
  const { type, generation, holderKey } = unit.reservations;
  const held = type !== ReservationType.NONE;
  const at = reply(unit, task, held ? 24 : 8, allocationLength(unit, task));
  if (at === NOTHING) return;
  unit.view.setUint32(at, generation);
  if (held) {
    unit.view.setUint32(at + 4, 16);
    unit.view.setBigUint64(at + 8, holderKey);
    unit.u8[at + 21] = type;
  }
  unit.end(task);
}

function runCapabilities(unit: LogicalUnit, task: Task): void {
  const at = reply(unit, task, 8, allocationLength(unit, task));
  if (at === NOTHING) return;
  unit.view.setUint16(at, 8);
  unit.u8[at + 3] = 0x80; // TMV: the mask below is valid
  unit.u8[at + 4] = 0xea; // types 7, 6, 5, 3, 1
  unit.u8[at + 5] = 0x01; // type 8
  unit.end(task);
}

function transportId(registration: Registration): Uint8Array {
  const name = new TextEncoder().encode(registration.port);
  const padded = Math.max((name.length + 4) & ~3, 20);
  const bytes = new Uint8Array(4 + padded);
  bytes[0] = TRANSPORT_ISCSI_PORT;
  bytes[2] = padded >> 8;
  bytes[3] = padded & 255;
  bytes.set(name, 4);
  return bytes;
}

function runFullStatus(unit: LogicalUnit, task: Task): void {
  const { reservations, view, u8 } = unit;
  const ids = reservations.registrations.map(transportId);
  const bytes = ids.reduce((sum, id) => sum + STATUS_BYTES + id.length, 8);
  const start = reply(unit, task, bytes, allocationLength(unit, task));
  if (start === NOTHING) return;
  view.setUint32(start, reservations.generation);
  view.setUint32(start + 4, bytes - 8);
  let at = start + 8;
  reservations.registrations.forEach((registration, i) => {
    view.setBigUint64(at, registration.key);
    if (reservations.holds(registration)) {
      u8[at + 12] = 0x01;
      u8[at + 13] = reservations.type;
    }
    view.setUint16(at + 18, 1); // relative target port identifier
    view.setUint32(at + 20, ids[i].length);
    u8.set(ids[i], at + STATUS_BYTES);
    at += STATUS_BYTES + ids[i].length;
  });
  unit.end(task);
}

// ---- PERSISTENT RESERVE OUT ------------------------------------------------------------------------------------

function prepareOut(unit: LogicalUnit, task: Task): boolean {
  if (!refuseUnderLegacy(unit, task)) return false;
  const action = unit.u8[task.cdb + 1] & 0x1f;
  const takesType = action === Out.RESERVE || action === Out.RELEASE || action === Out.PREEMPT ||
    action === Out.PREEMPT_AND_ABORT;
  const scopeType = unit.u8[task.cdb + 2];
  // Scope 0 is the logical unit, the only one there is.
  if (takesType && (scopeType >> 4 !== 0 || !isType(scopeType & 15))) return unit.invalidField(task, 2);
  task.outBytes = unit.view.getUint32(task.cdb + 5);
  if (task.outBytes === OUT_BYTES) return true;
  return unit.refuse(task, Key.ILLEGAL_REQUEST, Asc.PARAMETER_LIST_LENGTH);
}

function runOut(unit: LogicalUnit, task: Task): void {
  if (task.received < OUT_BYTES) return unit.fail(task, Key.ILLEGAL_REQUEST, Asc.PARAMETER_LIST_LENGTH);
  const { view } = unit, flags = unit.u8[task.buffer + 20];
  const action = unit.u8[task.cdb + 1] & 0x1f;
  const registers = action === Out.REGISTER || action === Out.REGISTER_AND_IGNORE;
  // None of these is announced by REPORT CAPABILITIES.
  if (flags & SPEC_I_PT || (registers && flags & (ALL_TG_PT | APTPL))) {
    return unit.fail(task, Key.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_PARAMETERS, 20);
  }
  const key = view.getBigUint64(task.buffer), actionKey = view.getBigUint64(task.buffer + 8);
  finish(unit, task, perform(unit, task, action, key, actionKey));
}

function perform(unit: LogicalUnit, task: Task, action: number, key: bigint, actionKey: bigint): number {
  const { reservations } = unit, { nexus } = task, type = unit.u8[task.cdb + 2] & 15;
  switch (action) {
    case Out.REGISTER:
      return reservations.register(nexus, key, actionKey);
    case Out.REGISTER_AND_IGNORE:
      return reservations.register(nexus, undefined, actionKey);
    case Out.RESERVE:
      return reservations.reserve(nexus, key, type);
    case Out.RELEASE:
      return reservations.release(nexus, key, type);
    case Out.CLEAR:
      return reservations.clear(nexus, key);
    default: {
      const removed: string[] = [];
      const outcome = reservations.preempt(nexus, key, actionKey, type, (port) => removed.push(port));
      if (action === Out.PREEMPT_AND_ABORT) {
        for (const other of unit.nexuses) if (removed.includes(other.port)) unit.abortTasksOf(other);
      }
      return outcome;
    }
  }
}

function finish(unit: LogicalUnit, task: Task, outcome: number): void {
  switch (outcome) {
    case Outcome.CONFLICT:
      task.status = Status.RESERVATION_CONFLICT;
      return unit.end(task);
    case Outcome.INVALID_RELEASE:
      return unit.fail(task, Key.ILLEGAL_REQUEST, Asc.INVALID_RELEASE);
    case Outcome.NO_RESOURCES:
      return unit.fail(task, Key.ILLEGAL_REQUEST, Asc.INSUFFICIENT_REGISTRATION_RESOURCES);
    case Outcome.BAD_KEY:
      return unit.fail(task, Key.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_PARAMETERS, 8);
    default:
      return unit.end(task);
  }
}

// ---- RESERVE and RELEASE ---------------------------------------------------------------------------------------

function runReserve(unit: LogicalUnit, task: Task): void {
  if (!unit.reservations.legacyReserve(task.nexus)) task.status = Status.RESERVATION_CONFLICT;
  unit.end(task);
}

function runRelease(unit: LogicalUnit, task: Task): void {
  if (!unit.reservations.legacyRelease(task.nexus)) task.status = Status.RESERVATION_CONFLICT;
  unit.end(task);
}

const USAGE_IN = "1f 0000000000 ffff 00";
const inParts = { access: Access.OWN, prepare: prepareIn };
const outParts = { access: Access.OWN, prepare: prepareOut, run: runOut };
const OUT_NAMES: readonly [number, string][] = [
  [Out.REGISTER, "REGISTER"],
  [Out.RESERVE, "RESERVE"],
  [Out.RELEASE, "RELEASE"],
  [Out.CLEAR, "CLEAR"],
  [Out.PREEMPT, "PREEMPT"],
  [Out.PREEMPT_AND_ABORT, "PREEMPT AND ABORT"],
  [Out.REGISTER_AND_IGNORE, "REGISTER AND IGNORE EXISTING KEY"],
];

/** The commands of this file. */
export const RESERVE_COMMANDS: readonly CommandSpec[] = [
  command(0x5e, "PERSISTENT RESERVE IN, READ KEYS", USAGE_IN, {
    ...inParts,
    action: In.READ_KEYS,
    run: runReadKeys,
  }),
  command(0x5e, "PERSISTENT RESERVE IN, READ RESERVATION", USAGE_IN, {
    ...inParts,
    action: In.READ_RESERVATION,
    run: runReadReservation,
  }),
  command(0x5e, "PERSISTENT RESERVE IN, REPORT CAPABILITIES", USAGE_IN, {
    ...inParts,
    action: In.REPORT_CAPABILITIES,
    run: runCapabilities,
  }),
  command(0x5e, "PERSISTENT RESERVE IN, READ FULL STATUS", USAGE_IN, {
    ...inParts,
    action: In.READ_FULL_STATUS,
    run: runFullStatus,
  }),
  ...OUT_NAMES.map(([action, name]) =>
    command(0x5f, `PERSISTENT RESERVE OUT, ${name}`, "1f ff 0000 ffffffff 00", { ...outParts, action })
  ),
  command(0x16, "RESERVE(6)", "00000000 00", { access: Access.OWN, run: runReserve }),
  command(0x56, "RESERVE(10)", "0000000000000000 00", { access: Access.OWN, run: runReserve }),
  command(0x17, "RELEASE(6)", "00000000 00", { access: Access.OWN, run: runRelease }),
  command(0x57, "RELEASE(10)", "0000000000000000 00", { access: Access.OWN, run: runRelease }),
];
