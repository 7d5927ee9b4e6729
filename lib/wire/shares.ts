/**
 * What one connection may hold of what all connections of a frame server share: request slots and buffers.
 *
 * | guard | against |
 * |---|---|
 * | each connection has a few slots of its own | one that fills all slots and reads no answers |
 * | half of the pool is kept for the first buffer of each connection, and for trusted ones | some that claim large payloads and send none, or send them byte by byte: small requests of others go on |
 * | a connection that holds something while another waits, and of which nothing moves, is closed | the same, for large requests of others |
 *
 * Who gets nothing now stops being read and is woken when something came back. Nothing of this costs anything while
 * there is enough: a comparison per request.
 *
 * @module
 */
import { type Completer, type Io, NO_TIMER } from "../io/io.ts";
import { type BufferPool, NO_BUFFER } from "../io/pool.ts";
import { PoolShares } from "../io/pool_shares.ts";
import type { Peer } from "./peer.ts";

/** Slots that each connection has for itself, where there are enough. */
const OWN_SLOTS = 2;
/** Most bytes of the first buffer that each connection has for itself. */
const OWN_BYTES = 4 * 1024 * 1024;
/**
 * A connection of which nothing moves for so long while another one waits for what it holds is closed, milliseconds.
 * Less than an engine waits for an answer (8 s), and far more than a network needs to send something again.
 */
export const STANDSTILL_MS = 6_000;
/** Looks in that time. */
const LOOKS = 6;

/** What the shares are of. */
export interface Shared {
  /** Slots. */
  readonly depth: number;
  /** Most connections. */
  readonly connections: number;
  /** See {@linkcode STANDSTILL_MS}. */
  readonly standstillMs: number;
  /** True for a connection that may use what is kept, and is not closed for standing still. */
  readonly trusts: (peer: Peer) => boolean;
  /** Closes a connection. @param why for the log */
  readonly drop: (peer: Peer, why: string) => void;
}

/** See the module text. */
export class Shares implements Completer {
  readonly #io: Io;
  readonly #pool: BufferPool;
  readonly #peers: readonly Peer[];
  readonly #shared: Shared;
  readonly #ownSlots: number;
  /** Slots that are nobody's own. */
  readonly #commonSlots: number;
  readonly #buffers: PoolShares;
  #commonUsed = 0;
  /** Connections that wait for a slot, in their order. */
  readonly #queue: Peer[] = [];
  #timer: number = NO_TIMER;

  /** Shares a pool and slots. @param peers all places for connections; may grow */
  constructor(io: Io, pool: BufferPool, peers: readonly Peer[], shared: Shared) {
    const { depth, connections } = shared;
    this.#io = io;
    this.#pool = pool;
    this.#peers = peers;
    this.#shared = shared;
    this.#ownSlots = Math.min(OWN_SLOTS, Math.floor(depth / 2 / connections));
    this.#commonSlots = depth - this.#ownSlots * connections;
    this.#buffers = new PoolShares(pool, connections, OWN_BYTES);
  }

  /** Takes a slot for a connection. @returns false when there is none now: the connection is woken later */
  takeSlot(peer: Peer, stream: { pause(): void }): boolean {
    if (peer.pending >= this.#ownSlots) {
      if (this.#commonUsed >= this.#commonSlots) {
        peer.starved = true;
        stream.pause();
        if (!peer.queued) this.#queue.push(peer);
        peer.queued = true;
        this.#watch();
        return false;
      }
      this.#commonUsed++;
    }
    peer.pending++;
    return true;
  }

  /** Takes a buffer for a connection. @returns NO_BUFFER when there is none now: the connection is woken later */
  takeBuffer(peer: Peer, stream: { pause(): void }, bytes: number): number {
    let buffer = this.#buffers.take(bytes, peer.buffers === 0);
    if (buffer === NO_BUFFER && this.#shared.trusts(peer)) buffer = this.#pool.allocate(bytes);
    if (buffer !== NO_BUFFER) {
      peer.buffers++;
      return buffer;
    }
    stream.pause();
    if (!peer.waiting) this.#pool.wait(peer);
    peer.waiting = true;
    this.#watch();
    return NO_BUFFER;
  }

  /** Gives a slot back, and its buffer if it has one. */
  give(peer: Peer, buffer: number): void {
    if (buffer !== NO_BUFFER) {
      peer.buffers--;
      this.#pool.release(buffer);
    }
    this.giveSlot(peer);
  }

  /** Gives a slot back that got no buffer. */
  giveSlot(peer: Peer): void {
    if (peer.pending-- > this.#ownSlots) this.#commonUsed--;
    if (this.#queue.length === 0) return;
    if (peer.starved && peer.pending < this.#ownSlots) wake(peer);
    this.pass();
  }

  /** Lets the connection that has waited longest for a slot go on, if there is one. */
  pass(): void {
    if (this.#commonUsed >= this.#commonSlots) return;
    for (let peer = this.#queue.shift(); peer; peer = this.#queue.shift()) {
      peer.queued = false;
      if (!peer.starved || !peer.stream) continue;
      wake(peer);
      // One that takes no answers takes no slot either: the next one's turn.
      if (!peer.stream.congested) return;
    }
  }

  /** Lets all go on, after a time in which nobody was read. */
  passAll(): void {
    for (const peer of this.#peers) if (peer.starved) wake(peer);
  }

  // ---- standing still --------------------------------------------------------------------------------------

  #watch(): void {
    if (this.#timer !== NO_TIMER) return;
    for (const peer of this.#peers) peer.stillIn = peer.stillOut = 0;
    this.#timer = this.#io.timer(this.#shared.standstillMs / LOOKS, this, 0);
  }

  /** One look at all connections, as long as one of them waits. */
  complete(): void {
    this.#timer = NO_TIMER;
    let waiting = 0;
    for (const peer of this.#peers) if (waits(peer)) waiting++;
    if (waiting === 0) return;
    for (const peer of this.#peers) {
      const { stream } = peer;
      if (!stream || stream.closing) continue;
      const { arrivals, departures } = stream, holds = peer.buffers > 0;
      peer.stillIn = holds && stream.filling && arrivals === peer.arrivals ? peer.stillIn + 1 : 0;
      peer.stillOut = holds && stream.sending && departures === peer.departures ? peer.stillOut + 1 : 0;
      peer.arrivals = arrivals;
      peer.departures = departures;
      const still = Math.max(peer.stillIn, peer.stillOut) >= LOOKS;
      if (!still || (waiting === 1 && waits(peer)) || this.#shared.trusts(peer)) continue;
      const what = peer.stillIn >= LOOKS ? "sent nothing of a payload" : "took nothing of its answers";
      const { standstillMs } = this.#shared;
      this.#shared.drop(peer, `it ${what} for ${standstillMs} ms, and others waited for what it held`);
    }
    this.#timer = this.#io.timer(this.#shared.standstillMs / LOOKS, this, 0);
  }
}

function waits(peer: Peer): boolean {
  return peer.stream !== undefined && (peer.starved || peer.waiting);
}

function wake(peer: Peer): void {
  peer.starved = false;
  peer.stream?.resume();
}
