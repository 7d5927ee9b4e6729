/**
 * Drover's note about the collection of a volume's blocks: who removes blocks says so before the first removal and
 * after the last. A backup that reads the same note at its start and at its end knows that no block went meanwhile;
 * otherwise it looks whether everything it needs is still there. This is the second line behind the locks, which
 * depend on everybody's writes being seen in time.
 *
 * `drover-collection.json`:
 *
 * | field  | meaning, and what it guards against                                              |
 * | ------ | -------------------------------------------------------------------------------- |
 * | Run    | another one for every collection: one that began and ended unseen in between      |
 * | Active | true until it has ended: removals that are still to come                          |
 *
 * A note that says active while no removing lock is held is what a collection left that died; removing goes on under
 * another name when it is repeated.
 *
 * @module
 */
import { encodeObject, Fields, quote } from "./json.ts";
import { collectionPath } from "./names.ts";
import { readIfThere } from "./store.ts";
import type { Target } from "./target/target.ts";

/** What the note says. */
export interface CollectionNote {
  /** Name of the collection; "" when there never was one. */
  readonly run: string;
  /** True while blocks may be removed. */
  readonly active: boolean;
}

/** A note as it was found. */
export interface FoundNote extends CollectionNote {
  /** When it was written, by the target's clock; 0 when there is none. */
  readonly modifiedMs: number;
}

/** Reads the note. One that cannot be read counts as another one, which is active. */
export async function readCollectionNote(target: Target, volume: string): Promise<FoundNote> {
  const path = collectionPath(volume);
  const bytes = await readIfThere(target, path);
  if (bytes === undefined) return { run: "", active: false, modifiedMs: 0 };
  const modifiedMs = (await target.head(path))?.modifiedMs ?? 0;
  try {
    const fields = new Fields(path, bytes);
    return { run: fields.string("Run"), active: fields.boolean("Active"), modifiedMs };
  } catch {
    return { run: "?", active: true, modifiedMs };
  }
}

/** Writes the note. */
export function writeCollectionNote(target: Target, volume: string, note: CollectionNote): Promise<void> {
  const fields = [["Run", quote(note.run)], ["Active", String(note.active)]] as const;
  return target.write(collectionPath(volume), encodeObject(fields, {}));
}
