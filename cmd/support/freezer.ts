/**
 * Keeps the file systems on a volume's device still during a snapshot, for the engine's main thread.
 *
 * @module
 */
import type { Freezer } from "../../lib/engine/changes.ts";
import { SystemRunner } from "../../lib/host/command.ts";
import { controlPath } from "../../lib/host/control_path.ts";
import { type FreezeOptions, freezeVolume, syncVolume, thawLeftovers } from "../../lib/host/freeze.ts";
import { hostProc } from "../../lib/host/namespace.ts";
import type { Logger } from "../../lib/log/log.ts";

/** A freezer that also thaws what an engine that died left frozen. */
export interface HostFreezer extends Freezer {
  /** To be called once, at the start. Never throws. */
  thawLeftovers(): Promise<void>;
}

/** Where freezes are noted: whoever thaws later looks there. */
export function freezeDirectory(): string {
  return `${controlPath(Deno.env.get("LONGHORN_CONTROL_PATH"))}/freeze`;
}

/**
 * Freezes what is mounted from the device of a volume.
 *
 * @param device its path as far as it is known now; what is no path below /dev cannot be mounted from
 */
export function hostFreezer(volume: string, device: () => string, log: Logger): HostFreezer {
  const options = (path = device()): FreezeOptions => ({
    runner: new SystemRunner(),
    volume,
    device: path,
    directory: freezeDirectory(),
    // From a container, most mounts of the volume are the host's.
    proc: hostProc(),
    log,
  });
  const isDevice = () => device().startsWith("/dev/");
  return {
    freeze: async () => {
      if (!isDevice()) return async () => {};
      const frozen = await freezeVolume(options());
      log.info("file systems frozen", { mount_points: frozen.mountPoints.join(", ") });
      return async () => {
        const { expired } = frozen;
        await frozen.thaw();
        if (expired) {
          throw new Error("the file systems were thawed before the snapshot was complete: it took too long");
        }
      };
    },
    sync: async () => {
      if (isDevice()) await syncVolume(options());
    },
    thawLeftovers: async () => {
      const places = await thawLeftovers(options(`/dev/longhorn/${volume}`));
      if (places.length > 0) {
        log.warn("thawed what an engine that died had frozen", { places: places.join(", ") });
      }
    },
  };
}
