/**
 * Bugs to be planted: each is a small change of the sources that loses data sooner or later, of the kind that a tired
 * person makes. The simulation must find every one of them.
 *
 * @module
 */

/** One bug. */
export interface Mutant {
  /** What the code does wrong then. */
  readonly name: string;
  /** The file, from the top of the repository. */
  readonly file: string;
  /** What stands there; exactly once. */
  readonly from: string;
  /** What is put in its place. */
  readonly to: string;
}

/** The bugs. */
export const MUTANTS: readonly Mutant[] = [
  {
    name: "a flush leaves one replica out",
    file: "lib/engine/copy.ts",
    from: "    const link = writers[i];\n    let as = type;",
    to:
      "    const link = writers[i];\n    if (type === FrameType.FLUSH && i > 0 && i === writers.length - 1) continue;\n    let as = type;",
  },
  {
    name: "a write counts as recorded in a dirty region though it is not",
    file: "lib/replica/dirty_regions.ts",
    from: "    if (!coversRegions(this.#map, this.region, offset, length)) return false;",
    to: "    if (!coversRegions(this.#map, this.region, offset, length) && offset < 0) return false;",
  },
  {
    name: "a digest forgets a run of data",
    file: "lib/disk/data_pieces.ts",
    from: "      if (extent.unwritten && direct) continue;",
    to: "      if (extent.unwritten || extent.offset > offset) continue;",
  },
  {
    name: "a merge of snapshots forgets the last piece of the child",
    file: "lib/disk/folds.ts",
    from:
      "      else if (to > from) this.#pieces.push(start + from * BLOCK_BYTES, (to - from) * BLOCK_BYTES);",
    to:
      "      else if (to - 1 > from) this.#pieces.push(start + from * BLOCK_BYTES, (to - 1 - from) * BLOCK_BYTES);",
  },
  {
    name: "writes are answered before it is recorded that a replica missed them",
    file: "lib/engine/requests.ts",
    from: "    if (!this.settled && s.op[slot] !== Op.READ) {",
    to: "    if (!this.settled && s.op[slot] === Op.FLUSH) {",
  },
  {
    name: "a replica that refused a write stays in the set",
    file: "lib/engine/verdict.ts",
    from: 'if ((good & complete) !== 0) return { answer: "good", fail: bad, differ: false };',
    to: 'if ((good & complete) !== 0) return { answer: "good", fail: 0, differ: false };',
  },
  {
    name: "overlapping writes are sent at the same time",
    file: "lib/engine/overlap.ts",
    from: "      this.held ||\n      this.#clashes(slot, this.#active, this.#activeCount) ||",
    to:
      "      this.held ||\n      (this.grain > 1 && this.#clashes(slot, this.#active, this.#activeCount)) ||",
  },
  {
    name: "a trimmed block lets an older snapshot's data show again",
    file: "lib/disk/unmap_plan.ts",
    from: "      this.#kept.fill(1, from, Math.max(from, lastBlock(extent, start, this.#blocks)));",
    to: "      this.#kept.fill(0, from, Math.max(from, lastBlock(extent, start, this.#blocks)));",
  },
  {
    name: "reads go to a copy that is being filled",
    file: "lib/engine/replica_set.ts",
    from: '    this.readers = admitted.filter((link) => link.mode === "RW");',
    to: '    this.readers = admitted.filter((link) => link.mode !== "ERR");',
  },
  {
    name: "copies are read in turn after an unclean stop, before they are equal",
    file: "lib/engine/thread.ts",
    from: "    this.volume.turns.single = readFromOne;",
    to: "    this.volume.turns.single = readFromOne && names.length > 9;",
  },
  {
    name: "what was under way when a copy left is not counted as missed",
    file: "lib/engine/volume.ts",
    from: "      if (s.state[slot] === SlotState.FREE || !changes(s.op[slot])) continue;",
    to: "      if (s.state[slot] !== SlotState.FREE || !changes(s.op[slot])) continue;",
  },
  {
    name: "a snapshot is taken while writes are under way",
    file: "lib/engine/requests.ts",
    from: "    if (!this.#overlaps.held || this.#overlaps.active > 0) return;",
    to: "    if (!this.#overlaps.held) return;",
  },
  {
    name: "the start believes copies that missed writes",
    file: "lib/engine/election.ts",
    from: "    (c) => members.has(c.id),",
    to: "    (c) => members.has(c.id) || c.generation > 0,",
  },
  {
    name: "a flush is answered without a sync of the disk",
    file: "lib/disk/flush_path.ts",
    from: "    if (refusal < 0 || (this.clean && this.#underWay === 0)) {",
    to: "    if (refusal < 0 || this.#underWay === 0) {",
  },
];
