/**
 * DiskService: block disks that an engine owns outright. Volumes here live in directories, so there are none, and
 * every call but one is declined, as by Longhorn for disks of type filesystem.
 *
 * @module
 */
import { VERSION } from "../engine/version.ts";
import { type Handlers, unimplemented } from "../rpc/mod.ts";
import type { DiskMethods } from "../rpc/imrpc.ts";
import { INSTANCE_API } from "./limits.ts";

/** The handlers. */
export function diskHandlers(): Handlers<DiskMethods> {
  return {
    diskCreate: unimplemented,
    diskDelete: unimplemented,
    diskGet: unimplemented,
    diskHealthGet: unimplemented,
    diskReplicaInstanceList: unimplemented,
    diskReplicaInstanceDelete: unimplemented,
    metricsGet: unimplemented,
    versionGet: () => ({
      version: VERSION,
      gitCommit: "",
      buildDate: "",
      instanceManagerDiskServiceAPIVersion: INSTANCE_API.disk,
      instanceManagerDiskServiceAPIMinVersion: INSTANCE_API.diskMin,
    }),
  };
}
