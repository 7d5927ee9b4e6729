/**
 * The processes of a simulated volume: replicas and an engine made of the production code, and control calls
 * between them that take time, get lost with their process, and otherwise do what gRPC does.
 *
 * @module
 */
import { type Backend, type BackendInfo, describeReplica } from "../../lib/engine/backend.ts";
import { EngineThread, type ThreadEvent } from "../../lib/engine/thread.ts";
import type { VolumeCalls } from "../../lib/engine/copy_table.ts";
import { ReplicaDisk } from "../../lib/disk/replica_disk.ts";
import type { Completer, Io } from "../../lib/io/io.ts";
import type { Handlers } from "../../lib/io/mailbox_server.ts";
import { BufferPool } from "../../lib/io/pool.ts";
import type { SimCluster, SimHost, SimProcess } from "../../lib/io/sim/mod.ts";
import type { StreamSizes } from "../../lib/io/stream_memory.ts";
import { deleteReplica } from "../../lib/replica/remove.ts";
import { ReplicaHost, type ReplicaOptions } from "../../lib/replica/host.ts";
import type { ptypes } from "../../lib/rpc/gen/ptypes.js";
import { Code, RpcError } from "../../lib/rpc/errors.ts";

/** Memory of a process: small, since thousands are made. */
const ARENA_BYTES = 8 * 1024 * 1024;
const STREAMS: StreamSizes = { window: 32 * 1024, headers: 64 * 1024, segments: 1100 };
const POOL_BYTES = 2 * 1024 * 1024;
const LARGEST_BUFFER = 64 * 1024;
/** A call to a process that died without a word ends after this, ms. */
const CALL_TIMEOUT_MS = 3000;

/** Something that answers control calls, in a process. */
export class Callee {
  /** Its process, once it was started. */
  process: SimProcess | undefined;
  /** What it answers. */
  handlers: Handlers = {};
}

/** Control calls, counted, so that the campaign knows when promises have moved. */
export class Calls {
  /** Calls that ended since somebody looked. */
  moved = 0;

  /** None yet. */
  constructor(readonly cluster: SimCluster) {}

