/**
 * Cloning: this replica fetches the merged content of another volume's snapshot as one snapshot of its own, and goes
 * back to it.
 *
 * | step | after a crash here |
 * |---|---|
 * | the image is received | a file without a record: nobody's; the next clone compares with it |
 * | its record is written | a snapshot that no chain uses; the next clone goes on with it |
 * | the replica is loaded again and reverted to it | done |
 *
 * Data found only in a backing image is not sent: the new volume has the same backing image.
 *
 * @module
 */
import { replaceFile } from "../../disk/atomic.ts";
import { recordTime } from "../../disk/disk_record.ts";
import { META_SUFFIX } from "../../disk/names.ts";
import { FilesLibc } from "../../io/files_libc.ts";
import { connect } from "../../rpc/client.ts";
import { Code, RpcError } from "../../rpc/errors.ts";
import type { ptypes } from "../../rpc/gen/ptypes.js";
import { LONG_CALL_TIMEOUT_MS } from "../../rpc/limits.ts";
import { replicaService, syncAgentService } from "../../rpc/services.ts";
import type { SyncAgent } from "./agent.ts";
import { agentAddress } from "./files_sync.ts";
import { launch } from "./launch.ts";
import { snapshotDisk } from "./names.ts";
import { JobStatus } from "./status.ts";

/** How a clone goes. */
export class CloneStatus extends JobStatus {
  /** The source. */
  from = "";
  /** Name of the snapshot's disk. */
  snapshot = "";

  /** The reply of SnapshotCloneStatus. */
  describe(): ptypes.ISnapshotCloneStatusResponse {
    const { running, error, progress, state, from, snapshot } = this;
    return {
      isCloning: running,
      error,
      progress,
      state,
      fromReplicaAddress: from,
      snapshotName: snapshot,
    };
  }
}

/** Fetches a snapshot and goes back to it; see the module text. @throws {Error} */
export async function cloneSnapshot(
  agent: SyncAgent,
  request: ptypes.ISnapshotCloneRequest,
  status: CloneStatus,
  signal: AbortSignal,
): Promise<void> {
  const { thread } = agent.options, from = request.fromAddress ?? "";
  const disk = snapshotDisk(request.snapshotFileName ?? "");
  const total = await sourceBytes(request, disk);
  const own = await thread.call("get") as ptypes.IReplica, there = own.disks?.[disk];
  if (there && Object.keys(there.children ?? {}).length > 0) {
    throw new RpcError(Code.ALREADY_EXISTS, `cannot clone to ${disk}: this replica uses it already`);
  }
  const identity = { volumeName: request.fromVolumeName ?? "" };
  const source = connect(syncAgentService, agentAddress(from), { identity });
  const stop = new AbortController(), end = () => stop.abort();
  signal.addEventListener("abort", end, { once: true });
  try {
    const receiver = await launch(agent, disk, {
      verify: "sample",
      signal: stop.signal,
      onProgress: (placed) => {
        if (total > 0) status.progress = Math.min(99, Math.floor(100 * placed / total));
      },
    });
    const sent = source.unary("volumeExport", {
      snapshotFileName: disk,
      host: request.toHost ?? "",
      port: receiver.port,
      fileSyncHttpClientTimeout: request.fileSyncHttpClientTimeout ?? 0,
    }, { timeoutMs: LONG_CALL_TIMEOUT_MS, signal: stop.signal });
    await Promise.race([sent, receiver.result.then(() => sent)]);
    await receiver.result;
  } finally {
    signal.removeEventListener("abort", end);
    stop.abort();
    source.close();
  }
  const record = new TextEncoder().encode('{"Parent":""}\n');
  if (!there) replaceFile(new FilesLibc(), agent.options.directory, disk + META_SUFFIX, record);
  await thread.call("reload");
  await thread.call("revert", { name: disk, created: recordTime(Date.now()) });
}

/** Allocated bytes of what is to be sent, at most. @throws {RpcError} when the source has no such snapshot */
async function sourceBytes(request: ptypes.ISnapshotCloneRequest, disk: string): Promise<number> {
  const from = request.fromAddress ?? "", identity = { volumeName: request.fromVolumeName ?? "" };
  const client = connect(replicaService, from, { identity });
  try {
    const { replica } = await client.unary("replicaGet", {}), disks = replica?.disks ?? {};
    if (!disks[disk]) {
      throw new RpcError(Code.NOT_FOUND, `cannot find snapshot disk file ${disk} in replica ${from}`);
    }
    let bytes = 0;
    const seen = new Set<string>();
    for (let name = disk; disks[name] && !seen.has(name); name = disks[name].parent ?? "") {
      seen.add(name);
      bytes += Number(disks[name].size ?? 0);
    }
    return bytes;
  } finally {
    client.close();
  }
}
