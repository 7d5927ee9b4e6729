/**
 * Child processes of tests: their output is kept for the failure message, and they are gone when the test ends.
 *
 * @module
 */
import { inRepository } from "./repository.ts";
import { waitFor, type WaitOptions } from "./wait.ts";

/** Output kept per process, in characters; the oldest goes first. */
const OUTPUT_LIMIT = 1024 * 1024;

/** Milliseconds between SIGTERM and SIGKILL when a process is disposed. */
const STOP_MS = 5_000;

/** How to start a process. */
export interface SpawnOptions {
  /** Working directory. */
  readonly cwd?: string;
  /** Added to the environment. */
  readonly env?: Record<string, string>;
  /** Do not inherit the environment. Default false. */
  readonly clearEnv?: boolean;
}

/** A process whose output is collected. Dispose with `await using`. */
export class LoggedProcess implements AsyncDisposable {
  #output = "";
  #ended = false;
  readonly #child: Deno.ChildProcess;
  readonly #pumps: Promise<void>[];
  /** Resolves when the process has ended and all its output is in {@linkcode LoggedProcess.output}. */
  readonly status: Promise<Deno.CommandStatus>;

  /** Starts it. Use {@linkcode spawnLogged}. */
  constructor(readonly command: string, readonly args: readonly string[], options: SpawnOptions = {}) {
    this.#child = new Deno.Command(command, {
      args: [...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      ...options,
    }).spawn();
    this.#pumps = [this.#pump(this.#child.stdout), this.#pump(this.#child.stderr)];
    this.status = this.#wait();
  }

  async #wait(): Promise<Deno.CommandStatus> {
    const status = await this.#child.status;
    await Promise.all(this.#pumps);
    this.#ended = true;
    return status;
  }

  async #pump(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      this.#output = (this.#output + text).slice(-OUTPUT_LIMIT);
    }
  }

  /** Process id. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Standard output and standard error so far, in the order they came. */
  get output(): string {
    return this.#output;
  }

  /** True until the process has ended and its output is complete. */
  get running(): boolean {
    return !this.#ended;
  }

  /**
   * Waits until the output matches, and returns the match.
   * @throws Error with the output, after the timeout or when the process ended without it
   */
  async waitForOutput(pattern: RegExp, options: WaitOptions = {}): Promise<RegExpMatchArray> {
    try {
      const found = await waitFor(
        () => this.#output.match(pattern) ?? (this.running ? null : "ended" as const),
        options,
      );
      if (found === "ended") throw new Error("the process ended");
      return found;
    } catch (cause) {
      throw new Error(`${this.command} ${this.args.join(" ")}: no ${pattern} in:\n${this.#output}`, {
        cause,
      });
    }
  }

  /** Sends a signal. A process that has ended already is fine. */
  signal(signal: Deno.Signal): void {
    try {
      this.#child.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError) && !(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  /** SIGTERM, then SIGKILL after five seconds. */
  async stop(): Promise<Deno.CommandStatus> {
    this.signal("SIGTERM");
    const killer = setTimeout(() => this.signal("SIGKILL"), STOP_MS);
    try {
      return await this.status;
    } finally {
      clearTimeout(killer);
    }
  }

  /** Stops the process, see {@linkcode LoggedProcess.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/**
 * Starts a program and collects its output.
 *
 * @example
 * ```ts
 * await using server = spawnLogged("nbdkit", ["-f", "memory", "1M"]);
 * ```
 */
export function spawnLogged(
  command: string,
  args: readonly string[],
  options: SpawnOptions = {},
): LoggedProcess {
  return new LoggedProcess(command, args, options);
}

/** Starts one of Drover's programs from its source, such as `cmd/engine.ts`. */
export function spawnDeno(
  script: string,
  args: readonly string[],
  options: SpawnOptions = {},
): LoggedProcess {
  return new LoggedProcess(
    Deno.execPath(),
    ["run", "-A", "--no-check", inRepository(script), ...args],
    options,
  );
}

/** What a finished program left. */
export interface RunResult {
  /** Exit code; 128 and the signal's number when a signal ended it. */
  readonly code: number;
  /** Standard output as text. */
  readonly stdout: string;
  /** Standard error as text. */
  readonly stderr: string;
}

/**
 * Runs a program to its end.
 * @throws Error with its output when it fails
 */
export async function run(
  command: string,
  args: readonly string[],
  options: SpawnOptions = {},
): Promise<RunResult> {
  const result = await runAnyway(command, args, options);
  if (result.code !== 0) {
    throw new Error(
      `${command} ${args.join(" ")}: exit code ${result.code}\n${result.stdout}${result.stderr}`,
    );
  }
  return result;
}

/** As {@linkcode run}, for programs that are expected to fail. */
export async function runAnyway(
  command: string,
  args: readonly string[],
  options: SpawnOptions = {},
): Promise<RunResult> {
  const output = await new Deno.Command(command, { args: [...args], stdin: "null", ...options }).output();
  const decoder = new TextDecoder();
  return { code: output.code, stdout: decoder.decode(output.stdout), stderr: decoder.decode(output.stderr) };
}
