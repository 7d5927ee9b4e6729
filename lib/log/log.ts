/**
 * Drover's log: events with a level, a constant sentence and fields, one line each, on standard error.
 *
 * Lines are written with a plain, synchronous write to descriptor 2. That is what works on the volume thread, whose
 * event loop never runs, and what still gets out when a process dies in the next statement. Nothing on a hot path
 * may log at a level that is on in production; a disabled level costs one comparison (and the fields object that
 * the caller builds: ask {@linkcode Logger.enabled} first where that matters).
 *
 * `DROVER_LOG_LEVEL` (`debug`, `info`, `warn`, `error`; default `info`) and `DROVER_LOG_FORMAT` (`text`, `json`;
 * default: text on a terminal, JSON otherwise) are read when a thread first logs.
 *
 * @module
 */
import { type Fields, formatLine, type LogFormat } from "./format.ts";

export type { Fields, FieldValue, LogFormat } from "./format.ts";
export { Secret } from "./secret.ts";

/** Levels, in order. */
export const Level = {
  /** For the one who looks for a fault in Drover. */
  DEBUG: 10,
  /** Something changed as it should: attached, rebuilt, stopped. */
  INFO: 20,
  /** Service goes on, but somebody should know: a replica left, a retry, a wrong setting that is ignored. */
  WARN: 30,
  /** Something that was asked for did not happen. */
  ERROR: 40,
} as const;

/** One of {@linkcode Level}. */
export type Level = typeof Level[keyof typeof Level];

/** The levels as they are written in settings and in lines. */
export type LevelName = "debug" | "info" | "warn" | "error";

const LEVELS: Readonly<Record<LevelName, Level>> = {
  debug: Level.DEBUG,
  info: Level.INFO,
  warn: Level.WARN,
  error: Level.ERROR,
};

const NAMES = new Map<Level, LevelName>(
  Object.entries(LEVELS).map(([name, level]) => [level, name as LevelName]),
);

/** The level of a name, in any case; undefined for other words. `warning` counts as `warn`. */
export function parseLevel(name: string): Level | undefined {
  const lower = name.toLowerCase();
  const word = lower === "warning" ? "warn" : lower;
  return Object.hasOwn(LEVELS, word) ? LEVELS[word as LevelName] : undefined;
}

/** Name of a level, as in a line. */
export function levelName(level: Level): LevelName {
  return NAMES.get(level) ?? "info";
}

/** Where events go. */
export interface Logger {
  /** True when events of this level are written. */
  enabled(level: Level): boolean;
  /** Writes an event of a level found at run time. */
  log(level: Level, message: string, fields?: Fields): void;
  /** See {@linkcode Level.DEBUG}. */
  debug(message: string, fields?: Fields): void;
  /** See {@linkcode Level.INFO}. */
  info(message: string, fields?: Fields): void;
  /** See {@linkcode Level.WARN}. */
  warn(message: string, fields?: Fields): void;
  /** See {@linkcode Level.ERROR}. */
  error(message: string, fields?: Fields): void;
  /** A logger that adds these fields to every event. */
  child(fields: Fields): Logger;
}

/** What loggers share: level, format and the end of the pipe. */
export interface LogOutput {
  /** Events below are dropped. May change at any time. */
  level: Level;
  /** How lines look. */
  readonly format: LogFormat;
  /** Milliseconds since 1970. */
  wallClock(): number;
  /** Takes one line, with its line feed. Does not throw. */
  write(line: string): void;
}

class OutputLogger implements Logger {
  readonly #output: LogOutput;
  readonly #fields: Fields;

  constructor(output: LogOutput, fields: Fields) {
    this.#output = output;
    this.#fields = fields;
  }

  enabled(level: Level): boolean {
    return level >= this.#output.level;
  }

