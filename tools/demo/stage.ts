/**
 * Everything that the demonstration starts and makes, so that it can be taken away again: in the opposite order, at
 * the end and after Ctrl-C alike. An interruption is noticed between two actions; cleaning begins when the action at
 * hand is over, so that nothing appears behind its back.
 *
 * @module
 */
import { CommandError, type CommandResult, runOrThrow, SystemRunner } from "../../lib/host/command.ts";

/** Ctrl-C was pressed. */
export class Interrupted extends Error {
  /** For checks. */
  override readonly name = "Interrupted";
  /** Makes it. */
  constructor() {
    super("interrupted");
  }
}

/** See the module text. */
export class Stage implements AsyncDisposable {
  readonly #cleaning: { readonly what: string; readonly work: () => void | Promise<void> }[] = [];
  readonly #runner = new SystemRunner();
  readonly #abort = new AbortController();

  /** Listens for Ctrl-C. @param onSignal told of Ctrl-C: at once, before anything is cleaned */
  constructor(readonly onSignal: (again: boolean) => void, readonly onProblem: (text: string) => void) {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      Deno.addSignalListener(signal, () => {
        this.onSignal(this.#abort.signal.aborted);
        this.#abort.abort(new Interrupted());
      });
    }
  }

  /** Aborted by Ctrl-C. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Goes on. @throws {Interrupted} after Ctrl-C */
  check(): void {
    if (this.#abort.signal.aborted) throw new Interrupted();
  }

  /** What is to be done at the end. Work that fails is reported; the rest is done all the same. */
  later(what: string, work: () => void | Promise<void>): void {
    this.#cleaning.push({ what, work });
  }

  /** Runs a program of the host's. @throws {CommandError} also when it fails; {@linkcode Interrupted} */
  async run(...argv: string[]): Promise<CommandResult> {
    this.check();
    try {
      return await runOrThrow(this.#runner, argv, { timeoutMs: 120_000 });
    } catch (error) {
      this.check(); // Ctrl-C ended the program too.
      throw error;
    }
  }

  /** Runs a program while cleaning. @returns whether it succeeded */
  async tryRun(...argv: string[]): Promise<boolean> {
    try {
      return (await this.#runner.run(argv, { timeoutMs: 30_000 })).code === 0;
    } catch (error) {
      if (error instanceof CommandError) return false;
      throw error;
    }
  }

  /** Waits. @throws {Interrupted} */
  async sleep(ms: number): Promise<void> {
    await this.orInterrupted(new Promise<void>((resolve) => setTimeout(resolve, ms)));
  }

  /** Waits for something that may take long. @throws {Interrupted} as soon as Ctrl-C is pressed */
  async orInterrupted<T>(work: Promise<T>): Promise<T> {
    this.check();
    let stop = () => {};
    const interrupted = new Promise<never>((_, reject) => {
      stop = () => reject(new Interrupted());
      this.#abort.signal.addEventListener("abort", stop, { once: true });
    });
    try {
      return await Promise.race([work, interrupted]);
    } finally {
      this.#abort.signal.removeEventListener("abort", stop);
    }
  }

  /** Takes everything away. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (let job = this.#cleaning.pop(); job; job = this.#cleaning.pop()) {
      try {
        await job.work();
      } catch (error) {
        this.onProblem(`${job.what}: ${error instanceof Error ? error.message : error}`);
      }
    }
  }
}
