/**
 * Backups and the restore of a replica, as the main thread knows them: started, asked about, remembered for a while.
 *
 * | call | jobs at once | remembered |
 * |---|---|---|
 * | backup | any number, of one snapshot or several | the last 5 that went well, the last 10 that failed |
 * | restore | one | the last one |
 *
 * @module
 */

import {
  BLOCK_SIZE_PARAMETER,
  type Compression,
  COMPRESSIONS,
  DEFAULT_BLOCK_BYTES,
  MODE_PARAMETER,
} from "../../backup/records.ts";
import { isName, newName } from "../../backup/names.ts";
import { decodeBackupUrl, encodeBackupUrl, parseTargetUrl } from "../../backup/target/url.ts";
import { snapshotName } from "../../disk/names.ts";
import { Code, RpcError } from "../../rpc/errors.ts";
import type { ptypes } from "../../rpc/gen/ptypes.js";
import type { SyncAgent } from "./agent.ts";
import type { BackupEvent, BackupParams } from "./backup_job.ts";
import { snapshotDisk } from "./names.ts";
import { JobStatus } from "./status.ts";

/** Jobs that are remembered, by how they ended. */
const KEPT: Readonly<Record<string, number>> = { complete: 5, error: 10 };
/** Most blocks under way at the same time that a caller may ask for. */
const MAX_CONCURRENCY = 64;

/** One backup. */
class BackupJob extends JobStatus {
  readonly controller = new AbortController();

  constructor(readonly url: string, readonly snapshot: string) {
    super();
  }
}

function refuse(text: string, cause?: unknown): never {
  throw new RpcError(Code.INVALID_ARGUMENT, text, cause === undefined ? {} : { cause });
}

/**
 * Bytes of a quantity as Kubernetes writes them: `2097152`, `2Mi`, `16M`.
 *
 * @throws {RpcError} INVALID_ARGUMENT
 */
export function quantityBytes(text: string): number {
  const match = /^(\d{1,15})(Ki|Mi|Gi|k|M|G|)$/.exec(text);
  const units = { Ki: 1024, Mi: 1024 ** 2, Gi: 1024 ** 3, k: 1e3, M: 1e6, G: 1e9, "": 1 } as const;
  const bytes = match === null ? 0 : Number(match[1]) * units[match[2] as keyof typeof units];
  return bytes > 0 ? bytes : refuse(`${BLOCK_SIZE_PARAMETER} ${text}: expected a size such as 2Mi`);
}

/** Labels of texts `KEY=VALUE`. @throws {RpcError} INVALID_ARGUMENT */
function labelsOf(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(texts.map((text) => {
    const cut = text.indexOf("=");
    return cut < 1 ? refuse(`label ${text}: expected KEY=VALUE`) : [text.slice(0, cut), text.slice(cut + 1)];
  }));
}

function concurrencyOf(limit: number): number {
  return Math.min(MAX_CONCURRENCY, Math.max(1, limit));
}

/** See the module text. */
export class BackupJobs {
  readonly #agent: SyncAgent;
  readonly #jobs = new Map<string, BackupJob>();

  /** Jobs of an agent. */
  constructor(agent: SyncAgent) {
    this.#agent = agent;
  }

  /**
   * Begins a backup; answers when it is known whether it is incremental.
   *
   * @throws {RpcError} when the request makes no sense, a purge is under way, or the backup fails at once
   */
  async create(request: ptypes.BackupCreateRequest): Promise<{ backup: string; isIncremental: boolean }> {
    const replica = await this.#agent.options.thread.call("get") as ptypes.IReplica;
    const params = this.#params(request, replica.backingFile ?? "");
    if (this.#jobs.get(params.name)?.running) {
      throw new RpcError(Code.ALREADY_EXISTS, `backup ${params.name} is under way already`);
    }
    const use = this.#agent.use(`a backup of snapshot ${params.snapshot}`);
    const url = encodeBackupUrl({ target: params.target, volume: params.volume, backup: params.name });
    const job = new BackupJob(url, params.snapshot);
    job.begin();
    // Set again, so that the order of the map is that of the starts.
    this.#jobs.delete(params.name);
    this.#jobs.set(params.name, job);
    let begun: (incremental: boolean) => void = () => {};
    const started = new Promise<boolean>((resolve) => begun = resolve);
    const onEvent = (event: unknown): void => {
      const news = event as BackupEvent;
      if (news.kind === "begun") begun(news.incremental);
      else job.progress = news.percent;
    };
    const { signal } = job.controller;
    const ended = this.#agent.workers.run("backup", "backup", params, { signal, onEvent }).result;
    const over = ended.then(() => job.complete(), (error) => job.fail(error)).finally(() => {
      use[Symbol.dispose]();
      this.#forgetOld();
    });
    const isIncremental = await Promise.race([started, over.then(() => false)]);
    if (job.state === "error") throw new RpcError(Code.INTERNAL, job.error);
    return { backup: params.name, isIncremental };
  }

