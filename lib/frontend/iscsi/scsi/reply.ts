/**
 * Data for the initiator that is no blocks: a zeroed buffer to write into, cut to the allocation length.
 *
 * @module
 */
import { NOTHING } from "./sense.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

/**
 * Gets a zeroed buffer for a reply.
 *
 * @param bytes length of the whole reply
 * @param allocation the CDB's allocation length: no more than this is transferred, and that is no residual
 * @returns the arena offset, or {@linkcode NOTHING} when there is no memory now: `run` is called again
 */
export function reply(unit: LogicalUnit, task: Task, bytes: number, allocation: number): number {
  if (!unit.take(task, bytes)) return NOTHING;
  unit.u8.fill(0, task.buffer, task.buffer + bytes);
  task.inBytes = Math.min(bytes, allocation);
  return task.buffer;
}

/** Writes text, padded with spaces to `length` (the left-aligned ASCII fields of SPC-4 section 4.3.1). */
export function writeAscii(u8: Uint8Array, at: number, text: string, length: number): void {
  for (let i = 0; i < length; i++) {
    const code = i < text.length ? text.charCodeAt(i) : 0x20;
    u8[at + i] = code >= 0x20 && code < 0x7f ? code : 0x5f;
  }
}
