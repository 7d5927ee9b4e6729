/**
 * Reading what `tgtadm` of the Linux target framework prints: blocks that are told from each other by four blanks
 * of indentation.
 *
 * @module
 */

/** A connection of an initiator to a target. */
export interface TgtConnection {
  /** Number of the session (I_T nexus). */
  readonly session: number;
  /** Number of the connection in it. */
  readonly connection: number;
}

/** A logical unit. */
export interface TgtUnit {
  /** Its number. 0 is tgt's own controller. */
  readonly lun: number;
  /** Kind of its backing store, such as `longhorn` or `rdwr`. */
  readonly storeType: string;
  /** What it stands on: a file, or a volume's socket. */
  readonly storePath: string;
}

/** A target. */
export interface TgtTarget {
  /** Its number. */
  readonly id: number;
  /** Its name. */
  readonly name: string;
  /** Its units. */
  readonly units: readonly TgtUnit[];
}

/** What a tgtd can do. */
export interface TgtSystem {
  /** True when it serves iSCSI. */
  readonly ready: boolean;
  /** Kinds of backing stores. */
  readonly stores: readonly string[];
}

/** Reads `--op show --mode system`. */
export function parseSystem(text: string): TgtSystem {
  const stores: string[] = [];
  let section = "", ready = false;
  for (const line of text.split("\n")) {
    const heading = /^(\S[^:]*):/.exec(line);
    if (heading) section = heading[1] ?? "";
    const entry = /^ {4}(\S.*)$/.exec(line)?.[1] ?? "";
    if (section === "System" && /^State: ready/.test(entry)) ready = true;
    // Newer releases tell the flags of a store behind its name.
    if (section === "Backing stores" && entry !== "") stores.push(entry.split(" ")[0] ?? "");
  }
  return { ready, stores };
}

/** Reads `--op show --mode target`. */
export function parseTargets(text: string): TgtTarget[] {
  const targets: {
    id: number;
    name: string;
    units: { lun: number; storeType: string; storePath: string }[];
  }[] = [];
  for (const line of text.split("\n")) {
    const head = /^Target (\d+): (\S+)$/.exec(line);
    if (head) targets.push({ id: Number(head[1]), name: head[2] ?? "", units: [] });
    const units = targets.at(-1)?.units;
    const lun = /^ {8}LUN: (\d+)$/.exec(line);
    if (lun) units?.push({ lun: Number(lun[1]), storeType: "", storePath: "" });
    const unit = units?.at(-1), field = /^ {12}Backing store (type|path): (.*)$/.exec(line);
    if (unit && field) {
      if (field[1] === "type") unit.storeType = field[2] ?? "";
      else unit.storePath = field[2] ?? "";
    }
  }
  return targets;
}

/** Reads `--op show --mode conn --tid N`. */
export function parseConnections(text: string): TgtConnection[] {
  const found: TgtConnection[] = [];
  let session: number | null = null;
  for (const line of text.split("\n")) {
    const head = /^Session: (\d+)$/.exec(line.trim());
    if (head) session = Number(head[1]);
    const connection = /^Connection: (\d+)$/.exec(line.trim());
    if (connection && session !== null) found.push({ session, connection: Number(connection[1]) });
  }
  return found;
}

/** Highest number of a target that Longhorn's tools give. */
export const MAX_TARGET_ID = 4094;

/** The smallest number from 1 that no target has; null when all are taken. */
export function freeTargetId(targets: readonly TgtTarget[]): number | null {
  const taken = new Set(targets.map(({ id }) => id));
  for (let id = 1; id <= MAX_TARGET_ID; id++) if (!taken.has(id)) return id;
  return null;
}
