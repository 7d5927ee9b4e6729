/**
 * A volume as an NBD server: `qemu`, `nbdcopy`, the kernel's `nbd` driver and anything else that speaks NBD can
 * use it without a driver of ours.
 *
 * Serves one volume under its name and as the default export, to several connections at once. A flush on one
 * of them covers what was completed on all, so clients may spread their requests over connections.
 *
 * @module
 */
import { type BlockDevice, FRONTEND_DEPTH, MAX_TRANSFER_BYTES } from "../../block/device.ts";
import { PAGE_BYTES } from "../../io/arena.ts";
import { Errno, errnoText } from "../../io/errno.ts";
import { type Address, type Completer, type Io, NO_TIMER } from "../../io/io.ts";
import type { BufferPool } from "../../io/pool.ts";
import { StreamMemory } from "../../io/stream.ts";
import type { Frontend, Parcel } from "../frontend.ts";
import { Standstill } from "../standstill.ts";
import { Connection, type ConnectionOwner, type ConnectionState } from "./connection.ts";
import type { Export } from "./haggle.ts";
import type { Host } from "./host.ts";
import { MAX_STRING_BYTES } from "./protocol.ts";
import { Slots } from "./slots.ts";

/** Default for {@linkcode NbdOptions.maxConnections}. */
export const MAX_CONNECTIONS = 16;
/** Most connections that may be asked for. */
export const MOST_CONNECTIONS = 64;
/** Default for {@linkcode NbdOptions.handshakeMs}: a client that only connects occupies a place. */
export const HANDSHAKE_MS = 30_000;
/** Default for {@linkcode NbdOptions.lingerMs}. */
export const LINGER_MS = 5_000;
/** Buffers that one connection may hold at most, bytes: a queue of 128 requests of 128 KiB. */
const CONNECTION_BYTES = 16 * 1024 * 1024;
/** A connection gets at most this part of the pool, and all together half of it. */
const POOL_SHARE = 4;
/** The protocol demands unfragmented reads of this many bytes. */
const MIN_TRANSFER_BYTES = 64 * 1024;
/** Pause after a failed accept (out of descriptors, usually), milliseconds. */
const ACCEPT_RETRY_MS = 200;

const ACCEPTED = 0;
const RETRY = 1;

/**
 * The arena memory of an NBD frontend. Arenas do not shrink, so a volume thread that starts and stops frontends
 * makes it once and hands it to one after the other, never to two at a time.
 */
export class NbdMemory {
  /** Windows and queues, one per connection. Frontends take and return them. */
  readonly streams: StreamMemory[] = [];
  /** Arena offset of {@linkcode NbdMemory.zeroBytes} bytes that are never written. */
  readonly zeroes: number;
  /** Bytes of zeroes: what zeroing with NO_HOLE writes at once. */
  readonly zeroBytes: number = 1024 * 1024;
  /** Most clients at once. */
  readonly connections: number;

  /**
   * Reserves it: some 300 KiB per connection, untouched until it is used.
   *
   * @param connections most clients at once, 1 to {@linkcode MOST_CONNECTIONS}
   * @throws {NbdOptionsError} for another number
   * @throws {RangeError} when the arena is too small
   */
  constructor(io: Io, connections: number = MAX_CONNECTIONS) {
    if (!Number.isInteger(connections) || connections < 1 || connections > MOST_CONNECTIONS) {
      throw new NbdOptionsError(`maxConnections is ${connections}; it must be 1 to ${MOST_CONNECTIONS}`);
    }
    this.connections = connections;
    this.zeroes = io.arena.reserve(this.zeroBytes, PAGE_BYTES);
    for (let i = 0; i < connections; i++) this.streams.push(new StreamMemory(io));
  }
}

/** How to serve a volume over NBD. */
export interface NbdOptions {
  /** Where to listen. TCP port 0 takes any free port; the endpoint names it. */
  readonly address: Address;
  /** Name of the export; default: the volume's name. The empty name always means the same export. */
  readonly exportName?: string;
  /**
   * Most clients at once, 1 to {@linkcode MOST_CONNECTIONS}; more are turned away. Default: what the memory is for,
   * else {@linkcode MAX_CONNECTIONS}.
   */
  readonly maxConnections?: number;
  /** Arena memory; default: new memory, which is never given back. */
  readonly memory?: NbdMemory;
  /** How long a client may take to open the export, milliseconds. */
  readonly handshakeMs?: number;
  /** How long a stop waits for clients to read their last replies, milliseconds. */
  readonly lingerMs?: number;
  /** Goes on for another process's frontend; `address` counts for nothing then. */
  readonly handed?: Parcel;
  /** Told about clients that come, go or misbehave; for the log. */
  readonly onEvent?: (text: string) => void;
}

