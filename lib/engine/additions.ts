/**
 * Copies that join a running volume. There are three ways, and each begins with mode WO: the copy gets every change
 * from now on, and is not read from.
 *
 * | way | for | what is copied, and by whom |
 * |---|---|---|
 * | catch up | a copy that was out for a short while | the blocks it missed, by the volume thread |
 * | fill | an empty copy of a volume without snapshots | all blocks, by the volume thread |
 * | layers | any other | the files of the snapshots, by the sync agents; the caller drives it (Longhorn's rebuild) |
 *
 * With layers a system snapshot is taken on all copies first, so that everything older lies in files that do not
 * change any more, and the new copy's head begins empty. Until its lower layers are there, the copy is `layered`: it
 * gets whole blocks only, and trims are made up for at the end.
 *
 * @module
 */
import { Code, type ptypes, RpcError } from "../rpc/mod.ts";
import { Feature } from "../wire/frame.ts";
import { type Backend, type BackendInfo, plainReason } from "./backend.ts";
import { firstOf, refused, type VolumeChanges } from "./changes.ts";
import type { Copy, CopyTable } from "./copy_table.ts";
import { sameChain } from "./chains.ts";
import { LAYERS_TRIM_MS, THREAD_TIMEOUT_MS } from "./limits.ts";

/** What additions need of the controller. */
export interface AdditionHost {
  /** The copies. */
  readonly copies: CopyTable;
  /** Snapshots. */
  readonly changes: VolumeChanges;
  /** Size of the volume, bytes. */
  readonly bytes: number;
  /** Of this engine. */
  readonly generation: number;
  /** The copies count their writes. */
  readonly counting: boolean;
  /** Makes the backend of an address. */
  backend(address: string): Backend;
  /** Connects to a copy and opens it. @throws {Error} */
  open(backend: Backend): Promise<BackendInfo>;
}

/** One file that a rebuild must bring to the new copy. */
export interface SyncFile {
  /** Its name, on both sides. */
  readonly name: string;
  /** Allocated bytes; 0 for records. */
  readonly bytes: number;
}

/** A copy that is joining. */
interface Guest {
  readonly way: "catching up" | "filling" | "layers";
  /** Completed by {@linkcode Additions.verify}; else as soon as it has everything. */
  readonly driven: boolean;
  /** Layers: the caller knows which files to bring. */
  prepared: boolean;
  /** The volume thread has copied everything. */
  filled: boolean;
  /** Bytes that it copied. */
  bytes: number;
}

/** See the module text. */
export class Additions {
  readonly #guests = new Map<string, Guest>();
  readonly #ends = new Map<string, (() => void)[]>();
  #limit = 0;

  /** Adds nothing yet. */
  constructor(readonly host: AdditionHost) {}

  /** Bytes per second that the volume thread may copy to a copy that joins; 0 = no limit. */
  get limit(): number {
    return this.#limit;
  }

  /** Changes that, at once. @throws {RpcError} for a rate that cannot be */
  async setLimit(bytesPerSecond: number): Promise<void> {
    if (!Number.isSafeInteger(bytesPerSecond) || bytesPerSecond < 0) {
      throw new RpcError(Code.INVALID_ARGUMENT, `a limit of ${bytesPerSecond} bytes per second cannot be`);
    }
    await this.host.copies.thread.call("limitCopies", { bytesPerSecond }, THREAD_TIMEOUT_MS);
    this.#limit = bytesPerSecond;
  }

  /**
   * Adds a copy; returns when it gets all changes.
   *
   * @param layers the caller brings the files of the snapshots, and says when they are there
   * @throws {RpcError} when it cannot join
   */
  async add(address: string, layers: boolean): Promise<void> {
    const { host } = this, { copies } = host, backend = host.backend(address), { name } = backend;
    if (copies.get(name)) return backend.dispose();
    await copies.exclusively(async () => {
      if (copies.get(name)) return backend.dispose();
      try {
        if (copies.in("WO").length > 0) throw cannotAdd(name, "can only have one WO replica at a time");
        if (host.changes.expansion.running) throw cannotAdd(name, "cannot add WO replica during expansion");
        copies.add(backend);
        const info = await host.open(backend);
        if (info.bytes !== host.bytes) {
          throw cannotAdd(name, `its size is ${info.bytes}, the volume's ${host.bytes}`);
        }
        backend.generation = host.generation;
        await this.#join(backend, info, layers);
      } catch (error) {
        if (copies.get(name)?.backend === backend) await copies.forget(name, backend);
        else backend.dispose();
        this.#guests.delete(name);
        throw error;
      }
    });
  }

