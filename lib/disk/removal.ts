/**
 * How to get rid of a disk without changing what the others show.
 *
 * @module
 */
import type { DiskRecord } from "./disk_record.ts";
import type { DiskSet } from "./disk_set.ts";
import { ReplicaStateError } from "./errors.ts";

/** One step of a removal, in the words of ptypes.PrepareRemoveAction. */
export interface PrepareRemoveAction {
  /**
   * `remove`: delete source; `coalesce`: copy target's data into source; `replace`: source takes target's place;
   * `prune`: punch out of source what target hides.
   */
  readonly action: "remove" | "coalesce" | "replace" | "prune";
  /** File name of the disk to get rid of. */
  readonly source: string;
  /** File name of its child; "" for `remove`. */
  readonly target: string;
}

/**
 * The steps for a disk that is marked as removed.
 *
 * | Children | Steps | Why |
 * |---|---|---|
 * | none | remove | nothing shows its data |
 * | one | coalesce, replace | the child needs its data; the larger, older file usually takes the smaller one |
 * | only the head | prune | the head is being written to; only what it hides already can go |
 * | several | none | all of them need its data |
 *
 * @throws {ReplicaStateError} for the head, or a disk that is not marked
 */
export function removalActions(set: DiskSet, head: string, disk: DiskRecord): PrepareRemoveAction[] {
  const source = disk.name;
  if (source === head) throw new ReplicaStateError("cannot delete the active differencing disk");
  if (!disk.removed) throw new ReplicaStateError(`cannot remove disk ${source}: it is not marked as removed`);
  const children = set.children(source), [target] = children;
  if (target === undefined) return [{ action: "remove", source, target: "" }];
  if (children.length > 1) return [];
  if (target === head) return [{ action: "prune", source, target }];
  return [{ action: "coalesce", source, target }, { action: "replace", source, target }];
}
