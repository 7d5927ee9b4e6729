/**
 * A replica in the words of ptypes.Replica, open or closed.
 *
 * @module
 */
import type { Inspection } from "../disk/directory.ts";
import type { ReplicaDisk } from "../disk/replica_disk.ts";
import type { DroverRecord } from "../disk/volume_meta.ts";
import type { ptypes } from "../rpc/gen/ptypes.js";
import { ALL_FEATURES } from "../wire/frame.ts";

/** What travels from the volume thread to the control service: plain data. */
export type ReplicaDescription = ptypes.IReplica;

/** Describes a directory that is not open. */
export function describeClosed(
  found: Inspection,
  id: string,
  options: { readonly revisionCounter: boolean; readonly acceptFault?: boolean },
): ReplicaDescription {
  const { meta } = found;
  return {
    state: meta && options.acceptFault ? "closed" : found.state,
    size: String(meta?.size ?? 0),
    sectorSize: meta?.sectorSize ?? 0,
    dirty: meta?.dirty ?? false,
    rebuilding: meta?.rebuilding ?? false,
    head: meta?.head ?? "",
    parent: meta?.parent ?? "",
    backingFile: meta?.backingFilePath ?? "",
    revisionCounterDisabled: !options.revisionCounter,
    ...extensions(id, meta?.drover, false),
  };
}

/** Describes an open directory. @param lostUnflushed its machine restarted since an unclean stop */
export function describeOpen(disk: ReplicaDisk, id: string, lostUnflushed: boolean): ReplicaDescription {
  const info = disk.info();
  const disks = [...info.disks.values()].map((one): [string, ptypes.IDiskInfo] => [one.name, {
    name: one.name,
    parent: one.parent,
    children: Object.fromEntries(one.children.map((child) => [child, true])),
    removed: one.removed,
    userCreated: one.userCreated,
    created: one.created,
    size: String(one.size),
    labels: Object.fromEntries(one.labels),
  }]);
  return {
    state: info.state,
    size: String(info.size),
    sectorSize: info.sectorSize,
    dirty: info.dirty,
    rebuilding: info.rebuilding,
    head: info.head,
    parent: info.parent,
    backingFile: info.backingFile,
    chain: [...info.chain],
    disks: Object.fromEntries(disks),
    remainSnapshots: info.remainSnapshots,
    revisionCounter: info.revisionCounter,
    revisionCounterDisabled: info.revisionCounterDisabled,
    // Nanoseconds do not fit exactly into a number; what compares these times tolerates seconds.
    lastModifyTime: Number(info.headModifiedNs),
    headFileSize: info.headAllocated,
    unmapMarkDiskChainRemoved: info.unmapMarkChainRemoved,
    snapshotCountUsage: info.snapshotCountUsage,
    snapshotSizeUsage: info.snapshotSizeUsage,
    snapshotCountTotal: info.snapshotCountTotal,
    ...extensions(id, disk.drover, lostUnflushed),
  };
}

function extensions(
  id: string,
  record: DroverRecord | undefined,
  lostUnflushed: boolean,
): ReplicaDescription {
  return {
    droverFeatures: ALL_FEATURES,
    drover: {
      id: record?.id || id,
      generation: record?.generation ?? 0,
      revision: record?.revision ?? 0,
      members: [...record?.members ?? []],
      lostUnflushed,
    },
  };
}
