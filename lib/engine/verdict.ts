/**
 * What becomes of a change or a flush when every replica has answered it, or is out. Pure, so that the rules can be
 * read and tested in one place.
 *
 * @module
 */

/** The decision: the answer to the initiator, and the replicas to give up. */
export interface Verdict {
  /** What the initiator is told. */
  readonly answer: "good" | "full" | "error";
  /** Bits of the links to give up. */
  readonly fail: number;
  /** Complete copies may differ in the range from now on. */
  readonly differ: boolean;
}

/**
 * Decides. All arguments are bits of links.
 *
 * - Some complete copy has it: good; whoever failed leaves.
 * - No complete copy has it: copies that are not complete leave, also those that did take it, for they would hold what
 *   no complete copy does. Of the complete ones all stay when they are only
 *   full, so that the volume stays readable; otherwise the first one stays, as a disk with a bad block would.
 *
 * @param good answered well
 * @param bad answered with an error
 * @param full of those, with lack of space
 * @param complete in mode RW now
 */
export function judge(good: number, bad: number, full: number, complete: number): Verdict {
  if ((good & complete) !== 0) return { answer: "good", fail: bad, differ: false };
  const failed = bad & complete, incomplete = (good | bad) & ~complete;
  if (failed === 0) return { answer: "error", fail: incomplete, differ: false };
  if ((full & failed) === failed) {
    return { answer: "full", fail: incomplete, differ: (failed & (failed - 1)) !== 0 };
  }
  return { answer: "error", fail: incomplete | (failed & ~(failed & -failed)), differ: false };
}
