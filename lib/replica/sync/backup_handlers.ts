/**
 * The calls of the sync agent that make and restore backups. They are declared and not offered here.
 *
 * @module
 */
import type { Handlers } from "../../rpc/service.ts";
import type { SyncAgentMethods } from "../../rpc/services.ts";
import { unimplemented } from "../../rpc/errors.ts";

/** Names of these calls. */
export type BackupMethodName =
  | "backupCreate"
  | "backupRemove"
  | "backupRestore"
  | "backupStatus"
  | "restoreStatus";

/** The handlers. */
export function backupHandlers(): Pick<Handlers<SyncAgentMethods>, BackupMethodName> {
  return {
    backupCreate: unimplemented,
    backupRemove: unimplemented,
    backupRestore: unimplemented,
    backupStatus: unimplemented,
    restoreStatus: unimplemented,
  };
}