/** What is handed over besides descriptors: of the listener, then of each connection, then of new clients. */
interface NbdState {
  readonly address: Address;
  readonly connections: readonly ConnectionState[];
}

/** Options that cannot be: which one and why. */
export class NbdOptionsError extends Error {
  /** The class, for logs. */
  override readonly name = "NbdOptionsError";
}

/** An NBD server for one volume; see the module text. */
export class NbdFrontend implements Frontend, Host, Completer, ConnectionOwner {
  readonly kind = "nbd";
  readonly endpoint: string;
  readonly volume: Export;
  readonly slots: Slots;
  readonly zeroes: number;
  readonly zeroBytes: number;
  readonly handshakeMs: number;
  readonly lingerMs: number;
  readonly connectionBytes: number;
  readonly frontendBytes: number;
  bytesHeld = 0;
  wanted = false;
  readonly #address: Address;
  readonly #event: (text: string) => void;
  readonly #listener: number;
  readonly #connections: Connection[] = [];
  readonly #memory: StreamMemory[];
  readonly #places: number;
  #listening = true;
  #stopped: (() => void) | undefined;
  #retry = NO_TIMER;
  #accepting = false;
  #suspended: boolean;
  /** Clients that came while suspended: not greeted yet. */
  #late: number[] = [];
  readonly #standstill: Standstill;

