/**
 * SIGINT and SIGTERM: one asks, two in a row insist. The end of a lifeline insists too: nobody is left to answer.
 * SIGUSR2 asks for a new engine.
 *
 * @module
 */
import { LIFELINE_VARIABLE, untilStdinEnds } from "../support/program.ts";

/** Signals this close together belong to one wish, milliseconds. */
const TOGETHER_MS = 2_000;
/** So many in a row end the process at once: something hangs. */
const PATIENCE = 4;

/** See the module text. Listens from its making on. */
export class Signals {
  /** The end is wished for. */
  asked = false;
  /** The end is wished for whatever is in use. */
  insisted = false;
  /** A new engine is wished for. */
  relief = false;
  /** Called after each signal. */
  onSignal: () => void = () => {};
  #last = -Infinity;
  #inARow = 0;

  /** Begins to listen. */
  constructor() {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      Deno.addSignalListener(signal, () => this.#signal(performance.now()));
    }
    Deno.addSignalListener("SIGUSR2", () => {
      this.relief = true;
      this.onSignal();
    });
    if (Deno.env.get(LIFELINE_VARIABLE) !== "stdin") return;
    untilStdinEnds().then(() => {
      this.asked = this.insisted = true;
      this.onSignal();
    });
  }

  #signal(now: number): void {
    this.#inARow = now - this.#last < TOGETHER_MS ? this.#inARow + 1 : 1;
    this.#last = now;
    if (this.#inARow > PATIENCE) Deno.exit(130);
    this.asked = true;
    this.insisted ||= this.#inARow > 1;
    this.onSignal();
  }

  /** The wish was refused. One that was insisted on cannot be. */
  refuse(): void {
    this.asked = this.insisted;
  }
}
