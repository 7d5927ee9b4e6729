/**
 * ptypes.SyncAgentService: translates calls into jobs of the {@linkcode SyncAgent}. Listens two ports above the
 * replica's control service.
 *
 * @module
 */
import { FilesLibc } from "../../io/files_libc.ts";
import type { Handlers } from "../../rpc/service.ts";
import type { SyncAgentMethods } from "../../rpc/services.ts";
import type { SyncAgent } from "./agent.ts";
import { backupHandlers } from "./backup_handlers.ts";
import { removeFile, renameFile } from "./file_calls.ts";
import { tryNodeLock } from "./node_lock.ts";
import { transferHandlers } from "./transfer_handlers.ts";

/** The handlers. */
export function syncAgentHandlers(agent: SyncAgent): Handlers<SyncAgentMethods> {
  const { directory, thread, locks } = agent.options;
  return {
    fileRemove: async ({ fileName }) => {
      await removeFile(thread, directory, fileName);
      return {};
    },
    fileRename: async ({ oldFileName, newFileName }) => {
      await renameFile(thread, directory, oldFileName, newFileName);
      return {};
    },
    reset: () => {
      agent.reset();
      return {};
    },
    snapshotPurge: async () => {
      await agent.startPurge();
      return {};
    },
    snapshotPurgeStatus: () => {
      const { running, error, progress, state } = agent.purge;
      return { isPurging: running, error, progress, state };
    },
    snapshotHash: ({ snapshotName, rehash }) => {
      agent.hashes.start(snapshotName, rehash);
      return {};
    },
    snapshotHashStatus: ({ snapshotName }) => agent.hashes.status(snapshotName),
    snapshotHashCancel: ({ snapshotName }) => {
      agent.hashes.cancel(snapshotName);
      return {};
    },
    snapshotHashLockState: () => {
      const files = new FilesLibc(), lock = tryNodeLock(files, locks, "hash");
      if (lock !== undefined) files.close(lock);
      return { isLocked: lock === undefined };
    },
    ...transferHandlers(agent),
    ...backupHandlers(agent),
  };
}
