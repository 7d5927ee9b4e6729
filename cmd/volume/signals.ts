/**
 * SIGINT and SIGTERM, counted: the first asks, the second insists. The end of a lifeline counts as two: nobody is
 * left to answer.
 *
 * @module
 */

import { LIFELINE_VARIABLE, untilStdinEnds } from "../support/program.ts";

/** So many leave no choice. */
const INSIST = 2;
/** From the first one counted on, so many end the process at once: something hangs. */
const PATIENCE = 3;

/** See the module text. Listens from its making on. */
export class Signals {
  /** Signals since the start, or since they were forgotten. */
  count = 0;
  /** Called after each. */
  onSignal: () => void = () => {};

  /** Begins to listen. */
  constructor() {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      Deno.addSignalListener(signal, () => {
        if (++this.count > PATIENCE) Deno.exit(130);
        this.onSignal();
      });
    }
    if (Deno.env.get(LIFELINE_VARIABLE) !== "stdin") return;
    untilStdinEnds().then(() => {
      this.count = INSIST;
      this.onSignal();
    });
  }

  /** Starts to count anew. */
  forget(): void {
    this.count = 0;
  }
}
