/**
 * Replica directories made by hand, with content that is known, and replica processes on them, for the tests of the
 * sync agent.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { encodeDiskRecord } from "../lib/disk/disk_record.ts";
import { readDiskSet } from "../lib/disk/disk_set.ts";
import { readVolumeMeta } from "../lib/disk/directory.ts";
import { encodeVolumeMeta, newVolumeMeta } from "../lib/disk/volume_meta.ts";
import { FilesLibc } from "../lib/io/files_libc.ts";
import { connect, replicaService, type RpcClient, syncAgentService } from "../lib/rpc/mod.ts";
import type { ReplicaMethods, SyncAgentMethods } from "../lib/rpc/services.ts";
import { freePortRange } from "./support/ports.ts";
import { type LoggedProcess, spawnDeno } from "./support/process.ts";

/** Bytes of a block. */
export const BLOCK = 4096;
/** Ports of a replica in these tests: control, data, agent, four receivers. */
const PORTS = 7;

const files = new FilesLibc();

/** Numbers from a seed (mulberry32), the same everywhere. */
export function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Fills bytes from a seed, quickly. */
export function fill(bytes: Uint8Array, seed: number): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  let state = (seed * 2654435761) | 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
}

/** A snapshot to be made. */
export interface SnapshotPlan {
  /** Its name. */
  readonly name: string;
  /** Name of its parent, "" for none. */
  readonly parent: string;
  /** Marked for deletion. */
  readonly removed?: boolean;
  /** Made by a user; default: yes. */
  readonly userCreated?: boolean;
}

/** Writes random runs of blocks into a sparse file. @param share of the blocks, 0 to 1 */
export function writeSparse(path: string, blocks: number, seed: number, share = 0.3): void {
  const random = randomFrom(seed), fd = files.open(path, { write: true, create: 0o600, truncate: true });
  files.truncate(fd, blocks * BLOCK);
  for (let block = 0; block < blocks;) {
    const run = Math.min(blocks - block, 1 + Math.floor(random() ** 3 * 64));
    if (random() < share) {
      const bytes = new Uint8Array(run * BLOCK);
      fill(bytes, seed * 1000 + block);
      files.writeAt(fd, bytes, block * BLOCK);
    }
    block += run;
  }
  files.sync(fd);
  files.close(fd);
}

/** Makes a replica directory. @param headParent name of the snapshot below the head, "" for none */
export function makeReplica(
  directory: string,
  blocks: number,
  snapshots: readonly SnapshotPlan[],
  headParent: string,
  seed: number,
): void {
  Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
  const image = (name: string) => name === "" ? "" : `volume-snap-${name}.img`;
  const head = "volume-head-000.img";
  const disks = snapshots.map((plan) => ({
    name: image(plan.name),
    parent: image(plan.parent),
    removed: plan.removed ?? false,
    userCreated: plan.userCreated ?? true,
  }));
  disks.push({ name: head, parent: image(headParent), removed: false, userCreated: false });
  disks.forEach((disk, index) => {
    writeSparse(`${directory}/${disk.name}`, blocks, seed + index);
    const record = { ...disk, created: "2026-07-12T08:00:00Z", labels: null, unknown: {} };
    Deno.writeFileSync(`${directory}/${disk.name}.meta`, encodeDiskRecord(record));
  });
  const meta = { ...newVolumeMeta(blocks * BLOCK, head), parent: image(headParent) };
  Deno.writeFileSync(`${directory}/volume.meta`, encodeVolumeMeta(meta));
}

/** What a disk shows: its own blocks over its parents'. Read from the files alone. */
export function contentOf(directory: string, disk: string): Uint8Array {
  const set = readDiskSet(files, directory, files.list(directory));
  const chain = set.chain(disk).reverse();
  const size = readVolumeMeta(files, directory)?.size ?? 0, content = new Uint8Array(size);
  for (const name of chain) {
    const fd = files.open(`${directory}/${name}`);
    const length = Math.min(size, files.fstat(fd).size);
    for (const extent of files.extents(fd, 0, length)) {
      const end = Math.min(length, extent.offset + extent.length);
      files.readAt(fd, content.subarray(extent.offset, end), extent.offset);
    }
    files.close(fd);
  }
  return content;
}

