/**
 * Size and thin provisioning: READ CAPACITY, UNMAP, WRITE SAME, GET LBA STATUS (SBC-3 sections 4.7 and 5).
 *
 * @module
 */
import { Op, SECTOR_BYTES } from "../../../block/device.ts";
import { cdbBlocks, cdbLba, setUint64, uint64 } from "./cdb.ts";
import { Access, command, type CommandSpec } from "./command.ts";
import { checkRange, checkWritable } from "./media.ts";
import { reply } from "./reply.ts";
import { Asc, Key, NOTHING } from "./sense.ts";
import type { Task } from "./task.ts";
import { type LogicalUnit, SCRATCH_BYTES } from "./unit.ts";

/** Physical blocks are 2^3 logical ones: 4096 bytes, what volumes are made of. */
export const PHYSICAL_EXPONENT = 3;
/** Most blocks of one UNMAP command (512 MiB); announced in VPD B0. */
export const MAX_UNMAP_BLOCKS = 1024 * 1024;
/** Most ranges of one UNMAP command; announced in VPD B0. */
export const MAX_UNMAP_RANGES = 256;
/** Most blocks of one WRITE SAME command (16 MiB, which may have to be written out); announced in VPD B0. */
export const MAX_WRITE_SAME_BLOCKS = 32 * 1024;

/** Bytes of UNMAP's parameter list before its descriptors, and of each of them (SBC-3 table 110). */
const UNMAP_HEADER_BYTES = 8;
const UNMAP_RANGE_BYTES = 16;

// ---- READ CAPACITY ---------------------------------------------------------------------------------------------

function runCapacity10(unit: LogicalUnit, task: Task): void {
  const at = reply(unit, task, 8, 8);
  if (at < 0) return;
  unit.view.setUint32(at, Math.min(unit.capacity - 1, 0xffffffff));
  unit.view.setUint32(at + 4, SECTOR_BYTES);
  unit.end(task);
}

/** Bits 7 and 6 of byte 14: thin provisioned (LBPME), unmapped blocks read as zeros (LBPRZ). */
const LBPME_LBPRZ = 0xc0;

function runCapacity16(unit: LogicalUnit, task: Task): void {
  const at = reply(unit, task, 32, unit.view.getUint32(task.cdb + 10));
  if (at < 0) return;
  setUint64(unit.view, at, unit.capacity - 1);
  unit.view.setUint32(at + 8, SECTOR_BYTES);
  unit.u8[at + 13] = PHYSICAL_EXPONENT;
  unit.u8[at + 14] = LBPME_LBPRZ;
  unit.end(task);
}

// ---- GET LBA STATUS --------------------------------------------------------------------------------------------

function prepareLbaStatus(unit: LogicalUnit, task: Task): boolean {
  task.lba = cdbLba(unit.view, task.cdb);
  if (task.lba < unit.capacity) return true;
  return unit.refuse(task, Key.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, NOTHING, task.lba);
}

/** The device does not say what is mapped; "mapped" is always a right answer (SBC-3 section 5.4.2.2). */
function runLbaStatus(unit: LogicalUnit, task: Task): void {
  const at = reply(unit, task, 24, unit.view.getUint32(task.cdb + 10));
  if (at < 0) return;
  unit.view.setUint32(at, 20);
  setUint64(unit.view, at + 8, task.lba);
  unit.view.setUint32(at + 16, Math.min(unit.capacity - task.lba, 0xffffffff));
  unit.end(task);
}

// ---- UNMAP -----------------------------------------------------------------------------------------------------

function prepareUnmap(unit: LogicalUnit, task: Task): boolean {
  if (!checkWritable(unit, task)) return false;
  task.outBytes = unit.view.getUint16(task.cdb + 7);
  return true;
}

/** Number of ranges in a parameter list; {@linkcode NOTHING} when the task ended because it is wrong. */
function checkUnmapList(unit: LogicalUnit, task: Task): number {
  const { view } = unit;
  if (task.received < Math.max(task.outBytes, UNMAP_HEADER_BYTES)) {
    unit.fail(task, Key.ILLEGAL_REQUEST, Asc.PARAMETER_LIST_LENGTH);
    return NOTHING;
  }
  const listed = Math.floor(view.getUint16(task.buffer + 2) / UNMAP_RANGE_BYTES);
  const ranges = Math.min(listed, Math.floor((task.received - UNMAP_HEADER_BYTES) / UNMAP_RANGE_BYTES));
  let blocks = 0;
  for (let i = 0; i < ranges; i++) {
    const at = task.buffer + UNMAP_HEADER_BYTES + i * UNMAP_RANGE_BYTES;
    task.lba = uint64(view, at);
    task.blocks = view.getUint32(at + 8);
    blocks += task.blocks;
    if (!checkRange(unit, task)) {
      unit.end(task);
      return NOTHING;
    }
  }
  if (ranges > MAX_UNMAP_RANGES || blocks > MAX_UNMAP_BLOCKS) {
    unit.fail(task, Key.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_PARAMETERS, UNMAP_HEADER_BYTES);
    return NOTHING;
  }
  return ranges;
}

