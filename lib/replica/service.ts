/**
 * ptypes.ReplicaService: what engines, managers and client commands call on a replica. The work is done in the
 * volume thread, which owns the directory; this side translates.
 *
 * @module
 */
import { type Handlers, type ptypes, type ReplicaMethods, unimplemented } from "../rpc/mod.ts";
import { GENERATION_KEY } from "../wire/frame.ts";

/** The volume thread of a replica, as its main thread uses it. */
export interface ReplicaCalls {
  /** Makes one of the calls of `ReplicaHost.handlers`. */
  call(kind: string, body?: unknown, timeoutMs?: number): Promise<unknown>;
}

/** Opening a long chain, or syncing gigabytes at a close, takes a while; milliseconds. */
const LONG_CALL_MS = 10 * 60_000;

/** The handlers. Every reply describes the replica as it is afterwards. */
export function replicaHandlers(thread: ReplicaCalls): Handlers<ReplicaMethods> {
  const run = async (kind: string, body: unknown = {}): Promise<{ replica: ptypes.IReplica }> => ({
    replica: await thread.call(kind, body, LONG_CALL_MS) as ptypes.IReplica,
  });
  return {
    replicaCreate: (request) => run("create", { bytes: Number(request.size) }),
    replicaDelete: async () => {
      await run("delete");
      return {};
    },
    replicaGet: () => run("get"),
    replicaOpen: (request) =>
      run("open", { upgrade: request.isUpgrade, expectedBytes: request.expectedBackendSize }),
    replicaClose: (_request, call) => {
      const generation = call.metadata(GENERATION_KEY);
      return run("close", generation === undefined ? {} : { generation: Number(generation) });
    },
    replicaReload: () => run("reload"),
    rebuildingSet: (request) => run("setRebuilding", { rebuilding: request.rebuilding }),
    revisionCounterSet: (request) => run("setRevisionCounter", { counter: request.counter }),
    unmapMarkDiskChainRemovedSet: (request) => run("setUnmapMarkChain", { enabled: request.enabled }),
    snapshotMaxCountSet: (request) => run("setSnapshotMaxCount", { count: request.count }),
    snapshotMaxSizeSet: (request) => run("setSnapshotMaxSize", { bytes: request.size }),
    replicaRevert: unimplemented,
    replicaSnapshot: unimplemented,
    replicaExpand: unimplemented,
    diskRemove: unimplemented,
    diskReplace: unimplemented,
    diskPrepareRemove: unimplemented,
    diskMarkAsRemoved: unimplemented,
  };
}
