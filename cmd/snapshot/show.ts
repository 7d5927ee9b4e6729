/**
 * `drover snapshot ls` and `info`.
 *
 * @module
 */
import { type SnapshotInfo, snapshotInfo } from "../../lib/client/snapshots.ts";
import { HEAD_PSEUDO_NAME } from "../../lib/disk/names.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";
import { formatSize } from "../support/sizes.ts";
import { formatTable } from "../support/table.ts";
import { openServed, type ServedVolume } from "../volume/served.ts";
import { checkOutput, type ShowFlags } from "../volume/show.ts";
import { freedByRemoval, treeOf } from "./tree.ts";

/** One snapshot, as `-o json` has it. */
export interface SnapshotReport {
  /** Of the snapshot; `volume-head` is what is written to now. */
  readonly name: string;
  /** The one below it, or "". */
  readonly parent: string;
  /** What stands on it. */
  readonly children: readonly string[];
  /** RFC 3339. */
  readonly created: string;
  /** `user`: made by a user; `system`: by the engine; `removed`: waits for a purge; `head`. */
  readonly kind: "user" | "system" | "removed" | "head";
  /** Bytes that one copy takes for it. */
  readonly allocatedBytes: number;
  /** What its removal would free in one copy, bytes; absent where that cannot be found out. */
  readonly freedByRemovalBytes?: number;
  /** What its maker noted. */
  readonly labels: Readonly<Record<string, string>>;
}

function kindOf({ name, removed, usercreated }: SnapshotInfo): SnapshotReport["kind"] {
  if (name === HEAD_PSEUDO_NAME) return "head";
  return removed ? "removed" : usercreated ? "user" : "system";
}

function report(info: SnapshotInfo, freed: number | undefined): SnapshotReport {
  return {
    name: info.name,
    parent: info.parent,
    children: Object.keys(info.children).sort(),
    created: info.created,
    kind: kindOf(info),
    allocatedBytes: Number(info.size),
    ...(freed === undefined ? {} : { freedByRemovalBytes: freed }),
    labels: info.labels,
  };
}

function labelsText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels).map(([key, value]) => `${key}=${value}`).join(",") || "-";
}

/** `drover snapshot ls VOLUME`: what a user can go back to, the newest last. */
export async function listVolumeSnapshots(
  volume: string,
  flags: ShowFlags & { readonly all?: boolean },
): Promise<void> {
  checkOutput(flags);
  using served = openServed(volume, flags);
  const lines = treeOf(await snapshotInfo(served.engine)).map(({ info }) => report(info, undefined))
    .filter(({ kind }) => flags.all === true || kind === "user");
  if (flags.output === "json") return console.log(JSON.stringify(lines, null, 2));
  if (lines.length === 0) {
    return console.log(
      `volume ${volume} has no snapshots${flags.all ? "" : " of users"}; make one with: ` +
        `drover snapshot create ${volume}`,
    );
  }
  const rows = lines.map((one) => [
    one.name,
    one.created || "-",
    formatSize(one.allocatedBytes),
    one.kind,
    labelsText(one.labels),
  ]);
  console.log(formatTable(["NAME", "CREATED", "SIZE", "KIND", "LABELS"], rows, new Set([2])));
}

/** The directory and the head's file of a complete copy. */
async function completeCopy(
  { engine, record, nameOf }: ServedVolume,
): Promise<{ directory: string; head: string } | undefined> {
  for (const { address, mode } of await engine.replicas()) {
    const directory = record.replicas.find(({ name }) => name === nameOf(address))?.directory;
    if (mode === "RW" && directory !== undefined) {
      return { directory, head: (await engine.replica(address).get()).head };
    }
  }
  return undefined;
}

/** `drover snapshot info VOLUME [NAME]`: the whole tree with sizes, or one snapshot. */
export async function showSnapshots(
  volume: string,
  name: string | undefined,
  flags: ShowFlags,
): Promise<void> {
  checkOutput(flags);
  using served = openServed(volume, flags);
  const disks = await snapshotInfo(served.engine);
  if (name !== undefined && !disks[name]) throw noSnapshot(volume, name, disks);
  const copy = await completeCopy(served), files = new FilesLibc();
  const freed = (info: SnapshotInfo) => {
    try {
      return copy && freedByRemoval(files, copy.directory, copy.head, info);
    } catch {
      return undefined; // It changes while we look, or the files are not ours to see.
    }
  };
  const lines = treeOf(disks).filter(({ info }) => name === undefined || info.name === name)
    .map(({ info, prefix }) => ({ prefix, ...report(info, freed(info)) }));
  if (flags.output === "json") {
    return console.log(JSON.stringify(lines.map(({ prefix: _, ...line }) => line), null, 2));
  }
  const rows = lines.map((one) => [
    (name === undefined ? one.prefix : "") + one.name,
    one.created || "-",
    formatSize(one.allocatedBytes),
    one.kind === "head" || one.freedByRemovalBytes === undefined ? "-" : formatSize(one.freedByRemovalBytes),
    one.kind,
    labelsText(one.labels),
  ]);
  console.log(
    formatTable(["SNAPSHOT", "CREATED", "SIZE", "FREED BY RM", "KIND", "LABELS"], rows, new Set([2, 3])),
  );
}

/** A snapshot that is not there. */
export class NoSnapshotError extends Error {
  /** For checks. */
  override readonly name = "NoSnapshotError";
}

/** Names those that are there. */
export function noSnapshot(
  volume: string,
  name: string,
  disks: Readonly<Record<string, SnapshotInfo>>,
): NoSnapshotError {
  const others = Object.values(disks).filter((one) => one.name !== HEAD_PSEUDO_NAME && !one.removed)
    .map((one) => one.name);
  return new NoSnapshotError(
    `volume ${volume} has no snapshot ${name}` +
      (others.length > 0 ? `; there is: ${others.sort().join(", ")}` : ""),
  );
}
