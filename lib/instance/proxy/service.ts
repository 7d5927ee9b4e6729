/**
 * ProxyEngineService: calls to the engines and replicas of a node through its instance manager, so that a control
 * plane needs no connection to each of them and no program of theirs.
 *
 * Calls about block disks of the second data engine are declined.
 *
 * @module
 */
import type { ProxyEngineMethods } from "../../rpc/imrpc.ts";
import { Code, type Handlers, RpcError, unimplemented } from "../../rpc/mod.ts";
import type { VolumeMounts } from "../filesystems.ts";
import { replicaCalls } from "./replica_calls.ts";
import { snapshotCalls } from "./snapshot_calls.ts";
import { volumeCalls } from "./volume_calls.ts";

/** What the proxy needs of the node. */
export interface ProxyParts {
  /** File systems on volumes. */
  readonly mounts: Pick<VolumeMounts, "remount">;
  /** Takes away what backups left mounted; nothing is, if absent. */
  readonly unmountBackupTargets?: () => Promise<void>;
}

/** A stream that is declined; a plain function would fail where nobody looks. */
// deno-lint-ignore require-yield -- it ends with an error
async function* declined(): AsyncGenerator<Record<string, never>> {
  await Promise.resolve();
  throw new RpcError(Code.UNIMPLEMENTED, "this method is not implemented");
}

/** The handlers. */
export function proxyHandlers(parts: ProxyParts): Handlers<ProxyEngineMethods> {
  return {
    ...volumeCalls,
    ...snapshotCalls,
    ...replicaCalls,
    cleanupBackupMountPoints: async () => {
      await parts.unmountBackupTargets?.();
      return {};
    },
    remountReadOnlyVolume: async ({ volumeName }) => {
      await parts.mounts.remount(volumeName);
      return {};
    },
    sPDKBackingImageCreate: unimplemented,
    sPDKBackingImageDelete: unimplemented,
    sPDKBackingImageGet: unimplemented,
    sPDKBackingImageList: unimplemented,
    sPDKBackingImageWatch: declined,
  };
}
