/**
 * What everything here works with: our own namespaces, the host's, a log, time. Made once per process; tests make
 * it of scripts.
 *
 * @module
 */
import type { Logger } from "../log/log.ts";
import { type CommandEvent, type Runner, SystemRunner } from "./command.ts";
import { HostRunner } from "./namespace.ts";
import { type Patience, sleep } from "./retry.ts";

/** See the module text. */
export interface HostContext extends Patience {
  /** Runs programs in our own namespaces. */
  readonly runner: Runner;
  /** Runs programs in the host's. */
  readonly host: Runner & {
    /** True when the host's loopback addresses are ours. */
    readonly sharesNetwork: boolean;
    /** Put before paths of the host's files. */
    readonly root: string;
  };
  /** sysfs. The host's: block devices have no namespaces. */
  readonly sys: string;
  /** procfs with the host's processes: they have mounts that ours do not see. */
  readonly proc: string;
}

/** Milliseconds from which a command is slow enough to be told at level info. */
const SLOW_MS = 5_000;

/** Tells every command with its duration: at level debug, slow and hanging ones louder. */
export function logCommands(log: Logger): (event: CommandEvent) => void {
  return ({ argv, milliseconds, code }) => {
    const fields = { argv: [...argv], tookMs: Math.round(milliseconds), code };
    if (code === "timeout") log.warn("a command did not end in time", fields);
    else if (milliseconds >= SLOW_MS) log.info("a slow command", fields);
    else log.debug("command", fields);
  };
}

/** The context of this process. */
export function hostContext(log: Logger): HostContext {
  const runner = new SystemRunner(logCommands(log));
  const host = new HostRunner(runner, {
    onFound: ({ pid, why }, prefix) =>
      log.debug("the host's namespaces", { pid, by: why, entered: prefix.length > 0 }),
  });
  return { runner, host, log, sleep, sys: "/sys", proc: host.proc };
}
