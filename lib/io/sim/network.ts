/**
 * The simulated network: who can reach whom, how fast, and who listens where.
 *
 * @module
 */
import { Errno, IoError } from "../errno.ts";
import { type Address, formatAddress } from "../io.ts";
import { Attempt } from "./attempt.ts";
import type { SimHost } from "./host.ts";
import { SocketInode } from "./inode.ts";
import { Listener } from "./listener.ts";
import { drawLatency, type Latency, type NetworkOptions } from "./options.ts";
import type { Operation } from "./operation.ts";
import type { SimProcess } from "./process.ts";
import type { Target } from "./queue.ts";
import type { Random } from "./random.ts";
import { Socket } from "./socket.ts";
import { type Trace, Verb } from "./trace.ts";

/** EADDRNOTAVAIL: the address is not this host's. */
const EADDRNOTAVAIL = 99;

/** What the network needs of the cluster. */
export interface NetworkWorld {
  /** Virtual time, ms. */
  readonly time: number;
  /** Where events are recorded. */
  readonly trace: Trace;
  /** Adds an event. */
  push(time: number, target: Target, code: number, value: number): void;
  /** The host that has a name or address. */
  lookUp(name: string): SimHost | undefined;
}

/** One direction between two hosts. */
export class Link {
  /** Nothing passes; what arrives is held. */
  blocked = false;
  /** Replaces the network's latency: a slow link. */
  latency: Latency;
  /** Bytes per ms; 0 = no limit. */
  bytesPerMs: number;
  #busyUntil = 0;
  #held: { target: Target; code: number; value: number }[] = [];
  readonly #network: SimNetwork;

  /** A link in good health. */
  constructor(network: SimNetwork, readonly from: SimHost, readonly to: SimHost) {
    this.#network = network;
    const own = from === to;
    this.latency = own ? network.options.loopback : network.options.latency;
    this.bytesPerMs = own ? 0 : network.options.bytesPerMs;
  }

  /** When a packet of this size that starts now arrives, virtual ms. */
  drawArrival(bytes: number): number {
    const { time, random } = this.#network;
    let start = time;
    if (this.bytesPerMs > 0 && bytes > 0) {
      start = Math.max(time, this.#busyUntil) + bytes / this.bytesPerMs;
      this.#busyUntil = start;
    }
    return start + drawLatency(random, this.latency);
  }

  /** Keeps a packet until the link is open. */
  hold(target: Target, code: number, value: number): void {
    this.#held.push({ target, code, value });
  }

  /** Blocks the link. */
  block(): void {
    if (this.blocked) return;
    this.blocked = true;
    this.#network.recordLink(this, 1, this.#held.length);
  }

  /** Opens the link; what was held arrives after a retransmission's wait. */
  open(): void {
    if (!this.blocked) return;
    this.blocked = false;
    const held = this.#held;
    this.#held = [];
    this.#network.recordLink(this, 0, held.length);
    const { random, time } = this.#network;
    const wait = held.length > 0 ? random.unit() * random.pick([1, 200, 2000]) : 0;
    for (const packet of held) {
      this.#network.push(
        time + wait + drawLatency(random, this.latency),
        packet.target,
        packet.code,
        packet.value,
      );
    }
  }
}

/** All links, connections and listeners. */
export class SimNetwork {
  /** See {@linkcode NetworkOptions}. */
  readonly options: NetworkOptions;
  /** Every draw that concerns the network. */
  readonly random: Random;
  readonly #world: NetworkWorld;
  #links = new Map<SimHost, Map<SimHost, Link>>();
  #sockets = new Set<Socket>();
  #nextConnection = 1;

  /** A network without connections. */
  constructor(world: NetworkWorld, options: NetworkOptions, random: Random) {
    this.#world = world;
    this.options = options;
    this.random = random;
  }

  /** Virtual time, ms. */
  get time(): number {
    return this.#world.time;
  }

  /** Adds an event. */
  push(time: number, target: Target, code: number, value: number): void {
    this.#world.push(time, target, code, value);
  }

  /** Adds a socket's event to the trace. */
  record(verb: Verb, socket: Socket, value: number): void {
    this.#world.trace.record(this.time, verb, socket.host.traceId, socket.connection, value);
  }

  /** Adds a link's event to the trace. */
  recordLink(link: Link, state: number, held: number): void {
    this.#world.trace.record(this.time, Verb.LINK, link.from.traceId, state, held);
  }

  /** The direction from one host to another. */
  link(from: SimHost, to: SimHost): Link {
    let row = this.#links.get(from);
    if (row === undefined) this.#links.set(from, row = new Map());
    let link = row.get(to);
    if (link === undefined) row.set(to, link = new Link(this, from, to));
    return link;
  }

  /** Blocks both directions between every host of one side and every host of the other. */
  partition(one: readonly SimHost[], other: readonly SimHost[]): void {
    for (const a of one) {
      for (const b of other) {
        if (a === b) continue;
        this.link(a, b).block();
        this.link(b, a).block();
      }
    }
  }

