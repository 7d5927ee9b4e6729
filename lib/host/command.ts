/**
 * Running the host's programs (losetup, mount, umount, ...): commands are arrays, never a shell's line; each has
 * a time limit and is reported with its duration. What runs them is an interface, so that tests can stand in and
 * a containerised process can go through `nsenter`.
 *
 * Used by the main thread only: it awaits.
 *
 * @module
 */

/** What a finished command left. */
export interface CommandResult {
  /** Exit code; 128 and the signal's number when a signal ended it. */
  readonly code: number;
  /** Standard output, at most {@linkcode OUTPUT_LIMIT_BYTES}. */
  readonly stdout: string;
  /** Standard error, likewise. */
  readonly stderr: string;
}

/** How to run one command. */
export interface RunOptions {
  /** Time limit in milliseconds, default {@linkcode COMMAND_TIMEOUT_MS}. */
  readonly timeoutMs?: number;
  /** Standard input; default: none. The way for secrets: others can read command lines and environments. */
  readonly input?: Uint8Array<ArrayBuffer>;
}

/** Runs commands of the host. */
export interface Runner {
  /**
   * Runs a command to its end. A failing command is a result, not an error.
   *
   * @param argv program and arguments
   * @throws {CommandError} when it cannot be started or does not end in time
   */
  run(argv: readonly string[], options?: RunOptions): Promise<CommandResult>;
}

/** What is told of each command after it ended. */
export interface CommandEvent {
  /** The command. */
  readonly argv: readonly string[];
  /** How long it took. */
  readonly milliseconds: number;
  /** Exit code, or why there is none. */
  readonly code: number | "timeout" | "not started";
}

/** Default time limit of a command, milliseconds. */
export const COMMAND_TIMEOUT_MS = 30_000;
/** Output kept of each stream of a command, bytes; the rest is read and thrown away. */
export const OUTPUT_LIMIT_BYTES = 1024 * 1024;
/** How long a killed command may take to go, milliseconds. One that hangs in the kernel never goes. */
const KILL_GRACE_MS = 1_000;
/** Characters of a command's output quoted in an error. */
const QUOTED_CHARACTERS = 1_000;

/** A command that failed, could not be started or did not end in time. */
export class CommandError extends Error {
  /** For stack traces and checks across threads. */
  override readonly name = "CommandError";

  /**
   * Makes the error.
   *
   * @param argv the command
   * @param problem what happened
   * @param result what it left, when it ended
   */
  constructor(
    /** The command. */
    readonly argv: readonly string[],
    problem: string,
    /** What it left, when it ended. */
    readonly result?: CommandResult,
    options?: ErrorOptions,
  ) {
    super(`${argv.join(" ")}: ${problem}`, options);
  }
}

/** Runs commands as child processes of this one, with `LC_ALL=C` and no other standard input than what is given. */
export class SystemRunner implements Runner {
  readonly #prefix: readonly string[];
  readonly #report: (event: CommandEvent) => void;

  /**
   * Makes a runner.
   *
   * @param report told of every command
   * @param prefix put before every command, such as `["nsenter", "--mount=/host/proc/1/ns/mnt", "--"]`
   */
  constructor(report: (event: CommandEvent) => void = () => {}, prefix: readonly string[] = []) {
    this.#report = report;
    this.#prefix = prefix;
  }

  /** See {@linkcode Runner.run}. */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    const begin = performance.now();
    const end = (code: CommandEvent["code"]): void =>
      this.#report({ argv, milliseconds: performance.now() - begin, code });
    const [program, ...args] = [...this.#prefix, ...argv];
    if (program === undefined) throw new CommandError(argv, "empty command");
    let child: Deno.ChildProcess;
    try {
      child = new Deno.Command(program, {
        args,
        env: { LC_ALL: "C" },
        stdin: options.input ? "piped" : "null",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
    } catch (cause) {
      end("not started");
      const missing = cause instanceof Deno.errors.NotFound;
      throw new CommandError(argv, missing ? `${program} is not installed` : "cannot be started", undefined, {
        cause,
      });
    }
    const timeoutMs = options.timeoutMs ?? COMMAND_TIMEOUT_MS;
    if (options.input) feed(child, options.input);
    const result = await finish(child, timeoutMs);
    end(result === null ? "timeout" : result.code);
    if (result === null) throw new CommandError(argv, `did not end within ${timeoutMs} ms`);
    return result;
  }
}

/** Gives a child its input. One that ends without reading it all has its reasons; its exit code tells. */
function feed(child: Deno.ChildProcess, input: Uint8Array<ArrayBuffer>): void {
  const writer = child.stdin.getWriter();
  writer.write(input).then(() => writer.close()).catch(() => {});
}

/** Waits for a child, kills it after the time limit, and gives up on one that does not even die. */
async function finish(child: Deno.ChildProcess, timeoutMs: number): Promise<CommandResult | null> {
  const streams = [child.stdout.getReader(), child.stderr.getReader()];
  const ended = Promise.all([child.status, ...streams.map(collect)] as const);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let late = false;
  const limit = new Promise<null>((resolve) => {
    timer = setTimeout(() => {
      late = true;
      kill(child);
      timer = setTimeout(() => resolve(null), KILL_GRACE_MS);
    }, timeoutMs);
  });
  try {
    const all = await Promise.race([ended, limit]);
    if (all === null) {
      // It hangs in the kernel. Nothing can end it now; nothing of ours waits for it either.
      child.unref();
      await Promise.allSettled(streams.map((stream) => stream.cancel()));
      return null;
    }
    if (late) return null;
    const [status, stdout, stderr] = all;
    return { code: status.code, stdout: stdout ?? "", stderr: stderr ?? "" };
  } finally {
    clearTimeout(timer);
  }
}

function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch (error) {
    // It ended meanwhile.
    if (!(error instanceof TypeError) && !(error instanceof Deno.errors.NotFound)) throw error;
  }
}

async function collect(reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "", bytes = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return text;
    const room = OUTPUT_LIMIT_BYTES - bytes;
    if (room <= 0) continue;
    text += decoder.decode(value.subarray(0, room), { stream: true });
    bytes += value.length;
  }
}

/**
 * Runs a command that has to succeed.
 *
 * @throws {CommandError} also for an exit code other than 0, with what the command said
 */
export async function runOrThrow(
  runner: Runner,
  argv: readonly string[],
  options: RunOptions = {},
): Promise<CommandResult> {
  const result = await runner.run(argv, options);
  if (result.code !== 0) {
    const said = (result.stderr.trim() || result.stdout.trim()).slice(0, QUOTED_CHARACTERS);
    throw new CommandError(argv, `exit code ${result.code}${said ? `: ${said}` : ""}`, result);
  }
  return result;
}
