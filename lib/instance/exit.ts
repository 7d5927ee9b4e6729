/**
 * How processes end, in the words that callers know: Go's.
 *
 * @module
 */

/** How a process ended. */
export interface Exit {
  /** Exit status; null when a signal ended it, or nobody knows. */
  readonly code: number | null;
  /** Number of the signal that ended it; null when it ended by itself, or nobody knows. */
  readonly signal: number | null;
}

/** The end of a process that was somebody else's child: there was nobody to tell. */
export const UNKNOWN_EXIT: Exit = { code: null, signal: null };

/** Names of signals in Go's words (its syscall package, Linux). */
const SIGNALS: Readonly<Record<number, string>> = {
  1: "hangup",
  2: "interrupt",
  3: "quit",
  4: "illegal instruction",
  5: "trace/breakpoint trap",
  6: "aborted",
  7: "bus error",
  8: "floating point exception",
  9: "killed",
  10: "user defined signal 1",
  11: "segmentation fault",
  12: "user defined signal 2",
  13: "broken pipe",
  14: "alarm clock",
  15: "terminated",
};

/** What wait(2) puts into one number: the low 7 bits are the signal, the next byte the exit status. */
export function exitOfWaitStatus(status: number): Exit {
  const signal = status & 0x7f;
  return signal === 0 ? { code: (status >> 8) & 0xff, signal: null } : { code: null, signal };
}

/** True when a process ended as it should. */
export function endedWell(exit: Exit): boolean {
  return exit.code === 0;
}

/** `exit status 61`, `signal: hangup`; empty for a good end. */
export function describeExit(exit: Exit): string {
  if (exit.code === 0) return "";
  if (exit.code !== null) return `exit status ${exit.code}`;
  if (exit.signal !== null) return `signal: ${SIGNALS[exit.signal] ?? `signal ${exit.signal}`}`;
  return "exit status unknown";
}
