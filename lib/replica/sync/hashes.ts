/**
 * Hash jobs of a replica: started, asked about and cancelled by snapshot. They run one after the other; what became
 * of the last ones is remembered.
 *
 * @module
 */
import { Code, RpcError } from "../../rpc/errors.ts";
import type { HashParams, HashResult } from "./hash_file.ts";
import { snapshotDisk } from "./names.ts";
import { JobStatus } from "./status.ts";
import type { SyncWorkers } from "./workers.ts";

/** Finished jobs that are remembered, of each outcome. */
const KEPT = 10;

class HashJob extends JobStatus {
  checksum = "";
  silentlyCorrupted = false;
  readonly controller = new AbortController();
}

/** See the module text. */
export class HashJobs {
  readonly #jobs = new Map<string, HashJob>();
  #last: Promise<void> = Promise.resolve();

  /** Jobs on the disks of a directory. */
  constructor(readonly workers: SyncWorkers, readonly place: Pick<HashParams, "directory" | "locks">) {}

  /**
   * Begins to hash a snapshot, or lets a job that is under way go on.
   *
   * @throws {RpcError} when there is no such snapshot
   */
  start(snapshot: string, rehash: boolean): void {
    const disk = snapshotDisk(snapshot);
    if (this.#jobs.get(disk)?.running) return;
    try {
      Deno.statSync(`${this.place.directory}/${disk}`);
    } catch (cause) {
      throw new RpcError(Code.NOT_FOUND, `cannot hash snapshot ${snapshot}: there is no ${disk}`, { cause });
    }
    const job = new HashJob();
    // Set again, so that the order of the map is that of the starts.
    this.#jobs.delete(disk);
    this.#jobs.set(disk, job);
    job.begin();
    this.#last = this.#last.then(() => this.#run(disk, rehash, job));
  }

  async #run(disk: string, rehash: boolean, job: HashJob): Promise<void> {
    try {
      const { directory, locks } = this.place;
      const params: HashParams = { directory, locks, disk, rehash };
      const { signal } = job.controller;
      const result = await this.workers.run<HashResult>("hash", "hash", params, { signal }).result;
      job.checksum = result.checksum;
      job.silentlyCorrupted = result.silentlyCorrupted;
      job.complete();
    } catch (error) {
      job.fail(error);
    }
    for (const state of ["complete", "error"]) {
      const old = [...this.#jobs].filter(([, one]) => one.state === state).slice(0, -KEPT);
      for (const [name] of old) this.#jobs.delete(name);
    }
  }

  /** How a job goes. @throws {RpcError} NOT_FOUND when none is known */
  status(
    snapshot: string,
  ): { state: string; checksum: string; error: string; silentlyCorrupted: boolean } {
    const job = this.#jobs.get(snapshotDisk(snapshot));
    if (!job) throw new RpcError(Code.NOT_FOUND, `snapshot hash task ${snapshot} is not found`);
    const { state, checksum, error, silentlyCorrupted } = job;
    return { state, checksum, error, silentlyCorrupted };
  }

  /** Ends a job; one that is not there or over is fine. */
  cancel(snapshot: string): void {
    this.#jobs.get(snapshotDisk(snapshot))?.controller.abort();
  }

  /** Forgets all jobs; those under way end. */
  reset(): void {
    for (const job of this.#jobs.values()) job.controller.abort();
    this.#jobs.clear();
  }
}
