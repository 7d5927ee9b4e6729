/**
 * ptypes.ReplicaService: what engines, managers and client commands call on a replica. The work is done in the
 * volume thread, which owns the directory; this side translates.
 *
 * @module
 */
import {
  Code,
  type Handlers,
  type ptypes,
  type ReplicaMethods,
  RollbackError,
  RpcError,
} from "../rpc/mod.ts";
import { DIFFERS_KEY, GENERATION_KEY } from "../wire/frame.ts";

/** The volume thread of a replica, as its main thread uses it. */
export interface ReplicaCalls {
  /** Makes one of the calls of `ReplicaHost.handlers`. */
  call(kind: string, body?: unknown, timeoutMs?: number): Promise<unknown>;
}

/** Opening a long chain, or syncing gigabytes at a close, takes a while; milliseconds. */
const LONG_CALL_MS = 10 * 60_000;

/**
 * The handlers. Every reply describes the replica as it is afterwards.
 *
 * @param mayReload throws when the files are not to be taken for complete
 */
export function replicaHandlers(
  thread: ReplicaCalls,
  mayReload: () => void = () => {},
): Handlers<ReplicaMethods> {
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
      run("open", {
        upgrade: request.isUpgrade,
        expectedBytes: request.expectedBackendSize,
        copies: request.droverCopies,
      }),
    replicaClose: (_request, call) => {
      const generation = call.metadata(GENERATION_KEY), differs = call.metadata(DIFFERS_KEY) !== undefined;
      return run("close", { ...generation === undefined ? {} : { generation: Number(generation) }, differs });
    },
    replicaReload: () => {
      mayReload();
      return run("reload");
    },
    rebuildingSet: (request) => run("setRebuilding", { rebuilding: request.rebuilding }),
    revisionCounterSet: (request) => run("setRevisionCounter", { counter: request.counter }),
    unmapMarkDiskChainRemovedSet: (request) => run("setUnmapMarkChain", { enabled: request.enabled }),
    snapshotMaxCountSet: (request) => run("setSnapshotMaxCount", { count: request.count }),
    snapshotMaxSizeSet: (request) => run("setSnapshotMaxSize", { bytes: request.size }),
    replicaRevert: (request) => run("revert", { name: request.name, created: request.created }),
    replicaSnapshot: (request) =>
      run("snapshot", {
        name: request.name,
        userCreated: request.userCreated,
        created: request.created,
        labels: request.labels,
      }),
    replicaExpand: async (request) => {
      try {
        return await run("expand", { bytes: request.size });
      } catch (error) {
        throw expansionError(error);
      }
    },
    diskRemove: (request) => run("removeDisk", { name: request.name, force: request.force }),
    diskReplace: (request) => run("replaceDisk", { target: request.target, source: request.source }),
    diskPrepareRemove: async (request) =>
      await thread.call(
        "prepareRemove",
        { name: request.name },
        LONG_CALL_MS,
      ) as ptypes.IDiskPrepareRemoveResponse,
    diskMarkAsRemoved: (request) => run("markRemoved", { name: request.name }),
  };
}

/** Between threads an error keeps its text, not its class. */
function expansionError(error: unknown): unknown {
  if (!(error instanceof Error) || error.name !== "RollbackError") return error;
  return RollbackError.from(new RpcError(Code.INTERNAL, error.message)) ?? error;
}
