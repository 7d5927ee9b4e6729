/**
 * What the operations of the backup store take and give. The operations themselves are one file each; `mod.ts`
 * names them all.
 *
 * @module
 */
import type { Codec } from "./codec.ts";
import type { BackupRecord, Compression } from "./records.ts";

/** Makes an incremental backup where it can (`incremental`), or takes everything and uploads it again (`full`). */
export type BackupMode = "incremental" | "full";

/** How far an operation is. */
export interface Progress {
  /** From 0 to 100; 95 when all blocks are done and only records are left. */
  readonly percent: number;
  /** Blocks dealt with. */
  readonly doneBlocks: number;
  /** Blocks in all. */
  readonly totalBlocks: number;
  /** Bytes sent to or received from the target so far, as stored there. */
  readonly transferredBytes: number;
}

/** What every long operation takes. */
export interface OperationOptions {
  /** Blocks under way at the same time. Default {@linkcode DEFAULT_CONCURRENCY}. Each holds about two blocks of memory. */
  readonly concurrency?: number;
  /** Called now and then. */
  readonly onProgress?: (progress: Progress) => void;
  /** Stops the operation; it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Who hashes and compresses. Default: threads of the operation's own. */
  readonly codec?: Codec;
}

/** What locks and clocks an operation uses; tests set these. */
export interface LockOptions {
  /** Pause between writing a lock and looking for others, in milliseconds. Default: see `lock.ts`. */
  readonly settleMs?: number;
}

/** Blocks under way at the same time when nothing is said. */
export const DEFAULT_CONCURRENCY = 4;

/** Most blocks under way at the same time: bounds the memory. */
export const MAX_CONCURRENCY = 64;

/** What to back up, and how. */
export interface CreateOptions extends OperationOptions, LockOptions {
  /** Name of the volume. */
  readonly volume: string;
  /** Name of the snapshot that the source shows. */
  readonly snapshot: string;
  /** When the snapshot was made, as the replica records it (RFC 3339). */
  readonly snapshotCreatedAt?: string;
  /**
   * Name of the backup; default `backup-` and 16 hex digits. Giving the name of a backup that was cut short goes on
   * with it; giving the name of a complete one of the same snapshot returns that.
   */
  readonly name?: string;
  /**
   * Size of a block in bytes, a multiple of 4096. Default 2 MiB. Longhorn restores only volumes whose size is a multiple
   * of it.
   */
  readonly blockBytes?: number;
  /** Compression of the volume's blocks. The volume's first backup fixes it; later requests are ignored. Default lz4. */
  readonly compression?: Compression;
  /** Default `incremental`, which becomes full by itself where there is nothing to build on. */
  readonly mode?: BackupMode;
  /** Labels of the backup. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Kept in the volume's record. */
  readonly backingImage?: { readonly name: string; readonly checksum: string };
  /** Kept in the volume's record. */
  readonly storageClass?: string;
}

/** Why a backup holds all blocks instead of the changed ones. */
export type FullReason =
  | "first backup"
  | "requested"
  | "last backup unreadable"
  | "last snapshot gone"
  | "same snapshot"
  | "other block size";

/** A finished backup. */
export interface CreateResult {
  /** The record as it is stored. */
  readonly record: BackupRecord;
  /** Why it is not incremental; undefined when it is. */
  readonly fullReason: FullReason | undefined;
  /** Blocks that were looked at. */
  readonly changedBlocks: number;
  /** Blocks that were uploaded; the others were there already. */
  readonly uploadedBlocks: number;
}

/** Names one backup. */
export interface BackupName {
  /** Name of the volume. */
  readonly volume: string;
  /** Name of the backup. */
  readonly backup: string;
}

/** Where a restore notes how far it is, so that it can go on after a crash. */
export interface RestoreJournal {
  /** What was saved last; undefined when nothing was. */
  load(): Promise<string | undefined>;
  /** Saves a short text durably and atomically. */
  save(text: string): Promise<void>;
  /** Forgets it: the restore is complete. */
  clear(): Promise<void>;
}

/** What makes a restore that can be interrupted. */
export interface JournalOptions {
  /** Where to note how far it is. Without one, an interrupted restore begins anew. */
  readonly journal?: RestoreJournal;
  /** A note is written after so many bytes; each time the sink is flushed. Default 256 MiB. */
  readonly journalEveryBytes?: number;
}

/** What to restore. */
export interface RestoreOptions extends OperationOptions, LockOptions, JournalOptions, BackupName {
  /**
   * True when the sink may hold other data: everything that the backup does not hold is zeroed. Default false: the
   * sink reads as zeros.
   */
  readonly zeroRest?: boolean;
}