/** The head's name in a directory. */
export function headOf(directory: string): string {
  return readVolumeMeta(files, directory)?.head ?? "";
}

/** Where a file has data: `offset+length` joined, and its bytes. Two equal files are equal in both. */
export function layoutOf(path: string): string {
  const fd = files.open(path), merged: [number, number][] = [];
  for (const { offset, length, unwritten } of files.extents(fd, 0, files.fstat(fd).size)) {
    const last = merged.at(-1);
    if (unwritten) continue;
    if (last && last[0] + last[1] === offset) last[1] += length;
    else merged.push([offset, length]);
  }
  files.close(fd);
  return merged.map(([offset, length]) => `${offset}+${length}`).join(" ");
}

/** Fails unless two files have the same bytes in the same places. */
export function assertSameFile(to: string, from: string): void {
  assert.equal(Buffer.compare(Deno.readFileSync(to), Deno.readFileSync(from)), 0, `${to} is not ${from}`);
  assert.equal(layoutOf(to), layoutOf(from), `layout of ${to}`);
}

/** A replica process with its clients. */
export class SyncReplica implements AsyncDisposable {
  /** Its first port. */
  readonly port: number = freePortRange(PORTS);
  /** The present process. */
  process: LoggedProcess | undefined;
  #replica: RpcClient<ReplicaMethods> | undefined;
  #agent: RpcClient<SyncAgentMethods> | undefined;

  /** Starts nothing yet. @param locks directory for the node's lock files, below LONGHORN_CONTROL_PATH */
  constructor(readonly directory: string, readonly control: string) {}

  /** Address of the control service. */
  get address(): string {
    return `tcp://127.0.0.1:${this.port}`;
  }

  /** Client of the control service. */
  get replica(): RpcClient<ReplicaMethods> {
    return this.#replica ??= connect(replicaService, this.address);
  }

  /** Client of the sync agent. */
  get agent(): RpcClient<SyncAgentMethods> {
    return this.#agent ??= connect(syncAgentService, `tcp://127.0.0.1:${this.port + 2}`);
  }

  /** Starts the process and waits until it listens. */
  async start(...flags: string[]): Promise<this> {
    this.process = spawnDeno("cmd/replica.ts", [
      this.directory,
      "--listen",
      `127.0.0.1:${this.port}`,
      "--sync-agent-port-count",
      String(PORTS - 3),
      ...flags,
    ], { env: { LONGHORN_CONTROL_PATH: this.control } });
    await this.process.waitForOutput(/replica ready/);
    return this;
  }

  /** Starts it and opens the directory. */
  async open(...flags: string[]): Promise<this> {
    await this.start(...flags);
    await this.replica.unary("replicaOpen", {});
    return this;
  }

  /** Ends it at once. */
  async kill(): Promise<void> {
    this.process?.signal("SIGKILL");
    await this.process?.status;
    this.#closeClients();
  }

  #closeClients(): void {
    this.#replica?.close();
    this.#agent?.close();
    this.#replica = undefined;
    this.#agent = undefined;
  }

  /** Stops it in order. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closeClients();
    await this.process?.[Symbol.asyncDispose]();
  }
}

/** Replicas that end together. */
export interface StartedReplicas extends AsyncDisposable {
  /** In the order of their starts. */
  readonly all: readonly SyncReplica[];
}

/** Waits for starts that were begun at the same time. */
export async function startTogether(...starts: readonly Promise<SyncReplica>[]): Promise<StartedReplicas> {
  const results = await Promise.allSettled(starts);
  const all = results.flatMap((result) => result.status === "fulfilled" ? [result.value] : []);
  const end = async () => {
    await Promise.all(all.map((replica) => replica[Symbol.asyncDispose]()));
  };
  for (const result of results) {
    if (result.status === "fulfilled") continue;
    await end();
    throw result.reason;
  }
  return { all, [Symbol.asyncDispose]: end };
}