  /** Calls a process: the request takes time, the work happens in the process, the answer takes time. */
  call(
    callee: Callee,
    from: SimHost,
    to: SimHost,
    kind: string,
    body: unknown,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<unknown> {
    const { cluster } = this;
    const process = callee.process;
    return new Promise((resolve, reject) => {
      let ended = false;
      const end = (work: () => void) => {
        if (ended) return;
        ended = true;
        this.moved++;
        work();
      };
      const lost = () => end(() => reject(new RpcError(Code.UNAVAILABLE, "simulated: ECONNREFUSED")));
      const back = (work: () => void) => cluster.schedule(this.#delay(from, to), () => end(work));
      cluster.schedule(timeoutMs, lost);
      cluster.schedule(this.#delay(from, to), () => {
        const handler = callee.handlers[kind];
        if (!process?.alive || callee.process !== process || !handler) return lost();
        process.enter(() => {
          const reply = {
            ok: (value: unknown) => back(() => resolve(structuredClone(value))),
            error: (error: unknown) =>
              back(() => reject(error instanceof Error ? error : new Error(String(error)))),
          };
          try {
            handler(structuredClone(body), reply);
          } catch (error) {
            if (error instanceof Error && error.name === "SimCrash") throw error;
            reply.error(error);
          }
        });
      });
    });
  }

  /** Resolves after a time. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) =>
      this.cluster.schedule(ms, () => {
        this.moved++;
        resolve();
      })
    );
  }

  #delay(from: SimHost, to: SimHost): number {
    return (from === to ? 0.02 : 0.3) * (1 + this.cluster.random.unit() * 3);
  }
}

/** A replica on its host, through any number of process lives. */
export class SimReplica {
  /** Answers control calls. */
  readonly callee: Callee = new Callee();
  /** Counts boots of its host. */
  boots = 1;
  /** The address engines know it by. */
  readonly name: string;

  /** Not started yet. */
  constructor(
    readonly cluster: SimCluster,
    readonly host: SimHost,
    readonly options: Partial<ReplicaOptions>,
  ) {
    this.name = `tcp://${host.name}:10000`;
  }

  /** True while its process lives. */
  get alive(): boolean {
    return this.callee.process?.alive ?? false;
  }

  /** Starts the process; creates the replica when `bytes` is given. */
  start(bytes = 0): void {
    const options: ReplicaOptions = {
      directory: "/replica",
      data: { kind: "tcp", host: this.host.name, port: 10001 },
      ioMode: "direct",
      revisionCounter: false,
      backingFile: "",
      unmapMarkChainRemoved: false,
      snapshotMaxCount: 250,
      encrypted: false,
      boot: `${this.host.name}-${this.boots}`,
      streamSizes: STREAMS,
      ...this.options,
    };
    let born: SimProcess | undefined;
    try {
      this.callee.process = this.host.spawn("replica", (io, process) => {
        born = process;
        const pool = new BufferPool(io, POOL_BYTES, LARGEST_BUFFER);
        const id = `${this.host.name}-${io.random32()}`;
        const host = new ReplicaHost(io, pool, options, () => id, () => {});
        if (bytes > 0) host.create(bytes);
        this.callee.handlers = host.handlers();
      }, { arenaBytes: ARENA_BYTES });
    } catch (error) {
      // A program that cannot start ends; its port is free again.
      born?.kill();
      throw error;
    }
  }

  /** Starts the process with an empty directory. */
  wipe(bytes: number): void {
    const eraser = this.host.spawn("eraser", (io) => deleteReplica(io.files, "/replica"));
    eraser.kill();
    this.start(bytes);
  }

  /** SIGKILL. */
  kill(): void {
    this.callee.process?.kill();
  }

  /** Its machine loses power. */
  powerCut(): void {
    this.boots++;
    this.host.powerCut();
  }
}

/** The engine process of a volume. */
export class SimEngine implements VolumeCalls {
  /** Answers control calls. */
  readonly callee: Callee = new Callee();
  /** The volume thread. */
  thread: EngineThread | undefined;
  /** Buffers of the engine's process. */
  pool: BufferPool | undefined;

  /** Not started yet. */
  constructor(
    readonly calls: Calls,
    readonly host: SimHost,
    readonly bytes: number,
    readonly onEvent: (event: ThreadEvent) => void,
  ) {}

  /** The process. */
  get process(): SimProcess | undefined {
    return this.callee.process;
  }

  /** Starts the process. */
  spawn(): void {
    this.callee.process = this.host.spawn("engine", (io) => {
      this.pool = new BufferPool(io, POOL_BYTES, LARGEST_BUFFER);
      const options = { name: "vol", bytes: this.bytes, linkSizes: STREAMS };
      const thread = new EngineThread(io, this.pool, options, () => {
        throw new Error("no frontends here");
      }, (event) => this.onEvent(event));
      this.thread = thread;
      this.callee.handlers = thread.handlers();
    }, { arenaBytes: ARENA_BYTES });
  }

  /** See {@linkcode VolumeCalls}. */
  call(kind: string, body: unknown = null, timeoutMs = 60_000): Promise<unknown> {
    return this.calls.call(this.callee, this.host, this.host, kind, body, timeoutMs);
  }
}

/**
 * The control service of a simulated replica.
 *
 * @param engine whose main thread calls: nothing of it goes on when its process died
 */
export function simBackend(calls: Calls, engine: SimEngine, replica: SimReplica): Backend {
  const { process, host } = engine;
  const raw = async (kind: string, body: unknown): Promise<ptypes.IReplica> => {
    if (!process?.alive) throw new RpcError(Code.CANCELLED, "simulated: the caller died");
    const told = await calls.call(replica.callee, host, replica.host, kind, body) as ptypes.IReplica;
    if (!process.alive) throw new RpcError(Code.CANCELLED, "simulated: the caller died");
    return told;
  };
  const call = async (kind: string, body: unknown = {}): Promise<BackendInfo> =>
    describeReplica(await raw(kind, body));
  let opened = false;
  const backend: Backend = {
    name: replica.name,
    data: { kind: "tcp", host: replica.host.name, port: 10001 },
    get: () => call("get"),
    open: async (upgrade, expectedBytes, copies) => {
      const info = await call("open", { upgrade, expectedBytes, copies });
      opened = true;
      return info;
    },
    generation: 0,
    inherit: () => void (opened = true),
    close: async (differs = false) => {
      const { generation } = backend;
      if (opened) await call("close", { ...generation > 0 ? { generation } : {}, differs });
    },
    setRebuilding: async (rebuilding) => void await call("setRebuilding", { rebuilding }),
    describe: () => raw("get", {}),
    snapshot: async (snapshot) => void await call("snapshot", snapshot),
    expand: async (bytes) => void await call("expand", { bytes }),
    revert: async (name, created) => void await call("revert", { name, created }),
    configure: async ({ unmapMark, snapshotMaxCount, snapshotMaxSize }) => {
      await call("setUnmapMarkChain", { enabled: unmapMark });
      await call("setSnapshotMaxCount", { count: snapshotMaxCount });
      await call("setSnapshotMaxSize", { bytes: snapshotMaxSize });
    },
    setRevisionCounter: async (counter) => void await call("setRevisionCounter", { counter }),
    removeDisk: async (name) => void await call("removeDisk", { name, force: true }),
    reload: async () => void await call("reload"),
    dispose: () => {},
  };
  return backend;
}

/** What a replica's directory holds, read by a process of its own. The replica must be closed. */
export function contents(cluster: SimCluster, host: SimHost, bytes: number): Uint8Array {
  return readAll(cluster, host, bytes, (io) => ReplicaDisk.open(io, "/replica", { revisionCounter: false }));
}

/** Directories that snapshots were looked at in. */
let looks = 0;

/** What a snapshot holds; undefined when the replica does not have it. The replica must be closed, and stays as it is. */
export function snapshotContents(
  cluster: SimCluster,
  host: SimHost,
  name: string,
  bytes: number,
): Uint8Array | undefined {
  const look = `/look-${++looks}`, disk = `volume-snap-${name}.img`, links: [string, string][] = [];
  let found = false;
  const copier = host.spawn("copier", (io) => {
    const { files } = io;
    found = files.exists(`/replica/${disk}`);
    if (!found) return;
    files.makeDirectory(look);
    for (const file of files.list("/replica")) links.push([`/replica/${file}`, `${look}/${file}`]);
    // Records are replaced, not changed in place, so a second name keeps what is there now.
    for (const [from, to] of links) files.link(from, to);
  }, { arenaBytes: 1024 * 1024 });
  copier.kill();
  if (!found) return undefined;
  return readAll(cluster, host, bytes, (io) => {
    const opened = ReplicaDisk.open(io, look, { revisionCounter: false });
    opened.changes.revert(disk, "2026-01-01T00:00:00Z");
    return opened;
  });
}

function readAll(
  cluster: SimCluster,
  host: SimHost,
  bytes: number,
  open: (io: Io) => ReplicaDisk,
): Uint8Array {
  const all = new Uint8Array(bytes);
  let done = 0;
  const reader = host.spawn("reader", (io) => {
    const disk = open(io);
    const at = io.arena.reserve(LARGEST_BUFFER, 4096);
    const who: Completer = {
      complete: (_tag, result) => {
        if (result < 0) throw new Error(`a closed replica cannot be read: ${result}`);
        all.set(io.arena.u8.subarray(at, at + result), done);
        done += result;
        if (done < bytes) disk.read(done, Math.min(LARGEST_BUFFER, bytes - done), at, who, 0);
      },
    };
    disk.read(0, Math.min(LARGEST_BUFFER, bytes), at, who, 0);
  }, { arenaBytes: ARENA_BYTES });
  if (!cluster.runUntil(() => done === bytes, cluster.now + 60_000)) {
    throw new Error("a closed replica cannot be read");
  }
  reader.kill();
  return all;
}
