/**
 * Counters of a volume: what was done, how much, how long it took. Monotonic; windows are made by the reader.
 *
 * @module
 */
import { Op } from "../block/device.ts";

/** Monotonic totals of one kind of operation. */
export interface Totals {
  /** How many ended, well or not. */
  readonly operations: number;
  /** Sum of their lengths. */
  readonly bytes: number;
  /** Sum of the times from submission to answer, milliseconds. */
  readonly milliseconds: number;
}

/** Room for the engine's own operations too, which nobody asks for. */
const KINDS = 16;

/** See the module text. Writes include durable ones. */
export class Meters {
  readonly #operations = new Float64Array(KINDS);
  readonly #bytes = new Float64Array(KINDS);
  readonly #milliseconds = new Float64Array(KINDS);

  /** Counts an operation that ended. */
  count(op: number, bytes: number, milliseconds: number): void {
    this.#operations[op]++;
    this.#bytes[op] += bytes;
    this.#milliseconds[op] += milliseconds;
  }

  /** Totals per kind since the start. */
  totals(): {
    readonly read: Totals;
    readonly write: Totals;
    readonly unmap: Totals;
    readonly flush: Totals;
  } {
    return {
      read: this.#sum(Op.READ),
      write: this.#sum(Op.WRITE, Op.WRITE_DURABLE),
      unmap: this.#sum(Op.UNMAP),
      flush: this.#sum(Op.FLUSH),
    };
  }

  #sum(...ops: Op[]): Totals {
    const add = (column: Float64Array) => ops.reduce<number>((sum, op) => sum + column[op], 0);
    return {
      operations: add(this.#operations),
      bytes: add(this.#bytes),
      milliseconds: add(this.#milliseconds),
    };
  }
}
