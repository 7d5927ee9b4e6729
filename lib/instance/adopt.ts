/**
 * Finding the processes of an earlier manager again. It runs before the services are offered, so that nobody sees
 * half a table.
 *
 * @module
 */
import { ManagedProcess } from "./managed.ts";
import type { ProcessKey } from "./proc.ts";
import type { ProcessRecord } from "./record.ts";
import type { ProcessTable } from "./table.ts";

/** Adopts what runs, notes what does not, and goes on with what was under way. */
export function adoptAll(table: ProcessTable): void {
  const { records, log, launcher } = table.shop;
  const loaded = records.load((file, error) =>
    log.error("a record of a process cannot be read and is left alone", { file, problem: String(error) })
  );
  const here: ProcessRecord[] = [];
  for (const record of loaded) {
    if (record.host === table.host) here.push(record);
    else {
      // All processes of another boot or container are gone, and so is what their callers knew of them.
      log.info("forgets a process of an earlier boot or container", { process: record.name });
      records.remove(record.uuid);
    }
  }
  const unnoted = here.filter((record) => record.pid === 0 && !isEnded(record)).map(({ uuid }) => uuid);
  const found = launcher.find(new Set(unnoted));
  const byUuid = new Map<string, ManagedProcess>();
  // Before anything ends and frees its ports, all of them are taken.
  for (const record of here) table.ports.reserve({ start: record.portStart, end: record.portEnd });
  for (const record of here.toSorted((a, b) => a.createdMs - b.createdMs)) {
    byUuid.set(record.uuid, adopt(table, record, found.get(record.uuid)));
  }
  arrange(table, byUuid);
  const running = [...byUuid.values()].filter((one) => !one.hasEnded).length;
  if (byUuid.size > 0) log.info("found processes again", { running, ended: byUuid.size - running });
}

function isEnded(record: ProcessRecord): boolean {
  return record.state === "stopped" || record.state === "error";
}

/** @param found the process, where its number was not noted */
function adopt(table: ProcessTable, noted: ProcessRecord, found: ProcessKey | undefined): ManagedProcess {
  const record = { ...noted, ...found };
  const managed = new ManagedProcess(table.shop, record, (one) => table.tell(one));
  if (managed.hasEnded) return managed;
  const running = record.pid === 0 ? undefined : table.shop.launcher.adopt(record);
  if (running) {
    if (noted.pid !== record.pid) managed.update({});
    table.inBackground(managed.resume(running));
  } else {
    managed.lost(
      record.pid === 0
        ? "the instance manager ended before it had started this process"
        : "it ended while the instance manager was not running: exit status unknown, see its log",
    );
  }
  return managed;
}

/** Gives names, and goes on with deletions and replacements. */
function arrange(table: ProcessTable, byUuid: ReadonlyMap<string, ManagedProcess>): void {
  const replacements = [...byUuid.values()].filter(({ record }) => record.replaces !== "");
  const beingReplaced = new Set(replacements.map(({ record }) => record.replaces));
  for (const managed of byUuid.values()) {
    const { replaces, superseded, name, uuid } = managed.record;
    if (replaces !== "") continue;
    if (superseded && !beingReplaced.has(uuid)) {
      table.endSuperseded(managed);
      continue;
    }
    const other = table.find(name);
    if (other) {
      table.shop.log.error("two processes have one name; the newer one keeps it", { process: name });
      table.endSuperseded(other);
    }
    table.put(managed);
  }
  for (const next of replacements) {
    const current = byUuid.get(next.record.replaces);
    if (current) {
      table.resumeReplace(current, next);
    } else if (table.find(next.record.name)) {
      // What it was to replace was deleted, and the name was given to another.
      table.endSuperseded(next);
    } else {
      next.update({ replaces: "" });
      table.put(next);
    }
  }
  for (const managed of table.all()) if (managed.record.deleting) table.resumeDelete(managed);
}
