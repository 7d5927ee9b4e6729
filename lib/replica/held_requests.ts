/**
 * Requests that arrive while the chain of a replica is being changed, in order. There are never more than the
 * data server admits, so all memory is there from the start.
 *
 * @module
 */
import type { Completer } from "../io/io.ts";

/** Starts a request; as `FrameHandler.start`. */
export type StartRequest = (
  type: number,
  offset: number,
  size: number,
  at: number,
  peer: number,
  who: Completer,
  tag: number,
) => void;

/** Numbers of a request. */
const FIELDS = 6;

/** See the module text. */
export class HeldRequests {
  /** Requests are put aside. */
  active = false;
  readonly #numbers: Float64Array<ArrayBuffer>;
  readonly #who: (Completer | undefined)[];
  #count = 0;

  /** Room for so many requests. */
  constructor(readonly limit: number) {
    this.#numbers = new Float64Array(limit * FIELDS);
    this.#who = new Array<Completer | undefined>(limit).fill(undefined);
  }

  /** Puts a request aside. @throws {RangeError} above the limit */
  push(
    type: number,
    offset: number,
    size: number,
    at: number,
    peer: number,
    who: Completer,
    tag: number,
  ): void {
    if (this.#count === this.limit) throw new RangeError(`more than ${this.limit} requests put aside`);
    const n = this.#numbers, i = this.#count * FIELDS;
    n[i] = type;
    n[i + 1] = offset;
    n[i + 2] = size;
    n[i + 3] = at;
    n[i + 4] = peer;
    n[i + 5] = tag;
    this.#who[this.#count++] = who;
  }

  /** Starts everything that was put aside, in order. Nothing is put aside any more. */
  release(start: StartRequest): void {
    this.active = false;
    const n = this.#numbers, count = this.#count;
    this.#count = 0;
    for (let request = 0; request < count; request++) {
      const i = request * FIELDS, who = this.#who[request];
      this.#who[request] = undefined;
      if (who) start(n[i], n[i + 1], n[i + 2], n[i + 3], n[i + 4], who, n[i + 5]);
    }
  }
}
