/**
 * MODE SENSE and MODE SELECT, 6 and 10 bytes (SPC-4 sections 6.9 to 6.12).
 *
 * @module
 */
import { SECTOR_BYTES } from "../../../block/device.ts";
import { setUint64 } from "./cdb.ts";
import { Access, command, type CommandSpec } from "./command.ts";
import { PageControl } from "./mode_pages.ts";
import { reply } from "./reply.ts";
import { Asc, Key, NOTHING } from "./sense.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

/** A buffer for all pages, header and block descriptor. */
const SENSE_BYTES = 256;
/** Page code and subpage code that mean "all". */
const ALL_PAGES = 0x3f;
const ALL_SUBPAGES = 0xff;
/** Device-specific parameter (SBC-3 section 6.5.1): write protected; DPO and FUA are supported. */
const WP = 0x80, DPOFUA = 0x10;
/** Byte 1: no block descriptor; long block descriptor (10-byte command only). */
const DBD = 0x08, LLBAA = 0x10;

function isTen(unit: LogicalUnit, task: Task): boolean {
  return unit.u8[task.cdb] >= 0x40;
}

function prepareSense(unit: LogicalUnit, task: Task): boolean {
  const { u8 } = unit, code = u8[task.cdb + 2] & 0x3f, subpage = u8[task.cdb + 3];
  if (u8[task.cdb + 2] >> 6 === PageControl.SAVED) {
    return unit.refuse(task, Key.ILLEGAL_REQUEST, Asc.SAVING_NOT_SUPPORTED);
  }
  if (subpage !== 0 && subpage !== ALL_SUBPAGES) return unit.invalidField(task, 3);
  return code === ALL_PAGES || unit.mode.read(code, PageControl.CURRENT) ? true : unit.invalidField(task, 2);
}

function runSense(unit: LogicalUnit, task: Task): void {
  const { u8, view } = unit, ten = isTen(unit, task);
  const allocation = ten ? view.getUint16(task.cdb + 7) : u8[task.cdb + 4];
  const start = reply(unit, task, SENSE_BYTES, allocation);
  if (start === NOTHING) return;
  const flags = u8[task.cdb + 1], code = u8[task.cdb + 2] & 0x3f, control = u8[task.cdb + 2] >> 6;
  let at = start + (ten ? 8 : 4);
  const descriptorBytes = flags & DBD ? 0 : ten && flags & LLBAA ? 16 : 8;
  if (descriptorBytes === 8) {
    view.setUint32(at, Math.min(unit.capacity, 0xffffffff));
    view.setUint32(at + 4, SECTOR_BYTES); // byte 4 is reserved, the length has 3 bytes
  } else if (descriptorBytes === 16) {
    setUint64(view, at, unit.capacity);
    view.setUint32(at + 12, SECTOR_BYTES);
  }
  at += descriptorBytes;
  for (const c of code === ALL_PAGES ? unit.mode.codes : [code]) {
    const bytes = unit.mode.read(c, control);
    if (!bytes) continue;
    u8.set(bytes, at);
    at += bytes.length;
  }
  const specific = DPOFUA | (unit.mode.writeProtected ? WP : 0);
  if (ten) {
    view.setUint16(start, at - start - 2);
    u8[start + 3] = specific;
    u8[start + 4] = descriptorBytes === 16 ? 1 : 0;
    view.setUint16(start + 6, descriptorBytes);
  } else {
    u8[start] = at - start - 1;
    u8[start + 2] = specific;
    u8[start + 3] = descriptorBytes;
  }
  task.inBytes = Math.min(at - start, allocation);
  unit.end(task);
}

function prepareSelect(unit: LogicalUnit, task: Task): boolean {
  // SP: there are no saved pages. PF=0 would mean vendor specific pages.
  if (unit.u8[task.cdb + 1] & 0x01) return unit.invalidField(task, 1);
  task.outBytes = isTen(unit, task) ? unit.view.getUint16(task.cdb + 7) : unit.u8[task.cdb + 4];
  return true;
}

function runSelect(unit: LogicalUnit, task: Task): void {
  if (task.outBytes === 0) return unit.end(task);
  const ten = isTen(unit, task), header = ten ? 8 : 4;
  if (task.received < task.outBytes || task.received < header) {
    return unit.fail(task, Key.ILLEGAL_REQUEST, Asc.PARAMETER_LIST_LENGTH);
  }
  const { u8, view } = unit, start = task.buffer, end = start + task.received;
  const descriptors = ten ? view.getUint16(start + 6) : u8[start + 3];
  if (start + header + descriptors > end) {
    return unit.fail(task, Key.ILLEGAL_REQUEST, Asc.PARAMETER_LIST_LENGTH);
  }
  const wrong = checkDescriptor(unit, start, header, descriptors, ten);
  if (wrong !== NOTHING) return invalid(unit, task, wrong);
  // First everything is checked, then everything is taken over.
  let at = start + header + descriptors;
  while (at < end) {
    const bytes = at + 2 <= end ? 2 + u8[at + 1] : end + 1 - at;
    if (at + bytes > end) return unit.fail(task, Key.ILLEGAL_REQUEST, Asc.PARAMETER_LIST_LENGTH);
    const field = unit.mode.check(u8.subarray(at, at + bytes));
    if (field !== NOTHING) return invalid(unit, task, at - start + field);
    at += bytes;
  }
  let changed = false;
  for (at = start + header + descriptors; at < end; at += 2 + u8[at + 1]) {
    if (unit.mode.write(u8.subarray(at, at + 2 + u8[at + 1]))) changed = true;
  }
  if (changed) unit.attendAll(Asc.MODE_PARAMETERS_CHANGED, task.nexus);
  unit.end(task);
}

function invalid(unit: LogicalUnit, task: Task, field: number): void {
  unit.fail(task, Key.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_PARAMETERS, field);
}

/** The block descriptor may only say what is so already. @returns the wrong byte or {@linkcode NOTHING} */
function checkDescriptor(
  unit: LogicalUnit,
  start: number,
  header: number,
  bytes: number,
  ten: boolean,
): number {
  if (bytes === 0) return NOTHING;
  const long = ten && unit.u8[start + 4] & 1 ? 16 : 8;
  if (bytes !== long) return ten ? 6 : 3;
  const field = header + (long === 16 ? 12 : 4);
  const length = unit.view.getUint32(start + field) & (long === 16 ? 0xffffffff : 0xffffff);
  return length === SECTOR_BYTES ? NOTHING : field;
}

const sense = { access: Access.READ, prepare: prepareSense, run: runSense };
const select = { access: Access.WRITE, prepare: prepareSelect, run: runSelect };

/** The commands of this file. */
export const MODE_COMMANDS: readonly CommandSpec[] = [
  command(0x1a, "MODE SENSE(6)", "08 ff ff ff 00", sense),
  command(0x5a, "MODE SENSE(10)", "18 ff ff 000000 ffff 00", sense),
  command(0x15, "MODE SELECT(6)", "11 0000 ff 00", select),
  command(0x55, "MODE SELECT(10)", "11 0000000000 ffff 00", select),
];
