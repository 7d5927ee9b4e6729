/**
 * Changes of a volume as a whole: snapshots, growth, going back. They are made on all copies at the same cut: no
 * change of a host is under way, on no copy. Hosts wait meanwhile; what takes long (syncing what was written) is
 * done before.
 *
 * | failure | what becomes of it |
 * |---|---|
 * | some copies made the change | it is made when these have recorded that the others are out, for they differ |
 * | none did, and all say that nothing has changed | an error; the volume goes on as it was |
 * | a copy does not answer | it is out: nobody knows whether it made the change |
 *
 * An engine that dies in between leaves copies of which some have changed; the next start notices by their chains
 * (election.ts).
 *
 * @module
 */
import { Code, RollbackError, RpcError } from "../rpc/mod.ts";
import { type Backend, type BackendInfo, plainReason, type SnapshotRequest } from "./backend.ts";
import type { Copy, CopyTable } from "./copy_table.ts";
import { EQUAL_WAIT_MS, HOLD_TIMEOUT_MS, MAX_CHAIN_DISKS, SNAPSHOT_MAX_COUNT } from "./limits.ts";
import type { ThreadInfo } from "./thread.ts";

/** Keeps the file system on the volume still during a snapshot. Runs on the host. */
export interface Freezer {
  /** Freezes what is mounted from the volume, or syncs where nothing can be frozen. @returns thaws */
  freeze(snapshot: string): Promise<() => Promise<void>>;
  /** Writes back what file systems hold. */
  sync(): Promise<void>;
}

/** What changes need of the controller. */
export interface ChangeHost {
  /** The copies. */
  readonly copies: CopyTable;
  /** Size of the volume, bytes. */
  bytes: number;
  /** True while a host sees the volume as a disk. */
  readonly frontendUp: boolean;
  /** Freezes file systems, where the frontend has any. */
  readonly freezer: Freezer | undefined;
  /** Tells the host of a frontend that the volume has grown, where it does not find out by itself. */
  growFrontend(bytes: number): Promise<void>;
  /** Wall clock as records hold times: RFC 3339, UTC, seconds. */
  now(): string;
  /** A name that no other snapshot has. */
  newName(): string;
}

/** Limits for snapshots; a size of 0 means none. */
export interface SnapshotLimits {
  /** Most snapshots that are not marked as removed. */
  count: number;
  /** Most bytes of all of them together. */
  bytes: number;
}

/** What is told about an expansion that runs or ran. */
export interface ExpansionState {
  /** One is under way. */
  readonly running: boolean;
  /** What went wrong with the last one, also when it succeeded on some copies; "". */
  readonly error: string;
  /** When, RFC 3339; "". */
  readonly failedAt: string;
}

/** See the module text. */
export class VolumeChanges {
  /** Limits for snapshots. */
  readonly limits: SnapshotLimits = { count: SNAPSHOT_MAX_COUNT, bytes: 0 };
  /** An unmap marks the snapshots below the head as removed. */
  unmapMark = false;
  /** See {@linkcode ExpansionState}. */
  expansion: ExpansionState = { running: false, error: "", failedAt: "" };

  /** Changes nothing yet. */
  constructor(readonly host: ChangeHost) {}

  /**
   * Takes a snapshot.
   *
   * @param name "" = one of its own
   * @returns its name
   * @throws {RpcError} when it may not be taken, or no copy could
   */
  async snapshot(name: string, options: {
    readonly userCreated: boolean;
    readonly labels: Readonly<Record<string, string>>;
    readonly freeze: boolean;
  }): Promise<string> {
    const { copies, freezer } = this.host, snapshot = name || this.host.newName();
    return await copies.exclusively(async () => {
      await this.checkSnapshot();
      const thaw = options.freeze && freezer ? await freezer.freeze(snapshot) : undefined;
      try {
        if (!thaw) await freezer?.sync();
        await this.takeSnapshot(snapshot, options);
      } finally {
        await thaw?.();
      }
      return snapshot;
    });
  }

  /** As {@linkcode VolumeChanges.snapshot}, for whoever has the turn already. */
  async takeSnapshot(name: string, { userCreated, labels }: {
    readonly userCreated: boolean;
    readonly labels: Readonly<Record<string, string>>;
  }): Promise<void> {
    const created = this.host.now(), { log } = this.host.copies;
    const { rebuild } = await this.whenEqual("take a snapshot");
    // A copy that is being filled block by block would keep a snapshot of what it has by then.
    if (rebuild) {
      throw refused(
        `take a snapshot: replica ${rebuild.name} is being filled (${rebuild.done} of ${rebuild.total} bytes); ` +
          `try again after`,
      );
    }
    const heldMs = await this.still((live) => this.snapshotOn(live, { name, userCreated, created, labels }));
    log.info("snapshot taken", { snapshot: name, stopped_ms: Math.round(heldMs) });
  }

  /** Takes a snapshot on copies, in a still moment. @throws {RpcError} when none could */
  async snapshotOn(live: readonly Copy[], snapshot: SnapshotRequest): Promise<void> {
    if (live.some(({ mode }) => mode === "WO")) {
      await this.host.copies.thread.call("settleTrims", {}, HOLD_TIMEOUT_MS);
    }
    await this.#onAll(live, "snapshot", (backend) => backend.snapshot(snapshot));
  }

