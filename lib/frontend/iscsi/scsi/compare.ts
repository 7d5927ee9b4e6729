/**
 * Commands that look at blocks before or after they change them: VERIFY, WRITE AND VERIFY, COMPARE AND WRITE,
 * ORWRITE (SBC-3 sections 5.2, 5.13, 5.33, 5.44).
 *
 * They work through the scratch buffer, a piece at a time. COMPARE AND WRITE and ORWRITE are exclusive in the
 * task set, so that nothing comes between their reading and their writing.
 *
 * @module
 */
import { Op, SECTOR_BYTES } from "../../../block/device.ts";
import { cdbLba } from "./cdb.ts";
import { Access, command, type CommandSpec } from "./command.ts";
import {
  checkRange,
  checkWritable,
  clampToReceived,
  prepareRange,
  prepareTransfer,
  prepareWrite,
  writeOp,
} from "./media.ts";
import { Asc, Key, NOTHING } from "./sense.ts";
import type { Task } from "./task.ts";
import { type LogicalUnit, SCRATCH_BYTES } from "./unit.ts";

/** Most blocks of COMPARE AND WRITE: announced in VPD B0, and half a scratch buffer's worth. */
export const MAX_COMPARE_BLOCKS = 128;

/** BYTCHK, byte 1 bits 2..1: what VERIFY compares with (SBC-3 table 116). */
const BytChk = { NOTHING: 0, BLOCKS: 1, RESERVED: 2, ONE_BLOCK: 3 } as const;

const SCRATCH_BLOCKS = SCRATCH_BYTES / SECTOR_BYTES;

/** Steps of commands that do several things. */
const Step = { READING: 0, WRITING: 1 } as const;

function bytChk(unit: LogicalUnit, task: Task): number {
  return (unit.u8[task.cdb + 1] >> 1) & 3;
}

/**
 * Compares `length` bytes at `a` and at `b`.
 *
 * @returns the offset of the first byte that differs, or {@linkcode NOTHING}
 */
export function firstDifference(u8: Uint8Array, a: number, b: number, length: number): number {
  for (let i = 0; i < length; i++) if (u8[a + i] !== u8[b + i]) return i;
  return NOTHING;
}

function prepareVerify(unit: LogicalUnit, task: Task): boolean {
  const check = bytChk(unit, task);
  if (check === BytChk.RESERVED) return unit.invalidField(task, 1);
  if (check !== BytChk.BLOCKS) {
    if (!prepareRange(unit, task)) return false;
    task.outBytes = check === BytChk.ONE_BLOCK && task.blocks > 0 ? SECTOR_BYTES : 0;
    return true;
  }
  if (!prepareTransfer(unit, task)) return false;
  task.outBytes = task.blocks * SECTOR_BYTES;
  return true;
}

function runVerify(unit: LogicalUnit, task: Task): void {
  const check = bytChk(unit, task);
  if (check === BytChk.BLOCKS && !clampToReceived(unit, task)) return;
  if (task.blocks === 0) return unit.end(task);
  if (check === BytChk.ONE_BLOCK && task.received < SECTOR_BYTES) {
    return unit.fail(task, Key.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_INFORMATION_UNIT);
  }
  if (unit.borrowScratch(task)) readPiece(unit, task);
}

/** Reads the next blocks of a task into the scratch buffer. */
function readPiece(unit: LogicalUnit, task: Task): void {
  const blocks = Math.min(task.blocks - task.cursor, SCRATCH_BLOCKS);
  const offset = (task.lba + task.cursor) * SECTOR_BYTES;
  unit.submit(task, Op.READ, offset, blocks * SECTOR_BYTES, unit.scratch);
}

/** Compares what {@linkcode readPiece} read. @returns false when the task ended with a miscompare */
function comparePiece(unit: LogicalUnit, task: Task, check: number): boolean {
  const bytes = task.opLength, base = task.cursor * SECTOR_BYTES;
  let at: number = NOTHING;
  if (check === BytChk.BLOCKS) at = firstDifference(unit.u8, unit.scratch, task.buffer + base, bytes);
  else if (check === BytChk.ONE_BLOCK) {
    for (let i = 0; i < bytes && at === NOTHING; i += SECTOR_BYTES) {
      const inBlock = firstDifference(unit.u8, unit.scratch + i, task.buffer, SECTOR_BYTES);
      if (inBlock !== NOTHING) at = i + inBlock;
    }
  }
  if (at === NOTHING) return true;
  unit.fail(task, Key.MISCOMPARE, Asc.MISCOMPARE, NOTHING, base + at);
  return false;
}

function stepVerify(unit: LogicalUnit, task: Task): void {
  if (!comparePiece(unit, task, bytChk(unit, task))) return;
  task.cursor += task.opLength / SECTOR_BYTES;
  if (task.cursor < task.blocks) readPiece(unit, task);
  else unit.end(task);
}

// ---- WRITE AND VERIFY: durably, and then a comparison of what the disk returns when BYTCHK asks for one. ----

