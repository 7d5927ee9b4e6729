/**
 * Locks on a volume's backups, shared with Longhorn.
 *
 * A lock is a file in the volume's folder of locks: `{"Name","Type","Acquired"}`. Type 1 is a backup or restore, type
 * 2 a deletion; locks of one type do not exclude each other. To take one: write the file, wait until everyone sees
 * it, look at the others. One of the other type is in the way when it is older by these rules: acquired before not
 * acquired, then the time of its file, then its name; and when it is not expired, which it is 150 s after its last
 * change. The holder writes it again every 60 s.
 *
 * How long to wait: Longhorn's clients wait 2 s. For a removal that is so here, too; for a use half a second is enough.
 * Say that the target's listings lag behind by up to L. Who misses the other's lock has looked less than L after it was
 * written. For a use and a removal to miss each other, L would have to be above half the sum of their waits, 1.25 s.
 * Object stores and directories do not lag, NFS and CIFS as they are mounted here by up to 1 s. What stands behind the
 * locks is told in `collect.ts`.
 *
 * All times are the target's own: that of another lock's file is compared with that of one's own file, which was just
 * written, plus what passed on this machine since. So clocks of machines may differ as they like.
 *
 * A holder that was asleep cannot know what happened. {@linkcode Lock.assertHeld} is asked before everything that
 * only the lock makes safe, and says no well before others may take the lock for expired.
 *
 * @module
 */
import { getLogger } from "../log/log.ts";
import { LockedError, LockLostError } from "./errors.ts";
import { encodeObject, Fields, quote } from "./json.ts";
import { pause } from "./lanes.ts";
import { locksFolder, newName } from "./names.ts";
import { readIfThere } from "./store.ts";
import type { Entry, Target } from "./target/target.ts";

/** What a lock is for; the number is what the file holds. */
export const LockKind = {
  /** A backup or a restore: needs blocks to stay. */
  USE: 1,
  /** A deletion: removes blocks. */
  REMOVE: 2,
} as const;

/** One of {@linkcode LockKind}. */
export type LockKind = typeof LockKind[keyof typeof LockKind];

/** A lock that was not written for so long is nobody's, in milliseconds. */
export const LOCK_EXPIRY_MS = 150_000;
/** How often a holder writes its lock, in milliseconds. */
const REFRESH_MS = 60_000;
/** A holder that could not write its lock for so long stops, in milliseconds: half a minute before it expires. */
const HOLD_MS = 120_000;
/** Pause between writing a lock and looking for others, in milliseconds. */
export const SETTLE_MS: Readonly<Record<LockKind, number>> = {
  [LockKind.USE]: 500,
  [LockKind.REMOVE]: 2_000,
};

/** Another client's lock. */
interface Other {
  readonly name: string;
  readonly type: number;
  readonly acquired: boolean;
  readonly modifiedMs: number;
}

function describe(type: number): string {
  if (type === LockKind.USE) return "a backup or restore";
  return type === LockKind.REMOVE ? "a deletion" : "a lock that cannot be read";
}

/** A lock that is held until it is disposed. */
export class Lock implements AsyncDisposable {
  readonly #target: Target;
  readonly #volume: string;
  readonly #kind: LockKind;
  readonly #name = newName("lock");
  /** By the target's clock. */
  #modifiedMs = 0;
  /** By this machine's monotonic clock: just before the last write that went well, and just after it. */
  #heldSince = -Infinity;
  #writtenAt = 0;
  #acquired = false;
  #timer: ReturnType<typeof setInterval> | undefined;
  #refresh: Promise<void> | undefined;

  private constructor(target: Target, volume: string, kind: LockKind) {
    this.#target = target;
    this.#volume = volume;
    this.#kind = kind;
  }

