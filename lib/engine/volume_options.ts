/**
 * What a volume is told at its creation, and what it tells.
 *
 * @module
 */
import type { StreamSizes } from "../io/stream_memory.ts";
import type { MemberRecord } from "./membership.ts";

/** Told about what happens to a volume; all calls come from the loop. */
export interface VolumeEvents {
  /** A dialed replica can be admitted. */
  onConnected(name: string): void;
  /** A replica left the set for good, or could not be dialed. */
  onFailed(name: string, reason: string): void;
  /** Copies may differ from now on, in regions that were written to; reads go to one of them. */
  onDiffer(): void;
  /** The members are recorded on all of them (again). */
  onRecorded(record: MemberRecord): void;
}

/** Options of a volume. */
export interface VolumeOptions {
  /** As the user gave it. */
  readonly name: string;
  /** Size in bytes. */
  readonly bytes: number;
  /** Longest time without an answer before a replica is given up while others answer, ms; twice that for all. */
  readonly timeoutMs?: number;
  /** Name (address) of the replica on this machine: reads prefer it. */
  readonly local?: string;
  /** Sizes of the data connections' buffers; default: for production. */
  readonly linkSizes?: StreamSizes;
}
