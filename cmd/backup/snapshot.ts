/**
 * `drover backup create`: a backup of a snapshot of a volume that is being served. A replica makes it; this asks for
 * it and shows how far it is.
 *
 * @module
 */
import {
  cancelBackup,
  startBackup,
  type StartedBackup,
  startedBackupStatus,
} from "../../lib/client/backups.ts";
import { EngineClient } from "../../lib/client/engine.ts";
import { createSnapshot, listSnapshots } from "../../lib/client/snapshots.ts";
import { UsageError } from "../support/program.ts";
import { formatSize } from "../support/sizes.ts";
import { formatFields } from "../support/table.ts";
import { type CreateFlags, createOptions } from "./create.ts";
import { recordOf } from "./newest.ts";
import { interruptible, ProgressLine } from "./progress.ts";
import { runningVolume } from "./running.ts";
import { credentialsOf, open, targetUrlOf, wantsJson } from "./settings.ts";

/** Flags of the command. */
export interface SnapshotBackupFlags extends CreateFlags {
  /** Where volumes are looked for. */
  readonly dir?: readonly string[];
  /** Return when the backup has begun. */
  readonly wait?: boolean;
}

/** Milliseconds between two looks at a backup. */
const POLL_MS = 500;

async function untilDone(engine: EngineClient, started: StartedBackup, signal: AbortSignal): Promise<void> {
  using line = new ProgressLine(`backup ${started.backup}`);
  const stop = (): void => void cancelBackup(engine, started).catch(() => {});
  signal.addEventListener("abort", stop, { once: true });
  for (;;) {
    const { state, error, progress } = await startedBackupStatus(engine, started);
    if (error) throw new Error(`backup ${started.backup} failed: ${error}`);
    if (state === "complete") return;
    line.showPercent(progress ?? 0);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    signal.throwIfAborted();
  }
}

/** `drover backup create VOLUME [SNAPSHOT]` */
export async function backUpVolume(
  volume: string,
  given: string | undefined,
  flags: SnapshotBackupFlags,
): Promise<void> {
  const json = wantsJson(flags), target = targetUrlOf(flags);
  const { blockBytes, compression, mode, labels, name, concurrency } = createOptions(flags);
  const credentials = (await credentialsOf(flags)).reveal();
  using engine = new EngineClient(runningVolume(volume, flags.dir).control, { volumeName: volume });
  const known = await listSnapshots(engine);
  if (given !== undefined && !known.includes(given)) {
    throw new UsageError(
      `volume ${volume} has no snapshot ${given}` +
        (known.length > 0 ? `; there is: ${known.join(", ")}` : ""),
    );
  }
  const snapshot = given ?? await createSnapshot(engine, { labels: { for: "backup" } });
  const options = { snapshot, target, credentials, volume, full: mode === "full", labels: { ...labels } };
  const started = await startBackup(engine, {
    ...options,
    ...(blockBytes !== undefined && { blockBytes }),
    ...(compression !== undefined && { compression }),
    ...(name !== undefined && { name }),
    ...(concurrency !== undefined && { concurrency }),
  });
  if (flags.wait === false) {
    return console.log(json ? JSON.stringify({ ...started, snapshot }, null, 2) : started.backup);
  }
  const hint = `blocks that were uploaded stay; go on with: --name ${started.backup}`;
  await interruptible(hint, (signal) => untilDone(engine, started, signal));
  const { backupUrl } = await startedBackupStatus(engine, started);
  await using store = await open(flags);
  const record = await recordOf(store, { volume, backup: started.backup });
  const uploadedBytes = record.newlyUploadedBytes + record.reUploadedBytes;
  if (json) {
    const { backup, replica, isIncremental } = started, sizeBytes = record.bytes;
    const all = {
      backup,
      url: backupUrl,
      snapshot,
      replica,
      incremental: isIncremental,
      sizeBytes,
      uploadedBytes,
    };
    return console.log(JSON.stringify(all, null, 2));
  }
  console.log(formatFields([
    ["backup", started.backup],
    ["url", backupUrl ?? ""],
    ["snapshot", snapshot],
    ["kind", record.isIncremental ? "incremental" : "full"],
    ["size", formatSize(record.bytes)],
    ["uploaded", formatSize(uploadedBytes)],
  ]));
}
