/**
 * A backup of one snapshot, in a thread of its own.
 *
 * @module
 */
import {
  type BackupMode,
  type BlockSource,
  type Compression,
  createBackup,
  type Target,
} from "../../backup/mod.ts";
import { findBackup, findVolume } from "../../backup/store.ts";
import { Credentials } from "../../backup/target/credentials.ts";
import { openTarget } from "../../backup/target/open.ts";
import { SystemRunner } from "../../host/command.ts";
import { ShareMounts } from "../../host/share_mounts.ts";
import { FilesLibc } from "../../io/files_libc.ts";
import type { JobContext } from "./job.ts";
import { SnapshotSource } from "./snapshot_source.ts";

/** What is backed up, where to, and how. */
export interface BackupParams {
  /** The replica directory. */
  readonly directory: string;
  /** File name of the snapshot's disk. */
  readonly disk: string;
  /** Name of the snapshot. */
  readonly snapshot: string;
  /** Path of the volume's backing image; "" for none. */
  readonly backing: string;
  /** URL of the target. */
  readonly target: string;
  /** What the target needs beside. */
  readonly credentials: Readonly<Record<string, string>>;
  /** Name of the volume. */
  readonly volume: string;
  /** Name of the backup. */
  readonly name: string;
  /** Labels of the backup. */
  readonly labels: Readonly<Record<string, string>>;
  /** How the blocks of a new volume are compressed. */
  readonly compression: Compression;
  /** Size of a block in bytes. */
  readonly blockBytes: number;
  /** Only what changed, or everything again. */
  readonly mode: BackupMode;
  /** Blocks under way at the same time. */
  readonly concurrency: number;
  /** Kept in the volume's record, where there is one. */
  readonly backingImage?: { readonly name: string; readonly checksum: string };
  /** Kept in the volume's record. */
  readonly storageClass: string;
}

/** What the job reports. */
export type BackupEvent =
  | { readonly kind: "begun"; readonly incremental: boolean }
  | { readonly kind: "progress"; readonly percent: number };

/** Opens a target in this thread. */
export async function openTargetHere(
  url: string,
  credentials: Readonly<Record<string, string>>,
): Promise<Target> {
  const mounter = new ShareMounts({ runner: new SystemRunner() });
  return await openTarget(url, Credentials.from(credentials), { mounter });
}

/** Whether there is a backup that this one can build on. Only for who asks: the backup decides by itself. */
async function looksIncremental(target: Target, source: BlockSource, params: BackupParams): Promise<boolean> {
  const last = (await findVolume(target, params.volume))?.lastBackupName ?? "";
  if (last === "" || params.mode === "full") return false;
  try {
    const record = await findBackup(target, params.volume, last);
    return record !== undefined && record.snapshotName !== params.snapshot && source.has(record.snapshotName);
  } catch {
    // A record that cannot be read is not built on.
    return false;
  }
}

/** See the module text. */
export async function backupSnapshot(params: BackupParams, context: JobContext): Promise<void> {
  using source = new SnapshotSource(new FilesLibc(), params.directory, params.disk, params.backing);
  await using target = await openTargetHere(params.target, params.credentials);
  context.event(
    { kind: "begun", incremental: await looksIncremental(target, source, params) } satisfies BackupEvent,
  );
  const { volume, snapshot, name, labels, compression, blockBytes, mode, concurrency, storageClass } = params;
  let shown = -1;
  await createBackup(target, source, {
    volume,
    snapshot,
    name,
    labels,
    compression,
    blockBytes,
    mode,
    concurrency,
    snapshotCreatedAt: source.created,
    signal: context.signal,
    ...(params.backingImage && { backingImage: params.backingImage }),
    ...(storageClass !== "" && { storageClass }),
    onProgress: ({ percent }) => {
      if (Math.floor(percent) === shown) return;
      shown = Math.floor(percent);
      context.event({ kind: "progress", percent: shown } satisfies BackupEvent);
    },
  });
}
