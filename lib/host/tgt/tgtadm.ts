/**
 * The target daemon `tgtd` through `tgtadm`: each method is one command.
 *
 * @module
 */
import { CommandError, type CommandResult, type Runner } from "../command.ts";
import { HostError } from "../retry.ts";
import {
  parseConnections,
  parseSystem,
  parseTargets,
  type TgtConnection,
  type TgtSystem,
  type TgtTarget,
} from "./parse.ts";

/** Time limit of one command, milliseconds. */
export const TGT_COMMAND_MS = 60_000;
/** Exit code when no tgtd answers: ENOTCONN. */
const NOT_CONNECTED = 107;
/** Initiators that may log in. */
const EVERYBODY = "ALL";

/** tgtadm did not do what it was told. */
export class TgtError extends HostError {
  /** For checks across threads. */
  override readonly name = "TgtError";
}

/** A unit of a target. */
export interface UnitPlace {
  /** The target's number. */
  readonly tid: number;
  /** The unit's number. */
  readonly lun: number;
}

/** See the module text. */
export class Tgtadm {
  /**
   * Runs nothing yet.
   *
   * @param runner runs programs beside the tgtd
   * @param control number of the tgtd's control port; default: the usual one
   */
  constructor(readonly runner: Runner, readonly control?: number) {}

  /** What the daemon can do; null when none answers. */
  async system(): Promise<TgtSystem | null> {
    const { code, stdout } = await this.#run("show", "system", []);
    return code === 0 ? parseSystem(stdout) : null;
  }

  /** All targets. */
  async targets(): Promise<TgtTarget[]> {
    return parseTargets((await this.#succeed("show", "target", [])).stdout);
  }

  /** Makes a target. */
  async newTarget(tid: number, name: string): Promise<void> {
    await this.#succeed("new", "target", ["--tid", `${tid}`, "-T", name]);
  }

  /** Makes a unit; tgtd opens the backing store before this returns. */
  async newUnit(place: UnitPlace, store: { path: string; type: string; options: string }): Promise<void> {
    const args = [...unit(place), "-b", store.path, "--bstype", store.type];
    await this.#succeed("new", "logicalunit", [
      ...args,
      ...(store.options ? ["--bsopts", store.options] : []),
    ]);
  }

  /** Changes a parameter of a unit, such as `thin_provisioning=1`. */
  async setUnit(place: UnitPlace, parameter: string): Promise<void> {
    await this.#succeed("update", "logicalunit", [...unit(place), "--params", parameter]);
  }

  /** Lets initiators in. */
  async bind(tid: number): Promise<void> {
    await this.#succeed("bind", "target", ["--tid", `${tid}`, "-I", EVERYBODY]);
  }

  /** Lets nobody in any more; a rule that is not there is fine. */
  async unbind(tid: number): Promise<void> {
    const fine = /access control rule does not exist|can't find the target/;
    await this.#succeed("unbind", "target", ["--tid", `${tid}`, "-I", EVERYBODY], fine);
  }

  /** The connections of a target. */
  async connections(tid: number): Promise<TgtConnection[]> {
    const { stdout } = await this.#succeed("show", "conn", ["--tid", `${tid}`], /can't find the target/);
    return parseConnections(stdout);
  }

  /** Ends a connection. One that has gone meanwhile is fine. */
  async endConnection(tid: number, { session, connection }: TgtConnection): Promise<void> {
    const args = ["--tid", `${tid}`, "--sid", `${session}`, "--cid", `${connection}`];
    await this.#succeed("delete", "conn", args, /can't find the (?:session|connection|target)/);
  }

  /**
   * Removes a unit; none is fine. One with commands under way is removed by tgtd when they have ended.
   */
  async removeUnit(place: UnitPlace): Promise<void> {
    const fine = /this logical unit is still active|can't find the (?:logical unit|target)/;
    await this.#succeed("delete", "logicalunit", unit(place), fine);
  }

  /** Removes a target; none is fine. */
  async removeTarget(tid: number): Promise<void> {
    await this.#succeed("delete", "target", ["--tid", `${tid}`], /can't find the target/);
  }

  async #succeed(op: string, mode: string, args: readonly string[], fine?: RegExp): Promise<CommandResult> {
    const result = await this.#run(op, mode, args);
    if (result.code === 0 || fine?.test(result.stderr)) return result;
    const why = result.code === NOT_CONNECTED ? "tgtd does not run" : result.stderr.trim();
    throw new TgtError(
      `tgtadm --op ${op} --mode ${mode} ${args.join(" ")}: ${why || `exit code ${result.code}`}`,
    );
  }

  async #run(op: string, mode: string, args: readonly string[]): Promise<CommandResult> {
    const port = this.control === undefined ? [] : ["-C", `${this.control}`];
    const argv = ["tgtadm", ...port, "--lld", "iscsi", "--op", op, "--mode", mode, ...args];
    try {
      return await this.runner.run(argv, { timeoutMs: TGT_COMMAND_MS });
    } catch (cause) {
      if (!(cause instanceof CommandError)) throw cause;
      throw new TgtError(cause.message, { cause });
    }
  }
}

function unit({ tid, lun }: UnitPlace): string[] {
  return ["--tid", `${tid}`, "--lun", `${lun}`];
}