  /**
   * Takes a lock, or fails at once.
   *
   * @throws {LockedError} when another client's lock is in the way
   */
  static async acquire(
    target: Target,
    volume: string,
    kind: LockKind,
    options: { readonly settleMs?: number; readonly signal?: AbortSignal } = {},
  ): Promise<Lock> {
    const lock = new Lock(target, volume, kind);
    try {
      await lock.#write();
      await pause(options.settleMs ?? SETTLE_MS[kind], options.signal);
      await lock.#refuse(await lock.#others());
      lock.#acquired = true;
      await lock.#write();
    } catch (error) {
      await lock.release();
      throw error;
    }
    lock.#timer = setInterval(() => void lock.#again(), REFRESH_MS);
    Deno.unrefTimer(lock.#timer as unknown as number);
    return lock;
  }

  /** The target's clock now, in milliseconds since 1970. */
  get targetTimeMs(): number {
    return this.#modifiedMs + (performance.now() - this.#writtenAt);
  }

  /** Throws when others may believe that the lock is gone. @throws {LockLostError} */
  assertHeld(): void {
    if (performance.now() - this.#heldSince < HOLD_MS) return;
    throw new LockLostError(
      `the lock of volume ${this.#volume} could not be kept on ${this.#target.url}: ` +
        `the target was not reachable, or this machine was asleep; try again`,
    );
  }

  /** Looks again for locks of the other kind that are held. @throws {LockedError} */
  async assertAlone(): Promise<void> {
    const held = (await this.#others()).filter(({ acquired }) => acquired);
    await this.#refuse(held);
  }

  /** Gives the lock up. If that fails, it expires. */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#refresh;
    try {
      await this.#target.remove(this.#path());
    } catch (error) {
      const fields = { volume: this.#volume, error: String(error) };
      getLogger().warn("lock on a volume's backups not removed, it expires", fields);
    }
  }

  /** See {@linkcode Lock.release}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  #path(): string {
    return `${locksFolder(this.#volume)}${this.#name}.lck`;
  }

  async #write(): Promise<void> {
    const fields = [
      ["Name", quote(this.#name)],
      ["Type", String(this.#kind)],
      ["Acquired", String(this.#acquired)],
    ] as const;
    const before = performance.now();
    await this.#target.write(this.#path(), encodeObject(fields, {}));
    const after = performance.now();
    const entry = await this.#target.head(this.#path());
    if (entry === undefined) return;
    this.#modifiedMs = entry.modifiedMs;
    this.#heldSince = before;
    this.#writtenAt = after;
  }

  async #again(): Promise<void> {
    if (this.#refresh !== undefined) return;
    this.#refresh = this.#write().catch((error: unknown) => {
      const fields = { volume: this.#volume, error: String(error) };
      getLogger().warn("lock on a volume's backups not refreshed, trying again", fields);
    });
    await this.#refresh;
    this.#refresh = undefined;
  }

  /** Locks of other clients that are not expired and not of the same kind. */
  async #others(): Promise<Other[]> {
    const entries: Entry[] = [];
    for await (const entry of this.#target.list(locksFolder(this.#volume))) {
      const fresh = this.targetTimeMs - entry.modifiedMs <= LOCK_EXPIRY_MS;
      if (fresh && entry.path.endsWith(".lck") && entry.path !== this.#path()) entries.push(entry);
    }
    const others: Other[] = [];
    for (const entry of entries) {
      const bytes = await readIfThere(this.#target, entry.path);
      if (bytes === undefined) continue;
      const other = parse(entry, bytes);
      if (other.type !== this.#kind) others.push(other);
    }
    return others;
  }

  #refuse(others: readonly Other[]): Promise<void> {
    const mine: Other = {
      name: this.#name,
      type: this.#kind,
      acquired: this.#acquired,
      modifiedMs: this.#modifiedMs,
    };
    const first = others.find((other) => precedes(other, mine));
    if (first === undefined) return Promise.resolve();
    return Promise.reject(new LockedError(this.#volume, first.name, describe(first.type)));
  }
}

/** A lock that cannot be read counts as one that excludes everything: it expires soon enough. */
function parse(entry: Entry, bytes: Uint8Array): Other {
  const name = entry.path.slice(entry.path.lastIndexOf("/") + 1, -".lck".length);
  const { modifiedMs } = entry;
  try {
    const fields = new Fields(entry.path, bytes);
    return { name, type: fields.integer("Type"), acquired: fields.boolean("Acquired"), modifiedMs };
  } catch {
    return { name, type: 0, acquired: true, modifiedMs };
  }
}

function precedes(a: Other, b: Other): boolean {
  if (a.acquired !== b.acquired) return a.acquired;
  if (a.modifiedMs !== b.modifiedMs) return a.modifiedMs < b.modifiedMs;
  return a.name < b.name;
}
