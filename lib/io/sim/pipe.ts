/**
 * One direction of a simulated connection.
 *
 * Bytes are ordered and reliable while the connection lives. A pipe is one ring of bytes and three counters
 * (written by the sender, delivered by the network, consumed by the receiver); packets carry the counter up
 * to which they deliver, so that neither delay nor reordering of packets can harm the stream.
 *
 * @module
 */
import { Errno } from "../errno.ts";
import type { Link, SimNetwork } from "./network.ts";
import type { Target } from "./queue.ts";
import type { Socket } from "./socket.ts";
import { Verb } from "./trace.ts";

/** First retransmission after this, ms; doubled each time. */
const RETRANSMIT_MS = 200;
/** Linux' TCP_RTO_MAX, ms. */
const MAX_RETRANSMIT_MS = 120_000;

/** Events of a pipe. */
export const Packet = {
  /** Bytes up to `value` arrive. */
  DATA: 0,
  /** As DATA, and no more will come. */
  FIN: 1,
  /** The connection is dead. */
  RESET: 2,
  /** The receiver took bytes: travels the other way. */
  ROOM: 3,
  /** DATA is sent again to a host that was down. */
  RETRY: 4,
  /** Time to give up, if nothing was delivered since `value`. */
  GIVE_UP: 5,
} as const;

/** Rings kept for reuse over all worlds, by size; 32 MiB at most. */
const MAX_SPARE_RING_BYTES = 32 * 1024 * 1024;
const spareRings = new Map<number, Uint8Array<ArrayBuffer>[]>();
let spareRingBytes = 0;

function takeRing(bytes: number): Uint8Array<ArrayBuffer> {
  const ring = spareRings.get(bytes)?.pop();
  if (ring === undefined) return new Uint8Array(bytes);
  spareRingBytes -= bytes;
  return ring;
}

function giveRing(ring: Uint8Array<ArrayBuffer>): void {
  if (spareRingBytes + ring.length > MAX_SPARE_RING_BYTES) return;
  spareRingBytes += ring.length;
  const known = spareRings.get(ring.length);
  if (known === undefined) spareRings.set(ring.length, [ring]);
  else known.push(ring);
}

const NO_RING = new Uint8Array(0);

/** One direction of a connection. */
export class Pipe implements Target {
  /** Bytes the sender put in, ever. */
  written = 0;
  /** Bytes that arrived, ever. */
  delivered = 0;
  /** Bytes the receiver took, ever. */
  consumed = 0;
  /** No more bytes will be written. */
  ended = false;
  /** The end has arrived. */
  endDelivered = false;
  #acknowledged = 0;
  #roomWanted = false;
  #lastArrival = 0;
  #retries = 0;
  #retrying = false;
  #givingUp = false;
  /** Nothing is sent again any more. */
  #givenUp = false;
  #ring: Uint8Array<ArrayBuffer>;
  readonly #network: SimNetwork;
  readonly #there: Link;
  readonly #back: Link;

  /** An empty pipe. @param capacity bytes that may be on the way or wait to be received; a power of two */
  constructor(network: SimNetwork, readonly from: Socket, readonly to: Socket, capacity: number) {
    this.#network = network;
    this.#ring = takeRing(capacity);
    this.#there = network.link(from.host, to.host);
    this.#back = network.link(to.host, from.host);
  }

  /** Bytes that may be received. */
  get available(): number {
    return this.delivered - this.consumed;
  }

  /** Bytes that the sender may write now. */
  #room(): number {
    // What the receiver took is known to the sender unless acknowledgements cannot pass.
    if (!this.#back.blocked) this.#acknowledged = this.consumed;
    return this.#ring.length - (this.written - this.#acknowledged);
  }