  #params(request: ptypes.BackupCreateRequest, backing: string): BackupParams {
    const { volumeName: volume, parameters, backingImageName, backingImageChecksum } = request;
    const disk = snapshotDisk(request.snapshotFileName), snapshot = snapshotName(disk) ?? disk;
    try {
      parseTargetUrl(request.backupTarget);
    } catch (cause) {
      refuse(cause instanceof Error ? cause.message : String(cause), cause);
    }
    if (!isName(volume)) {
      refuse(`volume name ${JSON.stringify(volume)}: it cannot be the name of a backup volume`);
    }
    const name = request.backupName || newName("backup");
    if (!isName(name)) refuse(`backup name ${JSON.stringify(name)}: it cannot be the name of a backup`);
    const compression = (request.compressionMethod || "lz4") as Compression;
    if (!COMPRESSIONS.includes(compression)) {
      refuse(`compression method ${compression}: expected ${COMPRESSIONS.join(", ")}`);
    }
    const size = parameters[BLOCK_SIZE_PARAMETER] ?? "", mode = parameters[MODE_PARAMETER] ?? "incremental";
    if (mode !== "incremental" && mode !== "full") {
      refuse(`${MODE_PARAMETER} ${mode}: expected incremental or full`);
    }
    try {
      Deno.statSync(`${this.#agent.options.directory}/${disk}`);
    } catch (cause) {
      throw new RpcError(Code.NOT_FOUND, `cannot find snapshot ${snapshot} of volume ${volume}`, { cause });
    }
    return {
      directory: this.#agent.options.directory,
      disk,
      snapshot,
      backing,
      target: request.backupTarget,
      credentials: { ...request.credential },
      volume,
      name,
      labels: labelsOf(request.labels),
      compression,
      blockBytes: size === "" ? DEFAULT_BLOCK_BYTES : quantityBytes(size),
      mode,
      concurrency: concurrencyOf(request.concurrentLimit),
      ...(backingImageName !== "" &&
        { backingImage: { name: backingImageName, checksum: backingImageChecksum } }),
      storageClass: request.storageClassName,
    };
  }

  /** How a backup goes. @throws {RpcError} NOT_FOUND when none of this name is remembered */
  status(backup: string): ptypes.IBackupStatusResponse {
    const job = this.#jobs.get(backup);
    if (!job) throw new RpcError(Code.NOT_FOUND, `backup ${backup} is not found`);
    const { progress, url, error, snapshot, state } = job;
    return { progress, backupUrl: url, error, snapshotName: snapshot, state };
  }

  /** Ends a backup that is under way, and forgets it. @throws {RpcError} NOT_FOUND */
  remove(backup: string): void {
    const name = backup.includes("://") ? decodeBackupUrl(backup).backup : backup;
    const job = this.#jobs.get(name);
    if (!job) throw new RpcError(Code.NOT_FOUND, `backup ${name} is not found`);
    job.controller.abort();
    this.#jobs.delete(name);
  }

  #forgetOld(): void {
    for (const [state, kept] of Object.entries(KEPT)) {
      const old = [...this.#jobs].filter(([, job]) => job.state === state).slice(0, -kept);
      for (const [name] of old) this.#jobs.delete(name);
    }
  }

  /** Forgets all that ended. */
  reset(): void {
    for (const [name, job] of this.#jobs) {
      if (!job.running) this.#jobs.delete(name);
    }
  }
}