/** Brings a copy of one backup to the state of a newer one of the same volume. */
export interface DeltaOptions extends OperationOptions, LockOptions, JournalOptions {
  /** Name of the volume. */
  readonly volume: string;
  /** Name of the backup that the sink holds. */
  readonly from: string;
  /** Name of the backup that the sink is to hold. */
  readonly to: string;
}

/** A finished restore. */
export interface RestoreResult {
  /** The record of the backup that the sink now holds. */
  readonly record: BackupRecord;
  /** Size of the volume in bytes, as recorded with the volume. */
  readonly volumeBytes: number;
  /** Blocks written to the sink. */
  readonly writtenBlocks: number;
  /** Blocks downloaded: fewer than written when blocks are zeros. */
  readonly downloadedBlocks: number;
  /** Blocks that an earlier, interrupted run had done. */
  readonly resumedBlocks: number;
}

/** Restores into a file of its own. */
export interface RestoreToFileOptions extends OperationOptions, LockOptions, BackupName {
  /** The file; must not exist. Until the end the data is in `PATH.partial` and `PATH.partial.json`. */
  readonly path: string;
  /** Format of the file. */
  readonly format: "raw" | "qcow2";
  /** See {@linkcode JournalOptions.journalEveryBytes}. */
  readonly journalEveryBytes?: number;
}

/** What a delete takes. */
export interface DeleteOptions extends LockOptions {
  /** Stops before the next step. */
  readonly signal?: AbortSignal;
  /**
   * What to do while a backup or restore of the volume runs: `defer` removes the record and leaves the blocks to a
   * later collection, `fail` throws a `LockedError`, as Longhorn does. Default `defer`.
   */
  readonly whenBusy?: "defer" | "fail";
  /** Removals under way at the same time. Default {@linkcode DEFAULT_CONCURRENCY}. */
  readonly concurrency?: number;
}

/** What happened to the blocks that nothing needs any more. */
export interface GarbageReport {
  /** `done`; or why blocks were left: a running backup or restore, a backup in progress, an unreadable record. */
  readonly state: "done" | "busy" | "in progress" | "unreadable record";
  /** Blocks removed. */
  readonly removedBlocks: number;
  /** Bytes that they took on the target. */
  readonly removedBytes: number;
  /** Blocks left in use. */
  readonly keptBlocks: number;
  /** For people: which record or lock stood in the way. Empty when done. */
  readonly detail: string;
}

/** Which backups stay. A backup goes when neither rule keeps it; the newest complete one always stays. */
export interface RetainOptions extends DeleteOptions {
  /** Name of the volume. */
  readonly volume: string;
  /** This many of the newest backups stay. */
  readonly keepCount?: number;
  /** Backups younger than this stay, in milliseconds. */
  readonly keepMs?: number;
  /** Only backups that have all of these labels are counted and removed. */
  readonly labels?: Readonly<Record<string, string>>;
  /** True: says what would go and removes nothing. */
  readonly dryRun?: boolean;
  /** The time to count ages from, in milliseconds since 1970. Default: now. */
  readonly nowMs?: number;
}

/** What {@linkcode RetainOptions} led to. */
export interface RetainResult {
  /** Names of the backups that were removed (or would be), oldest first. */
  readonly removed: readonly string[];
  /** Names of those that stay, oldest first. */
  readonly kept: readonly string[];
  /** What became of their blocks; undefined when nothing was removed. */
  readonly garbage: GarbageReport | undefined;
}

/** What to check. */
export interface VerifyOptions extends OperationOptions, LockOptions {
  /** Name of the volume. */
  readonly volume: string;
  /** Names of the backups; default: all complete ones. Blocks that they share are read once. */
  readonly backups?: readonly string[];
}

/** One block that is not as its record says. */
export interface BadBlock {
  /** Backups that need it. */
  readonly backups: readonly string[];
  /** Its first offset in the first of them, in bytes. */
  readonly offset: number;
  /** Its checksum, which is its name. */
  readonly checksum: string;
  /** What is wrong. */
  readonly problem: string;
}

/** The outcome of a check. */
export interface VerifyResult {
  /** Backups that were checked. */
  readonly backups: readonly string[];
  /** Backups that could not be checked, with the reason: in progress, unreadable. */
  readonly skipped: readonly { readonly backup: string; readonly problem: string }[];
  /** Different blocks that were read. */
  readonly blocks: number;
  /** Those that are bad; empty when all is well. */
  readonly bad: readonly BadBlock[];
}
