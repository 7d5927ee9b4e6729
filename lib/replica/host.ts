/**
 * The volume thread of a replica process: one replica directory, open or not, its data server, and the calls
 * that the main thread may make.
 *
 * @module
 */
import { ChangeFailedError } from "../disk/errors.ts";
import type { OpenReplicaOptions } from "../disk/open_options.ts";
import { ReplicaDisk } from "../disk/replica_disk.ts";
import { isFull, makeSpare, SPARE_FILE } from "../disk/spare.ts";
import { type DroverRecord, SYNCED_BOOT } from "../disk/volume_meta.ts";
import { DiskMemory } from "../disk/memory.ts";
import { IoError } from "../io/errno.ts";
import { type Address, type Completer, type Io, NO_TIMER } from "../io/io.ts";
import type { Handlers, Reply } from "../io/mailbox_server.ts";
import type { BufferPool } from "../io/pool.ts";
import type { StreamSizes } from "../io/stream_memory.ts";
import { SUPERSEDED_TEXT } from "../wire/frame.ts";
import { FrameServer } from "../wire/server.ts";
import { chainHandlers } from "./chain_calls.ts";
import { DataService } from "./data_service.ts";
import { describeClosed, describeOpen, type ReplicaDescription } from "./description.ts";
import { DirtyRegions, REGIONS_FILE, reserveRegionMap } from "./dirty_regions.ts";
import { IDLE_POLL_MS, Quiet } from "./quiet.ts";
import { deleteReplica } from "./remove.ts";
import { DiskStore } from "./store.ts";

/** Most copies that one without a record notes: starts with ever new ones must not make it longer for ever. */
const MAX_FOUNDERS = 64;

/** How often is looked whether an engine has left, milliseconds. */
const LEAVE_LOOK_MS = 20;

/** How a replica process serves its directory. */
export interface ReplicaOptions {
  /** Absolute path of the replica directory. */
  readonly directory: string;
  /** Where the data server listens. */
  readonly data: Address;
  /** Past the page cache, or through it. */
  readonly ioMode: "direct" | "cached";
  /** Count writes in `revision.counter`. */
  readonly revisionCounter: boolean;
  /** Raw file below all snapshots, "" for none. */
  readonly backingFile: string;
  /** An unmap marks the snapshots below the head as removed. */
  readonly unmapMarkChainRemoved: boolean;
  /** Limit for snapshots. */
  readonly snapshotMaxCount: number;
  /** The volume is encrypted by its user; noted at the creation. */
  readonly encrypted: boolean;
  /** Use the directory though it noted a fault; see {@linkcode OpenReplicaOptions}. */
  readonly acceptFault?: boolean;
  /** Identifier of the machine's present boot. */
  readonly boot: string;
  /** Sizes of the data connections' buffers; default: for production. */
  readonly streamSizes?: StreamSizes;
}

/** The record of a copy that no engine has taken as a member yet: who it is, and which copies it was found beside. */
function founding(id: string, boot: string, members: readonly string[]): DroverRecord {
  return { id, generation: 0, revision: 0, boot, members, unknown: {} };
}

/** See the module text. */
export class ReplicaHost implements Completer {
  readonly #service: DataService;
  readonly #server: FrameServer;
  readonly #memory: DiskMemory;
  readonly #id: string;
  #disk: ReplicaDisk | undefined;
  #store: DiskStore | undefined;
  #regions: DirtyRegions | undefined;
  /** Work on the open directory while no request is under way. */
  readonly quiet: Quiet;
  #snapshotMaxSize = 0;
  readonly #regionMap: number;
  #closing: { readonly clean: boolean; readonly done: ((error: unknown) => void)[] } | undefined;
  #timer = NO_TIMER;
  /** Not closed cleanly before it was opened. */
  #unclean = false;
  /** Not closed cleanly, and the machine has been restarted since. */
  #lostUnflushed = false;

