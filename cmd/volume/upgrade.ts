/**
 * `drover volume upgrade`: the process that serves a volume starts a new engine, which takes over from the running one
 * while clients wait for a moment.
 *
 * @module
 */
import { openServed } from "./served.ts";
import { tellOutcome } from "../support/outcome.ts";
import { checkOutput, type ShowFlags } from "./show.ts";
import { type RunningVolume, whoUses } from "./use.ts";

/** A volume that goes on with the engine it has. */
export class UpgradeError extends Error {
  /** For checks. */
  override readonly name = "UpgradeError";
}

/** How long it may take, and how often is looked; milliseconds. */
const PATIENCE_MS = 120_000, LOOK_MS = 100;

/** `drover volume upgrade NAME`. @throws {UpgradeError} */
export async function upgradeVolume(name: string, flags: ShowFlags): Promise<void> {
  checkOutput(flags);
  using served = openServed(name, flags);
  const { record, running } = served;
  if (!running.relief) {
    throw new UpgradeError(
      `volume ${name} is served by a version that cannot replace its engine; stop it and start it again`,
    );
  }
  const before = running.relief.count, deadline = performance.now() + PATIENCE_MS;
  Deno.kill(running.pid, "SIGUSR2");
  for (;;) {
    const now = whoUses(record);
    if (now === undefined) throw new UpgradeError(`volume ${name} has ended meanwhile; see its log`);
    if (typeof now === "object" && (now.relief?.count ?? 0) > before) {
      return report(name, running, now, flags);
    }
    if (performance.now() > deadline) {
      throw new UpgradeError(`volume ${name}: no new engine after ${PATIENCE_MS / 1000} s; see its log`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

function report(name: string, before: RunningVolume, now: RunningVolume, flags: ShowFlags): void {
  if (now.relief?.failure) {
    throw new UpgradeError(`volume ${name} goes on with the engine it has: ${now.relief.failure}`);
  }
  tellOutcome(
    flags,
    { volume: name, enginePid: now.enginePid, enginePidBefore: before.enginePid },
    `volume ${name} is served by process ${now.enginePid} now, and by ${before.enginePid} no more`,
  );
}
