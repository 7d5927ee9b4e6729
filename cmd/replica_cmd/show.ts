/**
 * `drover replica ls` and `rebuild-status`.
 *
 * @module
 */
import { type RebuildPace, rebuildStatus } from "../../lib/client/rebuild.ts";
import { formatSize } from "../support/sizes.ts";
import { formatTable } from "../support/table.ts";
import { inspectVolume } from "../volume/inspect.ts";
import { openServed } from "../volume/served.ts";
import { checkOutput, findVolume, type ShowFlags } from "../volume/show.ts";

/** `drover replica ls VOLUME`, also of a volume that does not run. */
export async function listCopies(volume: string, flags: ShowFlags): Promise<void> {
  checkOutput(flags);
  const { replicas } = await inspectVolume(findVolume(volume, flags));
  if (flags.output === "json") return console.log(JSON.stringify(replicas, null, 2));
  const rows = replicas.map(({ name, state, allocatedBytes, pid, directory, reason }) => [
    name,
    state,
    formatSize(allocatedBytes),
    pid === undefined ? "-" : String(pid),
    reason === "" ? directory : `${directory} (${reason})`,
  ]);
  console.log(formatTable(["REPLICA", "STATE", "ON DISK", "PROCESS", "DIRECTORY"], rows, new Set([2])));
}

/** `1.2 GiB of 10 GiB, 350 MiB/s, 26 s left`; "" when nothing is known. */
export function describePace(pace: RebuildPace | undefined): string {
  if (!pace) return "";
  const parts = [`${formatSize(pace.bytesDone)} of ${formatSize(pace.bytesTotal)}`];
  if (pace.bytesPerSecond > 0) parts.push(`${formatSize(pace.bytesPerSecond)}/s`);
  if (pace.limit > 0) parts.push(`limit ${formatSize(pace.limit)}/s`);
  if (pace.secondsLeft > 0) parts.push(`${Math.ceil(pace.secondsLeft)} s left`);
  return parts.join(", ");
}

/** `drover replica rebuild-status VOLUME` */
export async function rebuildsOf(volume: string, flags: ShowFlags): Promise<void> {
  checkOutput(flags);
  using served = openServed(volume, flags);
  const lines = Object.entries(await rebuildStatus(served.engine)).map(([address, status]) => ({
    replica: served.nameOf(address),
    ...status,
    fromReplicaAddressList: status.fromReplicaAddressList.map(served.nameOf),
    fromReplicaAddress: served.nameOf(status.fromReplicaAddress),
  }));
  if (flags.output === "json") return console.log(JSON.stringify(lines, null, 2));
  if (lines.length === 0) return console.log(`no copy of ${volume} is being filled`);
  const rows = lines.map((one) => [
    one.replica,
    // Without files to copy, the engine fills it block by block and tells no percentage.
    one.error !== "" ? "error" : one.isRebuilding ? `${one.progress} %` : "filling",
    describePace(one.pace) || "-",
    one.fromReplicaAddressList.join(", ") || "-",
    one.error || "-",
  ]);
  console.log(formatTable(["REPLICA", "PROGRESS", "PACE", "FROM", "ERROR"], rows));
}
