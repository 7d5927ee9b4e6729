/**
 * Commands that report or switch something small: TEST UNIT READY, REQUEST SENSE, REPORT LUNS, the reports of
 * supported operations and functions, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL, READ DEFECT DATA.
 *
 * @module
 */
import { Access, command, type CommandSpec, NO_ACTION } from "./command.ts";
import { reply } from "./reply.ts";
import { Asc, Key, MAX_SENSE_BYTES, NOTHING, writeSense } from "./sense.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

function runReady(unit: LogicalUnit, task: Task): void {
  unit.end(task);
}

// ---- REQUEST SENSE: sense data as data; the status is always GOOD (SPC-4 section 6.39). ----------------------

function runRequestSense(unit: LogicalUnit, task: Task): void {
  const at = reply(unit, task, MAX_SENSE_BYTES, unit.u8[task.cdb + 4]);
  if (at === NOTHING) return;
  const asc = task.lunKnown ? task.nexus.take() : Asc.LUN_NOT_SUPPORTED;
  const senseKey = !task.lunKnown
    ? Key.ILLEGAL_REQUEST
    : asc === Asc.NONE
    ? Key.NO_SENSE
    : Key.UNIT_ATTENTION;
  const sense = { senseKey, asc, information: NOTHING, field: NOTHING };
  const bytes = writeSense(unit.u8, at, sense, (unit.u8[task.cdb + 1] & 1) === 1);
  task.inBytes = Math.min(bytes, unit.u8[task.cdb + 4]);
  unit.end(task);
}

// ---- REPORT LUNS (SPC-4 section 6.33) ------------------------------------------------------------------------

/** SELECT REPORT values that include plain logical units. */
const WITH_UNITS: ReadonlySet<number> = new Set([0x00, 0x02]);
const ONLY_WELL_KNOWN = 0x01;

function prepareLuns(unit: LogicalUnit, task: Task): boolean {
  const select = unit.u8[task.cdb + 2];
  if (!WITH_UNITS.has(select) && select !== ONLY_WELL_KNOWN) return unit.invalidField(task, 2);
  return unit.view.getUint32(task.cdb + 6) < 16 ? unit.invalidField(task, 6) : true;
}

function runLuns(unit: LogicalUnit, task: Task): void {
  const at = reply(unit, task, 16, unit.view.getUint32(task.cdb + 6));
  if (at === NOTHING) return;
  if (WITH_UNITS.has(unit.u8[task.cdb + 2])) {
    unit.view.setUint32(at, 8);
    writeLun(unit.u8, at + 8, unit.identity.lun);
  } else task.inBytes = Math.min(task.inBytes, 8);
  unit.end(task);
}

/** Single level LUN structure: peripheral device addressing below 256, flat space above (SAM-5 section 4.7). */
export function writeLun(u8: Uint8Array, at: number, lun: number): void {
  u8.fill(0, at, at + 8);
  u8[at] = lun < 256 ? 0 : 0x40 | (lun >> 8);
  u8[at + 1] = lun & 255;
}

// ---- REPORT SUPPORTED OPERATION CODES (SPC-4 section 6.35) -----------------------------------------------------

const ReportingOptions = { ALL: 0, ONE: 1, ONE_WITH_ACTION: 2, ONE_OR_ACTION: 3 } as const;
/** RCTD: return command time-outs descriptors. */
const RCTD = 0x80;
const TIMEOUTS_BYTES = 12;
/** CTDP in a command's entry: its time-outs descriptor follows. */
const CTDP = 0x02, SERVACTV = 0x01;

function prepareOpcodes(unit: LogicalUnit, task: Task): boolean {
  const { u8, view } = unit, options = u8[task.cdb + 2] & 7;
  if (options > ReportingOptions.ONE_OR_ACTION) return unit.invalidField(task, 2);
  const opcode = u8[task.cdb + 3], actions = unit.table.hasActions(opcode);
  // Asking for an opcode as if it had no service actions, or the other way round, is an error.
  if (options === ReportingOptions.ONE && actions) return unit.invalidField(task, 2);
  if (options === ReportingOptions.ONE_WITH_ACTION && unit.table.knows(opcode) && !actions) {
    return unit.invalidField(task, 2);
  }
  return view.getUint32(task.cdb + 6) < 4 ? unit.invalidField(task, 6) : true;
}

function runOpcodes(unit: LogicalUnit, task: Task): void {
  const { u8 } = unit, options = u8[task.cdb + 2];
  if ((options & 7) === ReportingOptions.ALL) allOpcodes(unit, task, (options & RCTD) !== 0);
  else oneOpcode(unit, task, (options & RCTD) !== 0);
}

function allOpcodes(unit: LogicalUnit, task: Task, timeouts: boolean): void {
  const { u8, view, table } = unit;
  const entryBytes = 8 + (timeouts ? TIMEOUTS_BYTES : 0);
  const bytes = 4 + table.all.length * entryBytes;
  let at = reply(unit, task, bytes, view.getUint32(task.cdb + 6));
  if (at === NOTHING) return;
  view.setUint32(at, bytes - 4);
  at += 4;
  for (const spec of table.all) {
    u8[at] = spec.opcode;
    if (spec.action !== NO_ACTION) {
      view.setUint16(at + 2, spec.action);
      u8[at + 5] |= SERVACTV;
    }
    if (timeouts) {
      u8[at + 5] |= CTDP;
      writeTimeouts(view, at + 8, spec);
    }
    view.setUint16(at + 6, spec.usage.length);
    at += entryBytes;
  }
  unit.end(task);
}

