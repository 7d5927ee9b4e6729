/**
 * Reads the fields of a short message whose lengths a stranger claims. Reading past the end yields zeros and
 * empty strings and is remembered, so a parser checks once, at the end.
 *
 * @module
 */
import type { Arena } from "../../io/arena.ts";

// A byte order mark is part of the text: two names must not be one.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A cursor over bytes in the arena. */
export class Fields {
  readonly #arena: Arena;
  #at: number;
  readonly #end: number;
  #good = true;

  /**
   * Begins with the first byte.
   *
   * @param arena where the bytes lie
   * @param at the first one
   * @param length how many there are
   */
  constructor(arena: Arena, at: number, length: number) {
    this.#arena = arena;
    this.#at = at;
    this.#end = at + length;
  }

  /** Bytes not read yet. */
  get left(): number {
    return this.#end - this.#at;
  }

  /** False once a field went past the end. */
  get good(): boolean {
    return this.#good;
  }

  /** Gives the message up: everything read from now on is empty. */
  fail(): void {
    this.#good = false;
  }

  /** The next 16 bits. */
  u16(): number {
    return this.#take(2) ? this.#arena.view.getUint16(this.#at - 2) : 0;
  }

  /** The next 32 bits. */
  u32(): number {
    return this.#take(4) ? this.#arena.view.getUint32(this.#at - 4) : 0;
  }

  /** The next `length` bytes as text. Bytes that are not UTF-8 become U+FFFD, which no name contains. */
  text(length: number): string {
    if (!this.#take(length)) return "";
    return decoder.decode(this.#arena.u8.subarray(this.#at - length, this.#at));
  }

  #take(length: number): boolean {
    if (!this.#good || length > this.left) {
      this.#good = false;
      return false;
    }
    this.#at += length;
    return true;
  }
}
