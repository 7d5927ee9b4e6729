/**
 * The host's initiator through `iscsiadm`: each method is one command, its answer taken apart, its exit codes turned
 * into an outcome or an error that says what is wrong.
 *
 * @module
 */
import { CommandError, type CommandResult, type Runner } from "../command.ts";
import { HostError } from "../retry.ts";
import {
  explainExit,
  formatPortal,
  IscsiExit,
  type IscsiSession,
  parseNodes,
  parseRecord,
  parseSessionDetails,
  parseSessions,
  type Portal,
  type SessionDetails,
  type TargetPortal,
} from "./parse.ts";

/** Time limit of one command, milliseconds. */
export const ISCSI_COMMAND_MS = 60_000;
/** Time limit of a rescan: with a dead session in the way it waits for that one, milliseconds. */
export const RESCAN_MS = 10_000;
/** Characters of a command's output in an error. */
const QUOTED_CHARACTERS = 500;

/** iscsiadm did not do what it was told. */
export class IscsiError extends HostError {
  /** For checks across threads. */
  override readonly name: string = "IscsiError";

  /** Says which command, and what its exit code means. */
  constructor(
    message: string,
    /** Exit code; undefined when the command did not end in time or could not be started. */
    readonly code?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** See the module text. */
export class Initiator {
  /** Runs nothing yet. @param runner runs programs in the namespaces of the host's `iscsid` */
  constructor(readonly runner: Runner) {}

  /** Its version, such as `iscsiadm version 2.1.8`. @throws {IscsiError} it is not installed */
  async version(): Promise<string> {
    return (await this.#run(["--version"])).stdout.trim();
  }

  /** Asks a portal for its targets, and records them. */
  async discover(portal: Portal): Promise<TargetPortal[]> {
    const { stdout, stderr } = await this.#run([
      "-m",
      "discovery",
      "-t",
      "sendtargets",
      "-p",
      formatPortal(portal),
    ]);
    // Some releases end with 0 after a connection that failed.
    const complaint = /^.*Could not.*$/m.exec(stdout + stderr)?.[0];
    if (complaint !== undefined) throw new IscsiError(`discovery at ${formatPortal(portal)}: ${complaint}`);
    return parseNodes(stdout);
  }

  /** Whether there is a record of a target at a portal. */
  async hasNode({ target, portal }: TargetPortal): Promise<boolean> {
    const argv = ["-m", "node", "-T", target, "-p", formatPortal(portal)];
    return (await this.#run(argv, IscsiExit.NOTHING_FOUND)).code === 0;
  }

  /** All records. */
  async nodes(): Promise<TargetPortal[]> {
    return parseNodes((await this.#run(["-m", "node"], IscsiExit.NOTHING_FOUND)).stdout);
  }

  /** Changes a setting in the records of a target. */
  async setNode(target: string, setting: string, value: string): Promise<void> {
    await this.#run(["-m", "node", "-T", target, "-o", "update", "-n", setting, "-v", value]);
  }

  /** The settings of a record. */
  async node({ target, portal }: TargetPortal): Promise<Map<string, string>> {
    const { stdout } = await this.#run(
      ["-m", "node", "-T", target, "-p", formatPortal(portal), "-o", "show"],
    );
    return parseRecord(stdout);
  }

  /** Logs in; a session that there is already is fine. */
  async login({ target, portal }: TargetPortal): Promise<void> {
    const argv = ["-m", "node", "-T", target, "-p", formatPortal(portal), "--login"];
    await this.#run(argv, IscsiExit.SESSION_EXISTS);
  }

  /** Logs out of a target; no session is fine. */
  async logout(target: string): Promise<void> {
    await this.#run(["-m", "node", "-T", target, "--logout"], IscsiExit.NOTHING_FOUND);
  }

  /** Removes the records of a target; none is fine. */
  async deleteNode(target: string): Promise<void> {
    await this.#run(["-m", "node", "-o", "delete", "-T", target], IscsiExit.NOTHING_FOUND);
  }

  /** Looks for new and changed logical units. */
  async rescan({ target, portal }: TargetPortal): Promise<void> {
    const argv = ["-m", "node", "-T", target, "-p", formatPortal(portal), "--rescan"];
    await this.#run(argv, undefined, RESCAN_MS);
  }

  /** The sessions of this host. */
  async sessions(): Promise<IscsiSession[]> {
    return parseSessions((await this.#run(["-m", "session"], IscsiExit.NOTHING_FOUND)).stdout);
  }

  /** The sessions of this host with their disks. */
  async sessionDetails(): Promise<SessionDetails[]> {
    const { stdout } = await this.#run(["-m", "session", "-P", "3"], IscsiExit.NOTHING_FOUND);
    return parseSessionDetails(stdout);
  }

  /** Runs iscsiadm. @param fine an exit code besides 0 that is no error */
  async #run(args: readonly string[], fine?: number, timeoutMs = ISCSI_COMMAND_MS): Promise<CommandResult> {
    let result: CommandResult;
    try {
      result = await this.runner.run(["iscsiadm", ...args], { timeoutMs });
    } catch (cause) {
      if (!(cause instanceof CommandError)) throw cause;
      const missing = /is not installed/.test(cause.message);
      const fix = missing ? "; install open-iscsi (Debian) or iscsi-initiator-utils (Red Hat)" : "";
      throw new IscsiError(`${cause.message}${fix}`, undefined, { cause });
    }
    if (result.code === 0 || result.code === fine) return result;
    const said = (result.stderr.trim() || result.stdout.trim()).slice(0, QUOTED_CHARACTERS);
    const why = explainExit(result.code) + (said ? ` (${said.replaceAll(/\s*\n\s*/g, "; ")})` : "");
    throw new IscsiError(`iscsiadm ${args.join(" ")}: ${why}`, result.code);
  }
}
