/**
 * A program of Drover as a child process: in a session of its own, so that Ctrl-C reaches the parent alone and the
 * children end in the right order; with a lifeline, so that it ends when the parent is gone; its log read as events.
 *
 * @module
 */
import { LIFELINE_VARIABLE } from "./program.ts";
import { locateProgram } from "./programs.ts";

/** A line of a child's log. */
export interface ChildEvent {
  /** RFC 3339. */
  readonly time: string;
  /** `debug`, `info`, `warn`, `error`; `output` for a line that is no event. */
  readonly level: string;
  /** What happened, a constant sentence. */
  readonly message: string;
  /** What it happened to. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** How to start one. */
export interface ChildOptions {
  /** Its name, as in `PROGRAMS` of `tools/programs.ts`. */
  readonly program: string;
  /** Its own arguments. */
  readonly args: readonly string[];
  /** Added to the environment; an empty value takes a variable away from the child. */
  readonly env?: Readonly<Record<string, string>>;
  /** Told every event of its log. A line that is none comes as an event of level `output`. */
  readonly onEvent: (event: ChildEvent) => void;
}

/** Most output of a child that is kept for an error message, characters. */
const KEPT_CHARACTERS = 4096;

/** See the module text. */
export class Child {
  readonly #process: Deno.ChildProcess;
  readonly #waiting: { message: string; resolve: (event: ChildEvent | undefined) => void }[] = [];
  #said = "";
  #ended = false;
  /** Resolves when it has ended and all it said was read. */
  readonly status: Promise<Deno.CommandStatus>;

  /** Starts it. @throws when the program is not found */
  constructor(readonly name: string, readonly options: ChildOptions) {
    const { command, args } = locateProgram(options.program);
    this.#process = new Deno.Command(command, {
      args: [...args, ...options.args],
      env: {
        ...options.env,
        [LIFELINE_VARIABLE]: "stdin",
        DROVER_LOG_FORMAT: "json",
        // What is waited for is told at level info.
        DROVER_LOG_LEVEL: Deno.env.get("DROVER_LOG_LEVEL")?.toLowerCase() === "debug" ? "debug" : "info",
      },
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
      detached: true,
    }).spawn();
    this.status = this.#run();
  }

  /** Its process id. */
  get pid(): number {
    return this.#process.pid;
  }

  /** False once {@linkcode status} has resolved. */
  get running(): boolean {
    return !this.#ended;
  }

  /** What it said besides events: the reason why it ended, if it did so by itself. */
  get lastWords(): string {
    return this.#said.trim();
  }

  /** The first event with this message from now on; undefined when the process ends without it. */
  waitFor(message: string): Promise<ChildEvent | undefined> {
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve) => this.#waiting.push({ message, resolve }));
  }

  /** Sends a signal. It may have ended already. */
  signal(signal: Deno.Signal): void {
    try {
      this.#process.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError) && !(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  /** SIGTERM, and SIGKILL after a time. @returns false when it had to be killed */
  async stop(timeoutMs: number): Promise<boolean> {
    this.signal("SIGTERM");
    let killed = false;
    const timer = setTimeout(() => {
      killed = true;
      this.signal("SIGKILL");
    }, timeoutMs);
    await this.status;
    clearTimeout(timer);
    return !killed;
  }

  async #run(): Promise<Deno.CommandStatus> {
    const [status] = await Promise.all([this.#process.status, this.#read()]);
    this.#ended = true;
    await this.#process.stdin.abort().catch(() => {});
    for (const { resolve } of this.#waiting.splice(0)) resolve(undefined);
    return status;
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#process.stderr.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#line(line);
    }
    if (rest !== "") this.#line(rest);
  }

  #line(line: string): void {
    if (line.trim() === "") return;
    const event = parseEvent(line);
    if (event.level === "output") this.#said = `${this.#said}${line}\n`.slice(-KEPT_CHARACTERS);
    this.options.onEvent(event);
    for (const waiter of this.#waiting.filter((w) => w.message === event.message)) {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      waiter.resolve(event);
    }
  }
}

function parseEvent(line: string): ChildEvent {
  try {
    const { time, level, message, ...fields } = JSON.parse(line);
    if (typeof time === "string" && typeof level === "string" && typeof message === "string") {
      return { time, level, message, fields };
    }
  } catch {
    // A program's last words are plain text.
  }
  return { time: new Date().toISOString(), level: "output", message: line, fields: {} };
}

/** How a process ended, for people: `exit code 1`, `SIGKILL`. */
export function describeStatus({ code, signal }: Deno.CommandStatus): string {
  return signal === null ? `exit code ${code}` : signal;
}
