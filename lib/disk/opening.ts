/**
 * Parts of an open replica that are made when it is opened.
 *
 * @module
 */
import { BLOCK_BYTES, BlockMap, UNKNOWN } from "./block_map.ts";
import type { DiskCore } from "./core.ts";
import { ReplicaStateError } from "./errors.ts";
import type { OpenedChain } from "./open_chain.ts";
import { NO_COUNTER, openCounter, RevisionCounter } from "./revision_counter.ts";
import type { VolumeMeta } from "./volume_meta.ts";

/** The state to go on with. @throws {ReplicaStateError} when a fault was noted and is not accepted */
export function acceptedMeta(directory: string, meta: VolumeMeta, accept: boolean): VolumeMeta {
  if (meta.error === "") return meta;
  if (accept) return { ...meta, error: "" };
  throw new ReplicaStateError(
    `replica ${directory} is bad: ${meta.error}. Replace it by a rebuild; if there is no other copy, ` +
      `start it once with --accept-fault and check the data`,
  );
}

/** A block map for a chain. */
export function newMap(size: number, opened: OpenedChain): BlockMap {
  const { layers } = opened;
  return new BlockMap(Math.ceil(size / BLOCK_BYTES), layers.count === 1 ? layers.head.id : UNKNOWN);
}

/** Opens the revision counter, or makes one that is switched off. @throws {IoError} @throws {MetadataError} */
export function startCounter(core: DiskCore, directory: string, enabled: boolean): RevisionCounter {
  if (!enabled) return new RevisionCounter(core, NO_COUNTER, 0);
  const { io, memory } = core, block = memory.counterBlock;
  const { fd, value } = openCounter(
    io.files,
    directory,
    core.direct,
    io.arena.u8.subarray(block, block + BLOCK_BYTES),
  );
  return new RevisionCounter(core, fd, value);
}
