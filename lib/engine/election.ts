/**
 * Which replicas a volume starts with. Pure: what the replicas tell goes in, their modes come out.
 *
 * Drover's own record of members decides where it exists. Replicas last used by Longhorn have none; then
 * Longhorn's rules hold (revision counters, or the newest head when salvage was asked for).
 *
 * A copy on which no engine has recorded members yet has a note of its own (generation 0): who it is, and beside which
 * copies it was found first. Another engine's first change of it removes the note.
 *
 * | the others | a copy with such a note, as a rule empty |
 * |---|---|
 * | none of them has a record, all are here | a new volume |
 * | none of them has a record, some are not here | a riddle: the volume may have been written to without this one |
 * | the newest record has it as a member | complete: its engine died before all had recorded the members |
 * | the newest record does not | was left behind, or its rebuild came to nothing |
 *
 * @module
 */

import { type Chain, largestGroup } from "./chains.ts";

/** What one replica tells before a start. */
export interface Candidate extends Chain {
  /** The address people know it by. */
  readonly name: string;
  /** Bytes of the volume as the replica has it. */
  readonly bytes: number;
  /** `open` or `dirty` when it can be used. */
  readonly state: string;
  /** Bytes of a sector; all copies must agree. */
  readonly sectorBytes: number;
  /** A rebuild of it was begun and not ended. */
  readonly rebuilding: boolean;
  /** Writes it has seen; 0 when it does not count. */
  readonly revisionCounter: number;
  /** True when it does not count its writes. */
  readonly revisionCounterDisabled: boolean;
  /** Modification time of the head, nanoseconds since 1970. */
  readonly headModifiedNs: number;
  /** Allocated bytes of the head. */
  readonly headBytes: number;
  /** True when it was not closed cleanly before this opening. */
  readonly unclean: boolean;
  /** True when, besides, its machine restarted since: what was not flushed is gone there. */
  readonly lostUnflushed: boolean;
  /** Identifier; "" for a peer that has none. */
  readonly id: string;
  /** Its record of members; generation 0 when it has none: `members` are the copies it was found beside, then. */
  readonly generation: number;
  /** Orders records within a generation. */
  readonly revision: number;
  /** Identifiers of the copies that were complete. */
  readonly members: readonly string[];
}

/** How a start is to be done. */
export interface ElectionRules {
  /** Nominal size of the volume, bytes. */
  readonly bytes: number;
  /** Size before an expansion that may not have reached all; 0 = none. */
  readonly currentBytes: number;
  /** The engine expects replicas that do not count their writes. */
  readonly revisionCounterDisabled: boolean;
  /** Without records and counters: use the newest head alone. */
  readonly salvage: boolean;
  /** A running engine is being replaced: counters may differ for a moment. */
  readonly upgrade: boolean;
  /** Replicas that were named and could not be opened. */
  readonly unopened?: number;
}

/** The outcome. */
export interface Election {
  /** Size of the volume, bytes. */
  readonly bytes: number;
  /** Replicas to use, in the order given. */
  readonly chosen: readonly Candidate[];
  /** Replicas that must not be used, each with the reason. */
  readonly refused: readonly { readonly name: string; readonly reason: string }[];
  /** The generation for this engine. */
  readonly generation: number;
  /** Members of the newest record that are not among the candidates: they may hold newer data. */
  readonly missing: readonly string[];
  /** True when no copy has a record: the missing ones are those that the empty ones were found beside. */
  readonly founding: boolean;
  /** True when copies may differ because the last stop was not clean. */
  readonly unclean: boolean;
}

/** The replicas' stories cannot be compared; starting could lose data. */
export class ElectionError extends Error {
  /** The class, for logs. */
  override readonly name = "ElectionError";
}

/** Two heads this close in time count as written together (Longhorn: salvage, 5 s). */
const SALVAGE_WINDOW_NS = 5e9;

/**
 * Decides a start.
 * @throws {ElectionError} when some replicas have a record of members and some do not
 */
