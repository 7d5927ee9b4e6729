/**
 * FilesSync: fetches the files of a rebuild from other replicas. For every file this side opens a receiver, and asks
 * sources to send to it.
 *
 * Large files come from all sources at once when these are Drovers: the receiver hands out parts, so a faster source
 * does more, and what a lost source had is done by the others. Longhorn's sources send whole files, one each. Images
 * come first and records after them, so that no record describes an image that is not complete.
 *
 * Files of different sources may only be mixed when the sources have the same disks and are not merging any: a purge
 * moves data from file to file, on each replica at its own time. Sources that are not alike are used one after the
 * other, each for everything.
 *
 * Nothing has to be noted to go on after a crash: an image that is there is compared in batches, and only what differs
 * is sent.
 *
 * What is compared with the sources, so that a file counts:
 *
 * | what | how |
 * |---|---|
 * | data that was there before | its sum, batch by batch, read from the file |
 * | data that comes | its sum, before it is written; then it is synced |
 * | one batch in 64 of what came, at least 4 of a file | read back from the disk, and its sum once more |
 * | with `drover_verify` everything | the same |
 *
 * Longhorn's sources cannot be asked for sums like these: what comes from them is not read back.
 *
 * @module
 */
import { connect, type RpcClient } from "../../rpc/client.ts";
import { Code, RpcError } from "../../rpc/errors.ts";
import type { ptypes } from "../../rpc/gen/ptypes.js";
import { formatAddress, parseAddress } from "../../rpc/address.ts";
import { LONG_CALL_TIMEOUT_MS } from "../../rpc/limits.ts";
import { replicaService, type SyncAgentMethods, syncAgentService } from "../../rpc/services.ts";
import type { SyncAgent } from "./agent.ts";
import { pause } from "./job.ts";
import { launch, type Launched } from "./launch.ts";
import { isRecord, readableName, receivableName } from "./names.ts";
import type { ReceiveResult } from "./receiver.ts";
import type { RebuildStatus } from "./rebuild_status.ts";
import { textOf } from "./status.ts";

/** Files with more data than this come from several sources. */
const SHARED_BYTES = 64 * 1024 * 1024;
/** Files under way at once, as far as there are ports. */
const MAX_FILES = 4;
/** Tries per file, and pauses between them, milliseconds. */
const TRIES = 3, FIRST_PAUSE_MS = 1_000;
/** Time for a source to tell what it is, milliseconds. */
const LOOK_MS = 10_000;
/** How long senders have to leave when everything is in place, milliseconds. */
const LEAVE_MS = 5_000;

/** A replica to fetch from. */
interface Source {
  readonly address: string;
  readonly client: RpcClient<SyncAgentMethods>;
  /** It shares files with others. */
  readonly drover: boolean;
  /** Its disks, in a form that can be compared; undefined when they are not known, or about to be merged. */
  readonly disks: string | undefined;
  /** Files that it failed to send. */
  failures: number;
}

/** Where the files come from and what they are. */
export interface SyncRequest {
  /** Addresses of the replicas' control services. */
  readonly sources: readonly string[];
  /** This side, as the sources reach it. */
  readonly toHost: string;
  /** The files. */
  readonly files: readonly ptypes.ISyncFileInfo[];
  /** Skip images whose checksums are equal. */
  readonly fastSync: boolean;
  /** Time for an answer between sender and receiver, seconds; 0 = the default. */
  readonly timeoutS: number;
  /** Read everything back at the end, not only a sample. */
  readonly verify: boolean;
  /** The volume that sources must belong to, "" for any. */
  readonly volumeName: string;
}

interface FileJob {
  readonly from: string;
  readonly to: string;
  readonly bytes: number;
}

/** The request in our words. @throws {RpcError} for names and addresses that cannot be */
export function syncRequest(request: ptypes.IFilesSyncRequest, volumeName: string): SyncRequest {
  const sources = new Set([request.fromAddress ?? "", ...Object.keys(request.fromAddressMap ?? {})]);
  sources.delete("");
  if (sources.size === 0) throw new RpcError(Code.INVALID_ARGUMENT, "no address to fetch files from");
  for (const address of sources) agentAddress(address);
  for (const file of request.syncFileInfoList ?? []) {
    readableName(file.fromFileName ?? "");
    receivableName(file.toFileName ?? "");
  }
  return {
    sources: [...sources],
    toHost: request.toHost ?? "",
    files: request.syncFileInfoList ?? [],
    fastSync: request.fastSync ?? false,
    timeoutS: request.fileSyncHttpClientTimeout ?? 0,
    verify: request.droverVerify ?? false,
    volumeName,
  };
}

