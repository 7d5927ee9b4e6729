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
    if (this.#slots.available(this.#held)) return this.#slots.take(this.#held++, use);
    this.#host.slotWanted = true;
    this.#wait();
    return NO_SLOT;
  }

  /** Takes a slot with a buffer of `length` bytes. @returns NO_SLOT after arranging to be woken */
  slotWithBuffer(use: Use, length: number): number {
    if (this.#bytes > 0 && this.#bytes + length > this.#host.connectionBytes) {
      this.#wait(); // woken by the return of an own buffer
      return NO_SLOT;
    }
    const slot = this.slot(use);
    if (slot === NO_SLOT) return NO_SLOT;
    const buffer = this.#host.pool.allocate(length);
    if (buffer === NO_BUFFER) {
      this.give(slot);
      this.#wait();
      if (!this.#poolAsked) {
        this.#poolAsked = true;
        this.#host.pool.wait(this);
      }
      return NO_SLOT;
    }
    this.#slots.buffer[slot] = buffer;
    this.#slots.length[slot] = length;
    this.#bytes += length;
    return slot;
  }

  /** Gives a slot and its buffer back. */
  give(slot: number): void {
    const buffer = this.#slots.buffer[slot];
    if (buffer !== NO_BUFFER) {
      this.#bytes -= this.#slots.length[slot];
      this.#host.pool.release(buffer);
    }
    this.#slots.give(this.#held--, slot);
    if (this.#waiting) this.wake();
    if (this.#host.slotWanted) this.#host.slotFreed();
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

  #wait(): void {
    this.#waiting = true;
    this.#stream.pause();
  }
}
