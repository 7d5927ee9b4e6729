/**
 * The calls of the sync agent that make and restore backups.
 *
 * @module
 */
import type { ptypes } from "../../rpc/gen/ptypes.js";
import type { Handlers } from "../../rpc/service.ts";
import type { SyncAgentMethods } from "../../rpc/services.ts";
import type { SyncAgent } from "./agent.ts";

/** Names of these calls. */
export type BackupMethodName =
  | "backupCreate"
  | "backupRemove"
  | "backupRestore"
  | "backupStatus"
  | "restoreStatus";

/** The handlers. */
export function backupHandlers(agent: SyncAgent): Pick<Handlers<SyncAgentMethods>, BackupMethodName> {
  return {
    backupCreate: (request) => agent.backups.create(request as ptypes.BackupCreateRequest),
    backupStatus: ({ backup }) => agent.backups.status(backup),
    backupRemove: ({ backup }) => {
      agent.backups.remove(backup);
      return {};
    },
    backupRestore: async (request) => {
      await agent.restores.start(request as ptypes.BackupRestoreRequest);
      return {};
    },
    restoreStatus: () => agent.restores.status(),
  };
}