  async #join(backend: Backend, info: BackendInfo, layers: boolean): Promise<void> {
    const { host } = this, { copies } = host, { name } = backend;
    const source = await firstOf(copies.in("RW"), (complete) => complete.get());
    if (await this.#canCatchUp(info, source)) {
      // A driver notes that on the replica by itself.
      if (!layers) await backend.setRebuilding(true);
      this.#guests.set(name, { way: "catching up", driven: layers, prepared: true, filled: false, bytes: 0 });
      const body = { name, missed: true, lost: info.lostUnflushed };
      await copies.thread.call("rebuild", body, THREAD_TIMEOUT_MS);
      copies.log.info("a copy comes back and gets what it missed", { replica: name });
    } else if (layers) {
      await this.#joinLayered(backend, info);
    } else {
      if (info.chain.length !== 1 || info.headBytes > 0) {
        throw cannotAdd(name, "it is not empty; delete and create it first");
      }
      if (source.chain.length > 1) {
        throw cannotAdd(name, "the volume has snapshots: it must be rebuilt with them");
      }
      await backend.setRebuilding(true);
      this.#guests.set(name, { way: "filling", driven: false, prepared: true, filled: false, bytes: 0 });
      await copies.thread.call("rebuild", { name }, THREAD_TIMEOUT_MS);
      copies.log.info("filling a new copy", { replica: name });
    }
  }

  /** What it missed is known, and nothing but its head can differ. */
  async #canCatchUp(info: BackendInfo, source: BackendInfo): Promise<boolean> {
    if (info.id === "" || info.rebuilding || info.generation === 0) return false;
    if (!sameChain(info, source)) return false;
    // Another engine that used it meanwhile would have recorded its own generation.
    return await this.host.copies.thread.call("missed", { id: info.id }) === info.generation;
  }

  /** The system snapshot on all copies, and on the new one, with nothing in between. */
  async #joinLayered(backend: Backend, { features }: BackendInfo): Promise<void> {
    const { host } = this, { copies, changes } = host, { name } = backend;
    // From here on it is neither empty nor a member: a start must know that. Longhorn's take the note once only, from
    // the driver.
    if ((features & Feature.GENERATION) !== 0) await backend.setRebuilding(true);
    await changes.checkSnapshot();
    await changes.whenEqual("add a replica");
    const snapshot = changes.host.newName(), created = changes.host.now();
    const options = { name: snapshot, userCreated: false, created, labels: {} };
    // The new one is WO already, so it takes part; one that cannot is out, which is an error here.
    await changes.still(async (live) => {
      await changes.snapshotOn(live, options);
      if (copies.get(name)?.mode !== "WO") throw cannotAdd(name, copies.get(name)?.reason ?? "it is gone");
      await copies.thread.call("admitLayered", { name }, THREAD_TIMEOUT_MS);
    });
    this.#guests.set(name, { way: "layers", driven: true, prepared: false, filled: false, bytes: 0 });
    copies.log.info("a new copy gets all changes; its lower layers are to come", { replica: name, snapshot });
  }

  /**
   * The files that a layered copy lacks. What it has too much is removed.
   * @throws {RpcError}
   */
  async prepare(name: string): Promise<SyncFile[]> {
    const { host } = this, { copies } = host, copy = copies.find(name), guest = this.#guests.get(name);
    if (copy.mode !== "WO" || !guest) {
      throw new RpcError(Code.UNKNOWN, `replica ${name} is in mode ${copy.mode}: it is not being rebuilt`);
    }
    // What the volume thread copies needs no files.
    if (guest.way !== "layers") return [];
    return await copies.exclusively(async () => {
      if (host.counting) await host.changes.still(() => copy.backend.setRevisionCounter(0));
      const source = await firstOf(copies.in("RW"), (backend) => backend.describe());
      const target = await copy.backend.describe();
      const wanted = disksOf(source);
      for (const disk of disksOf(target).keys()) {
        if (!wanted.has(disk)) await copy.backend.removeDisk(disk);
      }
      guest.prepared = true;
      return [...wanted].flatMap(([disk, { size }]) => [
        { name: disk, bytes: Number(size ?? 0) },
        { name: `${disk}.meta`, bytes: 0 },
      ]);
    });
  }

  /**
   * The files are there: looks whether that is so, makes up for trims, and makes the copy complete. A copy that gets
   * its blocks from the volume thread is waited for.
   *
   * @throws {RpcError} the copy is out then, unless it was only too early
   */
  async verify(name: string): Promise<void> {
    const { host } = this, { copies } = host, copy = copies.find(name), guest = this.#guests.get(name);
    if (copy.mode === "RW") return;
    if (copy.mode === "WO" && guest && guest.way !== "layers") return await this.#completeFilled(copy, guest);
    if (copy.mode !== "WO" || !guest?.prepared) {
      throw new RpcError(
        Code.UNKNOWN,
        `replica ${name} is in mode ${copy.mode}${guest ? ", and its rebuild was not prepared" : ""}`,
      );
    }
    await copies.exclusively(async () => {
      try {
        await host.changes.whenEqual("complete a replica");
        await host.changes.still(() => this.#complete(copy));
      } catch (error) {
        await copies.fail(name, `rebuild failed: ${plainReason(error)}`);
        throw error;
      } finally {
        this.#guests.delete(name);
      }
    });
    copies.log.info("a new copy is complete", { replica: name });
  }

  async #complete(copy: Copy): Promise<void> {
    const { copies, counting } = this.host, { backend } = copy;
    const target = await backend.get();
    // Its files were replaced under it. Longhorn's replicas are told so by whoever drives the rebuild.
    if ((target.features & Feature.GENERATION) !== 0) await backend.reload();
    const source = await firstOf(copies.in("RW"), (complete) => complete.describe());
    const difference = compare(disksOf(source), disksOf(await backend.describe()));
    if (difference) throw new RpcError(Code.UNKNOWN, `replica ${backend.name}: ${difference}`);
    await copies.thread.call("completeLayers", { name: backend.name }, LAYERS_TRIM_MS);
    if (counting) {
      const { revisionCounter } = await firstOf(copies.in("RW"), (complete) => complete.get());
      await backend.setRevisionCounter(revisionCounter);
    }
    await this.#promote(copy);
  }

  /** The note that it is not complete goes first: a crash in between leaves it incomplete. */
  async #promote(copy: Copy): Promise<void> {
    const { thread } = this.host.copies, { name } = copy.backend;
    await copy.backend.setRebuilding(false);
    await thread.call("promote", { name }, THREAD_TIMEOUT_MS);
    copy.mode = "RW";
  }

  /** The volume thread has copied everything, so many bytes, or could not. */
  async filled(name: string, failure: string, bytes: number): Promise<void> {
    const { copies } = this.host, copy = copies.get(name), guest = this.#guests.get(name);
    try {
      if (!copy || !guest) return;
      if (failure !== "") throw new Error(failure);
      guest.filled = true;
      guest.bytes = bytes;
      if (!guest.driven) await this.#promoteFilled(copy, guest);
    } catch (error) {
      await copies.fail(name, plainReason(error));
      this.#guests.delete(name);
    } finally {
      for (const end of this.#ends.get(name) ?? []) end();
      this.#ends.delete(name);
    }
  }

  async #promoteFilled(copy: Copy, { bytes }: Guest): Promise<void> {
    await this.#promote(copy);
    this.#guests.delete(copy.backend.name);
    this.host.copies.log.info("a new copy is complete", { replica: copy.backend.name, bytes });
  }

  /** Waits until the volume thread has copied everything. @throws {RpcError} when it could not */
  async #completeFilled(copy: Copy, guest: Guest): Promise<void> {
    const { name } = copy.backend;
    if (!guest.filled) {
      await new Promise<void>((resolve) => this.#ends.set(name, [...this.#ends.get(name) ?? [], resolve]));
    }
    await this.host.copies.exclusively(async () => {
      if (guest.filled && copy.mode === "WO") await this.#promoteFilled(copy, guest);
    });
    const { mode, reason } = this.host.copies.find(name);
    if (mode !== "RW") throw new RpcError(Code.UNKNOWN, `replica ${name} was not completed: ${reason}`);
  }
}

function cannotAdd(name: string, why: string): RpcError {
  return refused(`add replica ${name}: ${why}`);
}

/** Disks that are files of snapshots: neither the head nor the backing image. */
function disksOf(replica: ptypes.IReplica): Map<string, ptypes.IDiskInfo> {
  return new Map(
    Object.entries(replica.disks ?? {}).filter(([name]) =>
      name !== replica.head && name.startsWith("volume-snap-")
    ),
  );
}

function compare(
  source: ReadonlyMap<string, ptypes.IDiskInfo>,
  target: ReadonlyMap<string, ptypes.IDiskInfo>,
): string | undefined {
  for (const [name, disk] of source) {
    const copy = target.get(name);
    if (!copy) return `${name} is missing`;
    if ((copy.parent ?? "") !== (disk.parent ?? "")) {
      return `the parent of ${name} is ${copy.parent || "none"}`;
    }
  }
  const extra = [...target.keys()].find((name) => !source.has(name));
  return extra === undefined ? undefined : `${extra} is on no other copy`;
}
