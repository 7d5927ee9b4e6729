/**
 * A simulated connection attempt.
 *
 * @module
 */
import { Errno } from "../errno.ts";
import { type Address, formatAddress } from "../io.ts";
import type { SimHost } from "./host.ts";
import type { SimNetwork } from "./network.ts";
import type { Operation } from "./operation.ts";
import type { SimProcess } from "./process.ts";
import type { Target } from "./queue.ts";
import type { Socket } from "./socket.ts";

/** A host that is down may be reported as unreachable after about this, ms: three unanswered ARP requests. */
const UNREACHABLE_MS = 3000;
/** First wait before a connection attempt is repeated, ms. */
const SYN_RETRY_MS = 1000;

/** Events of an attempt. */
const SYN = 0, ANSWER = 1, TIMEOUT = 2;

/** See the module. */
export class Attempt implements Target {
  #client: Socket | null = null;
  #over = false;
  #retries = 0;
  #timed = false;
  readonly #generation: number;

  /** An attempt that was not started; `operation` ends with a descriptor or an error. */
  constructor(
    readonly network: SimNetwork,
    readonly process: SimProcess,
    readonly host: SimHost,
    readonly address: Address,
    readonly operation: Operation,
  ) {
    this.#generation = operation.generation;
  }

  /** Sends the first packet. */
  start(): void {
    this.network.push(this.network.link(this.process.host, this.host).drawArrival(0), this, SYN, 0);
  }

  /** See {@linkcode Target.fire}. */
  fire(code: number, value: number): void {
    if (code === TIMEOUT) return this.#end(value);
    const there = this.network.link(this.process.host, this.host);
    const link = code === SYN ? there : this.network.link(this.host, this.process.host);
    if (link.blocked) {
      link.hold(this, code, value);
      return this.#limit(-Errno.ETIMEDOUT, this.network.options.connectTimeoutMs);
    }
    if (code === SYN) this.#arrive();
    else this.#end(value);
  }

  #limit(result: number, ms: number): void {
    if (this.#timed) return;
    this.#timed = true;
    this.network.push(this.network.time + ms, this, TIMEOUT, result);
  }

  #again(): void {
    this.network.push(this.network.time + SYN_RETRY_MS * 2 ** this.#retries++, this, SYN, 0);
  }

  #arrive(): void {
    if (this.#over || !this.process.alive) return;
    const { connectTimeoutMs } = this.network.options;
    if (!this.host.up) {
      const unreachable = this.network.random.chance(0.5) && UNREACHABLE_MS < connectTimeoutMs;
      this.#limit(
        unreachable ? -Errno.EHOSTUNREACH : -Errno.ETIMEDOUT,
        unreachable ? UNREACHABLE_MS : connectTimeoutMs,
      );
      return this.#again();
    }
    const listener = this.network.listenerAt(this.host, this.address);
    let result = 0;
    if (typeof listener === "number") result = -listener;
    else if (listener.full) {
      this.#limit(-Errno.ETIMEDOUT, connectTimeoutMs);
      return this.#again();
    } else {
      const [client, server] = this.network.join(this.process.host, this.host, formatAddress(this.address));
      this.#client = client;
      listener.offer(server);
    }
    this.network.push(this.network.link(this.host, this.process.host).drawArrival(0), this, ANSWER, result);
  }

  #end(result: number): void {
    if (this.#over) return;
    this.#over = true;
    const { operation, process } = this;
    const client = this.#client;
    if (!process.alive || operation.generation !== this.#generation || (result < 0 && client !== null)) {
      client?.released(true);
      if (!process.alive) return;
    }
    if (result === 0 && client !== null) result = process.installSocket(client);
    operation.owner.finish(operation, result);
  }
}
