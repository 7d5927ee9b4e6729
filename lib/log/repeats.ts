/**
 * Keeps messages that repeat from flooding the log: a peer that refuses a thousand connections a minute is one
 * event a while, with a count.
 *
 * @module
 */
import type { Fields, Level, Logger } from "./log.ts";
import { Level as Levels } from "./log.ts";

/** How repeats are limited. */
export interface RepeatOptions {
  /** One event per message and this many milliseconds. */
  readonly everyMs: number;
  /** Monotonic milliseconds. Default `performance.now`. */
  readonly now?: () => number;
}

/** Different messages remembered per limited logger; beyond, the one heard of longest ago is forgotten. */
export const MAX_REPEATED_MESSAGES = 64;

/** What is remembered about a message; changed in place. */
interface Repeat {
  shownAt: number;
  held: number;
}

class RepeatLogger implements Logger {
  readonly #under: Logger;
  readonly #everyMs: number;
  readonly #now: () => number;
  readonly #seen: Map<string, Repeat>;

  constructor(under: Logger, everyMs: number, now: () => number, seen: Map<string, Repeat>) {
    this.#under = under;
    this.#everyMs = everyMs;
    this.#now = now;
    this.#seen = seen;
  }

  enabled(level: Level): boolean {
    return this.#under.enabled(level);
  }

  log(level: Level, message: string, fields?: Fields): void {
    if (!this.#under.enabled(level)) return;
    const now = this.#now();
    const repeat = this.#seen.get(message);
    if (repeat === undefined) {
      this.#remember(message, { shownAt: now, held: 0 });
      this.#under.log(level, message, fields);
    } else if (now - repeat.shownAt < this.#everyMs) {
      repeat.held++;
    } else {
      const held = repeat.held;
      repeat.shownAt = now;
      repeat.held = 0;
      this.#under.log(level, message, held === 0 ? fields : { ...fields, heldBack: held });
    }
  }

  #remember(message: string, repeat: Repeat): void {
    if (this.#seen.size >= MAX_REPEATED_MESSAGES) {
      for (const oldest of this.#seen.keys()) {
        this.#seen.delete(oldest);
        break;
      }
    }
    this.#seen.set(message, repeat);
  }

  debug(message: string, fields?: Fields): void {
    this.log(Levels.DEBUG, message, fields);
  }

  info(message: string, fields?: Fields): void {
    this.log(Levels.INFO, message, fields);
  }

  warn(message: string, fields?: Fields): void {
    this.log(Levels.WARN, message, fields);
  }

  error(message: string, fields?: Fields): void {
    this.log(Levels.ERROR, message, fields);
  }

  child(fields: Fields): Logger {
    return new RepeatLogger(this.#under.child(fields), this.#everyMs, this.#now, this.#seen);
  }
}

/**
 * A logger that writes each message at most once per interval. The next event that is written after some were held
 * back has their number in the field `heldBack`. Messages are told apart by their sentence, not by their fields;
 * children share the memory of their parent.
 */
export function limitRepeats(logger: Logger, options: RepeatOptions): Logger {
  return new RepeatLogger(logger, options.everyMs, options.now ?? (() => performance.now()), new Map());
}
