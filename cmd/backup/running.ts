/**
 * The volumes of `drover volume serve` that run on this machine, for commands that need one.
 *
 * @module
 */
import { UsageError } from "../support/program.ts";
import { resolveDirectories } from "../volume/names.ts";
import { listVolumes, readRecord } from "../volume/record.ts";
import { type RunningVolume, whoUses } from "../volume/use.ts";

/** How to reach a volume that is being served. @throws {UsageError} when it is not there or not served */
export function runningVolume(name: string, dir: readonly string[] | undefined): RunningVolume {
  const directories = resolveDirectories(dir);
  const record = readRecord(name, directories);
  if (!record) {
    const others = listVolumes(directories);
    throw new UsageError(
      `no volume ${name} in ${directories.join(", ")}` +
        (others.length > 0 ? `; there is: ${others.join(", ")}` : "; --dir names another directory"),
    );
  }
  const running = whoUses(record);
  if (typeof running === "object") return running;
  throw new UsageError(`volume ${name} is not being served; start it with: drover volume serve ${name}`);
}
