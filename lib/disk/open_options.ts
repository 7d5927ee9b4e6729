/**
 * How a replica directory is opened.
 *
 * @module
 */
import type { DiskMemory } from "./memory.ts";

/** How to open a replica. */
export interface OpenReplicaOptions {
  /** `direct` (default): past the page cache; `cached`: through it. */
  readonly ioMode?: "direct" | "cached" | undefined;
  /** Count writes in `revision.counter` (default), or leave that file alone. */
  readonly revisionCounter?: boolean | undefined;
  /** Path of the backing file; default: what `volume.meta` says. */
  readonly backingFile?: string | undefined;
  /** Size of the volume, bytes; only used when `volume.meta` was lost. */
  readonly size?: number | undefined;
  /** Memory in the arena; default: reserves its own, which is for good. */
  readonly memory?: DiskMemory | undefined;
  /** An unmap marks the snapshots below the head as removed. */
  readonly unmapMarkChainRemoved?: boolean | undefined;
  /** Limit for snapshots; default {@linkcode MAX_SNAPSHOTS}. */
  readonly snapshotMaxCount?: number | undefined;
  /** Opens a replica though it noted a fault, and forgets that. What it had flushed may be lost. */
  readonly acceptFault?: boolean | undefined;
}
