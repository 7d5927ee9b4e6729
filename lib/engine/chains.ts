/**
 * Whether two copies have the same chain of snapshots. A purge works on each copy by itself, so a snapshot that is
 * marked as removed may be folded into its neighbour here and still be there; both show the same. Everything else
 * that differs means that one of them missed a change of the volume.
 *
 * @module
 */

/** The chain of a copy. */
export interface Chain {
  /** File names of the live chain, the head first. */
  readonly chain: readonly string[];
  /** All disks by file name: true for those that are marked as removed. */
  readonly disks: ReadonlyMap<string, boolean>;
}

/** True when both show the same snapshots and the same content below their heads. */
export function sameChain(a: Chain, b: Chain): boolean {
  return covers(a, b) && covers(b, a);
}

/** Every disk of `a` is in the chain of `b`, or was removed there. */
function covers(a: Chain, b: Chain): boolean {
  const others = new Set(b.chain.slice(1));
  return a.chain.slice(1).every((disk) =>
    others.has(disk) || (a.disks.get(disk) === true && !b.disks.has(disk))
  );
}

/** The largest group of copies with the same chain, in order; of equally large ones the first. */
export function largestGroup<Copy extends Chain>(copies: readonly Copy[]): Copy[] {
  let best: Copy[] = [];
  for (const one of copies) {
    const group = copies.filter((other) => sameChain(one, other));
    if (group.length > best.length) best = group;
  }
  return best;
}
