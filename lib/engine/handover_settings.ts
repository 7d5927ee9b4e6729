/**
 * What calls have set on a running engine, which the one that relieves it goes on with. What the new engine was told
 * by its own command line goes before: whoever starts it knows what is wanted now.
 *
 * @module
 */
import type { SnapshotLimits, VolumeChanges } from "./changes.ts";
import type { HandedSettings } from "./handover_messages.ts";

/** Who has settings: a controller. */
export interface SettingsHolder {
  /** Limits, the mark of unmaps, what is told about the last expansion. */
  readonly changes: Pick<VolumeChanges, "limits" | "unmapMark" | "expansion">;
  /** Copies that a rebuild reads from at the same time, at most. */
  rebuildSources: number;
  /** How fast the engine copies to a copy that joins. */
  readonly additions: { readonly limit: number; setLimit(bytesPerSecond: number): Promise<void> };
  /** What its command line said; what it did not say is absent. */
  readonly options: {
    readonly limits?: Partial<SnapshotLimits>;
    readonly unmapMark?: boolean;
    readonly rebuildSources?: number;
  };
}

/** What is set, for the engine that relieves this one. */
export function settingsOf({ changes, rebuildSources, additions }: SettingsHolder): HandedSettings {
  const { limits, unmapMark, expansion: { error, failedAt } } = changes;
  return {
    snapshotMaxCount: limits.count,
    snapshotMaxSize: limits.bytes,
    unmapMark,
    rebuildSources,
    copyLimit: additions.limit,
    expansion: { error, failedAt },
  };
}

/** Goes on with what was set on the engine that is relieved. */
export async function adoptSettings(holder: SettingsHolder, handed: HandedSettings): Promise<void> {
  const { changes, options } = holder, { snapshotMaxCount: count, snapshotMaxSize: bytes } = handed;
  Object.assign(changes.limits, { count, bytes }, options.limits);
  changes.unmapMark = options.unmapMark ?? handed.unmapMark;
  changes.expansion = { ...handed.expansion, running: false };
  holder.rebuildSources = options.rebuildSources ?? handed.rebuildSources;
  // A new engine has none: hosts do not wait for that to be said.
  if (handed.copyLimit) await holder.additions.setLimit(handed.copyLimit);
}
