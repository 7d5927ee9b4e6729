/**
 * A volume that `drover volume serve` serves at the moment, for the commands that do something with it.
 *
 * @module
 */
import { EngineClient } from "../../lib/client/engine.ts";
import { quietLog } from "../support/program.ts";
import type { VolumeRecord } from "./record.ts";
import { findVolume, type ShowFlags } from "./show.ts";
import { type RunningVolume, whoUses } from "./use.ts";

/** A volume that does not run, or not yet. */
export class NotServedError extends Error {
  /** For checks. */
  override readonly name = "NotServedError";
}

/** A running volume. */
export interface ServedVolume extends Disposable {
  /** What is remembered of it. */
  readonly record: VolumeRecord;
  /** How it is reached. */
  readonly running: RunningVolume;
  /** Its engine. */
  readonly engine: EngineClient;
  /** The name of the copy at an address. */
  nameOf(address: string): string;
}

/**
 * Finds a running volume.
 *
 * @throws {NoVolumeError} {@linkcode NotServedError} {@linkcode RecordError}
 */
export function openServed(name: string, flags: Pick<ShowFlags, "dir">): ServedVolume {
  const record = findVolume(name, flags), running = whoUses(record);
  if (running === undefined) {
    throw new NotServedError(`volume ${name} does not run; start it with: drover volume serve ${name}`);
  }
  if (running === "starting") {
    throw new NotServedError(`volume ${name} is just starting; try again in a moment`);
  }
  quietLog();
  const engine = new EngineClient(running.control, { volumeName: record.name });
  return {
    record,
    running,
    engine,
    nameOf: (address) => running.replicas.find((replica) => replica.address === address)?.name ?? address,
    [Symbol.dispose]: () => engine[Symbol.dispose](),
  };
}
