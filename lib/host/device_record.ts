/**
 * What an engine has attached to this host, in a file: a later engine of the same volume learns from it whether it
 * may go on with the device, or what to clean up.
 *
 * `<run>/devices/<volume>.json`:
 *
 * | key | what | guards against |
 * | --- | --- | --- |
 * | `version` | 1 | a later format that is misread |
 * | `volume` | its name | a file that was moved |
 * | `carrier` | how it is attached | cleaning up in the wrong way |
 * | `generation` | of the engine (counted by the replicas) | going on with a device whose caches are stale, because the volume was written through another engine in between |
 * | `attachment` | device, addresses; null: it was being attached | |
 *
 * The directory is on a file system that ends with the boot, as devices do. So nothing is synced: the file has to
 * survive processes, not power.
 *
 * @module
 */

/** Version of the format. */
const VERSION = 1;

/** See the module text. */
export interface DeviceRecord {
  /** The volume's name. */
  readonly volume: string;
  /** How it is attached. */
  readonly carrier: string;
  /** Of the engine. */
  readonly generation: number;
  /** What the carrier remembers; null: it was being attached. */
  readonly attachment: unknown;
}

/** Where the records are. @param run the run directory */
export function recordDirectory(run: string): string {
  return `${run}/devices`;
}

function pathOf(run: string, volume: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(volume)) {
    throw new TypeError(`volume name ${JSON.stringify(volume)} cannot name a file`);
  }
  return `${recordDirectory(run)}/${volume}.json`;
}

/** The record of a volume; undefined when there is none that makes sense. */
export function readDeviceRecord(run: string, volume: string): DeviceRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(Deno.readTextFileSync(pathOf(run, volume)));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { version, volume: name, carrier, generation, attachment = null } = value as Record<string, unknown>;
  if (version !== VERSION || name !== volume || typeof carrier !== "string") return undefined;
  return { volume, carrier, generation: typeof generation === "number" ? generation : 0, attachment };
}

/** Writes the record, whole or not at all. */
export function writeDeviceRecord(run: string, record: DeviceRecord): void {
  const path = pathOf(run, record.volume), temporary = `${path}.new`;
  Deno.mkdirSync(recordDirectory(run), { recursive: true, mode: 0o755 });
  Deno.writeTextFileSync(temporary, `${JSON.stringify({ version: VERSION, ...record })}\n`);
  Deno.renameSync(temporary, path);
}

/** Removes the record, if there is one. */
export function removeDeviceRecord(run: string, volume: string): void {
  try {
    Deno.removeSync(pathOf(run, volume));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** The volumes that have records. */
export function listDeviceRecords(run: string): string[] {
  try {
    return [...Deno.readDirSync(recordDirectory(run))].map(({ name }) => name)
      .filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
