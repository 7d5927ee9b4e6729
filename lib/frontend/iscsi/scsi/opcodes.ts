/**
 * All commands of the disk in one table. What is not in it (EXTENDED COPY, RECEIVE COPY RESULTS, SANITIZE,
 * FORMAT UNIT, ...) is refused with INVALID COMMAND OPERATION CODE.
 *
 * @module
 */
import { CommandTable } from "./command.ts";
import { COMPARE_COMMANDS } from "./compare.ts";
import { INQUIRY_COMMANDS } from "./inquiry.ts";
import { MEDIA_COMMANDS } from "./media.ts";
import { MODE_COMMANDS } from "./mode.ts";
import { PROVISION_COMMANDS } from "./provision.ts";
import { REPORT_COMMANDS } from "./report.ts";
import { RESERVE_COMMANDS } from "./reserve.ts";

/** The commands of a disk, in the order of their opcodes. */
export const DISK_COMMANDS = new CommandTable(
  [
    ...MEDIA_COMMANDS,
    ...COMPARE_COMMANDS,
    ...PROVISION_COMMANDS,
    ...INQUIRY_COMMANDS,
    ...MODE_COMMANDS,
    ...REPORT_COMMANDS,
    ...RESERVE_COMMANDS,
  ].sort((a, b) => a.opcode - b.opcode || a.action - b.action),
);
