/**
 * What the manager does from time to time: conditions of engines, sizes of logs. Both are a handful of system calls
 * per round, whatever the number of processes that did not change.
 *
 * @module
 */
import type { Clock } from "./clock.ts";
import type { VolumeMounts } from "./filesystems.ts";
import { CONDITIONS_MS, LOG_LOOK_MS } from "./limits.ts";
import type { LogDirectory } from "./log_file.ts";
import { volumeOfEngine } from "./names.ts";
import type { ProcessTable } from "./table.ts";

/** The one condition that there is (Longhorn's name). */
export const READ_ONLY_CONDITION = "FilesystemReadOnly";

/** Checks the conditions of all running engines, and tells of those that changed. */
export function checkConditions(table: ProcessTable, mounts: VolumeMounts): void {
  const engines = new Map<string, string>();
  for (const { record } of table.all()) {
    const volume = volumeOfEngine(record.name);
    if (volume !== undefined && record.state === "running") engines.set(record.name, volume);
  }
  if (engines.size === 0) return;
  const readOnly = mounts.readOnly(engines.values());
  for (const [name, volume] of engines) {
    const managed = table.find(name);
    const now = readOnly.has(volume);
    if (!managed || (managed.conditions.get(READ_ONLY_CONDITION) ?? false) === now) continue;
    managed.conditions.set(READ_ONLY_CONDITION, now);
    const fields = { process: name, volume };
    if (now) table.shop.log.warn("the file system of a volume became read-only", fields);
    else table.shop.log.info("the file system of a volume is writable again", fields);
    table.tell(managed);
  }
}

/** Cuts logs that are too long, and removes old ones of processes that are gone. */
export function lookAtLogs(table: ProcessTable, logs: LogDirectory): void {
  for (const { record } of table.all()) {
    try {
      logs.trim(record.name);
    } catch (error) {
      table.shop.log.warn("a log cannot be cut", { process: record.name, problem: String(error) });
    }
  }
  try {
    logs.removeOld((name) => table.find(name) !== undefined, table.shop.wallClock());
  } catch (error) {
    table.shop.log.warn("old logs cannot be removed", { problem: String(error) });
  }
}

/** Does something every so often until the signal is aborted. */
export async function every(
  clock: Clock,
  ms: number,
  signal: AbortSignal,
  work: () => void,
): Promise<void> {
  while (!signal.aborted) {
    work();
    await clock.sleep(ms, signal);
  }
}

/** All of it, until the signal is aborted. */
export async function keepHouse(
  table: ProcessTable,
  parts: { readonly logs: LogDirectory; readonly mounts: VolumeMounts },
  signal: AbortSignal,
): Promise<void> {
  const { clock, log } = table.shop;
  const guarded = (work: () => void) => (): void => {
    try {
      work();
    } catch (error) {
      log.warn("a check failed", { problem: String(error) });
    }
  };
  await Promise.all([
    every(clock, CONDITIONS_MS, signal, guarded(() => checkConditions(table, parts.mounts))),
    every(clock, LOG_LOOK_MS, signal, guarded(() => lookAtLogs(table, parts.logs))),
  ]);
}
