/**
 * INQUIRY: what the disk is and can do (SPC-4 section 6.6, vital product data section 7.8, SBC-3 section 6.6).
 *
 * @module
 */
import { Access, command, type CommandSpec } from "./command.ts";
import { MAX_COMPARE_BLOCKS } from "./compare.ts";
import { setUint64 } from "./cdb.ts";
import { PRODUCT, VENDOR } from "./identity.ts";
import { MAX_UNMAP_BLOCKS, MAX_UNMAP_RANGES, MAX_WRITE_SAME_BLOCKS } from "./provision.ts";
import { reply, writeAscii } from "./reply.ts";
import { NOTHING } from "./sense.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

/** Bytes of standard INQUIRY data, version descriptors included. */
const STANDARD_BYTES = 74;
/** A buffer for any VPD page: two names of 223 bytes and some. */
const VPD_BYTES = 1024;
/** Blocks of 4096 bytes: below it a transfer is not better than a smaller one. */
const GRANULARITY_BLOCKS = 8;
/** Blocks of the transfer size that suits best (1 MiB). */
const OPTIMAL_BLOCKS = 2048;
/** Peripheral qualifier 3, device type 1Fh: nothing can be here (SPC-4 table 176). */
const NO_DEVICE = 0x7f;
/** Standards we keep to: SAM-5, iSCSI, SPC-4, SBC-3 (SPC-4 table 179). */
const VERSIONS = [0x00a0, 0x0960, 0x0460, 0x04c0];
/** Protocol identifier of iSCSI (SPC-4 table 442). */
const PROTOCOL_ISCSI = 5;
/** Relative port identifier and portal group of our only port. */
const PORT = 1;

function prepareInquiry(unit: LogicalUnit, task: Task): boolean {
  const evpd = unit.u8[task.cdb + 1] & 1;
  return evpd || unit.u8[task.cdb + 2] === 0 ? true : unit.invalidField(task, 2);
}

function runInquiry(unit: LogicalUnit, task: Task): void {
  const allocation = unit.view.getUint16(task.cdb + 3);
  if (!(unit.u8[task.cdb + 1] & 1)) return standard(unit, task, allocation);
  const page = PAGES.get(unit.u8[task.cdb + 2]);
  if (!page || !task.lunKnown) {
    unit.invalidField(task, 2);
    return unit.end(task);
  }
  const at = reply(unit, task, VPD_BYTES, allocation);
  if (at === NOTHING) return;
  const bytes = page(unit, at + 4);
  unit.u8[at + 1] = unit.u8[task.cdb + 2];
  unit.view.setUint16(at + 2, bytes);
  task.inBytes = Math.min(allocation, bytes + 4);
  unit.end(task);
}

function standard(unit: LogicalUnit, task: Task, allocation: number): void {
  const at = reply(unit, task, STANDARD_BYTES, allocation);
  if (at === NOTHING) return;
  const { u8, view, identity } = unit;
  u8[at] = task.lunKnown ? 0 : NO_DEVICE;
  u8[at + 2] = 0x06; // version: SPC-4
  u8[at + 3] = 0x12; // HISUP, response data format 2
  u8[at + 4] = STANDARD_BYTES - 5;
  u8[at + 7] = 0x02; // CMDQUE
  writeAscii(u8, at + 8, VENDOR, 8);
  writeAscii(u8, at + 16, PRODUCT, 16);
  writeAscii(u8, at + 32, identity.revision, 4);
  VERSIONS.forEach((version, i) => view.setUint16(at + 58 + 2 * i, version));
  unit.end(task);
}

/** Writes a page's content behind its 4-byte header. @returns its length */
type Page = (unit: LogicalUnit, at: number) => number;

function supportedPages(unit: LogicalUnit, at: number): number {
  const codes = [...PAGES.keys()].sort((a, b) => a - b);
  unit.u8.set(codes, at);
  return codes.length;
}

function serialNumber(unit: LogicalUnit, at: number): number {
  const { serial } = unit.identity;
  writeAscii(unit.u8, at, serial, serial.length);
  return serial.length;
}

