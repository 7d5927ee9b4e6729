/**
 * Doing something while nobody sees the volume as a disk.
 *
 * @module
 */
import type { ServedVolume } from "./served.ts";

/** Time limit for taking the frontend down, milliseconds: caches of the host are written first. */
const FRONTEND_STOP_MS = 120_000;

/**
 * Takes the disk away, does something, and gives it back, also after a failure.
 *
 * @throws {RpcError} when the disk is in use: nothing has changed then; or whatever the work throws
 */
export async function frontendDown(
  { engine: { controller } }: Pick<ServedVolume, "engine">,
  work: () => Promise<void>,
): Promise<void> {
  const { frontend, frontendState } = await controller.unary("volumeGet", {});
  const up = frontendState === "up";
  if (up) await controller.unary("volumeFrontendShutdown", {}, { timeoutMs: FRONTEND_STOP_MS });
  try {
    await work();
  } finally {
    if (up) await controller.unary("volumeFrontendStart", { frontend });
  }
}
