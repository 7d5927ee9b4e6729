/**
 * `drover volume serve` for tests.
 *
 * @module
 */
import { type LoggedProcess, run, spawnDeno, type SpawnOptions } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import type { VolumeReport } from "../cmd/volume/inspect.ts";

/** Generous: a busy machine starts five processes. */
const READY_MS = 60_000;

/** Runs the command line to its end, from source. */
export async function drover(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", inRepository("cmd/drover.ts"), ...args],
    stdin: "null",
    env: { NO_COLOR: "1" },
  });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** A volume that runs. */
export interface ServedVolume extends AsyncDisposable {
  /** The command; its output is kept. */
  readonly process: LoggedProcess;
  /** Where its disk is. */
  readonly endpoint: string;
  /** What `info -o json` says. */
  report(): Promise<VolumeReport>;
  /** SIGINT, and waits for the end. @returns the exit code */
  interrupt(): Promise<number>;
}

/** Starts `drover volume serve NAME --dir DIRECTORY ...` and waits until its disk is there. */
export async function serveVolume(
  name: string,
  directory: string,
  args: readonly string[] = [],
  options: SpawnOptions = {},
): Promise<ServedVolume> {
  const all = ["volume", "serve", name, "--dir", directory, ...args];
  const process = spawnDeno("cmd/drover.ts", all, options);
  try {
    const [, endpoint = ""] = await process.waitForOutput(/^ready after .*: (.+)$/m, { timeoutMs: READY_MS });
    return {
      process,
      endpoint,
      report: () => volumeReport(name, directory),
      interrupt: async () => {
        process.signal("SIGINT");
        return (await process.status).code;
      },
      [Symbol.asyncDispose]: async () => {
        process.signal("SIGTERM");
        await process.stop();
      },
    };
  } catch (error) {
    await process.stop();
    throw error;
  }
}

/** What `drover volume info -o json` says. */
export async function volumeReport(name: string, directory: string): Promise<VolumeReport> {
  const { code, stdout, stderr } = await drover("volume", "info", name, "--dir", directory, "-o", "json");
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

/** Writes a pattern with versions over a place, for a second or until a file exists; the state goes to a file. */
export async function writePattern(place: string, bytes: number, state: string, until = ""): Promise<void> {
  await load("write", place, String(bytes), until === "" ? "1" : "120", state, until);
}

/** Reads the pattern back. @throws when a block is not what was acknowledged */
export async function verifyPattern(place: string, bytes: number, state: string): Promise<void> {
  const output = await load("verify", place, String(bytes), state);
  const { bad } = JSON.parse(output.trim().split("\n").at(-1) ?? "");
  if (bad !== 0) throw new Error(`${bad} blocks are wrong`);
}

async function load(...args: string[]): Promise<string> {
  const script = inRepository("tools/demo/load.ts");
  return (await run(Deno.execPath(), ["run", "-A", "--no-check", script, ...args])).stdout;
}