function writeTimeouts(view: DataView, at: number, spec: CommandSpec): void {
  view.setUint16(at, TIMEOUTS_BYTES - 2);
  view.setUint32(at + 4, spec.nominalSeconds);
  view.setUint32(at + 8, spec.recommendedSeconds);
}

/** SUPPORT: not supported; supported as the standard says. CTDP is bit 7 here. */
const UNSUPPORTED = 1, SUPPORTED = 3, CTDP_ONE = 0x80;

function oneOpcode(unit: LogicalUnit, task: Task, timeouts: boolean): void {
  const { u8, view } = unit;
  const at = reply(unit, task, 64, view.getUint32(task.cdb + 6));
  if (at === NOTHING) return;
  const action = view.getUint16(task.cdb + 4);
  const options = u8[task.cdb + 2] & 7;
  let spec = action < 32 ? unit.table.find(u8[task.cdb + 3], action) : undefined;
  if (options === ReportingOptions.ONE_OR_ACTION && spec?.action === NO_ACTION && action !== 0) {
    spec = undefined;
  }
  let bytes = 4;
  u8[at + 1] = UNSUPPORTED;
  if (spec) {
    u8[at + 1] = SUPPORTED;
    view.setUint16(at + 2, spec.usage.length);
    u8.set(spec.usage, at + 4);
    u8[at + 4] = spec.opcode;
    if (spec.action !== NO_ACTION) writeActionUsage(view, at + 4, spec);
    bytes += spec.usage.length;
    if (timeouts) {
      u8[at + 1] |= CTDP_ONE;
      writeTimeouts(view, at + bytes, spec);
      bytes += TIMEOUTS_BYTES;
    }
  }
  task.inBytes = Math.min(bytes, view.getUint32(task.cdb + 6));
  unit.end(task);
}

/** The usage bitmap holds the service action itself where the CDB holds it. */
function writeActionUsage(view: DataView, at: number, spec: CommandSpec): void {
  view.setUint8(at + 1, (spec.usage[1] & ~0x1f) | spec.action);
}

/** SPC-4 section 6.36: abort task, abort task set, clear task set, logical unit reset, target reset. */
function runFunctions(unit: LogicalUnit, task: Task): void {
  const repd = (unit.u8[task.cdb + 2] & 0x80) !== 0;
  const at = reply(unit, task, repd ? 16 : 4, unit.view.getUint32(task.cdb + 6));
  if (at === NOTHING) return;
  unit.u8[at] = 0xda; // ATS, ATSS, CTSS, LURS, TRS
  if (repd) unit.u8[at + 3] = 0x0c;
  unit.end(task);
}

// ---- switches ------------------------------------------------------------------------------------------------

/** The disk always runs; a request to stop or to change power is accepted and changes nothing. */
function prepareStartStop(unit: LogicalUnit, task: Task): boolean {
  const flags = unit.u8[task.cdb + 4];
  if (flags & 0x02) return unit.invalidField(task, 4); // LOEJ: there is no medium to eject
  return true;
}

function runPrevent(unit: LogicalUnit, task: Task): void {
  task.nexus.preventsRemoval = (unit.u8[task.cdb + 4] & 1) === 1;
  unit.end(task);
}

/** There are no defects to report (SBC-3 sections 5.17 and 5.18). */
function runDefects(unit: LogicalUnit, task: Task): void {
  const twelve = unit.u8[task.cdb] === 0xb7;
  const allocation = twelve ? unit.view.getUint32(task.cdb + 6) : unit.view.getUint16(task.cdb + 7);
  const at = reply(unit, task, twelve ? 8 : 4, allocation);
  if (at === NOTHING) return;
  unit.u8[at + 1] = unit.u8[task.cdb + (twelve ? 1 : 2)] & 0x1f; // lists asked for, and their format
  unit.end(task);
}

const always = { access: Access.ALWAYS };

/** The commands of this file. */
export const REPORT_COMMANDS: readonly CommandSpec[] = [
  command(0x00, "TEST UNIT READY", "00000000 00", { access: Access.STATUS, run: runReady }),
  command(0x03, "REQUEST SENSE", "01 0000 ff 00", { ...always, passesAttention: true, run: runRequestSense }),
  command(0xa0, "REPORT LUNS", "00 ff 000000 ffffffff 00 00", {
    ...always,
    passesAttention: true,
    prepare: prepareLuns,
    run: runLuns,
  }),
  command(0xa3, "REPORT SUPPORTED OPERATION CODES", "1f 87 ff ffff ffffffff 00 00", {
    action: 0x0c,
    access: Access.STATUS,
    prepare: prepareOpcodes,
    run: runOpcodes,
  }),
  command(0xa3, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", "1f 80 000000 ffffffff 00 00", {
    action: 0x0d,
    access: Access.STATUS,
    run: runFunctions,
  }),
  command(0x1b, "START STOP UNIT", "01 00 0f f7 00", {
    access: Access.STATUS,
    prepare: prepareStartStop,
    run: runReady,
  }),
  command(0x1e, "PREVENT ALLOW MEDIUM REMOVAL", "000000 03 00", { access: Access.STATUS, run: runPrevent }),
  command(0x37, "READ DEFECT DATA(10)", "00 1f 00000000 ffff 00", { access: Access.READ, run: runDefects }),
  command(0xb7, "READ DEFECT DATA(12)", "1f ffffffff ffffffff 00 00", {
    access: Access.READ,
    run: runDefects,
  }),
];
