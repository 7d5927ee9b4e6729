/**
 * The volume's clock: pings while it is idle, and a look for replicas that take too long while it is not. One
 * timer; an idle volume wakes once per ping interval.
 *
 * @module
 */
import { type Completer, type Io, NO_TIMER } from "../io/io.ts";
import { CHECK_INTERVAL_MS, PING_INTERVAL_MS } from "./limits.ts";
import { lateLinks } from "./patience.ts";
import type { ReplicaSet } from "./replica_set.ts";
import type { Slots } from "./slots.ts";

/** See the module text. */
export class Heartbeat implements Completer {
  #timer: number = NO_TIMER;
  #ms = 0;
  #running = false;

  /**
   * Does nothing before `start`.
   *
   * @param timeoutMs longest time without an answer before a replica is given up while others answer
   */
  constructor(
    readonly io: Io,
    readonly slots: Slots,
    readonly replicas: ReplicaSet,
    readonly timeoutMs: number,
  ) {}

  /** Begins. */
  start(): void {
    this.#running = true;
    this.#arm();
  }

  /** Ends. */
  stop(): void {
    this.#running = false;
    this.io.cancel(this.#timer);
    this.#timer = NO_TIMER;
  }

  /** A request was submitted: from now on the clock looks more often. Cheap when it does already. */
  busy(): void {
    if (this.#ms !== CHECK_INTERVAL_MS) this.#arm();
  }

  #arm(): void {
    if (!this.#running) return;
    const ms = this.slots.used > 0 ? CHECK_INTERVAL_MS : PING_INTERVAL_MS;
    if (this.#timer !== NO_TIMER && this.#ms === ms) return;
    this.io.cancel(this.#timer);
    this.#ms = ms;
    this.#timer = this.io.timer(ms, this, 0);
  }

  /** The timer. */
  complete(): void {
    this.#timer = NO_TIMER;
    const links = this.replicas.all();
    for (const link of lateLinks(this.io.now(), this.timeoutMs, this.slots, links)) {
      link.close(`no answer for more than ${this.timeoutMs / 1000} s`);
    }
    // Not those that are still to be admitted: a replica that is being opened answers pings with an error.
    for (const link of this.replicas.writers) link.tick();
    this.#arm();
  }
}
