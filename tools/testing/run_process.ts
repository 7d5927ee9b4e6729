/**
 * One process of the test run.
 *
 * @module
 */
import { killSurvivors, MARK_VARIABLE } from "./leftovers.ts";

/** Milliseconds to wait for the end of the pipes after the end of the process. */
const PIPE_MS = 5_000;

/** How a process ended. */
export interface Ended {
  /** Both its outputs. */
  readonly output: string;
  /** How it ended, for people; null: with exit code 0. */
  readonly ending: string | null;
  /** What it left running. */
  readonly left: readonly string[];
}

/** What to run. */
export interface ProcessJob {
  /** Arguments of Deno. */
  readonly args: readonly string[];
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>;
  /** What all its children carry in their environment, see {@linkcode killSurvivors}. */
  readonly mark: string;
  /** Killed after this many milliseconds. */
  readonly timeoutMs: number;
}

/** Runs Deno to its end, or to the end of its time, and kills what it leaves behind. */
export async function runProcess(job: ProcessJob): Promise<Ended> {
  const { timeoutMs, mark } = job;
  const child = new Deno.Command(Deno.execPath(), {
    args: [...job.args],
    env: { ...job.env, [MARK_VARIABLE]: mark },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let output = "";
  const pump = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) output += text;
  };
  const pumps = Promise.all([pump(child.stdout), pump(child.stderr)]);
  let ending: string | null = null;
  const timer = setTimeout(() => {
    ending = `stopped after ${timeoutMs / 1000} s, its time limit`;
    child.kill("SIGKILL");
  }, timeoutMs);
  const status = await child.status;
  clearTimeout(timer);
  if (ending === null && status.signal !== null) ending = `ended by ${status.signal}`;
  if (ending === null && status.code !== 0) ending = `exit code ${status.code}`;
  const left = await killSurvivors(mark);
  // Whatever still holds the pipes now has no mark and is not ours to kill; do not wait for it for ever.
  let patience: ReturnType<typeof setTimeout> | undefined;
  await Promise.race([pumps, new Promise((resolve) => patience = setTimeout(resolve, PIPE_MS))]);
  clearTimeout(patience);
  return { output, ending, left };
}
