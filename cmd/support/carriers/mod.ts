/**
 * Making carriers, and the host's share of an engine's frontends with all that it needs.
 *
 * @module
 */
import { hostContext } from "../../../lib/host/context.ts";
import type { Logger } from "../../../lib/log/log.ts";
import { DeviceHost } from "../device_host.ts";
import { LoopHost, runDirectory } from "../loop_host.ts";
import type { Carrier, CarrierKind, CarrierParts } from "./carrier.ts";
import type { CarrierChoice } from "./choice.ts";
import { IscsiCarrier } from "./iscsi.ts";
import { NbdCarrier } from "./nbd.ts";
import { TgtCarrier } from "./tgt.ts";

/** A replica that does not answer is given up after this share of what a client waits; Longhorn's numbers. */
const LONG_FACTOR = 2, CLIENT_FACTOR = 32, CLIENT_EXTRA_S = 30;

/**
 * How long a client of the volume waits for an answer, seconds: longer than the engine may take to give replicas up
 * one after the other, or the host would see errors that the engine could have kept from it.
 *
 * @param replicaTimeoutMs how long the engine waits for one replica
 */
export function requestTimeoutS(replicaTimeoutMs: number): number {
  return LONG_FACTOR * replicaTimeoutMs / 1000 * CLIENT_FACTOR + CLIENT_EXTRA_S;
}

/** Makes a carrier. */
export function makeCarrier(
  kind: Exclude<CarrierKind, "loop">,
  local: boolean,
  parts: CarrierParts,
): Carrier {
  switch (kind) {
    case "iscsi":
      return new IscsiCarrier(parts);
    case "nbd":
      return new NbdCarrier(parts);
    case "tgt":
      return new TgtCarrier(parts, local);
  }
}

/** What the host's share of an engine is made of. */
export interface EngineHostOptions {
  /** The volume's name. */
  readonly volume: string;
  /** Size of the volume. */
  readonly bytes: () => number;
  /** How long the engine waits for one replica, milliseconds. */
  readonly replicaTimeoutMs: number;
  /** Carrier for `tgt-blockdev`. */
  readonly carrier: CarrierChoice;
  /** Of this engine, as the replicas count. */
  readonly generation: () => number;
  /** Where it is told what happens. */
  readonly log: Logger;
}

/** The host's share of an engine's frontends. */
export function engineHost(options: EngineHostOptions): DeviceHost {
  const { volume, bytes, carrier, generation, log } = options;
  const context = hostContext(log), run = runDirectory();
  const parts = { context, volume, run, bytes, requestTimeoutS: requestTimeoutS(options.replicaTimeoutMs) };
  return new DeviceHost({
    volume,
    run,
    context,
    carrier,
    generation,
    loop: new LoopHost(volume, log),
    makeCarrier: (kind, local) => makeCarrier(kind, local, parts),
  });
}
