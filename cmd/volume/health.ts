/**
 * How a volume is, asked from its engine.
 *
 * @module
 */
import { modeOf, type ReplicaMode } from "../../lib/client/engine.ts";
import type { ptypes, RpcClient } from "../../lib/rpc/mod.ts";
import type { ControllerMethods } from "../../lib/rpc/services.ts";

/** One copy, as the engine sees it. */
export interface ReplicaHealth {
  /** `VOLUME-r-N`. */
  readonly name: string;
  /** RW: it has every write; WO: it is being filled; ERR: it is out. */
  readonly mode: ReplicaMode;
  /** Why it is not used. */
  readonly reason: string;
}

/** What a look at the engine finds. */
export interface VolumeHealth {
  /** Where the disk is. */
  readonly endpoint: string;
  /** Size of the volume, bytes. */
  readonly bytes: number;
  /** In the order of the start. */
  readonly replicas: readonly ReplicaHealth[];
  /** Of the last whole second. */
  readonly metrics: ptypes.IMetrics;
}

/** Asks an engine how its volume is. @param nameOf the name of the copy at an address */
export async function lookAt(
  client: RpcClient<ControllerMethods>,
  nameOf: (address: string) => string,
): Promise<VolumeHealth> {
  const [volume, { replicas }, { metrics }] = await Promise.all([
    client.unary("volumeGet", {}),
    client.unary("replicaList", {}),
    client.unary("metricsGet", {}),
  ]);
  return {
    endpoint: volume.endpoint,
    bytes: volume.size,
    replicas: (replicas ?? []).map((replica) => ({
      name: nameOf(replica.address?.address ?? ""),
      mode: modeOf(replica.mode),
      reason: replica.droverNote ?? "",
    })),
    metrics: metrics ?? {},
  };
}
