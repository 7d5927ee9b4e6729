/**
 * A whole data path in one thread: client, socket frontend, volume, links, data services, and a store in memory or a
 * replica directory; told to do so many requests and to say what that did to the heap. Run by engine_heap_test.ts
 * with `--v8-flags=--expose-gc`.
 *
 * ```text
 * deno run -A tests/engine_heap.ts memory|disk REQUESTS DIRECTORY
 * ```
 *
 * @module
 */
import { Volume } from "../lib/engine/volume.ts";
import type { Address, Completer, Io } from "../lib/io/io.ts";
import { Later } from "../lib/io/later.ts";
import { openIo } from "../lib/io/open.ts";
import { BufferPool } from "../lib/io/pool.ts";
import { StreamMemory } from "../lib/io/stream.ts";
import { SocketFrontend } from "../lib/frontend/socket/socket.ts";
import type { AdoptedRecord } from "../lib/replica/adopted_record.ts";
import { DataService, type ReplicaStore } from "../lib/replica/data_service.ts";
import { ReplicaHost } from "../lib/replica/host.ts";
import { FrameClient, type FrameClientOwner } from "../lib/wire/client.ts";
import { Feature, FrameType, MAX_ERROR_BYTES } from "../lib/wire/frame.ts";
import { FrameServer } from "../lib/wire/server.ts";

const MIB = 1024 * 1024;
const VOLUME_BYTES = 64 * MIB;
const DEPTH = 32;
const BLOCK = 4096;

/** What was found. */
export interface HeapReport {
  /** How many requests were counted. */
  readonly requests: number;
  /** Bytes by which the heap in use grew, garbage collected before and after. */
  readonly retained: number;
  /** Bytes that a request leaves to the collector, in the quietest of several rounds. */
  readonly garbagePerRequest: number;
}

/** Answers at once and keeps nothing. */
class NoStore implements ReplicaStore {
  readonly bytes = VOLUME_BYTES;
  readonly fault = "";
  readonly regions = undefined;
  record: AdoptedRecord | undefined;
  readonly #later: Later;
  readonly #who: (Completer | undefined)[] = new Array(4096).fill(undefined);

  constructor(io: Io) {
    this.#later = new Later(io, 4096, { complete: (tag, result) => this.#who[tag]?.complete(tag, result) });
  }

  #answer(who: Completer, tag: number, result: number): void {
    this.#who[tag] = who;
    this.#later.push(tag, result);
  }

  read(_offset: number, length: number, _at: number, who: Completer, tag: number): void {
    this.#answer(who, tag, length);
  }

  write(
    _offset: number,
    length: number,
    _at: number,
    _durable: boolean,
    who: Completer,
    tag: number,
  ): void {
    this.#answer(who, tag, length);
  }

  unmap(_offset: number, length: number, who: Completer, tag: number): void {
    this.#answer(who, tag, length);
  }

  flush(who: Completer, tag: number): void {
    this.#answer(who, tag, 0);
  }

  adopt(record: AdoptedRecord | undefined): void {
    this.record = record;
  }

  markData(): void {}
}

/** Keeps a number of requests under way: reads and writes by turns, all over the volume, some overlapping. */
class LoadClient implements FrameClientOwner {
  left = 0;
  #underWay = 0;
  #count = 0;
  readonly #client: FrameClient;
  readonly #buffers: number;

  constructor(readonly io: Io, fd: number) {
    this.#buffers = io.arena.reserve(DEPTH * BLOCK, BLOCK);
    const memory = new StreamMemory(io, { client: true });
    this.#client = new FrameClient(io, fd, memory, io.arena.reserve(MAX_ERROR_BYTES), this);
  }

  /** Does so many requests. */
  run(requests: number): void {
    this.left = requests;
    for (let slot = 0; slot < DEPTH; slot++) this.#next(slot);
    this.io.run();
  }

