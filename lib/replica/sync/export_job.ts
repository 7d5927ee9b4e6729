/**
 * Sending the merged content of a snapshot as one file, in a thread of its own.
 *
 * @module
 */
import { FilesLibc } from "../../io/files_libc.ts";
import type { JobContext } from "./job.ts";
import { send, type SendTarget } from "./sender.ts";
import { SnapshotSource } from "./snapshot_source.ts";

/** What is exported, and where to. */
export interface ExportParams extends SendTarget {
  /** The replica directory. */
  readonly directory: string;
  /** File name of the snapshot's disk. */
  readonly disk: string;
}

/** See the module text. @throws {HttpError} {@linkcode IoError} {@linkcode RpcError} */
export async function exportSnapshot(
  params: ExportParams,
  context: JobContext,
): Promise<Record<string, never>> {
  using snapshot = new SnapshotSource(new FilesLibc(), params.directory, params.disk);
  await send(params, {
    source: {
      size: snapshot.bytes,
      runs: (begin, end) => snapshot.ranges(begin, end),
      read: (into, offset) => snapshot.read(offset, into),
    },
    direct: snapshot.bytes % 4096 === 0,
    checksum: undefined,
    fastSync: false,
  }, context.signal);
  return {};
}
