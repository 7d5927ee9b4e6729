/**
 * The record of members that engines keep on replicas, as it comes in an ADOPT; see docs/protocol.md.
 *
 * @module
 */

/** The record that engines keep on replicas; see the engine's membership. */
export interface AdoptedRecord {
  /** Counts starts of engines, from 1. */
  readonly generation: number;
  /** Counts changes of the members within a generation. */
  readonly revision: number;
  /** Identifiers of the copies that have every acknowledged write. */
  readonly members: readonly string[];
  /** Copies that get writes: the members and one that is being filled. Not kept. */
  readonly copies?: number;
}

/** Reads the payload of an ADOPT; undefined when it is none. */
export function parseRecord(bytes: Uint8Array): AdoptedRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { generation, revision, members, copies } = value as Record<string, unknown>;
  if (!isCount(generation) || generation === 0 || !isCount(revision)) return undefined;
  if (!Array.isArray(members) || !members.every((m): m is string => typeof m === "string")) return undefined;
  return { generation, revision, members, ...(isCount(copies) ? { copies } : {}) };
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