  /** Takes up to `length` bytes; asks to be told of room when there is too little. @returns bytes taken */
  write(from: Uint8Array, at: number, length: number): number {
    const count = Math.min(length, this.#room());
    if (count < length && !this.#roomWanted) {
      this.#roomWanted = true;
      if (this.#acknowledged < this.consumed) this.#send(Packet.ROOM, 0);
    }
    const mask = this.#ring.length - 1;
    const start = this.written & mask;
    const first = Math.min(count, this.#ring.length - start);
    if (first > 0) this.#ring.set(from.subarray(at, at + first), start);
    if (count > first) this.#ring.set(from.subarray(at + first, at + count), 0);
    this.written += count;
    return count;
  }

  /** Sends what was written since `before`. */
  announce(before: number): void {
    const { random, options } = this.#network;
    const bytes = this.written - before;
    if (bytes > 1 && random.chance(options.splitSend)) {
      this.#send(Packet.DATA, before + random.between(1, bytes - 1));
    }
    this.#send(Packet.DATA, this.written);
  }

  /** Hands out up to `length` bytes that have arrived. */
  read(into: Uint8Array, at: number, length: number): number {
    const count = Math.min(length, this.available);
    const mask = this.#ring.length - 1;
    const start = this.consumed & mask;
    const first = Math.min(count, this.#ring.length - start);
    into.set(this.#ring.subarray(start, start + first), at);
    if (count > first) into.set(this.#ring.subarray(0, count - first), at + first);
    this.consumed += count;
    if (this.#roomWanted) this.#wantRoom();
    return count;
  }

  #wantRoom(): void {
    this.#roomWanted = false;
    this.#send(Packet.ROOM, 0);
  }

  /** Ends the stream after what was written. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.#send(Packet.FIN, this.written);
  }

  /** Tells the other side that the connection is dead. */
  reset(): void {
    this.ended = true;
    this.#send(Packet.RESET, 0);
  }

  /** Loses what has arrived and was not received. */
  discard(): void {
    this.consumed = this.delivered;
  }

  #send(packet: number, value: number): void {
    if (packet === Packet.ROOM) {
      this.#network.push(this.#back.drawArrival(0), this, packet, value);
      return;
    }
    const bytes = packet === Packet.DATA ? Math.max(0, value - this.delivered) : 0;
    this.#lastArrival = Math.max(this.#lastArrival, this.#there.drawArrival(bytes));
    this.#network.push(this.#lastArrival, this, packet, value);
  }

  /** See {@linkcode Target.fire}. */
  fire(packet: number, value: number): void {
    if (this.#ring === NO_RING || this.#givenUp) return;
    if (packet === Packet.GIVE_UP) return this.#giveUp(value);
    const link = packet === Packet.ROOM ? this.#back : this.#there;
    if (link.blocked) return this.#blocked(link, packet, value);
    if (packet === Packet.ROOM) return this.from.pump();
    if (packet === Packet.RESET) {
      this.#network.record(Verb.RESET, this.to, 0);
      return this.to.fail(Errno.ECONNRESET, this.#network.random.chance(this.#network.options.resetDiscards));
    }
    if (packet === Packet.RETRY) {
      this.#retrying = false;
      if (this.ended) packet = Packet.FIN;
      value = this.written;
    }
    this.#deliver(packet, value);
  }

  #deliver(packet: number, value: number): void {
    if (this.to.vanished && !this.to.host.up) return this.#retransmit();
    if (this.to.gone || this.to.broken || (this.to.shut && value > this.delivered)) {
      // Nobody is there to take bytes; an end of stream alone needs nobody.
      const wasted = value > this.delivered || this.to.vanished;
      if (wasted) this.#network.push(this.#back.drawArrival(0), new Refusal(this.from, this.#back), 0, 0);
      return;
    }
    this.delivered = Math.max(this.delivered, value);
    if (packet === Packet.FIN) this.endDelivered = true;
    this.#network.record(packet === Packet.FIN ? Verb.FIN : Verb.ARRIVE, this.to, value);
    this.to.readable();
  }

  #retransmit(): void {
    if (this.#retrying) return;
    const wait = Math.min(RETRANSMIT_MS * 2 ** this.#retries++, MAX_RETRANSMIT_MS);
    this.#retrying = true;
    this.#network.push(this.#network.time + wait, this, Packet.RETRY, this.written);
    this.#armGiveUp();
  }

  #blocked(link: Link, packet: number, value: number): void {
    this.#network.record(Verb.HELD, this.to, packet);
    // A reset is never sent again: whoever missed it learns of it when it sends.
    if (packet === Packet.RESET && this.#network.random.chance(0.5)) return;
    link.hold(this, packet, value);
    if (packet !== Packet.RESET) this.#armGiveUp();
  }

  #armGiveUp(): void {
    if (this.#givingUp) return;
    this.#givingUp = true;
    const { time, options } = this.#network;
    this.#network.push(time + options.retransmitTimeoutMs, this, Packet.GIVE_UP, this.delivered);
  }

  #giveUp(deliveredThen: number): void {
    this.#givingUp = false;
    const stuck = this.#there.blocked || this.#back.blocked || (this.to.vanished && !this.to.host.up);
    if (!stuck) return;
    if (this.delivered !== deliveredThen) return this.#armGiveUp();
    this.#givenUp = true;
    if (this.written > this.delivered) this.from.fail(Errno.ETIMEDOUT, false);
  }

  /** Both ends are gone: nothing that still flies matters. */
  free(): void {
    if (this.#ring === NO_RING) return;
    giveRing(this.#ring);
    this.#ring = NO_RING;
  }
}

/** The reset with which a host answers bytes for a connection it does not have. */
class Refusal implements Target {
  constructor(readonly to: Socket, readonly link: Link) {}

  fire(): void {
    if (!this.link.blocked) this.to.fail(Errno.ECONNRESET, false);
  }
}