  /**
   * Listens for data connections at once; the directory stays closed until `open`.
   *
   * @param newId makes the identifier of a copy that has none yet
   * @param onProblem told about connections that break the protocol and about closings that fail
   * @throws {IoError} when the address cannot be used
   */
  constructor(
    readonly io: Io,
    pool: BufferPool,
    readonly options: ReplicaOptions,
    newId: () => string,
    readonly onProblem: (error: Error) => void,
  ) {
    this.#memory = new DiskMemory(io);
    this.#regionMap = reserveRegionMap(io);
    const found = ReplicaDisk.inspect(io, options.directory);
    this.#id = found.meta?.drover?.id || newId();
    this.#service = new DataService(io, () => this.#abandon());
    this.quiet = new Quiet(io, this.#service, () => !this.#disk || this.#idle(this.#disk));
    this.#server = new FrameServer(io, pool, options.data, this.#service, {
      ...DataService.options,
      ...(options.streamSizes ? { streamSizes: options.streamSizes } : {}),
      onProblem: this.onProblem,
    });
  }

  /** The port of the data server, for listeners on port 0. */
  get dataPort(): number {
    return this.#server.port;
  }

  /** The open directory, if it is open. */
  get disk(): ReplicaDisk | undefined {
    return this.#disk;
  }

  /** The calls of the main thread. Each answers with the replica's description. */
  handlers(): Handlers {
    const now = (work: (body: Record<string, unknown>) => void) => (body: unknown, reply: Reply) => {
      work(body as Record<string, unknown>);
      reply.ok(this.describe());
    };
    const settled = (work: (done: (error?: unknown) => void) => void) => (_body: unknown, reply: Reply) =>
      work((error) => error === undefined ? reply.ok(this.describe()) : reply.error(error));
    return {
      create: now(({ bytes }) => this.create(Number(bytes))),
      get: now(() => {}),
      open: now(({ expectedBytes, copies }) =>
        this.open(Number(expectedBytes), Array.isArray(copies) ? copies.map(String) : [])
      ),
      close: (body, reply) => {
        const { generation, differs } = body as Record<string, unknown>;
        if (typeof generation === "number") this.#refuseOld(generation);
        this.close(
          differs !== true,
          (error) => error === undefined ? reply.ok(this.describe()) : reply.error(error),
        );
      },
      inUse: (_body, reply) => reply.ok(this.inUse),
      awaitLeave: (body, reply) => {
        this.awaitLeave(Number((body as { graceMs: number }).graceMs), () => reply.ok(this.inUse));
      },
      delete: settled((done) =>
        this.close(true, (error) => {
          if (error === undefined) deleteReplica(this.io.files, this.options.directory);
          done(error);
        })
      ),
      ...chainHandlers(this),
      setRebuilding: now(({ rebuilding }) => this.opened().setRebuilding(rebuilding === true)),
      setRevisionCounter: now(({ counter }) => this.opened().setRevisionCounter(Number(counter))),
      setUnmapMarkChain: now(({ enabled }) => {
        if (this.#disk) this.#disk.unmapMarkChainRemoved = enabled === true;
      }),
      setSnapshotMaxCount: now(({ count }) => {
        if (this.#disk) this.#disk.snapshotMaxCount = Number(count);
      }),
      setSnapshotMaxSize: now(({ bytes }) => {
        this.#snapshotMaxSize = Number(bytes);
        if (this.#disk) this.#disk.snapshotMaxSize = this.#snapshotMaxSize;
      }),
    };
  }

  /** Creates the replica; nothing happens when there is one. */
  create(bytes: number): void {
    const { directory, backingFile, encrypted } = this.options;
    ReplicaDisk.create(this.io, directory, {
      size: bytes,
      encrypted,
      // Who it is must not change when its process does: others may note it before it has a record of its own.
      drover: founding(this.#id, this.options.boot, [this.#id]),
      ...(backingFile ? { backingFile } : {}),
    });
  }

  /**
   * Opens the directory.
   * @param expectedBytes size the engine expects; 0 = any
   * @param copies identifiers of the copies that the engine found, this one among them; noted while there is no record
   */
  open(expectedBytes: number, copies: readonly string[] = []): void {
    if (this.#disk) throw new Error("replica is already open");
    const { options } = this;
    const open: OpenReplicaOptions = {
      ioMode: options.ioMode,
      revisionCounter: options.revisionCounter,
      backingFile: options.backingFile || undefined,
      memory: this.#memory,
      unmapMarkChainRemoved: options.unmapMarkChainRemoved,
      snapshotMaxCount: options.snapshotMaxCount,
      size: expectedBytes || undefined,
      acceptFault: options.acceptFault ?? false,
    };
    const before = ReplicaDisk.inspect(this.io, options.directory).meta;
    this.#unclean = before?.dirty === true;
    this.#lostUnflushed = before?.dirty === true && before.drover !== undefined &&
      before.drover.boot !== options.boot && before.drover.boot !== SYNCED_BOOT;
    const disk = ReplicaDisk.open(this.io, options.directory, open);
    for (const note of disk.notes) this.onProblem(new Error(`put in order at opening: ${note}`));
    this.#disk = disk;
    this.#setAside();
    disk.snapshotMaxSize = this.#snapshotMaxSize;
    try {
      this.#regions = this.#openRegions(disk.bytes, before?.dirty === true);
      // From now on there may be something that is not synced.
      if (disk.drover?.boot === SYNCED_BOOT) disk.setDrover({ ...disk.drover, boot: options.boot });
      this.#found(disk, copies);
    } catch (error) {
      this.#disk = undefined;
      this.#regions?.close(false);
      this.#regions = undefined;
      disk.close(before?.dirty !== true);
      throw error;
    }
    this.#store = new DiskStore(disk, this.#id, options.boot, this.#regions);
    this.#service.use(this.#store, disk.state, copies.length > 0);
  }

  /** On a full disk there may be no record: everything is compared after a crash, but the volume starts. */
  #openRegions(bytes: number, unclean: boolean): DirtyRegions | undefined {
    try {
      return DirtyRegions.open(this.io, this.options.directory, bytes, this.#regionMap, unclean);
    } catch (error) {
      if (!isFull(error)) throw error;
      this.onProblem(
        new Error(`no space is left for ${REGIONS_FILE}: after a crash the whole copy is compared`),
      );
      return undefined;
    }
  }

  /** What a full disk must not keep from being recorded gets its space now. */
  #setAside(): void {
    const { directory } = this.options;
    try {
      if (makeSpare(this.io.files, directory)) return;
      this.onProblem(new Error(`no space is left for ${SPARE_FILE}: on a full disk nothing can be recorded`));
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      this.onProblem(error);
    }
  }

  /** Notes which copies a volume begins with, before anything is written to any of them. */
  #found(disk: ReplicaDisk, copies: readonly string[]): void {
    const record = disk.drover, known = record?.members ?? [];
    if (copies.length < 2 || (record && record.generation > 0)) return;
    // Who was noted once may have been written to.
    const all = [...new Set([...known, ...copies])];
    if (all.length === known.length || all.length > MAX_FOUNDERS) return;
    disk.setDrover({ ...founding(this.#id, this.options.boot, all), unknown: record?.unknown ?? {} });
  }

  /** Closes the directory when the last request has ended. @param clean false leaves it marked as dirty */
  close(clean: boolean, done: (error?: unknown) => void): void {
    if (!this.#disk) return done();
    if (this.#closing) {
      this.#closing.done.push(done);
      return;
    }
    // A copy that was opened unclean and that no engine took as a member has not become clean by being looked at.
    this.#closing = { clean: clean && (!this.#unclean || this.#service.adopted), done: [done] };
    this.#service.use(undefined, "closed");
    this.#disk.folds.cancel();
    this.complete();
  }

  /** Looks whether a close can end. */
  complete(): void {
    const disk = this.#disk, closing = this.#closing;
    if (!disk || !closing) return;
    if (disk.folds.busy || !this.#idle(disk)) {
      this.#timer = this.io.timer(IDLE_POLL_MS, this, 0);
      return;
    }
    let problem: unknown;
    try {
      this.#closeDisk(disk, closing.clean);
    } catch (error) {
      problem = error;
    }
    this.#disk = undefined;
    this.#closing = undefined;
    for (const done of closing.done) done(problem);
  }

  #idle(disk: ReplicaDisk): boolean {
    return disk.underWay === 0 && this.#regions?.busy !== true;
  }

  /** Grows the volume and the record of its dirty regions. Only in a quiet moment. @throws {Error} */
  grow(bytes: number): void {
    const disk = this.opened(), before = disk.bytes;
    disk.changes.expand(bytes);
    if (disk.bytes === before || !this.#regions) return;
    try {
      this.#regions = this.#regions.grown(disk.bytes);
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      throw new ChangeFailedError(text, "the volume has grown, the record of its dirty regions has not", {
        cause,
      });
    }
    if (this.#store) this.#store.regions = this.#regions;
  }

  #closeDisk(disk: ReplicaDisk, clean: boolean): void {
    const regions = this.#regions;
    this.#regions = undefined;
    try {
      disk.close(clean, this.options.boot);
      regions?.close(clean && disk.fault === "");
    } catch (error) {
      regions?.close(false);
      throw error;
    }
  }

  /** The engine that adopted this replica has gone without closing it: the next one shall find it closed. */
  #abandon(): void {
    this.close(false, (error) => {
      if (error instanceof Error) this.onProblem(error);
    });
  }

  /** An engine that was superseded, and only notices when it leaves, must not close what the new one uses. */
  #refuseOld(generation: number): void {
    if (generation < this.#service.generation) {
      throw new Error(`${SUPERSEDED_TEXT}: the replica serves generation ${this.#service.generation}`);
    }
  }

  /** True when the directory is open. */
  get isOpen(): boolean {
    return this.#disk !== undefined;
  }

  /** The open directory. @throws {Error} when it is not open */
  opened(): ReplicaDisk {
    if (!this.#disk) throw new Error("replica is not open");
    return this.#disk;
  }

  /** What ReplicaGet answers. */
  describe(): ReplicaDescription {
    if (this.#disk) return describeOpen(this.#disk, this.#id, this.#lostUnflushed);
    return describeClosed(ReplicaDisk.inspect(this.io, this.options.directory), this.#id, this.options);
  }

  /** True while an engine uses the directory. */
  get inUse(): boolean {
    return this.#disk !== undefined && !this.#closing && this.#service.connected;
  }

  /**
   * Lets an engine that uses the directory close it, for a while. When a machine goes down, engine and copies are told
   * to end at the same moment: a copy that goes first counts as failed, and is not believed at the next start.
   */
  awaitLeave(graceMs: number, done: () => void): void {
    const until = this.io.now() + graceMs;
    const look: Completer = {
      complete: () => {
        if (!this.inUse || this.io.now() >= until) done();
        else this.io.timer(LEAVE_LOOK_MS, look, 0);
      },
    };
    look.complete(0, 0);
  }

  /**
   * Stops serving: connections end, the directory is closed in order. An engine that has it open still may have writes
   * under way that reached this copy only, or others only: which ones stays recorded.
   */
  stop(done: (error?: unknown) => void): void {
    this.close(!this.#service.adopted, (error) => this.#server.stop(() => done(error)));
  }
}