  #next(slot: number): void {
    if (this.left === 0) {
      if (this.#underWay === 0) this.io.stop();
      return;
    }
    this.left--;
    this.#underWay++;
    const block = (Math.imul(this.#count++, 2654435761) >>> 0) % (VOLUME_BYTES / BLOCK - 1);
    const at = this.#buffers + slot * BLOCK, offset = block * BLOCK;
    if (this.#count % 2) this.#client.request(slot, FrameType.READ, offset, BLOCK, 0, 0, 0);
    else this.#client.request(slot, FrameType.WRITE, offset, BLOCK, at, BLOCK, 1);
  }

  destination(_client: FrameClient, sequence: number): number {
    return this.#buffers + sequence * BLOCK;
  }

  onReply(_client: FrameClient, sequence: number, result: number, _length: number, text: string): void {
    if (result !== BLOCK) throw new Error(`a request ended with ${result} ${text}`);
    this.#underWay--;
    this.#next(sequence);
  }

  onSent(): void {}

  onClosed(): void {
    throw new Error("the connection ended");
  }
}

/** Runs the loop until `done` was called. */
function until(io: Io, start: (done: () => void) => void): void {
  let ended = false;
  start(() => {
    ended = true;
    io.stop();
  });
  if (!ended) io.run();
}

/** The replica's side. */
function startReplica(io: Io, kind: string, directory: string, index: number): Address {
  const data: Address = { kind: "unix", path: `${directory}/r${index}.sock` };
  const pool = new BufferPool(io, 4 * MIB, MIB);
  if (kind === "memory") {
    const service = new DataService(io);
    service.use(new NoStore(io), "open");
    new FrameServer(io, pool, data, service, DataService.options);
    return data;
  }
  const host = new ReplicaHost(
    io,
    pool,
    {
      directory: `${directory}/replica${index}`,
      data,
      ioMode: "cached",
      revisionCounter: true,
      backingFile: "",
      unmapMarkChainRemoved: false,
      snapshotMaxCount: 250,
      encrypted: false,
      boot: "boot",
    },
    () => `id-${index}`,
    (error) => {
      throw error;
    },
  );
  host.create(VOLUME_BYTES);
  host.open(VOLUME_BYTES);
  return data;
}

function startVolume(io: Io, kind: string, directory: string): Address {
  const replicas = [0, 1].map((index) => startReplica(io, kind, directory, index));
  let connected = 0, next = () => {};
  const volume = new Volume(io, { name: "vol", bytes: VOLUME_BYTES }, {
    onConnected: () => ++connected === replicas.length && next(),
    onFailed: (name, reason) => {
      throw new Error(`${name}: ${reason}`);
    },
    onRecorded: () => next(),
    onDiffer: () => {},
  });
  until(io, (done) => {
    next = done;
    replicas.forEach((data, i) =>
      volume.replicas.dial(`r${i}`, data, `id-${i}`, Feature.FLUSH | Feature.GENERATION)
    );
  });
  until(io, (done) => {
    next = done;
    for (const i of replicas.keys()) volume.admit(`r${i}`, "RW");
    volume.start(1);
  });
  const address: Address = { kind: "unix", path: `${directory}/front.sock` };
  new SocketFrontend(io, new BufferPool(io, 4 * MIB, MIB), volume, { address });
  return address;
}

function measure(kind: string, requests: number, directory: string): HeapReport {
  const io = openIo({ arenaBytes: 512 * MIB });
  const address = startVolume(io, kind, directory);
  let fd = -1;
  until(io, (done) =>
    io.connect(address, {
      complete: (_tag, result) => {
        fd = result;
        done();
      },
    }, 0));
  const client = new LoadClient(io, fd);
  const collect = (globalThis as unknown as { gc(): void }).gc;
  const used = () => Deno.memoryUsage().heapUsed;
  client.run(Math.ceil(requests / 5));
  // Rounds short enough for the young generation, so that nothing is collected within one.
  const round = Math.ceil(requests / 20), garbage: number[] = [];
  for (let i = 0; i < 5; i++) {
    collect();
    const before = used();
    client.run(round);
    garbage.push((used() - before) / round);
  }
  collect();
  const before = used();
  client.run(requests);
  collect();
  return { requests, retained: used() - before, garbagePerRequest: Math.min(...garbage) };
}

if (import.meta.main) {
  const [kind, requests, directory] = Deno.args;
  console.log(JSON.stringify(measure(kind, Number(requests), directory)));
  Deno.exit(0);
}
