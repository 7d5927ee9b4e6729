/**
 * The sync agent of a replica: long jobs beside the data path, one of a kind at a time, and what excludes what.
 *
 * | job | not while |
 * |---|---|
 * | purge | a purge, a rebuild, a clone, or anything that reads snapshots (send, export, backup) is under way |
 * | rebuild (FilesSync) | a purge or a rebuild is under way |
 * | clone | a purge, a rebuild or a clone is under way |
 * | send, export, backup | a purge is under way |
 * | restore | a purge or a restore is under way |
 * | hash | never refused: the file's ctime tells whether it changed |
 *
 * @module
 */
import { Code, RpcError } from "../../rpc/errors.ts";
import type { ptypes } from "../../rpc/gen/ptypes.js";
import type { ReplicaCalls } from "../service.ts";
import { BackupJobs } from "./backups.ts";
import { cloneSnapshot, CloneStatus } from "./clone.ts";
import { HashJobs } from "./hashes.ts";
import { markSystemSnapshots, purge } from "./purge.ts";
import { syncFiles, type SyncRequest } from "./files_sync.ts";
import { RebuildStatus } from "./rebuild_status.ts";
import { RestoreJobs } from "./restores.ts";
import { JobStatus } from "./status.ts";
import { SyncWorkers } from "./workers.ts";

/** What the agent works with. */
export interface AgentOptions {
  /** Absolute path of the replica directory. */
  readonly directory: string;
  /** The volume thread, which owns the directory. */
  readonly thread: ReplicaCalls;
  /** Where receivers listen: the agent's own host. */
  readonly host: string;
  /** Ports for receivers, from the first one on. */
  readonly ports: { readonly first: number; readonly count: number };
  /** Directory of the node's lock files. */
  readonly locks: string;
  /** The volume, "" when it is not known. */
  readonly volumeName: string;
}

/** A file or snapshot in use; to be disposed of. */
export interface Use extends Disposable {
  /** What uses it. */
  readonly what: string;
}

/** See the module text. */
export class SyncAgent {
  /** Threads for long jobs. */
  readonly workers: SyncWorkers = new SyncWorkers();
  /** Hash jobs. */
  readonly hashes: HashJobs;
  /** The purge. */
  readonly purge: JobStatus = new JobStatus();
  /** The rebuild of this replica. */
  readonly rebuild: RebuildStatus = new RebuildStatus();
  /** The clone into this replica. */
  readonly clone: CloneStatus = new CloneStatus();
  /** Backups of snapshots. */
  readonly backups: BackupJobs = new BackupJobs(this);
  /** The restore into this replica. */
  readonly restores: RestoreJobs = new RestoreJobs(this);
  readonly #uses = new Set<Use>();
  readonly #closing = new AbortController();

  /** An agent for one replica. */
  constructor(readonly options: AgentOptions) {
    this.hashes = new HashJobs(this.workers, options);
  }

  /**
   * Notes that a job reads snapshots, so that no purge begins; dispose of it afterwards.
   *
   * @param what for messages, such as `a backup`
   * @throws {RpcError} while a purge is under way
   */
  use(what: string): Use {
    this.refuseWhilePurging();
    const uses = this.#uses, use: Use = { what, [Symbol.dispose]: () => void uses.delete(use) };
    uses.add(use);
    return use;
  }

  /** Refuses what must not begin during a purge. @throws {RpcError} with the text that peers know */
  refuseWhilePurging(): void {
    if (this.purge.running) throw new RpcError(Code.FAILED_PRECONDITION, "replica is purging snapshots");
  }

