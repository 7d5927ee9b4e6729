/**
 * What can be told about a volume of this machine, running or not: for `info` and `ls`.
 *
 * @module
 */
import { readVolumeMeta } from "../../lib/disk/directory.ts";
import type { VolumeMeta } from "../../lib/disk/volume_meta.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";
import { connect, controllerService } from "../../lib/rpc/mod.ts";
import { logPath, type VolumeRecord } from "./record.ts";
import { lookAt, type VolumeHealth } from "./health.ts";
import { type RunningVolume, whoUses } from "./use.ts";

/** One copy. */
export interface ReplicaReport {
  /** As in the record: `VOLUME-r-N`. */
  readonly name: string;
  /** Absolute. */
  readonly directory: string;
  /**
   * `complete`: has every write; `behind`: left out since it missed writes; `missing`: no copy in its directory;
   * `unreadable`; `new`: never used; `rebuilding`: it is being filled.
   */
  readonly state: "complete" | "behind" | "rebuilding" | "missing" | "unreadable" | "new";
  /** Why it is not complete; may be empty. */
  readonly reason: string;
  /** Bytes it takes on its disk. */
  readonly allocatedBytes: number;
  /** Its process, while the volume runs. */
  readonly pid?: number;
  /** Its control address, likewise. */
  readonly address?: string;
}

/** One volume. The names are those of `-o json`. */
export interface VolumeReport {
  /** Of the volume. */
  readonly name: string;
  /** What the disk shows, bytes. */
  readonly sizeBytes: number;
  /** RFC 3339. */
  readonly created: string;
  /** `stopped`, `starting`, or the state of a running volume. */
  readonly state: "stopped" | "starting" | "healthy" | "degraded" | "faulted" | "unresponsive";
  /** Not running, and not stopped in order the last time. */
  readonly unclean: boolean;
  /** All copies that the volume was made with. */
  readonly replicas: readonly ReplicaReport[];
  /** Path of the log. */
  readonly log: string;
  /** How to reach it, while it runs. */
  readonly running?: Omit<RunningVolume, "replicas">;
}

/** Time limit of a look at a running volume, milliseconds. */
const LOOK_MS = 3_000;

/** Bytes that the files of a directory take. */
function allocatedIn(directory: string): number {
  let sum = 0;
  try {
    for (const { name, isFile } of Deno.readDirSync(directory)) {
      if (isFile) sum += (Deno.statSync(`${directory}/${name}`).blocks ?? 0) * 512;
    }
  } catch {
    // Gone meanwhile, or not ours to see.
  }
  return sum;
}

interface Found {
  readonly meta: VolumeMeta | undefined;
  readonly error: string;
}

function readMeta(directory: string): Found {
  try {
    return { meta: readVolumeMeta(new FilesLibc(), directory), error: "" };
  } catch (error) {
    return { meta: undefined, error: error instanceof Error ? error.message : String(error) };
  }
}

/** Identities of the copies that have every write, by the newest record of members. */
function membersOf(found: readonly Found[]): ReadonlySet<string> {
  let newest: VolumeMeta["drover"];
  for (const { meta } of found) {
    const record = meta?.drover;
    if (!record) continue;
    const newer = !newest || record.generation > newest.generation ||
      (record.generation === newest.generation && record.revision > newest.revision);
    if (newer) newest = record;
  }
  return new Set(newest?.members ?? []);
}

function describeStopped(
  { meta, error }: Found,
  members: ReadonlySet<string>,
): Pick<ReplicaReport, "state" | "reason"> {
  if (error !== "") return { state: "unreadable", reason: error };
  if (!meta) return { state: "missing", reason: "there is no copy in its directory" };
  if (members.size === 0) return { state: "new", reason: "" };
  if (meta.drover && members.has(meta.drover.id)) return { state: "complete", reason: "" };
  return { state: "behind", reason: "it missed writes" };
}

async function ask(running: RunningVolume, volume: string): Promise<VolumeHealth | undefined> {
  const client = connect(controllerService, running.control, {
    identity: { volumeName: volume },
    timeoutMs: LOOK_MS,
  });
  try {
    return await lookAt(
      client,
      (address) => running.replicas.find((r) => r.address === address)?.name ?? address,
    );
  } catch {
    return undefined;
  } finally {
    client.close();
  }
}

/** Describes a volume. A running one is asked. */
export async function inspectVolume(record: VolumeRecord): Promise<VolumeReport> {
  const user = whoUses(record);
  const running = typeof user === "object" ? user : undefined;
  const health = running ? await ask(running, record.name) : undefined;
  const found = record.replicas.map(({ directory }) => readMeta(directory));
  const members = membersOf(found);
  const replicas = record.replicas.map(({ name, directory }, index): ReplicaReport => {
    const seen = health?.replicas.find((replica) => replica.name === name);
    const process = running?.replicas.find((replica) => replica.name === name);
    const stopped = describeStopped(found[index] ?? { meta: undefined, error: "" }, members);
    const { state, reason } = seen
      ? seen.mode === "RW"
        ? { state: "complete" as const, reason: "" }
        : { state: seen.mode === "WO" ? "rebuilding" as const : "behind" as const, reason: seen.reason }
      : stopped;
    return {
      name,
      directory,
      state,
      reason,
      allocatedBytes: allocatedIn(directory),
      ...(process ? { pid: process.pid, address: process.address } : {}),
    };
  });
  const complete = replicas.filter(({ state }) => state === "complete").length;
  const up = complete === 0 ? "faulted" : complete < replicas.length ? "degraded" : "healthy";
  const { replicas: _, ...reach } = running ?? { replicas: [] };
  return {
    name: record.name,
    sizeBytes: record.bytes,
    created: record.created,
    state: user === undefined ? "stopped" : user === "starting" ? "starting" : health ? up : "unresponsive",
    unclean: user === undefined && found.some(({ meta }) => meta?.dirty === true),
    replicas,
    log: logPath(record),
    ...(running ? { running: reach as Omit<RunningVolume, "replicas"> } : {}),
  };
}