/** Address of the sync agent beside a control service. @throws {RpcError} */
export function agentAddress(control: string): string {
  const address = parseAddress(control);
  if (address.kind !== "tcp") {
    throw new RpcError(Code.INVALID_ARGUMENT, `address "${control}": a replica is reached by TCP`);
  }
  return formatAddress({ ...address, port: address.port + 2 });
}

/** Fetches all files; see the module text. @throws {Error} when one of them cannot be had */
export async function syncFiles(
  agent: SyncAgent,
  request: SyncRequest,
  status: RebuildStatus,
  signal: AbortSignal,
): Promise<void> {
  agent.workers.prepare("receive");
  const sources = await Promise.all(
    request.sources.map((address) => openSource(address, request.volumeName)),
  );
  const groups = alike(sources);
  try {
    for (const [index, group] of groups.entries()) {
      try {
        return await new FilesSync(agent, request, group, status, signal).run();
      } catch (error) {
        if (index === groups.length - 1 || signal.aborted) throw error;
      }
    }
  } finally {
    for (const { client } of sources) client.close();
  }
}

/** Sources whose files may be mixed, in groups; the order is that of the request. */
function alike(sources: readonly Source[]): Source[][] {
  const groups: Source[][] = [];
  for (const source of sources) {
    const group = groups.find(([first]) => source.disks !== undefined && first.disks === source.disks);
    if (group) group.push(source);
    else groups.push([source]);
  }
  return groups;
}

/** What {@linkcode Source.disks} is. */
function disksOf({ disks, head, backingFile }: ptypes.IReplica): string | undefined {
  const snapshots = Object.values(disks ?? {}).filter(({ name }) => name !== head && name !== backingFile);
  if (snapshots.some(({ removed }) => removed)) return undefined;
  return snapshots.map(({ name, parent }) => `${name}<${parent}`).sort().join("\n");
}

async function openSource(address: string, volumeName: string): Promise<Source> {
  const identity = { volumeName };
  const replica = connect(replicaService, address, { identity });
  let drover = false, disks: string | undefined;
  try {
    const { replica: found } = await replica.unary("replicaGet", {}, { timeoutMs: LOOK_MS });
    drover = (found?.droverFeatures ?? 0) !== 0;
    disks = found && found.state !== "closed" ? disksOf(found) : undefined;
  } catch (error) {
    // Whether it can be used shows when it is asked for a file.
    if (!(error instanceof RpcError) || error.code === Code.FAILED_PRECONDITION) throw error;
  } finally {
    replica.close();
  }
  const client = connect(syncAgentService, agentAddress(address), { identity });
  return { address, client, drover, disks, failures: 0 };
}

async function firstProblem(settled: Promise<PromiseSettledResult<void>[]>): Promise<unknown> {
  return (await settled).find((result) => result.status === "rejected")?.reason;
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && error.cause instanceof RpcError && error.cause.code === Code.NOT_FOUND;
}

/** Waits for the end of all; the first failure counts. */
async function allOf(jobs: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(jobs)) if (result.status === "rejected") throw result.reason;
}

class FilesSync {
  #turn = 0;
  readonly #launched = new Set<Launched>();

  constructor(
    readonly agent: SyncAgent,
    readonly request: SyncRequest,
    readonly sources: readonly Source[],
    readonly status: RebuildStatus,
    readonly signal: AbortSignal,
  ) {}

  async run(): Promise<void> {
    const jobs = this.request.files.map((file): FileJob => ({
      from: file.fromFileName ?? "",
      to: file.toFileName ?? "",
      bytes: Number(file.actualSize ?? 0),
    }));
    this.status.onLimit = () => this.#limit();
    const images = jobs.filter(({ to }) => !isRecord(to));
    const shared = (job: FileJob) => job.bytes >= SHARED_BYTES && this.sources.some(({ drover }) => drover);
    const large = images.filter(shared), small = images.filter((job) => !shared(job));
    const { count } = this.agent.options.ports;
    if (large.length === 0 || count < 2) {
      await this.#inTurn(large);
      await this.#beside(small, count);
    } else {
      // Small ones come beside the large ones, on the ports that these leave.
      await allOf([this.#inTurn(large), this.#beside(small, count - 1)]);
    }
    await this.#beside(jobs.filter(({ to }) => isRecord(to)), count);
  }

  async #inTurn(jobs: readonly FileJob[]): Promise<void> {
    for (const job of jobs) await this.#fetch(job, true);
  }

  /** Files under way share the limit. */
  #limit(): void {
    for (const one of this.#launched) one.tell({ limit: this.status.limit / this.#launched.size });
  }

  /** Several at the same time, on so many ports. */
  async #beside(jobs: readonly FileJob[], ports: number): Promise<void> {
    const queue = jobs.values(), lanes = Math.max(1, Math.min(MAX_FILES, ports));
    const lane = async () => {
      for (const job of queue) await this.#fetch(job, false);
    };
    await allOf(Array.from({ length: lanes }, lane));
  }

