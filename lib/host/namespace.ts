/**
 * Running programs where the host's initiator daemon lives. `iscsiadm` talks to `iscsid` through a socket in its
 * network namespace and keeps its records below `/etc` or `/var/lib` of its mount namespace; from inside a container
 * both are somebody else's. So the namespaces of the host's `iscsid` are found in procfs and entered with nsenter.
 *
 * Which process stands for the host: one named `iscsid`; else an ancestor of ours that runs containers; else process
 * 1. When that one shares our namespaces, as on a plain host, commands run as they are.
 *
 * @module
 */
import type { CommandResult, Runner, RunOptions } from "./command.ts";

/** Process names of initiator daemons. */
const DAEMON = "iscsid";
/** Process names of what runs containers: those live in the host's namespaces. */
const CONTAINER_RUNTIMES: readonly string[] = ["dockerd", "containerd", "containerd-shim"];
/** Where a container has the host's procfs, by Longhorn's manifests. */
const HOST_PROC = "/host/proc";
/** The namespaces that count. */
const KINDS = ["mnt", "net"] as const;
/** A daemon that restarts is gone for a moment: attempts to find it again, and the pause between, milliseconds. */
const ATTEMPTS = 10, PAUSE_MS = 1_000;
/** Ancestors that are looked at before the search ends. */
const MAX_ANCESTORS = 64;

/** The process whose namespaces are the host's. */
export interface HostProcess {
  /** Its number in the procfs that was looked at. */
  readonly pid: number;
  /** Why this one: `iscsid`, the name of an ancestor, or `init`. */
  readonly why: string;
}

/** The procfs that shows the host's processes. */
export function hostProc(): string {
  try {
    return Deno.statSync(`${HOST_PROC}/1`).isDirectory ? HOST_PROC : "/proc";
  } catch {
    return "/proc";
  }
}

function read(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return ""; // It ended, or there is no such thing.
  }
}

/** Name and parent of a process, of `/proc/PID/status`. */
function statusOf(proc: string, pid: number | "self"): { readonly name: string; readonly parent: number } {
  const text = read(`${proc}/${pid}/status`);
  return {
    name: /^Name:\s*(.*)$/m.exec(text)?.[1] ?? "",
    parent: Number(/^PPid:\s*(\d+)$/m.exec(text)?.[1] ?? "0"),
  };
}

/** Finds the process that stands for the host. @param proc procfs with the host's processes */
export function findHostProcess(proc: string): HostProcess {
  for (const { name } of Deno.readDirSync(proc)) {
    if (/^\d+$/.test(name) && read(`${proc}/${name}/comm`).trim() === DAEMON) {
      return { pid: Number(name), why: DAEMON };
    }
  }
  let at = statusOf(proc, "self").parent;
  for (let i = 0; i < MAX_ANCESTORS && at > 1; i++) {
    const { name, parent } = statusOf(proc, at);
    if (CONTAINER_RUNTIMES.includes(name)) return { pid: at, why: name };
    at = parent;
  }
  return { pid: 1, why: "init" };
}

/**
 * Whether a process has the same namespace of a kind as this one. One that we may not look at could not be entered
 * either, so it counts as the same; one that is gone does not.
 */
export function sharesNamespace(proc: string, pid: number, kind: "mnt" | "net"): boolean {
  try {
    return Deno.readLinkSync(`${proc}/${pid}/ns/${kind}`) === Deno.readLinkSync(`${proc}/self/ns/${kind}`);
  } catch (error) {
    return error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable;
  }
}

/** What to put before a command so that it runs in the namespaces of a process; empty when they are ours. */
export function enterPrefix(proc: string, pid: number): string[] {
  const foreign = KINDS.filter((kind) => !sharesNamespace(proc, pid, kind));
  if (foreign.length === 0) return [];
  const flag = { mnt: "mount", net: "net" } as const;
  return ["nsenter", ...foreign.map((kind) => `--${flag[kind]}=${proc}/${pid}/ns/${kind}`), "--"];
}

/** How a {@linkcode HostRunner} works; for tests. */
export interface HostRunnerOptions {
  /** procfs with the host's processes; default {@linkcode hostProc}. */
  readonly proc?: string;
  /** Told when the host's process was found. */
  readonly onFound?: (found: HostProcess, prefix: readonly string[]) => void;
  /** Waits; default: a timer. */
  readonly sleep?: (milliseconds: number) => Promise<void>;
}

/** Runs commands in the host's namespaces. A daemon that was restarted is found again. */
export class HostRunner implements Runner {
  /** procfs with the host's processes. */
  readonly proc: string;
  readonly #inner: Runner;
  readonly #onFound: (found: HostProcess, prefix: readonly string[]) => void;
  readonly #sleep: (milliseconds: number) => Promise<void>;
  #found: HostProcess | undefined;
  #prefix: readonly string[] = [];

  /**
   * Looks at nothing yet.
   *
   * @param inner runs programs in our own namespaces
   */
  constructor(inner: Runner, options: HostRunnerOptions = {}) {
    this.#inner = inner;
    this.proc = options.proc ?? hostProc();
    this.#onFound = options.onFound ?? (() => {});
    this.#sleep = options.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
  }

  /** The process that stands for the host. */
  get process(): HostProcess {
    if (!this.#found) {
      this.#found = findHostProcess(this.proc);
      this.#prefix = enterPrefix(this.proc, this.#found.pid);
      this.#onFound(this.#found, this.#prefix);
    }
    return this.#found;
  }

  /** True when the host has the network that this process has: its loopback addresses are ours. */
  get sharesNetwork(): boolean {
    return sharesNamespace(this.proc, this.process.pid, "net");
  }

  /** The host's root directory, for files that are read or written without a program. */
  get root(): string {
    const { pid } = this.process;
    return sharesNamespace(this.proc, pid, "mnt") ? "" : `${this.proc}/${pid}/root`;
  }

  /** See {@linkcode Runner.run}. */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    for (let attempt = 1;; attempt++) {
      void this.process;
      const result = await this.#inner.run([...this.#prefix, ...argv], options);
      // nsenter's own words for a process that is gone; the program was not run.
      const gone = this.#prefix.length > 0 && result.code !== 0 && /^nsenter: .*\/ns\//.test(result.stderr);
      if (!gone || attempt === ATTEMPTS) return result;
      this.#found = undefined;
      await this.#sleep(PAUSE_MS);
    }
  }
}