  /** Goes back to a snapshot. @throws {RpcError} */
  async revert(name: string): Promise<void> {
    const { copies, frontendUp } = this.host;
    await copies.exclusively(async () => {
      if (frontendUp) throw refused("revert: the frontend is up; shut it down first");
      if (copies.in("WO").length > 0) throw refused("revert: a replica is being rebuilt");
      const disk = `volume-snap-${name}.img`, created = this.host.now();
      const disks = await firstOf(
        copies.in("RW"),
        (backend) => backend.describe().then((d) => d.disks ?? {}),
      );
      if (!disks[disk]) throw refused(`revert: there is no snapshot ${name}`);
      if (disks[disk].removed) throw refused(`revert: snapshot ${name} is marked as removed`);
      await this.whenEqual("revert");
      await this.still(
        (live) => this.#onAll(live, "revert", (backend) => backend.revert(disk, created)),
        true,
      );
      copies.log.info("reverted", { snapshot: name });
    });
  }

  /**
   * Grows the volume. Returns at once; {@linkcode VolumeChanges.expansion} tells the end.
   * @throws {RpcError} when it may not grow to that
   */
  expand(bytes: number): void {
    const { host } = this;
    if (this.expansion.running) throw refused("expand: an expansion is under way");
    if (bytes % 4096 !== 0) throw refused(`expand: size ${bytes} is not a multiple of 4096`);
    if (bytes < host.bytes) {
      throw refused(`expand: size ${bytes} is smaller than the present size ${host.bytes}`);
    }
    if (bytes === host.bytes) return;
    if (host.copies.in("WO").length > 0) {
      throw refused("expand: a replica is being rebuilt; wait for its end");
    }
    this.expansion = { running: true, error: "", failedAt: "" };
    host.copies.exclusively(() => this.#expand(bytes)).then(() => host.growFrontend(bytes)).catch((error) => {
      const grown = host.bytes === bytes ? "the volume has grown, but not its device: " : "";
      this.#expansionFailed(grown + plainReason(error));
    }).finally(() => {
      this.expansion = { ...this.expansion, running: false };
    });
  }

  async #expand(bytes: number): Promise<void> {
    const { host } = this, { copies } = host;
    await host.freezer?.sync();
    await this.checkSnapshot();
    await this.whenEqual("expand");
    await this.still(async (live) => {
      await this.#onAll(live, "expand", (backend) => expandCopy(backend, bytes));
      await copies.thread.call("resize", { bytes });
      host.bytes = bytes;
    });
    copies.log.info("volume expanded", { bytes });
  }

  #expansionFailed(error: string): void {
    this.expansion = { ...this.expansion, error, failedAt: new Date().toISOString() };
    this.host.copies.log.error("expansion", { problem: error });
  }

  /** Sets limits; what is in use already must fit. @throws {RpcError} */
  async setLimits(limits: Partial<SnapshotLimits>): Promise<void> {
    const { copies } = this.host, { count, bytes } = limits;
    await copies.exclusively(async () => {
      if (count !== undefined && (count < 1 || count > SNAPSHOT_MAX_COUNT)) {
        throw refused(`set the limit for snapshots to ${count}: it is 1 to ${SNAPSHOT_MAX_COUNT}`);
      }
      if (bytes !== undefined && bytes < 0) {
        throw refused("set the limit for the size of snapshots: it is negative");
      }
      for (const { backend } of copies.in("RW")) {
        const info = await backend.get();
        if (count !== undefined && info.snapshotCountUsage > count) {
          throw refused(`set the limit for snapshots to ${count}: there are ${info.snapshotCountUsage}`);
        }
        if (bytes !== undefined && bytes !== 0 && info.snapshotSizeUsage > bytes) {
          throw refused(
            `set the limit for the size of snapshots to ${bytes}: they take ${info.snapshotSizeUsage}`,
          );
        }
      }
      if (count !== undefined) this.limits.count = count;
      if (bytes !== undefined) this.limits.bytes = bytes;
      await this.#pushAll();
    });
  }

  /** Switches whether an unmap marks the snapshots below the head as removed. @throws {RpcError} */
  async setUnmapMark(enabled: boolean): Promise<void> {
    await this.host.copies.exclusively(async () => {
      this.unmapMark = enabled;
      await this.#pushAll();
    });
  }

  async #pushAll(): Promise<void> {
    const live = this.host.copies.in("RW", "WO");
    await this.#onAll(live, "settings", (backend) => this.push(backend));
  }

  /** Tells a copy the settings. @throws {RpcError} */
  async push(backend: Backend): Promise<void> {
    await backend.configure({
      unmapMark: this.unmapMark,
      snapshotMaxCount: this.limits.count,
      snapshotMaxSize: this.limits.bytes,
    });
  }

  /** Looks at the limits beforehand: a copy that refuses later than others would be out. @throws {RpcError} */
  async checkSnapshot(): Promise<void> {
    const { count, bytes } = this.limits;
    for (const { backend } of this.host.copies.in("RW", "WO")) {
      const info: BackendInfo = await backend.get();
      if (info.snapshotCountUsage >= count) {
        throw refused(`take a snapshot: there are ${info.snapshotCountUsage}, the limit is ${count}`);
      }
      if (info.chain.length >= MAX_CHAIN_DISKS) {
        throw refused(`take a snapshot: the chain has ${info.chain.length} disks; purge snapshots first`);
      }
      if (bytes > 0 && info.headBytes > bytes - info.snapshotSizeUsage) {
        throw refused(
          `take a snapshot: snapshots take ${info.snapshotSizeUsage} bytes, the head ${info.headBytes}, and the ` +
            `limit is ${bytes}; purge snapshots first`,
        );
      }
    }
  }

  /**
   * Waits until copies are equal: ones that may differ would keep different snapshots.
   * @returns how the volume thread is then
   * @throws {RpcError} when it takes too long
   */
  async whenEqual(what: string): Promise<ThreadInfo> {
    const { thread } = this.host.copies;
    for (let waited = 0;; waited += EQUAL_WAIT_MS.step) {
      const info = await thread.call("info") as ThreadInfo;
      if (!info.readsFromOne) return info;
      if (waited >= EQUAL_WAIT_MS.most) {
        throw refused(`${what}: copies are still being made equal; try again later`);
      }
      await thread.call("sleep", { ms: EQUAL_WAIT_MS.step });
    }
  }

  /**
   * Does something while no change is under way.
   * @returns milliseconds that hosts waited, from the moment on when changes were kept from starting
   * @param forget what copies that are out missed is not all that they lack any more
   */
  async still(work: (live: readonly Copy[]) => Promise<void>, forget = false): Promise<number> {
    const { copies } = this.host, { thread } = copies;
    await thread.call("hold", {}, HOLD_TIMEOUT_MS * 2);
    let stoppedMs = 0;
    try {
      const live = copies.in("RW", "WO");
      if (!live.some(({ mode }) => mode === "RW")) throw new RpcError(Code.UNKNOWN, "no backend available");
      await work(live);
    } finally {
      stoppedMs = await thread.call("release", { forget }) as number;
    }
    return stoppedMs;
  }

  /** Does one thing on copies; see the table above. @throws {RpcError} when none did it */
  async #onAll(
    live: readonly Copy[],
    what: string,
    work: (backend: Backend) => Promise<void>,
  ): Promise<void> {
    const { copies } = this.host;
    const ends = await Promise.all(live.map(async (copy) => {
      try {
        await work(copy.backend);
        return { copy, error: undefined };
      } catch (error) {
        return { copy, error };
      }
    }));
    const bad = ends.filter(({ error }) => error !== undefined);
    if (bad.length === 0) return;
    const done = ends.some(({ copy, error }) => error === undefined && copy.mode === "RW");
    // The last complete copy stays, whatever it said: the volume is there.
    let complete = ends.filter(({ copy }) => copy.mode === "RW").length;
    for (const { copy, error } of bad) {
      if (!done && (isRefusal(error) || (copy.mode === "RW" && complete === 1))) continue;
      if (copy.mode === "RW") complete--;
      const recorded = await copies.fail(copy.backend.name, `${what} failed: ${plainReason(error)}`);
      if (recorded || !done) continue;
      // Those that made it are gone as well. Who missed it would be believed at the next start.
      throw new RpcError(Code.UNKNOWN, `cannot ${what}: no complete replica is left that has it`);
    }
    if (done && what !== "expand") return;
    const text = bad.map(({ copy, error }) => `${copy.backend.name}: ${plainReason(error)}`).join("; ");
    if (done) return this.#expansionFailed(`some replicas could not be expanded: ${text}`);
    throw new RpcError(Code.UNKNOWN, `cannot ${what}: ${text}`, { cause: bad[0].error });
  }
}

/** Grows one copy. When the answer is lost, its size tells whether it has grown. */
async function expandCopy(backend: Backend, bytes: number): Promise<void> {
  try {
    await backend.expand(bytes);
  } catch (error) {
    if (isRefusal(error)) throw error;
    const grown = await backend.get().then((info) => info.bytes === bytes, () => false);
    if (!grown) throw error;
  }
}

/** True when a copy says that nothing has changed there. */
function isRefusal(error: unknown): boolean {
  const rollback = RollbackError.from(error);
  if (rollback) {
    return rollback.outcome === "FunctionFailedWithoutRollback" ||
      rollback.outcome === "FunctionFailedRollbackSucceeded";
  }
  return !(error instanceof RpcError) || error.code === Code.UNKNOWN;
}

/** Asks complete copies until one answers. */
export async function firstOf<Result>(
  complete: readonly Copy[],
  ask: (backend: Backend) => Promise<Result>,
): Promise<Result> {
  let last: unknown = new RpcError(Code.UNKNOWN, "no backend available");
  for (const { backend } of complete) {
    try {
      return await ask(backend);
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

/** A change that may not be made. */
export function refused(what: string): RpcError {
  return new RpcError(Code.UNKNOWN, `cannot ${what}`);
}