/** Designation descriptors (SPC-4 section 7.8.6); association 0 = unit, 1 = target port, 2 = target device. */
function identification(unit: LogicalUnit, at: number): number {
  const { u8, identity } = unit;
  const start = at;
  const descriptor = (codeSet: number, association: number, type: number, bytes: Uint8Array): void => {
    u8[at] = (association === 0 ? 0 : PROTOCOL_ISCSI << 4) | codeSet;
    u8[at + 1] = (association === 0 ? 0 : 0x80) | (association << 4) | type;
    u8[at + 3] = bytes.length;
    u8.set(bytes, at + 4);
    at += 4 + bytes.length;
  };
  const binary = 1, ascii = 2, utf8 = 3;
  descriptor(binary, 0, 3, identity.naa);
  const vendor = new Uint8Array(8 + identity.serial.length);
  writeAscii(vendor, 0, VENDOR, 8);
  writeAscii(vendor, 8, identity.serial, identity.serial.length);
  descriptor(ascii, 0, 1, vendor);
  descriptor(binary, 1, 4, new Uint8Array([0, 0, 0, PORT]));
  descriptor(binary, 1, 5, new Uint8Array([0, 0, 0, PORT]));
  descriptor(utf8, 1, 8, nameString(`${identity.targetName},t,0x${PORT.toString(16).padStart(4, "0")}`));
  descriptor(utf8, 2, 8, nameString(identity.targetName));
  return at - start;
}

/** SCSI name string: UTF-8, at least one NUL, a multiple of 4 bytes (SPC-4 section 7.8.6.11). */
function nameString(name: string): Uint8Array {
  const bytes = new TextEncoder().encode(name).subarray(0, 240);
  const padded = new Uint8Array((bytes.length + 4) & ~3);
  padded.set(bytes);
  return padded;
}

/** SPC-4 section 7.8.7: all task attributes, no protection, volatile cache. */
function extendedInquiry(unit: LogicalUnit, at: number): number {
  unit.u8[at + 1] = 0x07; // HEADSUP, ORDSUP, SIMPSUP
  unit.u8[at + 2] = 0x01; // V_SUP
  return 60;
}

/** SBC-3 section 6.6.3. */
function blockLimits(unit: LogicalUnit, at: number): number {
  const { u8, view } = unit;
  u8[at] = 0x01; // WSNZ: WRITE SAME of 0 blocks is refused
  u8[at + 1] = MAX_COMPARE_BLOCKS;
  view.setUint16(at + 2, GRANULARITY_BLOCKS);
  view.setUint32(at + 4, unit.maxBlocks);
  view.setUint32(at + 8, Math.min(OPTIMAL_BLOCKS, unit.maxBlocks));
  view.setUint32(at + 16, MAX_UNMAP_BLOCKS);
  view.setUint32(at + 20, MAX_UNMAP_RANGES);
  view.setUint32(at + 24, GRANULARITY_BLOCKS);
  view.setUint32(at + 28, 0x80000000); // UGAVALID, alignment 0
  setUint64(view, at + 32, MAX_WRITE_SAME_BLOCKS);
  return 60;
}

/** SBC-3 section 6.6.2: no rotation, no form factor. */
function characteristics(unit: LogicalUnit, at: number): number {
  unit.view.setUint16(at, 1);
  return 60;
}

/** SBC-3 section 6.6.4: UNMAP, WRITE SAME(16) and (10) unmap; unmapped reads as zeros; thin provisioned. */
function provisioning(unit: LogicalUnit, at: number): number {
  unit.u8[at + 1] = 0xe4;
  unit.u8[at + 2] = 0x02;
  return 4;
}

const PAGES: ReadonlyMap<number, Page> = new Map<number, Page>([
  [0x00, supportedPages],
  [0x80, serialNumber],
  [0x83, identification],
  [0x86, extendedInquiry],
  [0xb0, blockLimits],
  [0xb1, characteristics],
  [0xb2, provisioning],
]);

/** The command of this file. */
export const INQUIRY_COMMANDS: readonly CommandSpec[] = [
  command(0x12, "INQUIRY", "01 ff ffff 00", {
    access: Access.ALWAYS,
    passesAttention: true,
    prepare: prepareInquiry,
    run: runInquiry,
  }),
];