  /**
   * Marks system snapshots as removed, and begins to purge.
   *
   * @throws {RpcError} when it may not begin; the text of a second purge is matched by peers
   */
  async startPurge(): Promise<void> {
    if (this.purge.running) {
      throw new RpcError(Code.FAILED_PRECONDITION, "replica is already purging snapshots");
    }
    const refuse = (why: string) => {
      throw new RpcError(Code.FAILED_PRECONDITION, `cannot purge snapshots because ${why}`);
    };
    if (this.rebuild.running) refuse("the replica is rebuilding");
    if (this.clone.running) refuse("the replica is being cloned to");
    for (const { what } of this.#uses) refuse(`${what} is under way`);
    this.purge.begin();
    const { thread } = this.options;
    try {
      await markSystemSnapshots(thread);
    } catch (error) {
      this.purge.fail(error);
      throw error;
    }
    purge(thread, (percent) => this.purge.progress = percent)
      .then(() => this.purge.complete(), (error) => this.purge.fail(error));
  }

  /**
   * Fetches the files of a rebuild. Ends when they are complete, also when the caller is gone: somebody else may ask
   * for the end of the rebuild then.
   *
   * @throws {RpcError} when it may not begin; the texts are matched by peers
   */
  async syncFiles(request: SyncRequest): Promise<void> {
    this.refuseWhilePurging();
    if (this.rebuild.running) throw new RpcError(Code.FAILED_PRECONDITION, "replica is already rebuilding");
    const total = request.files.reduce((sum, { actualSize }) => sum + Number(actualSize ?? 0), 0);
    this.rebuild.start(request.sources, total);
    try {
      await syncFiles(this, request, this.rebuild, this.#closing.signal);
      this.rebuild.complete();
    } catch (error) {
      this.rebuild.fail(error);
      throw error;
    }
  }

  /**
   * Makes this replica show what another volume's snapshot shows. Ends when it does.
   *
   * @param signal aborted when the caller is gone
   * @throws {RpcError} when it may not begin
   */
  async cloneFrom(request: ptypes.ISnapshotCloneRequest, signal: AbortSignal): Promise<void> {
    this.refuseWhilePurging();
    const refuse = (why: string) => {
      throw new RpcError(Code.FAILED_PRECONDITION, `cannot clone: ${why}`);
    };
    if (this.rebuild.running) refuse("the replica is rebuilding");
    if (this.clone.running) refuse("the replica is already being cloned to");
    this.clone.begin();
    this.clone.from = request.fromAddress ?? "";
    this.clone.snapshot = request.snapshotFileName ?? "";
    try {
      await cloneSnapshot(this, request, this.clone, signal);
      this.clone.complete();
    } catch (error) {
      this.clone.fail(error);
      throw error;
    }
  }

  /** Forgets what became of the last jobs. @throws {RpcError} while one is under way */
  reset(): void {
    const running = Object.entries({ purge: this.purge, rebuild: this.rebuild, clone: this.clone })
      .filter(([, job]) => job.running).map(([name]) => `a ${name}`);
    running.push(...[...this.#uses].map(({ what }) => what));
    if (running.length > 0) {
      throw new RpcError(Code.FAILED_PRECONDITION, `cannot reset: ${running.join(", ")} is under way`);
    }
    for (const job of [this.purge, this.rebuild, this.clone]) job.reset();
    this.restores.job.reset();
    this.backups.reset();
    this.hashes.reset();
  }

  /**
   * Refuses to take the files for complete while some are on their way, or when some did not come. Whoever ends a
   * rebuild has the directory read anew before, and looks at names only.
   *
   * @throws {RpcError}
   */
  refuseIncomplete(): void {
    const { state, error } = this.rebuild;
    if (state === "in_progress") {
      throw new RpcError(Code.FAILED_PRECONDITION, "cannot reload: files of a rebuild are on their way");
    }
    if (state === "error") {
      throw new RpcError(
        Code.FAILED_PRECONDITION,
        `cannot reload: the rebuild failed, begin it again: ${error}`,
      );
    }
  }

  /** Ends everything at once. */
  close(): void {
    this.#closing.abort();
    this.hashes.reset();
    this.workers.close();
  }
}