  log(level: Level, message: string, fields?: Fields): void {
    if (level < this.#output.level) return;
    const event = {
      time: this.#output.wallClock(),
      level: levelName(level),
      message,
      fields: fields === undefined ? this.#fields : { ...this.#fields, ...fields },
      stacks: this.#output.level <= Level.DEBUG,
    };
    this.#output.write(`${formatLine(event, this.#output.format)}\n`);
  }

  debug(message: string, fields?: Fields): void {
    this.log(Level.DEBUG, message, fields);
  }

  info(message: string, fields?: Fields): void {
    this.log(Level.INFO, message, fields);
  }

  warn(message: string, fields?: Fields): void {
    this.log(Level.WARN, message, fields);
  }

  error(message: string, fields?: Fields): void {
    this.log(Level.ERROR, message, fields);
  }

  child(fields: Fields): Logger {
    return new OutputLogger(this.#output, { ...this.#fields, ...fields });
  }
}

/** A logger on an output of one's own: for tests and for the simulation, whose clock is not the wall's. */
export function createLogger(output: LogOutput, fields: Fields = {}): Logger {
  return new OutputLogger(output, fields);
}

/** Writes lines to a descriptor, whole, and never throws: a full disk under a log must not stop a volume. */
class DescriptorOutput implements LogOutput {
  #lost = 0;
  readonly #encoder = new TextEncoder();

  constructor(
    readonly sink: { writeSync(bytes: Uint8Array): number },
    public level: Level,
    readonly format: LogFormat,
  ) {}

  wallClock(): number {
    return Date.now();
  }

  write(line: string): void {
    const note = this.#lost > 0 ? `${this.#lostLine()}${line}` : line;
    const bytes = this.#encoder.encode(note);
    try {
      for (let done = 0; done < bytes.length;) done += this.sink.writeSync(bytes.subarray(done));
      this.#lost = 0;
    } catch {
      // The reader is gone, or a non-blocking pipe is full. Said as soon as a line gets through again.
      this.#lost++;
    }
  }

  #lostLine(): string {
    const event = {
      time: this.wallClock(),
      level: levelName(Level.WARN),
      message: "log lines were lost",
      fields: { count: this.#lost },
      stacks: false,
    };
    return `${formatLine(event, this.format)}\n`;
  }
}

/** An output that writes to something with `writeSync`, such as `Deno.stderr`. */
export function descriptorOutput(
  sink: { writeSync(bytes: Uint8Array): number },
  level: Level,
  format: LogFormat,
): LogOutput {
  return new DescriptorOutput(sink, level, format);
}

/** A variable of the environment; undefined when not set or when the program may not look. */
function setting(name: string): string | undefined {
  try {
    return Deno.env.get(name) || undefined;
  } catch {
    return undefined;
  }
}

function makeProcessOutput(): LogOutput {
  const wantedLevel = setting("DROVER_LOG_LEVEL");
  const wantedFormat = setting("DROVER_LOG_FORMAT");
  const level = wantedLevel === undefined ? Level.INFO : parseLevel(wantedLevel);
  const known = wantedFormat === "text" || wantedFormat === "json";
  const format = known ? wantedFormat : Deno.stderr.isTerminal() ? "text" : "json";
  const output = descriptorOutput(Deno.stderr, level ?? Level.INFO, format);
  const complain = (name: string, value: string, choices: string): void =>
    createLogger(output).warn("a setting of the log is not understood and is ignored", {
      name,
      value,
      choices,
    });
  if (wantedLevel !== undefined && level === undefined) {
    complain("DROVER_LOG_LEVEL", wantedLevel, Object.keys(LEVELS).join(", "));
  }
  if (wantedFormat !== undefined && !known) complain("DROVER_LOG_FORMAT", wantedFormat, "text, json");
  return output;
}

let processOutput: LogOutput | undefined;

/** The output on standard error that all loggers of this thread share. */
export function standardOutput(): LogOutput {
  return processOutput ??= makeProcessOutput();
}

/**
 * A logger on standard error.
 *
 * @param fields on every event, such as `{ program: "engine", volume: "db-0" }`
 */
export function getLogger(fields: Fields = {}): Logger {
  return createLogger(standardOutput(), fields);
}

/** Changes the level of this thread's loggers from now on. Other threads have a level of their own. */
export function setLogLevel(level: Level): void {
  standardOutput().level = level;
}

/** The level of this thread's loggers. */
export function logLevel(): Level {
  return standardOutput().level;
}