  /** The sources for a try: all Drovers for a shared file, else one in turn, those that failed less first. */
  #choose(shared: boolean): Source[] {
    const least = Math.min(...this.sources.map(({ failures }) => failures));
    const good = this.sources.filter(({ failures }) => failures === least);
    if (shared) {
      const drovers = good.filter(({ drover }) => drover);
      if (drovers.length > 0) return drovers;
    }
    return [good[this.#turn++ % good.length]];
  }

  async #fetch(job: FileJob, shared: boolean): Promise<void> {
    for (let attempt = 1, wait = FIRST_PAUSE_MS;; attempt++, wait *= 2) {
      try {
        return await this.#fetchOnce(job, this.#choose(shared));
      } catch (error) {
        const last = attempt >= Math.max(TRIES, this.sources.length) || this.signal.aborted;
        // Who does not have it will not have it in a moment.
        if (last || (this.sources.length === 1 && isMissing(error))) {
          throw new Error(`cannot fetch ${job.from}: ${textOf(error)}`, { cause: error });
        }
      }
      await pause(wait, this.signal);
    }
  }

  async #fetchOnce(job: FileJob, sources: readonly Source[]): Promise<void> {
    const shared = sources.every(({ drover }) => drover), stop = new AbortController();
    const end = () => stop.abort();
    this.signal.addEventListener("abort", end, { once: true });
    const complete = Promise.withResolvers<void>();
    const launched = await launch(this.agent, job.to, {
      shared,
      // A record is small, and replaced as a whole.
      verify: !shared || isRecord(job.to) ? "nothing" : this.request.verify ? "everything" : "sample",
      signal: stop.signal,
      onProgress: (placed, received, all) => {
        this.status.note(job.to, placed, received, job.bytes);
        if (all) complete.resolve();
      },
    });
    this.#launched.add(launched);
    this.#limit();
    try {
      const sends = sources.map((source) => this.#ask(source, job, launched.port, shared, stop.signal));
      const settled = Promise.allSettled(sends);
      // A sender that hangs while the others have done its share is not waited for.
      const enough = complete.promise.then(() => Promise.race([settled, pause(LEAVE_MS, stop.signal)]));
      // The receiver's own failure, such as a full disk, says more than what the senders see of it.
      const failed = launched.result.then(() => settled);
      await Promise.race([settled, shared ? enough : settled, failed]);
      const problem = await Promise.race([firstProblem(settled), pause(0)]);
      if (shared) launched.tell({ finish: true });
      else if (problem !== undefined) throw problem;
      const { placed, received } = await this.#done(launched, problem);
      this.status.note(job.to, placed, received, job.bytes);
    } finally {
      this.#launched.delete(launched);
      this.#limit();
      this.signal.removeEventListener("abort", end);
      stop.abort();
    }
  }

  /** The file is complete when the receiver says so, whatever became of some of the senders. */
  async #done(launched: Launched, problem: unknown): Promise<ReceiveResult> {
    try {
      return await launched.result;
    } catch (error) {
      throw problem ?? error;
    }
  }

  async #ask(
    source: Source,
    job: FileJob,
    port: number,
    shared: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await source.client.unary("fileSend", {
        fromFileName: job.from,
        host: this.request.toHost,
        port,
        fastSync: this.request.fastSync,
        fileSyncHttpClientTimeout: this.request.timeoutS,
        droverShared: shared,
      }, { timeoutMs: LONG_CALL_TIMEOUT_MS, signal });
    } catch (error) {
      source.failures++;
      throw new Error(`${source.address}: ${textOf(error)}`, { cause: error });
    }
  }
}
