/**
 * The restore of a replica as the main thread knows it: one at a time. What the thread of its own left as a file
 * becomes part of the chain here: reload, and a new head on top of it.
 *
 * @module
 */
import { decodeBackupUrl } from "../../backup/target/url.ts";
import { replaceFile } from "../../disk/atomic.ts";
import { recordTime } from "../../disk/disk_record.ts";
import { META_SUFFIX } from "../../disk/names.ts";
import { FilesLibc } from "../../io/files_libc.ts";
import { Code, RpcError } from "../../rpc/errors.ts";
import type { ptypes } from "../../rpc/gen/ptypes.js";
import type { SyncAgent } from "./agent.ts";
import { snapshotDisk } from "./names.ts";
import type { RestoreParams } from "./restore_job.ts";
import { readRestoreNote } from "./restore_note.ts";
import { JobStatus } from "./status.ts";

/** Reloading and reverting a long chain takes a while; milliseconds. */
const LONG_CALL_MS = 10 * 60_000;
/** Most blocks under way at the same time that a caller may ask for. */
const MAX_CONCURRENCY = 64;

/** See the module text. */
export class RestoreJobs {
  /** The one under way, or the last one. */
  readonly job: JobStatus = new JobStatus();
  readonly #agent: SyncAgent;
  #url = "";
  #disk = "";
  #current = "";

  /** Jobs of an agent. */
  constructor(agent: SyncAgent) {
    this.#agent = agent;
  }

  /**
   * Begins a restore; {@linkcode RestoreJobs.status} tells how it goes.
   *
   * @throws {RpcError} when the request makes no sense, or another job is in its way
   */
  async start(request: ptypes.BackupRestoreRequest): Promise<void> {
    const disk = snapshotDisk(request.snapshotDiskName);
    let place: ReturnType<typeof decodeBackupUrl>;
    try {
      place = decodeBackupUrl(request.backup);
    } catch (cause) {
      throw new RpcError(Code.INVALID_ARGUMENT, cause instanceof Error ? cause.message : String(cause), {
        cause,
      });
    }
    if (place.volume === "" || place.backup === "") {
      throw new RpcError(Code.INVALID_ARGUMENT, `${request.backup} names no backup`);
    }
    if (this.job.running) {
      throw new RpcError(Code.FAILED_PRECONDITION, "cannot begin to restore: a restore is under way already");
    }
    const { directory, thread } = this.#agent.options;
    const use = this.#agent.use(`a restore of ${place.backup}`);
    this.job.begin();
    this.#url = request.backup;
    this.#disk = disk;
    this.#current = place.backup;
    try {
      const replica = await thread.call("get") as ptypes.IReplica;
      const params: RestoreParams = {
        directory,
        disk,
        target: place.target,
        credentials: { ...request.credential },
        volume: place.volume,
        backup: place.backup,
        concurrency: Math.min(MAX_CONCURRENCY, Math.max(1, request.concurrentLimit)),
        bytes: Number(replica.size ?? 0),
        backed: (replica.backingFile ?? "") !== "",
      };
      const onEvent = (percent: unknown): void => void (this.job.progress = Number(percent));
      const { result } = this.#agent.workers.run("backup", "restore", params, { onEvent });
      result.then(() => this.#adopt(directory, disk)).then(
        () => this.job.complete(),
        (error) => this.job.fail(error),
      )
        .finally(() => use[Symbol.dispose]());
    } catch (error) {
      this.job.fail(error);
      use[Symbol.dispose]();
      throw error;
    }
  }

  /** Makes the snapshot what the volume holds. */
  async #adopt(directory: string, disk: string): Promise<void> {
    const { thread } = this.#agent.options, files = new FilesLibc();
    if (!files.exists(`${directory}/${disk}${META_SUFFIX}`)) {
      replaceFile(files, directory, `${disk}${META_SUFFIX}`, new TextEncoder().encode('{"Parent":""}\n'));
    }
    await thread.call("reload", {}, LONG_CALL_MS);
    // Also when it was there before: whatever a head on top of it holds is not part of the backup.
    await thread.call("revert", { name: disk, created: recordTime(Date.now()) }, LONG_CALL_MS);
  }

  /** How it goes. */
  status(): ptypes.IRestoreStatusResponse {
    const { running, error, progress, state } = this.job;
    const note = readRestoreNote(new FilesLibc(), this.#agent.options.directory);
    return {
      isRestoring: running,
      lastRestored: note?.delta === "" ? note.backup : "",
      progress,
      error,
      destFileName: this.#disk === "" ? note?.disk ?? "" : this.#disk,
      state,
      backupUrl: this.#url,
      currentRestoringBackup: running ? this.#current : "",
    };
  }
}