export function elect(candidates: readonly Candidate[], rules: ElectionRules): Election {
  const refused: { name: string; reason: string }[] = [];
  const keep = (
    list: readonly Candidate[],
    good: (c: Candidate) => boolean,
    reason: (c: Candidate) => string,
  ) =>
    list.filter((c) => {
      if (good(c)) return true;
      refused.push({ name: c.name, reason: reason(c) });
      return false;
    });
  let list = keep(
    candidates,
    (c) => c.state === "open" || c.state === "dirty",
    (c) => `its state is ${c.state}` + (c.rebuilding ? ": a rebuild was not finished" : ""),
  );
  const sector = list[0]?.sectorBytes ?? 0;
  list = keep(
    list,
    (c) => c.sectorBytes === sector,
    (c) => `sector size ${c.sectorBytes} instead of ${sector}`,
  );
  const bytes = sizeOf(membersIn(list, candidates), rules);
  list = keep(list, (c) => c.bytes === bytes, (c) => `size ${c.bytes} instead of ${bytes}`);
  // Also a replica that cannot be used remembers who was complete.
  const generation = Math.max(0, ...candidates.map((c) => c.generation)) + 1;
  let missing: string[] = [];
  if (generation > 1) {
    ({ list, missing } = byRecord(candidates, list, rules, keep));
    // Completed writes survive the crash of processes: a machine that kept running has them, flushed or not.
    if (list.some((c) => !c.lostUnflushed)) {
      list = keep(
        list,
        (c) => !c.lostUnflushed,
        () => "its machine restarted and lost writes that others still have",
      );
    }
  } else {
    if (list.length > 0 && list.every(empty) && (rules.unopened ?? 0) > 0) {
      throw onlyEmpty(rules.unopened ?? 0);
    }
    if (list.every(empty)) {
      const present = new Set(list.map((c) => c.id));
      missing = [...new Set(list.flatMap((c) => c.members))].filter((id) => !present.has(id));
    }
    if (!rules.upgrade) list = byCounters(list, rules, keep);
  }
  // A change of the volume (a snapshot, a revert) was made on some only when its engine died.
  const group = new Set(largestGroup(list));
  list = keep(
    list,
    (c) => group.has(c),
    () => "its snapshots differ from those of the others: it missed a change",
  );
  return {
    bytes,
    chosen: list,
    refused,
    generation,
    missing,
    founding: generation === 1,
    unclean: list.some((c) => c.unclean),
  };
}

/** Why a start with missing copies is refused, and what to do. */
export function missingText({ missing, founding, chosen }: Election): string {
  const who = missing.join(", ");
  return founding
    ? `all replicas that can be used are empty (${
      chosen.map(({ name }) => name).join(", ")
    }), and the volume was ` +
      `begun with ${missing.length} other(s) that are not here (${who}): they may hold its data. Bring them back; ` +
      `if they are lost, or never held anything, allow it explicitly (--allow-missing-replicas)`
    : `${missing.length} replica(s) that were complete when the volume last ran are missing (${who}); they may hold ` +
      `newer data. Bring them back, or allow it explicitly if they are lost (--allow-missing-replicas)`;
}

/**
 * The size to go on with. After an expansion that reached some copies only, the larger group counts, and the size
 * before where they are equal: nothing was promised yet. (Longhorn: the size before, unless all have grown.)
 * @param list the copies that count: one that was left behind says nothing about an expansion
 */
function sizeOf(list: readonly Candidate[], { bytes, currentBytes }: ElectionRules): number {
  if (currentBytes === 0) return bytes;
  const count = (size: number) => list.filter((c) => c.bytes === size).length;
  return count(bytes) > count(currentBytes) ? bytes : currentBytes;
}

type Keep = (
  list: readonly Candidate[],
  good: (c: Candidate) => boolean,
  reason: (c: Candidate) => string,
) => Candidate[];

