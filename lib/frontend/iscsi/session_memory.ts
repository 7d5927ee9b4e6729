/**
 * The part of the arena a session needs: places for the CDBs of its tasks. Sessions come and go, arenas do not
 * shrink: it is used again.
 *
 * @module
 */
import type { Io } from "../../io/io.ts";

/** Commands of one session at a time: the queue depth initiators have by default (node.session.cmds_max). */
export const SESSION_DEPTH = 128;
/** Immediate commands of one session at a time, besides. */
export const IMMEDIATE_TASKS = 8;
/** Bytes of a CDB in the SCSI Command PDU. */
export const CDB_BYTES = 16;

/** Memory of one session. */
export class SessionMemory {
  /** Arena offsets of the CDBs. */
  readonly cdbs: readonly number[];

  /** Reserves it. @throws {RangeError} when the arena is too small */
  constructor(io: Io) {
    const count = SESSION_DEPTH + IMMEDIATE_TASKS;
    const at = io.arena.reserve(count * CDB_BYTES, CDB_BYTES);
    this.cdbs = Array.from({ length: count }, (_, i) => at + i * CDB_BYTES);
  }
}