  /**
   * Listens and serves at once.
   *
   * @param io the world
   * @param pool buffers for payloads, shared with the volume
   * @param device the volume
   * @throws {NbdOptionsError} for options that cannot be
   * @throws {IoError} when the address cannot be listened on
   * @throws {RangeError} when the arena is too small for the windows of all connections
   */
  constructor(readonly io: Io, readonly pool: BufferPool, readonly device: BlockDevice, options: NbdOptions) {
    const name = options.exportName ?? device.name;
    checkName(name);
    if (pool.largest < MIN_TRANSFER_BYTES) {
      throw new NbdOptionsError(
        `buffers of ${pool.largest} bytes are too small; NBD needs ${MIN_TRANSFER_BYTES}`,
      );
    }
    this.volume = {
      name,
      description: `Drover volume ${device.name}`,
      maximum: Math.min(MAX_TRANSFER_BYTES, pool.largest),
      get bytes(): number {
        return device.bytes;
      },
    };
    this.handshakeMs = options.handshakeMs ?? HANDSHAKE_MS;
    this.lingerMs = options.lingerMs ?? LINGER_MS;
    this.connectionBytes = Math.min(CONNECTION_BYTES, Math.floor(pool.free / POOL_SHARE));
    this.frontendBytes = Math.floor(pool.free / 2);
    this.#event = options.onEvent ?? (() => {});
    this.#standstill = new Standstill(io);
    const { handed } = options, state = handed?.state as NbdState | undefined;
    const [listener, ...clients] = handed?.descriptors ?? [];
    this.#suspended = state !== undefined;
    this.#address = state?.address ?? options.address;
    this.#listener = listener ?? io.listen(options.address);
    let memory: NbdMemory;
    try {
      memory = options.memory ?? new NbdMemory(io, options.maxConnections);
    } catch (error) {
      if (!state) this.#closeListener();
      throw error;
    }
    this.zeroes = memory.zeroes;
    this.zeroBytes = memory.zeroBytes;
    this.#memory = memory.streams;
    this.#places = Math.min(memory.connections, options.maxConnections ?? memory.connections);
    this.slots = new Slots(FRONTEND_DEPTH, this.#places);
    this.endpoint = formatEndpoint(this.#address, name, () => io.boundPort(this.#listener));
    state?.connections.forEach((one, i) => this.#welcome(clients[i] as number, one));
    this.#late = clients.slice(state?.connections.length ?? 0);
    this.#accept();
  }

  #accept(): void {
    if (this.#accepting || this.#suspended) return;
    this.#accepting = true;
    this.io.accept(this.#listener, this, ACCEPTED);
  }

  /** See {@linkcode Frontend.suspend}. */
  suspend(graceMs: number, done: (problem: string) => void): void {
    this.#suspended = true;
    this.io.cancel(this.#retry);
    this.#retry = NO_TIMER;
    this.io.interrupt(this.#listener);
    for (const connection of this.#connections) connection.suspend();
    const rests = () => this.#connections.filter((one) => !one.rests()).length === 0 && !this.#accepting;
    this.#standstill.wait(graceMs, rests, (still) => {
      done(still ? "" : "a client neither ends its request nor takes its answers");
    });
  }

  /** See {@linkcode Frontend.parcel}. */
  parcel(): Parcel {
    const connections = this.#connections.map((one) => one.state);
    const state: NbdState = { address: this.#address, connections };
    const clients = this.#connections.map(({ fd }) => fd);
    return { state, descriptors: [this.#listener, ...clients, ...this.#late] };
  }

  /** See {@linkcode Frontend.resume}. */
  resume(): void {
    this.#standstill.cancel();
    this.#suspended = false;
    this.io.adoptListener(this.#listener);
    for (const connection of this.#connections) connection.resume();
    for (const fd of this.#late.splice(0)) this.#welcome(fd);
    this.#accept();
  }

  /** See {@linkcode Frontend.leave}. */
  leave(): void {
    for (const connection of this.#connections) connection.leave();
    for (const fd of [...this.#late, this.#listener]) this.io.close(fd);
  }

  /** True once {@linkcode stop} was called. */
  get stopping(): boolean {
    return this.#stopped !== undefined;
  }

  /** Number of clients now. */
  get connections(): number {
    return this.#connections.length;
  }

  /** See {@linkcode Frontend.stop}. */
  stop(done: () => void): void {
    if (this.#stopped) throw new Error("the NBD frontend is stopping already");
    this.#stopped = done;
    if (this.#retry === NO_TIMER) this.io.shutdown(this.#listener);
    else {
      this.io.cancel(this.#retry);
      this.#closeListener();
    }
    // A copy: a connection may be gone before the loop is.
    for (const connection of [...this.#connections]) connection.stop();
  }

  /** See {@linkcode Host.returned}. */
  returned(): void {
    this.wanted = false;
    for (const connection of this.#connections) connection.wake();
  }

  /** See {@linkcode ConnectionOwner.onGone}. */
  onGone(connection: Connection, complaint: string): void {
    this.#connections.splice(this.#connections.indexOf(connection), 1);
    this.#memory.push(connection.memory);
    this.#event(complaint === "" ? "client left" : `client dropped: ${complaint}`);
    this.#checkStopped();
  }

  /** The listener's completions: a client, or a failure. */
  complete(tag: number, result: number): void {
    if (tag === RETRY) {
      this.#retry = NO_TIMER;
      return this.#accept();
    }
    this.#accepting = false;
    if (this.stopping) {
      if (result >= 0) this.io.close(result);
      return this.#closeListener();
    } else if (this.#suspended) {
      if (result >= 0) this.#late.push(result);
      return;
    } else if (result >= 0) this.#welcome(result);
    else if (result !== -Errno.ECANCELED) {
      this.#event(`cannot accept a client: ${errnoText(result)}`);
      this.#retry = this.io.timer(ACCEPT_RETRY_MS, this, RETRY);
      return;
    }
    this.#accept();
  }

  #welcome(fd: number, state?: ConnectionState): void {
    const memory = this.#connections.length < this.#places ? this.#memory.pop() : undefined;
    if (!memory) {
      this.#event(`client turned away: there are ${this.#connections.length} already`);
      this.io.close(fd);
      return;
    }
    this.#connections.push(new Connection(this, fd, memory, this, state));
    this.#event(state ? "client taken over" : "client came");
  }

  #closeListener(): void {
    this.io.close(this.#listener);
    if (this.#address.kind === "unix") {
      try {
        this.io.files.unlink(this.#address.path);
      } catch {
        // Somebody removed it, or replaced it by a directory: nothing of ours is left there.
      }
    }
    this.#listening = false;
    this.#checkStopped();
  }

  #checkStopped(): void {
    if (this.#listening || this.#connections.length > 0) return;
    this.#stopped?.();
  }
}

function checkName(name: string): void {
  const bytes = new TextEncoder().encode(name).length;
  if (bytes === 0 || bytes > MAX_STRING_BYTES || name.includes("\0")) {
    throw new NbdOptionsError(
      `${
        JSON.stringify(name)
      } cannot name an NBD export: 1 to ${MAX_STRING_BYTES} bytes without NUL are needed`,
    );
  }
}

/** The URI of an export, as `doc/uri.md` of the NetworkBlockDevice project has it. */
export function formatEndpoint(address: Address, name: string, port: () => number): string {
  const path = name.split("/").map(encodeURIComponent).join("/");
  if (address.kind === "unix") {
    const socket = address.path.split("/").map(encodeURIComponent).join("/");
    return `nbd+unix:///${path}?socket=${socket}`;
  }
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `nbd://${host}:${address.port === 0 ? port() : address.port}/${path}`;
}