function mixed(list: readonly Candidate[], without: readonly Candidate[]): ElectionError {
  const names = without.map((c) => c.name).join(", ");
  return new ElectionError(
    `${names}: written by another engine (or new) since Drover last used the volume, while ` +
      `${list.length - without.length} other replica(s) were not; it cannot be told which copy is newer. ` +
      `Start with only the replicas that are known to be complete, and add the others for a rebuild.`,
  );
}

function onlyEmpty(unopened: number): ElectionError {
  return new ElectionError(
    `all replicas that can be opened are empty, and ${unopened} cannot be opened: a new volume cannot be told from ` +
      `one whose data is elsewhere. Bring the others back, or start without naming them if the volume is new`,
  );
}

function newestOf(all: readonly Candidate[]): Candidate {
  return all.reduce((a, b) =>
    b.generation > a.generation || (b.generation === a.generation && b.revision > a.revision) ? b : a
  );
}

/** Those that the newest record names; all where there is none, or nobody is left of them. */
function membersIn(list: readonly Candidate[], all: readonly Candidate[]): readonly Candidate[] {
  if (all.every((c) => c.generation === 0)) return list;
  const { members } = newestOf(all), named = list.filter((c) => members.includes(c.id));
  return named.length > 0 ? named : list;
}

/** True for a copy that has no record of members and no data. */
function empty(c: Candidate): boolean {
  return c.generation === 0 && c.headBytes === 0 && c.chain.length <= 1;
}

/** The copies that the newest record names. @throws {ElectionError} when copies with data have no record */
function byRecord(
  all: readonly Candidate[],
  list: readonly Candidate[],
  { bytes: wanted, currentBytes: before }: ElectionRules,
  keep: Keep,
): { list: Candidate[]; missing: string[] } {
  const newest = newestOf(all), members = new Set(newest.members);
  // An engine died before all had recorded its members: nothing was written yet that this one would not have.
  const founder = (c: Candidate) => c.members.length > 0 && members.has(c.id);
  // A change by another engine would have removed the note: it cannot be newer than the record.
  const foreign = (c: Candidate) => c.generation === 0 && c.members.length === 0;
  // A copy that was made and never filled is no riddle.
  const filled = keep(
    list,
    (c) => !empty(c) || founder(c),
    () => "it is empty: it was never part of the volume",
  );
  const without = filled.filter(foreign);
  if (without.length > 0) throw mixed(filled, without);
  const chosen = keep(
    filled,
    (c) => members.has(c.id),
    () =>
      `it missed writes: the members of generation ${newest.generation}.${newest.revision} do not include it`,
  );
  // A copy that an expansion has reached, or not yet, is there: nothing was written between its growth and the end.
  const resized = all.filter((c) => before !== 0 && (c.bytes === wanted || c.bytes === before));
  const present = new Set([...filled, ...resized].map((c) => c.id));
  return { list: chosen, missing: newest.members.filter((id) => !present.has(id)) };
}

function byCounters(list: readonly Candidate[], rules: ElectionRules, keep: Keep): Candidate[] {
  const same = keep(
    list,
    (c) => c.revisionCounterDisabled === rules.revisionCounterDisabled,
    (c) => `its revision counter is ${c.revisionCounterDisabled ? "off" : "on"}, the engine's is not`,
  );
  if (!rules.revisionCounterDisabled) {
    const newest = Math.max(0, ...same.map((c) => c.revisionCounter));
    return keep(
      same,
      (c) => c.revisionCounter === newest,
      (c) => `revision ${c.revisionCounter} of ${newest}`,
    );
  }
  if (!rules.salvage || same.length === 0) return same;
  const latest = Math.max(...same.map((c) => c.headModifiedNs));
  const recent = same.filter((c) => latest - c.headModifiedNs <= SALVAGE_WINDOW_NS);
  const best = recent.reduce((a, b) =>
    b.headBytes > a.headBytes || (b.headBytes === a.headBytes && b.headModifiedNs > a.headModifiedNs) ? b : a
  );
  return keep(same, (c) => c === best, () => `salvage chose ${best.name}`);
}
