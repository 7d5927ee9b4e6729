/**
 * Starting processes, and finding those that an earlier manager started. An interface, so that the life of a
 * process is tested without one.
 *
 * A process that is started here is to outlive the manager: it has a session of its own, so that no signal meant for
 * the manager reaches it, and it writes its output straight into a file, not into a pipe that ends with the manager.
 *
 * No process stands between the manager and its instances to wait for them when the manager is gone: per instance
 * that would cost more memory than all that is lost, which is the exit status on kernels before 6.15 (`pidfd.ts`).
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Clock } from "./clock.ts";
import type { Exit } from "./exit.ts";
import { UUID_VARIABLE } from "./limits.ts";
import { libc } from "../io/libc.ts";
import { ForeignProcesses, openPidfd, sendSignal } from "./pidfd.ts";
import { findByEnvironment, type ProcessKey, processStat } from "./proc.ts";

/** What to start. */
export interface LaunchRequest {
  /** Path of the program. */
  readonly command: string;
  /** All arguments. */
  readonly args: readonly string[];
  /** Descriptor that takes standard output and standard error; the caller closes it. */
  readonly outputFd: number;
  /** Identity of the process. */
  readonly uuid: string;
}

/** Signals that are sent. */
export type LifeSignal = "SIGINT" | "SIGHUP" | "SIGKILL";

/** Their numbers on Linux (signal(7)). */
const NUMBERS: Readonly<Record<LifeSignal, number>> = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9 };

/** A process that runs, whoever started it. */
export interface Running extends ProcessKey {
  /** How it ended. Never rejects. */
  readonly ended: Promise<Exit>;
  /** Sends a signal; one that has ended gets none. */
  signal(signal: LifeSignal): void;
}

/** Starts and finds processes. */
export interface Launcher {
  /** Starts a process. @throws {Error} in words for people when that is not possible */
  launch(request: LaunchRequest): Promise<Running>;
  /** A process that was started earlier; undefined when it has ended. */
  adopt(key: ProcessKey): Running | undefined;
  /** Processes that were started with these identities. */
  find(uuids: ReadonlySet<string>): Map<string, ProcessKey>;
}

/** Processes of this machine. */
export class SystemLauncher implements Launcher, Disposable {
  readonly #foreign: ForeignProcesses;
  readonly #withheld: readonly string[];

  /**
   * Makes one.
   *
   * @param clock for the looks at adopted processes
   * @param withheld variables of the environment that children do not get
   */
  constructor(clock: Clock, withheld: readonly string[] = []) {
    this.#foreign = new ForeignProcesses(clock);
    this.#withheld = withheld;
  }

  /** See {@linkcode Launcher.launch}. */
  async launch({ command, args, outputFd, uuid }: LaunchRequest): Promise<Running> {
    const env: Record<string, string> = { ...Deno.env.toObject(), [UUID_VARIABLE]: uuid };
    for (const name of this.#withheld) delete env[name];
    const child = spawn(command, [...args], {
      detached: true,
      stdio: ["ignore", outputFd, outputFd],
      env,
      cwd: "/",
    });
    await started(child, command);
    return running(child);
  }

  /** See {@linkcode Launcher.adopt}. */
  adopt(key: ProcessKey): Running | undefined {
    const watch = this.#foreign.watch(key);
    return watch && { ...key, ended: watch.ended, signal: (signal) => watch.signal(NUMBERS[signal]) };
  }

  /** See {@linkcode Launcher.find}. */
  find(uuids: ReadonlySet<string>): Map<string, ProcessKey> {
    return findByEnvironment(UUID_VARIABLE, uuids);
  }

  /** Stops watching adopted processes. */
  [Symbol.dispose](): void {
    this.#foreign[Symbol.dispose]();
  }
}

/** Waits until it is known whether the program could be executed. */
async function started(child: ChildProcess, command: string): Promise<void> {
  if (child.pid !== undefined) {
    // Errors after the start (a signal that could not be sent) have no other listener.
    child.on("error", () => {});
    return;
  }
  const error = await new Promise<NodeJS.ErrnoException>((resolve) => child.once("error", resolve));
  const why = error.code === "ENOENT"
    ? "no such file or directory"
    : error.code === "EACCES"
    ? "permission denied"
    : error.message;
  throw new Error(`fork/exec ${command}: ${why}`, { cause: error });
}

function running(child: ChildProcess): Running {
  const pid = child.pid ?? 0;
  // A child stays a zombie until its parent has waited for it, so this is never another process.
  const key = { pid, startTicks: processStat(pid)?.startTicks ?? 0 }, fd = openPidfd(pid);
  let over = false;
  const ended = new Promise<Exit>((resolve) => {
    type SignalName = keyof typeof constants.signals;
    const end = (code: number | null, signal: SignalName | null): void => {
      over = true;
      if (fd >= 0) libc.close(fd);
      resolve({ code, signal: signal === null ? null : constants.signals[signal] ?? null });
    };
    if (child.exitCode !== null || child.signalCode !== null) end(child.exitCode, child.signalCode);
    else child.once("exit", end);
  });
  return {
    ...key,
    ended,
    // Not `child.kill()`: that takes the signal for the way in which the process ends, whatever it does then, and
    // sends no second one.
    signal: (signal) => {
      if (!over) sendSignal(fd, key, NUMBERS[signal]);
    },
  };
}
