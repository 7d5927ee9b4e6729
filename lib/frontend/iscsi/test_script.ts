/**
 * Scripts of tests that run in the loop they test: generators that wait for conditions.
 *
 * @module
 */
import type { Completer, Io } from "../../io/io.ts";

/** What a script waits for. */
export type Condition = () => boolean;
/** A script, or a part of one. */
export type Script<T = void> = Generator<Condition, T, void>;

/** How long a script may wait for one condition, milliseconds: only a hang takes that long. */
const PATIENCE_MS = 20_000;
/** How often conditions are looked at, milliseconds. */
const TICK_MS = 1;

/** Runs the loop until a script is through. */
export function play(io: Io, script: Script): void {
  let failure: unknown;
  let over = false;
  let condition: Condition | undefined;
  let since = io.now();
  const ticker: Completer = {
    complete() {
      try {
        while (!over && (condition === undefined || condition())) {
          const next = script.next();
          since = io.now();
          if (next.done) over = true;
          else condition = next.value;
        }
        if (!over && io.now() - since > PATIENCE_MS) {
          script.throw(new Error(`waited ${PATIENCE_MS} ms in vain for ${condition}`));
        }
      } catch (error) {
        failure = error;
        over = true;
      }
      if (over) io.stop();
      else io.timer(TICK_MS, ticker, 0);
    },
  };
  io.timer(0, ticker, 0);
  io.run();
  if (failure !== undefined) throw failure;
}
