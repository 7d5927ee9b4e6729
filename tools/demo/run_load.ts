/**
 * Runs `load.ts` and makes sense of what it prints.
 *
 * @module
 */
import type { LoadLine } from "./load.ts";
import type { Stage } from "./stage.ts";
import { DemoError } from "./volume.ts";

/** A line of a kind. */
export type Line<Kind> = Extract<LoadLine, { kind: Kind }>;

/** A load that runs. */
export class RunningLoad {
  /** All so far. */
  readonly samples: Line<"sample">[] = [];
  /** All that it printed so far. */
  readonly lines: LoadLine[] = [];
  readonly #process: Deno.ChildProcess;
  readonly #ended: Promise<void>;
  /** Resolves when the area is filled and random writes begin. */
  readonly filled: Promise<Line<"filled">>;
  #onFilled: (line: Line<"filled">) => void = () => {};

  /** Starts it. @param args as `load.ts` takes them */
  constructor(readonly stage: Stage, args: readonly string[]) {
    stage.check();
    const script = `${import.meta.dirname}/load.ts`;
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", script, ...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      detached: true,
    }).spawn();
    this.filled = new Promise((resolve) => this.#onFilled = resolve);
    this.#ended = this.#run();
    this.#ended.catch(() => {});
    stage.later("the load", async () => {
      this.#kill();
      await this.#ended.catch(() => {});
    });
  }

  async #run(): Promise<void> {
    const errors = new Response(this.#process.stderr).text();
    let rest = "";
    for await (const text of this.#process.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(JSON.parse(line));
    }
    const { success } = await this.#process.status;
    if (!success) throw new DemoError(`the load failed: ${(await errors).trim()}`);
  }

  #take(line: LoadLine): void {
    this.lines.push(line);
    if (line.kind === "sample") this.samples.push(line);
    if (line.kind === "filled") this.#onFilled(line);
  }

  /** Waits for something, but not after the load has failed. */
  async whileRunning<T>(work: Promise<T>): Promise<T> {
    const failed = this.#ended.then(() => {
      throw new DemoError("the load ended too early");
    });
    failed.catch(() => {});
    return await this.stage.orInterrupted(Promise.race([work, failed]));
  }

  /** Waits for its end. @returns its last line */
  async done<Kind extends "written" | "verified">(kind: Kind): Promise<Line<Kind>> {
    await this.stage.orInterrupted(this.#ended);
    const last = this.lines.at(-1);
    if (last?.kind !== kind) throw new DemoError("the load ended without a result");
    return last as Line<Kind>;
  }

  #kill(): void {
    try {
      this.#process.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError) && !(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}
