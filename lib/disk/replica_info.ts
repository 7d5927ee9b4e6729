/**
 * What a replica reports about itself: everything that ReplicaGet answers with.
 *
 * @module
 */
import { IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import type { DiskSet } from "./disk_set.ts";
import type { VolumeMeta } from "./volume_meta.ts";

/** Most snapshots of a volume, and the default limit. */
export const MAX_SNAPSHOTS = 250;

/** States of an open replica. */
export type OpenState = "open" | "dirty" | "rebuilding" | "error";

/** One disk as it is reported. */
export interface DiskInfo {
  /** File name, or the path of the backing file. */
  readonly name: string;
  /** Parent's file name, or "". */
  readonly parent: string;
  /** File names of the disks right above. */
  readonly children: readonly string[];
  /** Marked for deletion. */
  readonly removed: boolean;
  /** False for snapshots made by the system. */
  readonly userCreated: boolean;
  /** RFC 3339, or "". */
  readonly created: string;
  /** Allocated bytes (not the apparent size). */
  readonly size: number;
  /** What the user attached. */
  readonly labels: ReadonlyMap<string, string>;
}

/** A replica as it is reported. */
export interface ReplicaInfo {
  /** See {@linkcode OpenState}. */
  readonly state: OpenState;
  /** Why the state is `error`, or "". */
  readonly error: string;
  /** Size of the volume, bytes. */
  readonly size: number;
  /** Bytes of a sector. */
  readonly sectorSize: number;
  /** Written to since it was opened, or not closed cleanly before. */
  readonly dirty: boolean;
  /** A rebuild was begun and not ended. */
  readonly rebuilding: boolean;
  /** File name of the head. */
  readonly head: string;
  /** File name of the head's parent, or "". */
  readonly parent: string;
  /** Path of the backing file, or "". */
  readonly backingFile: string;
  /** The volume is encrypted by its user. */
  readonly encrypted: boolean;
  /** File names from the head to the oldest disk, without those marked as removed. */
  readonly chain: readonly string[];
  /** All disks, the backing file included, by {@linkcode DiskInfo.name}. */
  readonly disks: ReadonlyMap<string, DiskInfo>;
  /** Writes and unmaps so far; 0 when the counter is switched off. */
  readonly revisionCounter: number;
  /** The counter is switched off. */
  readonly revisionCounterDisabled: boolean;
  /** Time of the head's last modification, nanoseconds since 1970. */
  readonly headModifiedNs: bigint;
  /** Allocated bytes of the head. */
  readonly headAllocated: number;
  /** An unmap marks the snapshots below the head as removed. */
  readonly unmapMarkChainRemoved: boolean;
  /** Snapshots that count against the limit: not removed, wherever they are. */
  readonly snapshotCountUsage: number;
  /** All disks: the head, the backing file and removed ones included. */
  readonly snapshotCountTotal: number;
  /** Allocated bytes of the snapshots in the live chain that are not removed. */
  readonly snapshotSizeUsage: number;
  /** Snapshots that may still be made. */
  readonly remainSnapshots: number;
}

/** What {@linkcode describeReplica} needs of an open replica. */
export interface ReplicaFacts {
  /** Content of `volume.meta`, as far as it matters here. */
  readonly meta: VolumeMeta;
  /** The disks' records. */
  readonly set: DiskSet;
  /** Path of the backing file in use, or "". */
  readonly backingFile: string;
  /** Written to since it was opened, or not closed cleanly before. */
  readonly dirty: boolean;
  /** Why the replica must not be used any more, or "". */
  readonly fault: string;
  /** Value of the counter, or undefined when it is switched off. */
  readonly counter: number | undefined;
  /** An unmap marks the snapshots below the head as removed. */
  readonly unmapMarkChainRemoved: boolean;
  /** Limit for snapshots. */
  readonly snapshotMaxCount: number;
}

/** The state of an open replica, from what is known of it. */
export function openState(facts: Pick<ReplicaFacts, "meta" | "dirty" | "fault">): OpenState {
  if (facts.fault !== "") return "error";
  if (facts.meta.rebuilding) return "rebuilding";
  return facts.dirty ? "dirty" : "open";
}

/** Puts a report together; asks the file system for the size of every disk. @throws {IoError} {@linkcode ChainError} */
export function describeReplica(files: Files, facts: ReplicaFacts): ReplicaInfo {
  const { meta, set } = facts;
  const disks = describeDisks(files, facts);
  const chain = set.chain(meta.head);
  const counts = (disk: DiskInfo | undefined) =>
    disk !== undefined && !disk.removed && disk.name !== meta.head && disk.name !== facts.backingFile;
  const usage = [...disks.values()].filter(counts).length;
  const sizes = chain.map((disk) => disks.get(disk)).map((disk) => disk && counts(disk) ? disk.size : 0);
  const head = files.stat(`${set.directory}/${meta.head}`);
  return {
    state: openState(facts),
    error: facts.fault,
    size: meta.size,
    sectorSize: meta.sectorSize,
    dirty: facts.dirty,
    rebuilding: meta.rebuilding,
    head: meta.head,
    parent: set.get(meta.head)?.parent ?? "",
    backingFile: facts.backingFile,
    encrypted: meta.encrypted,
    chain: chain.filter((disk) => !set.get(disk)?.removed),
    disks,
    revisionCounter: facts.counter ?? 0,
    revisionCounterDisabled: facts.counter === undefined,
    headModifiedNs: head.modifiedNs,
    headAllocated: head.allocated,
    unmapMarkChainRemoved: facts.unmapMarkChainRemoved,
    snapshotCountUsage: usage,
    snapshotCountTotal: disks.size,
    snapshotSizeUsage: sizes.reduce((sum, size) => sum + size, 0),
    remainSnapshots: facts.snapshotMaxCount - usage,
  };
}

function describeDisks(files: Files, facts: ReplicaFacts): Map<string, DiskInfo> {
  const { set } = facts, disks = new Map<string, DiskInfo>(), children = new Map<string, string[]>();
  for (const record of set.records.values()) {
    const siblings = children.get(record.parent);
    if (siblings) siblings.push(record.name);
    else children.set(record.parent, [record.name]);
  }
  for (const record of set.records.values()) {
    disks.set(record.name, {
      name: record.name,
      parent: record.parent,
      removed: record.removed,
      userCreated: record.userCreated,
      created: record.created,
      children: children.get(record.name) ?? [],
      size: allocated(files, `${set.directory}/${record.name}`),
      labels: record.labels ?? new Map(),
    });
  }
  if (facts.backingFile !== "") {
    disks.set(facts.backingFile, {
      name: facts.backingFile,
      parent: "",
      children: [],
      removed: false,
      userCreated: false,
      created: "",
      size: allocated(files, facts.backingFile),
      labels: new Map(),
    });
  }
  return disks;
}

/** Allocated bytes; 0 for a branch whose file is gone. */
function allocated(files: Files, path: string): number {
  try {
    return files.stat(path).allocated;
  } catch (error) {
    if (error instanceof IoError) return 0;
    throw error;
  }
}