function prepareWriteVerify(unit: LogicalUnit, task: Task): boolean {
  const check = bytChk(unit, task);
  if (check === BytChk.RESERVED || check === BytChk.ONE_BLOCK) return unit.invalidField(task, 1);
  return prepareWrite(unit, task);
}

function runWriteVerify(unit: LogicalUnit, task: Task): void {
  if (!clampToReceived(unit, task) || !unit.borrowScratch(task)) return;
  task.step = Step.WRITING;
  const bytes = task.blocks * SECTOR_BYTES;
  unit.submit(task, Op.WRITE_DURABLE, task.lba * SECTOR_BYTES, bytes, task.buffer);
}

function stepWriteVerify(unit: LogicalUnit, task: Task): void {
  if (task.step === Step.READING) return stepVerify(unit, task);
  task.step = Step.READING;
  readPiece(unit, task);
}

// ---- COMPARE AND WRITE: Data-Out is the blocks to compare with, then the blocks to write. --------------------

function prepareCompareWrite(unit: LogicalUnit, task: Task): boolean {
  task.lba = cdbLba(unit.view, task.cdb);
  task.blocks = unit.u8[task.cdb + 13];
  if (!checkRange(unit, task)) return false;
  if (task.blocks > MAX_COMPARE_BLOCKS) return unit.invalidField(task, 13);
  if (!checkWritable(unit, task)) return false;
  task.outBytes = 2 * task.blocks * SECTOR_BYTES;
  task.exclusive = true;
  // Half a comparison is none: unlike WRITE, this does not work with other amounts of data.
  return task.expected === task.outBytes ? true : unit.invalidField(task, 13);
}

function runCompareWrite(unit: LogicalUnit, task: Task): void {
  if (task.blocks === 0) return unit.end(task);
  if (!unit.borrowScratch(task)) return;
  task.step = Step.READING;
  readPiece(unit, task);
}

function stepCompareWrite(unit: LogicalUnit, task: Task): void {
  if (task.step === Step.WRITING) return unit.end(task);
  if (!comparePiece(unit, task, BytChk.BLOCKS)) return;
  task.step = Step.WRITING;
  const bytes = task.blocks * SECTOR_BYTES;
  unit.submit(task, writeOp(unit, task), task.lba * SECTOR_BYTES, bytes, task.buffer + bytes);
}

// ---- ORWRITE -------------------------------------------------------------------------------------------------

function prepareOrWrite(unit: LogicalUnit, task: Task): boolean {
  task.exclusive = true;
  return prepareWrite(unit, task);
}

function runOrWrite(unit: LogicalUnit, task: Task): void {
  if (!clampToReceived(unit, task) || !unit.borrowScratch(task)) return;
  task.step = Step.READING;
  readPiece(unit, task);
}

function stepOrWrite(unit: LogicalUnit, task: Task): void {
  if (task.step === Step.READING) {
    const from = task.buffer + task.cursor * SECTOR_BYTES;
    for (let i = 0; i < task.opLength; i++) unit.u8[unit.scratch + i] |= unit.u8[from + i];
    task.step = Step.WRITING;
    return unit.submit(task, writeOp(unit, task), task.opOffset, task.opLength, unit.scratch);
  }
  task.cursor += task.opLength / SECTOR_BYTES;
  if (task.cursor >= task.blocks) return unit.end(task);
  task.step = Step.READING;
  readPiece(unit, task);
}

const verify = { access: Access.READ, prepare: prepareVerify, run: runVerify, step: stepVerify };
const writeVerify = { prepare: prepareWriteVerify, run: runWriteVerify, step: stepWriteVerify };

/** The commands of this file. Byte 1 of the usage: DPO (10), FUA (08), BYTCHK (06). */
export const COMPARE_COMMANDS: readonly CommandSpec[] = [
  command(0x2f, "VERIFY(10)", "16 ffffffff 1f ffff 00", verify),
  command(0xaf, "VERIFY(12)", "16 ffffffff ffffffff 1f 00", verify),
  command(0x8f, "VERIFY(16)", "16 ffffffffffffffff ffffffff 1f 00", verify),
  command(0x2e, "WRITE AND VERIFY(10)", "16 ffffffff 1f ffff 00", writeVerify),
  command(0xae, "WRITE AND VERIFY(12)", "16 ffffffff ffffffff 1f 00", writeVerify),
  command(0x8e, "WRITE AND VERIFY(16)", "16 ffffffffffffffff ffffffff 1f 00", writeVerify),
  command(0x89, "COMPARE AND WRITE", "18 ffffffffffffffff 000000 ff 1f 00", {
    prepare: prepareCompareWrite,
    run: runCompareWrite,
    step: stepCompareWrite,
  }),
  command(0x8b, "ORWRITE(16)", "18 ffffffffffffffff ffffffff 1f 00", {
    prepare: prepareOrWrite,
    run: runOrWrite,
    step: stepOrWrite,
  }),
];
