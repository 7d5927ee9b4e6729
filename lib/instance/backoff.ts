/**
 * Pauses for names whose processes fail again and again. The instance manager never starts a process again by
 * itself; its callers do, and a caller in a hurry would make a crash loop that costs a core. The pause comes before
 * the next start of the name, and the process says why it waits.
 *
 * @module
 */
import type { Clock } from "./clock.ts";
import { CRASH_MS, CRASH_PAUSE_MS, CRASHES_FREE, MAX_CRASH_NAMES } from "./limits.ts";

interface Crashes {
  readonly count: number;
  readonly lastMs: number;
  readonly reason: string;
}

/** A pause that is due. */
export interface Pause {
  /** Milliseconds. */
  readonly ms: number;
  /** Why, for people. */
  readonly reason: string;
}

/** See the module text. */
export class Backoff {
  readonly #clock: Clock;
  readonly #crashes = new Map<string, Crashes>();

  /** Makes one that has seen no failure. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Notes the end of a process that nobody asked for.
   *
   * @param livedMs time between its start and its end
   * @param reason how it ended; undefined = well
   */
  ended(name: string, livedMs: number, reason: string | undefined): void {
    if (reason === undefined || livedMs >= CRASH_MS) {
      this.#crashes.delete(name);
      return;
    }
    const count = (this.#crashes.get(name)?.count ?? 0) + 1;
    this.#crashes.delete(name); // to the end: the oldest is forgotten first
    this.#crashes.set(name, { count, lastMs: this.#clock.now(), reason });
    if (this.#crashes.size > MAX_CRASH_NAMES) {
      for (const oldest of this.#crashes.keys()) {
        this.#crashes.delete(oldest);
        break;
      }
    }
  }

  /** The pause before the next start of a name; undefined when there is none. */
  pause(name: string): Pause | undefined {
    const crashes = this.#crashes.get(name);
    if (!crashes || crashes.count <= CRASHES_FREE) return undefined;
    const doublings = Math.min(crashes.count - CRASHES_FREE - 1, 16);
    const whole = Math.min(CRASH_PAUSE_MS.first * 2 ** doublings, CRASH_PAUSE_MS.longest);
    const ms = crashes.lastMs + whole - this.#clock.now();
    if (ms <= 0) return undefined;
    const reason =
      `waits ${Math.ceil(ms / 1000)} s before it starts: ${name} failed ${crashes.count} times in a ` +
      `row, the last time with: ${crashes.reason}`;
    return { ms, reason };
  }
}
