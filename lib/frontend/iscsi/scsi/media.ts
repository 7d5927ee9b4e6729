/**
 * Reading and writing blocks: READ, WRITE, SYNCHRONIZE CACHE, PRE-FETCH (SBC-3 chapter 5).
 *
 * @module
 */
import { Op, SECTOR_BYTES } from "../../../block/device.ts";
import { blocksField, cdbBlocks, cdbLba } from "./cdb.ts";
import { Access, command, type CommandSpec } from "./command.ts";
import { Asc, Key, NOTHING, Status } from "./sense.ts";
import type { Task, Task as T } from "./task.ts";
import type { LogicalUnit, LogicalUnit as U } from "./unit.ts";

/** Byte 1, bit 3: the data is on stable storage when the command ends. */
const FUA = 0x08;

/**
 * Takes address and count from the CDB and checks them against the end of the disk.
 * @returns false when refused
 */
export function prepareRange(unit: LogicalUnit, task: Task): boolean {
  task.lba = cdbLba(unit.view, task.cdb);
  task.blocks = cdbBlocks(unit.view, task.cdb);
  return checkRange(unit, task);
}

/** Refuses a range that goes beyond the last block; an empty range must start before it. */
export function checkRange(unit: LogicalUnit, task: Task): boolean {
  const capacity = unit.capacity;
  if (task.lba + task.blocks > capacity || task.lba >= capacity && (task.blocks > 0 || task.lba > capacity)) {
    return unit.refuse(task, Key.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, NOTHING, task.lba);
  }
  return true;
}

/** As {@linkcode prepareRange}, for commands that move the blocks: VPD B0 limits their number. */
export function prepareTransfer(unit: LogicalUnit, task: Task): boolean {
  if (!prepareRange(unit, task)) return false;
  if (task.blocks > unit.maxBlocks) return unit.invalidField(task, blocksField(unit.u8[task.cdb]));
  return true;
}

/** Refuses while the control mode page's SWP bit is set. */
export function checkWritable(unit: LogicalUnit, task: Task): boolean {
  return unit.mode.writeProtected ? unit.refuse(task, Key.DATA_PROTECT, Asc.WRITE_PROTECTED) : true;
}

/** As {@linkcode prepareTransfer}, for commands whose Data-Out is the blocks to write. */
export function prepareWrite(unit: LogicalUnit, task: Task): boolean {
  if (!prepareTransfer(unit, task) || !checkWritable(unit, task)) return false;
  task.outBytes = task.blocks * SECTOR_BYTES;
  return true;
}

/**
 * Cuts the command to the blocks that arrived whole: an initiator that expects to transfer less than the CDB
 * says writes less (RFC 7143 section 11.4.5.1: the rest is a residual).
 * @returns false when the task ended because nothing is left, or a part of a block is
 */
export function clampToReceived(unit: LogicalUnit, task: Task): boolean {
  if (task.received < task.outBytes) {
    if (task.received % SECTOR_BYTES !== 0) {
      unit.fail(task, Key.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_INFORMATION_UNIT);
      return false;
    }
    task.blocks = task.received / SECTOR_BYTES;
  }
  if (task.blocks === 0) {
    unit.end(task);
    return false;
  }
  return true;
}

/** The write operation a command asks for: durable with FUA, or when the write cache is switched off. */
export function writeOp(unit: LogicalUnit, task: Task): Op {
  return (unit.u8[task.cdb + 1] & FUA) || !unit.mode.writeCache ? Op.WRITE_DURABLE : Op.WRITE;
}

function runRead(unit: U, task: T): void {
  task.inBytes = task.blocks * SECTOR_BYTES;
  // No more is read than the initiator takes.
  const limit = task.isRead ? Math.ceil(task.expected / SECTOR_BYTES) * SECTOR_BYTES : 0;
  const bytes = Math.min(task.inBytes, limit);
  if (bytes === 0) return unit.end(task);
  if (!unit.take(task, bytes)) return;
  unit.submit(task, Op.READ, task.lba * SECTOR_BYTES, bytes, task.buffer);
}

function runWrite(unit: U, task: T): void {
  if (!clampToReceived(unit, task)) return;
  // READ(6) and WRITE(6) have address bits where others have FUA.
  const op = unit.u8[task.cdb] === 0x0a
    ? (unit.mode.writeCache ? Op.WRITE : Op.WRITE_DURABLE)
    : writeOp(unit, task);
  unit.submit(task, op, task.lba * SECTOR_BYTES, task.blocks * SECTOR_BYTES, task.buffer);
}

/** The step of commands whose only operation ended. */
export function done(unit: U, task: T): void {
  unit.end(task);
}

function runFlush(unit: U, task: T): void {
  unit.submit(task, Op.FLUSH, 0, 0, 0);
}

/** Nothing is fetched, but the blocks are there: SBC-3 section 5.11 wants CONDITION MET when they all fit. */
function runPrefetch(unit: U, task: T): void {
  task.status = Status.CONDITION_MET;
  unit.end(task);
}

const read = {
  access: Access.READ,
  prepare: prepareTransfer,
  run: runRead,
  step: done,
  recommendedSeconds: 60,
};
const write = {
  access: Access.WRITE,
  prepare: prepareWrite,
  run: runWrite,
  step: done,
  recommendedSeconds: 60,
};
const flush = {
  access: Access.WRITE,
  prepare: prepareRange,
  run: runFlush,
  step: done,
  recommendedSeconds: 120,
};
const prefetch = { access: Access.READ, prepare: prepareRange, run: runPrefetch };

/** The commands of this file. Byte 1 of the usage: DPO (10) and FUA (08), no protection information. */
export const MEDIA_COMMANDS: readonly CommandSpec[] = [
  command(0x08, "READ(6)", "1f ffff ff 00", read),
  command(0x28, "READ(10)", "18 ffffffff 1f ffff 00", read),
  command(0xa8, "READ(12)", "18 ffffffff ffffffff 1f 00", read),
  command(0x88, "READ(16)", "18 ffffffffffffffff ffffffff 1f 00", read),
  command(0x0a, "WRITE(6)", "1f ffff ff 00", write),
  command(0x2a, "WRITE(10)", "18 ffffffff 1f ffff 00", write),
  command(0xaa, "WRITE(12)", "18 ffffffff ffffffff 1f 00", write),
  command(0x8a, "WRITE(16)", "18 ffffffffffffffff ffffffff 1f 00", write),
  command(0x35, "SYNCHRONIZE CACHE(10)", "06 ffffffff 1f ffff 00", flush),
  command(0x91, "SYNCHRONIZE CACHE(16)", "06 ffffffffffffffff ffffffff 1f 00", flush),
  command(0x34, "PRE-FETCH(10)", "02 ffffffff 1f ffff 00", prefetch),
  command(0x90, "PRE-FETCH(16)", "02 ffffffffffffffff ffffffff 1f 00", prefetch),
];
