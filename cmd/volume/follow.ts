/**
 * Keeps a running volume what its record says: `drover replica add` and `rm` change the record, and the process that
 * serves the volume, which alone starts and ends the others, takes the change over.
 *
 * @module
 */
import { directoriesOf, readRecord, type VolumeRecord, writeRecord } from "./record.ts";

/** What follows a change. */
export interface FollowEvents {
  /** News. */
  say(text: string): void;
  /** News that should not be missed. */
  warn(text: string): void;
  /** The copy that is being repaired: it is left alone until that ends. */
  busyWith(): string | undefined;
  /** The record is this one now. */
  adopt(record: VolumeRecord): void;
}

/** What a change needs of the processes. */
export interface FollowStack {
  /** Takes a copy out for ever. @throws {Error} when the engine refuses */
  dropReplica(name: string): Promise<void>;
}

/** See the module text. */
export class RecordFollower {
  #record: VolumeRecord;
  /** The failure that was told last. */
  #told = "";

  /** Begins with the record that the volume was started with. */
  constructor(record: VolumeRecord, readonly stack: FollowStack, readonly events: FollowEvents) {
    this.#record = record;
  }

  /** Looks at the record once, and takes over what changed. A failure is told once, and the volume goes on. */
  async look(): Promise<void> {
    try {
      await this.#look();
      this.#told = "";
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      if (text !== this.#told) this.events.warn(`a change of the record cannot be taken over: ${text}`);
      this.#told = text;
    }
  }

  async #look(): Promise<void> {
    const found = this.#read();
    if (!found || JSON.stringify(found) === JSON.stringify(this.#record)) return;
    const { stack, events } = this, before = this.#record;
    const isIn = (record: VolumeRecord, name: string) => record.replicas.some((one) => one.name === name);
    const gone = before.replicas.filter(({ name }) => !isIn(found, name));
    if (gone.some(({ name }) => name === events.busyWith())) return;
    let kept = found;
    for (const place of gone) {
      try {
        await stack.dropReplica(place.name);
        events.say(`copy ${place.name} was taken out of the volume`);
      } catch (error) {
        events.warn(`copy ${place.name} stays: ${error instanceof Error ? error.message : error}`);
        kept = { ...kept, replicas: [...kept.replicas, place] };
      }
    }
    if (kept !== found) writeRecord(kept);
    // What fails from here on is tried again at the next look.
    events.adopt(kept);
    this.#record = kept;
    for (const { name, directory } of found.replicas) {
      if (!isIn(before, name)) events.say(`copy ${name} was added in ${directory}; it is filled`);
    }
  }

  /** The record in the first directory that has it. A broken one is no reason to change anything. */
  #read(): VolumeRecord | undefined {
    try {
      return readRecord(this.#record.name, directoriesOf(this.#record));
    } catch {
      return undefined;
    }
  }
}
