/**
 * Purge: makes removed snapshots go away, and system snapshots with them.
 *
 * The volume thread does every step, small and safe against a crash (see `Folds` and `ChainChanges` of the disk
 * room); here is only the order. All that must survive a crash are the marks in the disks' records, so a purge that
 * was cut off is begun again by calling it again.
 *
 * Leaves come first, towards the root, because a disk can be merged once it has one child left. The snapshot right
 * below the head comes last: it cannot be merged into the head, so only what the head hides is given back.
 *
 * @module
 */
import type { ptypes } from "../../rpc/gen/ptypes.js";
import type { ReplicaCalls } from "../service.ts";

/** One disk of a description. */
type Disk = Pick<ptypes.IDiskInfo, "name" | "parent" | "removed" | "userCreated">;

/** How often a prune that a new snapshot interrupted is begun again. */
const PRUNE_TRIES = 5;

interface Chain {
  readonly disks: ReadonlyMap<string, Disk>;
  readonly head: string;
  readonly backingFile: string;
}

/** @throws {Error} when the replica is not open */
async function look(thread: ReplicaCalls): Promise<Chain> {
  const replica = await thread.call("get") as ptypes.IReplica;
  if (!replica.disks) throw new Error("replica is not open");
  const disks = new Map(Object.entries(replica.disks ?? {}));
  return { disks, head: replica.head ?? "", backingFile: replica.backingFile ?? "" };
}

/** Removed disks, the farthest from the root first, the head's parent last. */
function candidates({ disks, head, backingFile }: Chain): string[] {
  const depth = (name: string): number => {
    let steps = 0;
    for (let at = disks.get(name); at && steps <= disks.size; at = disks.get(at.parent ?? "")) steps++;
    return steps;
  };
  const below = disks.get(head)?.parent ?? "";
  const removed = [...disks.keys()].filter((name) =>
    name !== head && name !== backingFile && disks.get(name)?.removed === true
  );
  const rank = (name: string) => name === below ? 0 : depth(name);
  return removed.sort((a, b) => rank(b) - rank(a));
}

/** Marks the system's snapshots as removed. @throws {Error} */
export async function markSystemSnapshots(thread: ReplicaCalls): Promise<void> {
  const chain = await look(thread);
  for (const [name, disk] of chain.disks) {
    if (disk.userCreated || disk.removed || name === chain.head || name === chain.backingFile) continue;
    await thread.call("markRemoved", { name });
  }
}

/**
 * Purges an open replica; see the module text.
 *
 * @param progress told 0 to 100
 * @throws {Error} what the volume thread refused or failed with
 */
export async function purge(thread: ReplicaCalls, progress: (percent: number) => void): Promise<void> {
  let done = 0;
  const kept = new Set<string>();
  for (;;) {
    const left = candidates(await look(thread)).filter((name) => !kept.has(name));
    const disk = left[0];
    if (disk === undefined) return;
    progress(Math.floor(100 * done / (done + left.length)));
    // What stays, because it has several children or the head above it, may go when its children have gone.
    if (await purgeDisk(thread, disk)) kept.clear();
    else kept.add(disk);
    done++;
  }
}

/** @returns whether the disk is gone */
async function purgeDisk(thread: ReplicaCalls, name: string): Promise<boolean> {
  const { operations } = await thread.call("prepareRemove", { name }) as ptypes.IDiskPrepareRemoveResponse;
  let gone = false;
  for (const { action, source, target } of operations ?? []) {
    if (action === "coalesce") await thread.call("coalesce", { source, target });
    else if (action === "prune") await prune(thread, String(source));
    else if (action === "replace") {
      await thread.call("replaceDisk", { source, target });
      gone = true;
    } else {
      await thread.call("removeDisk", { name: source });
      gone = true;
    }
  }
  return gone;
}

/** A snapshot that is taken meanwhile ends a prune: the disk has a child to be merged with now, or another head. */
async function prune(thread: ReplicaCalls, source: string): Promise<void> {
  for (let attempt = 1;; attempt++) {
    try {
      await thread.call("prune", { source });
      return;
    } catch (error) {
      const interrupted = error instanceof Error &&
        /was interrupted|is not the only child/.test(error.message);
      if (!interrupted || attempt === PRUNE_TRIES) throw error;
      const chain = await look(thread);
      if (chain.disks.get(chain.head)?.parent !== source) return;
    }
  }
}