function runUnmap(unit: LogicalUnit, task: Task): void {
  if (task.outBytes === 0) return unit.end(task);
  // The whole list is checked before the first range is unmapped.
  const ranges = checkUnmapList(unit, task);
  if (ranges === NOTHING) return;
  task.step = ranges;
  task.cursor = 0;
  unmapNext(unit, task);
}

function unmapNext(unit: LogicalUnit, task: Task): void {
  while (task.cursor < task.step) {
    const at = task.buffer + UNMAP_HEADER_BYTES + task.cursor * UNMAP_RANGE_BYTES;
    const blocks = unit.view.getUint32(at + 8);
    task.cursor++;
    if (blocks === 0) continue;
    const offset = uint64(unit.view, at) * SECTOR_BYTES;
    return unit.submit(task, Op.UNMAP, offset, blocks * SECTOR_BYTES, 0);
  }
  unit.end(task);
}

// ---- WRITE SAME ------------------------------------------------------------------------------------------------

/** Byte 1 of WRITE SAME. */
const Same = { ANCHOR: 0x10, UNMAP: 0x08, NDOB: 0x01 } as const;

function prepareWriteSame(unit: LogicalUnit, task: Task): boolean {
  const { u8 } = unit, flags = u8[task.cdb + 1];
  task.lba = cdbLba(unit.view, task.cdb);
  task.blocks = cdbBlocks(unit.view, task.cdb);
  const field = u8[task.cdb] === 0x93 ? 10 : 7;
  // ANC_SUP is 0 in VPD B2: there are no anchored blocks.
  if (flags & Same.ANCHOR) return unit.invalidField(task, 1);
  if (!checkRange(unit, task)) return false;
  // WSNZ is 1 in VPD B0: 0 does not mean "to the end".
  if (task.blocks === 0 || task.blocks > MAX_WRITE_SAME_BLOCKS) return unit.invalidField(task, field);
  if (!checkWritable(unit, task)) return false;
  task.outBytes = flags & Same.NDOB ? 0 : SECTOR_BYTES;
  // More or less than one block is a misunderstanding that a residual count would hide.
  return task.expected === task.outBytes ? true : unit.invalidField(task, field);
}

function isZero(u8: Uint8Array, at: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (u8[at + i] !== 0) return false;
  return true;
}

function runWriteSame(unit: LogicalUnit, task: Task): void {
  const flags = unit.u8[task.cdb + 1];
  const zeros = task.outBytes === 0 || isZero(unit.u8, task.buffer, SECTOR_BYTES);
  if (zeros && flags & Same.UNMAP) {
    task.cursor = task.blocks;
    return unit.submit(task, Op.UNMAP, task.lba * SECTOR_BYTES, task.blocks * SECTOR_BYTES, 0);
  }
  if (!unit.borrowScratch(task)) return;
  const bytes = Math.min(task.blocks * SECTOR_BYTES, SCRATCH_BYTES);
  if (zeros) unit.u8.fill(0, unit.scratch, unit.scratch + bytes);
  else {
    for (let i = 0; i < bytes; i += SECTOR_BYTES) {
      unit.u8.copyWithin(unit.scratch + i, task.buffer, task.buffer + SECTOR_BYTES);
    }
  }
  writeSameNext(unit, task);
}

function writeSameNext(unit: LogicalUnit, task: Task): void {
  if (task.cursor >= task.blocks) return unit.end(task);
  const blocks = Math.min(task.blocks - task.cursor, SCRATCH_BYTES / SECTOR_BYTES);
  const offset = (task.lba + task.cursor) * SECTOR_BYTES;
  task.cursor += blocks;
  const op = unit.mode.writeCache ? Op.WRITE : Op.WRITE_DURABLE;
  unit.submit(task, op, offset, blocks * SECTOR_BYTES, unit.scratch);
}

const writeSame = {
  prepare: prepareWriteSame,
  run: runWriteSame,
  step: writeSameNext,
  recommendedSeconds: 120,
};

/** The commands of this file. */
export const PROVISION_COMMANDS: readonly CommandSpec[] = [
  command(0x25, "READ CAPACITY(10)", "00 ffffffff 0000 00 00", { access: Access.STATUS, run: runCapacity10 }),
  command(0x9e, "READ CAPACITY(16)", "1f ffffffffffffffff ffffffff 01 00", {
    action: 0x10,
    access: Access.STATUS,
    run: runCapacity16,
  }),
  command(0x9e, "GET LBA STATUS", "1f ffffffffffffffff ffffffff 00 00", {
    action: 0x12,
    access: Access.READ,
    prepare: prepareLbaStatus,
    run: runLbaStatus,
  }),
  command(0x42, "UNMAP", "00 00000000 1f ffff 00", {
    prepare: prepareUnmap,
    run: runUnmap,
    step: unmapNext,
    recommendedSeconds: 120,
  }),
  command(0x41, "WRITE SAME(10)", "18 ffffffff 1f ffff 00", writeSame),
  command(0x93, "WRITE SAME(16)", "19 ffffffffffffffff ffffffff 1f 00", writeSame),
];
