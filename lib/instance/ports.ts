/**
 * The ports that are given to instances: blocks in a row out of a range, the next one after the last, so that a
 * port that was just freed is not soon used by another process that old callers would take for the one they knew.
 *
 * @module
 */
import { Code, RpcError } from "../rpc/errors.ts";

/** Ports `start` to `end`, both included; 0 and 0 = none. */
export interface PortBlock {
  /** First. */
  readonly start: number;
  /** Last. */
  readonly end: number;
}

/** No ports. */
export const NO_PORTS: PortBlock = { start: 0, end: 0 };

/** See the module text. */
export class PortRange {
  readonly #first: number;
  readonly #used: Uint8Array;
  readonly #isFree: (port: number) => boolean;
  #next = 0;

  /**
   * Makes a range.
   *
   * @param first first port
   * @param last last port
   * @param isFree whether the host has a port for us; a stranger may sit on it
   * @throws {RangeError} when that is no range of ports
   */
  constructor(first: number, last: number, isFree: (port: number) => boolean = () => true) {
    if (!(Number.isInteger(first) && Number.isInteger(last) && first > 0 && first <= last && last <= 65535)) {
      throw new RangeError(`port range ${first}-${last}: expected FIRST-LAST, both 1 to 65535`);
    }
    this.#first = first;
    this.#used = new Uint8Array(last - first + 1);
    this.#isFree = isFree;
  }

  /** Reads a range in the form `10000-20000`. @throws {RangeError} */
  static parse(text: string, isFree?: (port: number) => boolean): PortRange {
    const match = /^(\d{1,5})-(\d{1,5})$/.exec(text);
    if (!match) throw new RangeError(`port range "${text}": expected FIRST-LAST, such as 10000-20000`);
    return new PortRange(Number(match[1]), Number(match[2]), isFree);
  }

  /** Ports that are given out. */
  get used(): number {
    return this.#used.reduce((sum, one) => sum + one, 0);
  }

  /** Gives out so many ports in a row. @throws RpcError with RESOURCE_EXHAUSTED when there are none */
  allocate(count: number): PortBlock {
    if (count === 0) return NO_PORTS;
    const size = this.#used.length;
    // One turn through the range: a block does not go over its end.
    let at = this.#next;
    for (let tried = 0; tried < size;) {
      if (at + count > size) {
        tried += size - at;
        at = 0;
        if (count > size) break;
        continue;
      }
      const obstacle = this.#lastObstacle(at, count);
      if (obstacle < 0) {
        this.#used.fill(1, at, at + count);
        this.#next = (at + count) % size;
        return { start: this.#first + at, end: this.#first + at + count - 1 };
      }
      tried += obstacle + 1 - at;
      at = (obstacle + 1) % size;
    }
    const range = `${this.#first}-${this.#first + size - 1}`;
    throw new RpcError(
      Code.RESOURCE_EXHAUSTED,
      `no ${count} free ports in a row in ${range} (${this.used} of ${size} are given out)`,
    );
  }

  /** Index of the last port of a block that cannot be had, or -1. */
  #lastObstacle(at: number, count: number): number {
    for (let i = at + count - 1; i >= at; i--) {
      if (this.#used[i] === 1 || !this.#isFree(this.#first + i)) return i;
    }
    return -1;
  }

  /** Takes ports that a process has already; those outside of the range are left alone. */
  reserve({ start, end }: PortBlock): void {
    this.#mark(start, end, 1);
  }

  /** Takes ports back. */
  release({ start, end }: PortBlock): void {
    this.#mark(start, end, 0);
  }

  #mark(start: number, end: number, value: 0 | 1): void {
    if (start <= 0) return;
    for (let port = start; port <= end; port++) {
      const index = port - this.#first;
      if (index >= 0 && index < this.#used.length) this.#used[index] = value;
    }
  }
}

/**
 * The arguments that tell a process its ports: text `i` gets port `i` of its block appended and is cut at commas.
 * `["--listen,:"]` at 10005 gives `--listen` and `:10005` (Longhorn's rule).
 *
 * @throws RpcError with INVALID_ARGUMENT when there are more texts than ports
 */
export function portArguments(texts: readonly string[], count: number, ports: PortBlock): string[] {
  if (texts.length > count) {
    throw new RpcError(
      Code.INVALID_ARGUMENT,
      `${texts.length} port arguments for ${count} ports: there must be no more arguments than ports`,
    );
  }
  return texts.flatMap((text, index) => `${text}${ports.start + index}`.split(","));
}
