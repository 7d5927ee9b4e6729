/**
 * One end of a simulated connection, as a process sees it.
 *
 * @module
 */
import { Errno } from "../errno.ts";
import type { Descriptor } from "./descriptors.ts";
import type { SimHost } from "./host.ts";
import type { SimNetwork } from "./network.ts";
import { type Operation, SEGMENT_BYTES } from "./operation.ts";
import { Pipe } from "./pipe.ts";

/** One end of a connection. */
export class Socket implements Descriptor {
  underWay = 0;
  /** Both directions were ended on this side. */
  shut = false;
  /** The descriptor was closed. */
  closed = false;
  /** The host lost power: nothing answers for this socket any more. */
  vanished = false;
  /** Set by {@linkcode join}. */
  #outbound: Pipe | null = null;
  #inbound: Pipe | null = null;
  #receiving: Operation | null = null;
  #sending: Operation | null = null;
  #error = 0;
  #broken = false;
  readonly #network: SimNetwork;

  /** A socket that is to be joined with another. @param path the address, for messages */
  constructor(
    network: SimNetwork,
    readonly host: SimHost,
    readonly path: string,
    readonly connection: number,
  ) {
    this.#network = network;
  }

  /** Makes two sockets a connection. */
  static join(network: SimNetwork, a: Socket, b: Socket, windowA: number, windowB: number): void {
    const there = new Pipe(network, a, b, windowA), back = new Pipe(network, b, a, windowB);
    a.#outbound = there;
    a.#inbound = back;
    b.#outbound = back;
    b.#inbound = there;
  }

  /** The other end. */
  get peer(): Socket | null {
    return this.#outbound?.to ?? null;
  }

  /** Whether this side takes no more part in the connection. */
  get gone(): boolean {
    return this.closed || this.vanished;
  }

  /** Starts a receive. */
  receive(operation: Operation): void {
    if (this.#receiving !== null) throw new Error(`two receives under way on ${this.path}`);
    this.#receiving = operation;
    this.readable();
  }

  /** Ends the receive under way if it can. */
  readable(): void {
    const operation = this.#receiving, pipe = this.#inbound;
    if (operation === null || pipe === null) return;
    let result: number;
    if (pipe.available > 0) {
      const { random, options } = this.#network;
      let most = Math.min(operation.length, pipe.available);
      if (most > 1 && random.chance(options.partialReceive)) {
        most = random.chance(0.5) ? random.between(1, Math.min(most, 64)) : random.between(1, most);
      }
      result = pipe.read(operation.owner.memory, operation.at, most);
    } else if (this.#error !== 0) {
      result = -this.#error;
      this.#error = 0;
    } else if (pipe.endDelivered || this.#broken || this.shut) result = 0;
    else return;
    this.#receiving = null;
    operation.owner.finish(operation, result);
  }

  /** Starts a send. */
  send(operation: Operation): void {
    if (this.#sending !== null) throw new Error(`two sends under way on ${this.path}`);
    this.#sending = operation;
    this.pump();
  }

  /** Moves bytes of the send under way into the pipe, as far as there is room. */
  pump(): void {
    const operation = this.#sending, pipe = this.#outbound;
    if (operation === null || pipe === null) return;
    if (this.#broken || this.shut) return this.#endSend(operation, this.#takeError(Errno.EPIPE));
    const before = pipe.written;
    const memory = operation.owner.memory;
    while (operation.offset < operation.length) {
      const segment = operation.at + SEGMENT_BYTES * operation.offset;
      const at = word(memory, segment) + operation.mode, left = word(memory, segment + 8) - operation.mode;
      if (at + left > memory.length) {
        throw new RangeError(`send beyond the arena: ${at}+${left} on ${this.path}`);
      }
      const taken = pipe.write(memory, at, left);
      operation.done += taken;
      if (taken < left) {
        operation.mode += taken;
        break;
      }
      operation.offset++;
      operation.mode = 0;
    }
    if (pipe.written > before) pipe.announce(before);
    if (operation.offset === operation.length) this.#endSend(operation, operation.done);
  }

  #takeError(otherwise: number): number {
    const error = this.#error === 0 ? otherwise : this.#error;
    this.#error = 0;
    return -error;
  }

  #endSend(operation: Operation, result: number): void {
    this.#sending = null;
    // The vector was the kernel's to change: whoever uses it again without writing it is found out.
    operation.owner.memory.fill(
      0xee,
      operation.at,
      operation.at + (operation.length > 0 ? SEGMENT_BYTES : 0),
    );
    operation.owner.finish(operation, result);
  }

  /** The connection died of something that this side notices. */
  fail(errno: number, discard: boolean): void {
    if (this.gone || this.#broken) return;
    this.#broken = true;
    this.#error = errno;
    if (discard) this.#inbound?.discard();
    this.readable();
    this.pump();
    this.#network.forgetIfOver(this);
  }

  /** Whether the connection died. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Ends both directions on this side. */
  shutdown(): void {
    if (this.shut) return;
    this.shut = true;
    if (!this.#broken) this.#outbound?.end();
    this.readable();
    this.pump();
  }

  /** See {@linkcode Descriptor.released}. */
  released(killed: boolean): void {
    if (this.gone) return;
    this.#receiving = null;
    this.#sending = null;
    const unread = (this.#inbound?.available ?? 0) > 0;
    const { random, options } = this.#network;
    if (!this.#broken) {
      if (unread || (killed && random.chance(options.resetOnKill))) this.#outbound?.reset();
      else this.#outbound?.end();
    }
    this.closed = true;
    this.#network.forgetIfOver(this);
  }

  /** The host lost power: no packet says so. */
  vanish(): void {
    this.#receiving = null;
    this.#sending = null;
    this.vanished = true;
    this.#network.forgetIfOver(this);
  }

  /** Gives the memory of the pipes back. */
  free(): void {
    this.#inbound?.free();
    this.#outbound?.free();
  }
}

/** A little-endian unsigned 32-bit integer. */
function word(memory: Uint8Array, at: number): number {
  return ((memory[at] ?? 0) | ((memory[at + 1] ?? 0) << 8) | ((memory[at + 2] ?? 0) << 16) |
    ((memory[at + 3] ?? 0) << 24)) >>> 0;
}
