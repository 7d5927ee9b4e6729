/**
 * What one connection holds of what all share: request slots and buffers. When there is none, the stream is
 * paused, so that the client's requests wait in its socket and not in our memory; what comes back wakes it.
 *
 * @module
 */
import type { Deferred } from "../../io/io.ts";
import { NO_BUFFER } from "../../io/pool.ts";
import type { Stream } from "../../io/stream.ts";
import type { Host } from "./host.ts";
import { NO_SLOT, type Slots, type Use } from "./slots.ts";

/** Slots and buffers of a connection; see the module text. */
export class Holdings implements Deferred {
  readonly #host: Host;
  readonly #slots: Slots;
  readonly #stream: Stream;
  #held = 0;
  #bytes = 0;
  #waiting = false;
  #poolAsked = false;

  /**
   * Begins with nothing.
   *
   * @param host what the connections share
   * @param stream what is paused
   */
  constructor(host: Host, stream: Stream) {
    this.#host = host;
    this.#slots = host.slots;
    this.#stream = stream;
  }

  /** True while the stream is paused for want of something. */
  get waiting(): boolean {
    return this.#waiting;
  }

  /** Takes a slot. @returns NO_SLOT after arranging to be woken */
  slot(use: Use): number {
    if (!this.#slots.available(this.#held)) return this.#waitForOthers();
    return this.#slots.take(this.#held++, use);
  }

  /** Takes a slot with a buffer of `length` bytes. @returns NO_SLOT after arranging to be woken */
  slotWithBuffer(use: Use, length: number): number {
    const host = this.#host;
    const own = this.#bytes + length, all = host.bytesHeld + length;
    const tooMuch = this.#bytes > 0 && (own > host.connectionBytes || all > host.frontendBytes);
    if (tooMuch || !this.#slots.available(this.#held)) return this.#waitForOthers();
    const buffer = host.pool.allocate(length);
    if (buffer === NO_BUFFER) return this.#waitForPool();
    const slot = this.#slots.take(this.#held++, use);
    this.#slots.buffer[slot] = buffer;
    this.#slots.length[slot] = length;
    this.#bytes += length;
    host.bytesHeld += length;
    return slot;
  }

  /** Gives a slot and its buffer back. */
  give(slot: number): void {
    const buffer = this.#slots.buffer[slot];
    if (buffer !== NO_BUFFER) {
      this.#bytes -= this.#slots.length[slot];
      this.#host.bytesHeld -= this.#slots.length[slot];
      this.#host.pool.release(buffer);
    }
    this.#slots.give(this.#held--, slot);
    if (this.#waiting) this.wake();
    if (this.#host.wanted) this.#host.returned();
  }

  /** Lets a waiting connection try again. */
  wake(): void {
    if (!this.#waiting) return;
    this.#waiting = false;
    this.#stream.resume();
  }

  /** Called by the pool: a buffer came back. */
  runDeferred(): void {
    this.#poolAsked = false;
    this.wake();
  }

  /** Own things that come back wake in any case, see {@linkcode give}. */
  #waitForOthers(): number {
    this.#host.wanted = true;
    this.#waiting = true;
    this.#stream.pause();
    return NO_SLOT;
  }

  #waitForPool(): number {
    this.#waiting = true;
    this.#stream.pause();
    if (!this.#poolAsked) {
      this.#poolAsked = true;
      this.#host.pool.wait(this);
    }
    return NO_SLOT;
  }
}
