/**
 * Waiting for a frontend to come to rest.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type Completer, type Io, NO_TIMER } from "../io/io.ts";

/** How often is looked, milliseconds. Clients stand still meanwhile. */
const LOOK_MS = 1;

/** Looks again and again whether something rests. */
export class Standstill implements Completer {
  #timer = NO_TIMER;
  #until = 0;
  #still: () => boolean = () => true;
  #done: (still: boolean) => void = () => {};

  /** Does nothing before `wait`. */
  constructor(readonly io: Io) {}

  /** Waits. @param done from the loop, once: whether it came to rest in time */
  wait(graceMs: number, still: () => boolean, done: (still: boolean) => void): void {
    this.cancel();
    this.#until = this.io.now() + graceMs;
    this.#still = still;
    this.#done = done;
    this.#timer = this.io.timer(0, this, 0);
  }

  /** Forgets it. */
  cancel(): void {
    this.io.cancel(this.#timer);
    this.#timer = NO_TIMER;
  }

  /** The timer. */
  complete(): void {
    this.#timer = NO_TIMER;
    const still = this.#still();
    if (!still && this.io.now() < this.#until) this.#timer = this.io.timer(LOOK_MS, this, 0);
    else this.#done(still);
  }
}

/** Bytes in JSON. */
export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}

/** And back. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text, "base64"));
}
