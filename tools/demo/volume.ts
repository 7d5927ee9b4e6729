/**
 * `drover volume serve` as the demonstration starts it.
 *
 * @module
 */
import { LIFELINE_VARIABLE } from "../../cmd/support/program.ts";
import { locateProgram } from "../../cmd/support/programs.ts";
import { RUN_VARIABLE } from "../../cmd/support/loop_host.ts";
import { inspectVolume, type VolumeReport } from "../../cmd/volume/inspect.ts";
import { readRecord } from "../../cmd/volume/record.ts";
import type { Stage } from "./stage.ts";

/** How to start it. */
export interface ServeOptions {
  /** Of the volume. */
  readonly name: string;
  /** Where its copies lie. */
  readonly directory: string;
  /** For mount points; absolute, without symbolic links. */
  readonly run: string;
  /** How it is shown. */
  readonly frontend: "loop" | "socket";
  /** Only for a new volume. */
  readonly size?: string;
}

/** A volume that did not come up: what was said. */
export class DemoError extends Error {
  /** For checks. */
  override readonly name = "DemoError";
}

/** Time for an orderly end, milliseconds. */
const STOP_MS = 30_000;

/** A volume that runs. */
export class ServedVolume {
  readonly #process: Deno.ChildProcess;
  #output = "";
  #onOutput: () => void = () => {};
  readonly #ended: Promise<Deno.CommandStatus>;
  #running = true;
  /** Where the disk is. */
  endpoint = "";

  private constructor(readonly stage: Stage, readonly options: ServeOptions) {
    const { command, args } = locateProgram("drover");
    const { name, directory, run, frontend, size } = options;
    const own = ["volume", "serve", name, "--dir", directory, "--frontend", frontend];
    this.#process = new Deno.Command(command, {
      args: [...args, ...own, ...(size === undefined ? [] : ["--size", size])],
      env: { [LIFELINE_VARIABLE]: "stdin", [RUN_VARIABLE]: run },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      // Ctrl-C is for the demonstration alone: it ends the volume in order.
      detached: true,
    }).spawn();
    this.#ended = this.#wait();
  }

  /** Starts it, and waits until its disk is there. @throws {DemoError} */
  static async start(stage: Stage, options: ServeOptions): Promise<ServedVolume> {
    stage.check();
    const volume = new ServedVolume(stage, options);
    stage.later("the volume", () => volume.stop());
    volume.endpoint = await stage.orInterrupted(volume.says(/^ready after .*?: (.+)$/m));
    return volume;
  }

  /** Waits until it has said something. @returns the first group @throws {DemoError} when it ends before */
  says(pattern: RegExp): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#onOutput = () => {
        const match = pattern.exec(this.#output);
        if (match) resolve(match[1] ?? "");
      };
      this.#onOutput();
      this.#ended.then(() => reject(new DemoError(`the volume ended:\n${this.#output.trim()}`)));
    });
  }

  async #wait(): Promise<Deno.CommandStatus> {
    const pump = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) {
        this.#output += text;
        this.#onOutput();
      }
    };
    const [status] = await Promise.all([
      this.#process.status,
      pump(this.#process.stdout),
      pump(this.#process.stderr),
    ]);
    this.#running = false;
    await this.#process.stdin.abort().catch(() => {});
    return status;
  }

  /** What it told so far. */
  get output(): string {
    return this.#output;
  }

  /** How it is. @throws {DemoError} when it is gone */
  async report(): Promise<VolumeReport> {
    const record = readRecord(this.options.name, [this.options.directory]);
    if (!record) throw new DemoError("the volume is gone");
    return await inspectVolume(record);
  }

  /** Ends it in order; nothing happens when it has ended. @throws {DemoError} when it did not do so in time */
  async stop(): Promise<void> {
    if (!this.#running) return;
    this.#signal("SIGTERM");
    // Without its lifeline it does not wait for anybody to unmount anything.
    const insist = setTimeout(() => this.#process.stdin.abort().catch(() => {}), STOP_MS / 3);
    const kill = setTimeout(() => this.#signal("SIGKILL"), STOP_MS);
    const { code } = await this.#ended;
    clearTimeout(insist);
    clearTimeout(kill);
    if (code !== 0) throw new DemoError(`the volume did not end in order:\n${this.#output.trim()}`);
  }

  #signal(signal: Deno.Signal): void {
    try {
      this.#process.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError) && !(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}