  /** Opens every link. @param resetChance probability per connection over a blocked link that it is reset */
  heal(resetChance = 0): void {
    for (const socket of [...this.#sockets]) {
      const peer = socket.peer;
      if (peer === null || !this.link(socket.host, peer.host).blocked) continue;
      if (this.random.chance(resetChance)) this.cutConnection(socket);
    }
    for (const row of this.#links.values()) for (const link of row.values()) link.open();
  }

  /** Resets every connection between two hosts (or within one). @returns how many */
  cut(a: SimHost, b: SimHost): number {
    let count = 0;
    for (const socket of [...this.#sockets]) {
      if (socket.host !== a || socket.peer?.host !== b || socket.broken || socket.gone) continue;
      this.cutConnection(socket);
      count++;
    }
    return count;
  }

  /** Resets a connection at both ends, as a middle box or a lost route does. */
  cutConnection(socket: Socket): void {
    const peer = socket.peer;
    const discard = this.random.chance(this.options.resetDiscards);
    this.record(Verb.RESET, socket, 1);
    socket.fail(Errno.ECONNRESET, discard);
    peer?.fail(Errno.ECONNRESET, discard);
  }

  /** Connections that are not over, each counted once per end. */
  get sockets(): ReadonlySet<Socket> {
    return this.#sockets;
  }

  /** Makes a connection. @returns the client's end and the server's */
  join(client: SimHost, server: SimHost, path: string): [Socket, Socket] {
    const connection = this.#nextConnection++;
    const a = new Socket(this, client, path, connection), b = new Socket(this, server, path, connection);
    const [least, most] = this.options.windowBytes;
    const window = () => least * 2 ** this.random.below(Math.log2(most / least) + 1);
    Socket.join(this, a, b, window(), window());
    this.#sockets.add(a).add(b);
    return [a, b];
  }

  /** Drops a connection whose two ends are gone. */
  forgetIfOver(socket: Socket): void {
    const peer = socket.peer;
    if (!socket.gone || peer === null || !peer.gone) return;
    this.#sockets.delete(socket);
    this.#sockets.delete(peer);
    socket.free();
  }

  /** A host lost power. */
  vanish(host: SimHost): void {
    for (const socket of [...this.#sockets]) if (socket.host === host) socket.vanish();
  }

  /** Opens a listening socket. @throws IoError EADDRINUSE, ENOENT, and EADDRNOTAVAIL (99) */
  listen(process: SimProcess, address: Address, backlog: number): Listener {
    const text = formatAddress(address);
    const host = process.host;
    if (address.kind === "unix") return this.#listenUnix(process, address.path, text, backlog);
    const any = ["", "0.0.0.0", "::"].includes(address.host);
    if (!any && this.#resolve(host, address.host) !== host) throw new IoError("listen", text, EADDRNOTAVAIL);
    const port = address.port === 0 ? host.ephemeralPort() : address.port;
    if (host.ports.has(port)) throw new IoError("listen", text, Errno.EADDRINUSE);
    const scope = any ? "any" : isLoopback(address.host) ? "loopback" : "named";
    const listener = new Listener(process, text, port, scope, backlog, () => host.ports.delete(port));
    host.ports.set(port, listener);
    return listener;
  }

  #listenUnix(process: SimProcess, path: string, text: string, backlog: number): Listener {
    const { disk } = process.host;
    const place = disk.names.place("listen", path);
    const found = place.directory.entries.get(place.name);
    if (found !== undefined) {
      const stale = found instanceof SocketInode && found.listener === null;
      if (!stale) throw new IoError("listen", text, Errno.EADDRINUSE);
      disk.names.apply(found, [{ ...place, to: null }]);
    }
    const socket = disk.newSocket();
    disk.names.apply(socket, [{ ...place, to: socket }]);
    const listener = new Listener(process, text, 0, "any", backlog, () => void (socket.listener = null));
    socket.listener = listener;
    return listener;
  }

  #resolve(from: SimHost, name: string): SimHost | undefined {
    return isLoopback(name) ? from : this.#world.lookUp(name);
  }

  /** Starts a connection attempt. */
  connect(process: SimProcess, address: Address, operation: Operation): void {
    const host = address.kind === "unix" ? process.host : this.#resolve(process.host, address.host);
    if (host === undefined) return operation.owner.finish(operation, -Errno.EHOSTUNREACH);
    new Attempt(this, process, host, address, operation).start();
  }

  /** Who listens at an address of a host; an error number when nobody does. */
  listenerAt(host: SimHost, address: Address): Listener | number {
    if (address.kind === "unix") {
      let found;
      try {
        found = host.disk.names.find("connect", address.path);
      } catch (error) {
        if (error instanceof IoError) return error.errno;
        throw error;
      }
      if (found === null) return Errno.ENOENT;
      const listener = found instanceof SocketInode ? found.listener : null;
      return listener instanceof Listener && !listener.shut ? listener : Errno.ECONNREFUSED;
    }
    const listener = host.ports.get(address.port);
    if (listener === undefined || listener.shut) return Errno.ECONNREFUSED;
    const loopback = isLoopback(address.host);
    const reachable = listener.scope === "any" || (listener.scope === "loopback") === loopback;
    return reachable ? listener : Errno.ECONNREFUSED;
  }
}

function isLoopback(name: string): boolean {
  return name === "localhost" || name === "127.0.0.1" || name === "::1";
}
