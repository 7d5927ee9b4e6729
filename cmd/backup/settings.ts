/**
 * What all `drover backup` commands have in common: the target, its credentials, the form of the output, and how a
 * backup is named on a command line.
 *
 * @module
 */
import { Credentials } from "../../lib/backup/target/credentials.ts";
import { openTarget } from "../../lib/backup/target/open.ts";
import type { Target } from "../../lib/backup/target/target.ts";
import { decodeBackupUrl } from "../../lib/backup/target/url.ts";
import { SystemRunner } from "../../lib/host/command.ts";
import { ShareMounts } from "../../lib/host/share_mounts.ts";
import { type program, UsageError } from "../support/program.ts";

/** Environment variable with the URL of the target. */
export const TARGET_VARIABLE = "DROVER_BACKUP_TARGET";
/** Environment variable with the path of a file of credentials. */
export const CREDENTIALS_VARIABLE = "DROVER_BACKUP_CREDENTIALS";

/** Flags of every command. */
export interface TargetFlags {
  /** URL of the target. */
  readonly target?: string;
  /** File of credentials. */
  readonly credentials?: string;
  /** `table` or `json`. */
  readonly output?: string;
}

/** A command to add to. @internal */
export type Command = ReturnType<typeof program>;

/**
 * Adds the flags of {@linkcode TargetFlags}.
 * @internal
 */
export function withTarget(command: Command): Command {
  return command
    .option(
      "--target <url>",
      `where backups are: s3://, nfs://, cifs://, azblob://, vfs:/// ($${TARGET_VARIABLE})`,
    )
    .option("--credentials <file>", `lines NAME=VALUE; default: the environment ($${CREDENTIALS_VARIABLE})`)
    .option("-o, --output <format>", "table or json", "table");
}

/** The credentials of a command line: from the file if there is one, else from the environment. */
export async function credentialsOf(flags: TargetFlags): Promise<Credentials> {
  const file = flags.credentials ?? Deno.env.get(CREDENTIALS_VARIABLE);
  const environment = Credentials.fromEnvironment();
  if (file === undefined || file === "") return environment;
  return (await Credentials.fromFile(file)).over(environment);
}

/** The URL of the target of a command line. @throws {UsageError} */
export function targetUrlOf(flags: TargetFlags): string {
  const url = flags.target ?? Deno.env.get(TARGET_VARIABLE);
  if (url === undefined || url === "") {
    throw new UsageError(
      `which target? --target URL, or $${TARGET_VARIABLE}; for example s3://bucket@region/ or vfs:///directory`,
    );
  }
  return url;
}

/** Opens a target. @param url default: that of the flags */
export async function open(flags: TargetFlags, url: string = targetUrlOf(flags)): Promise<Target> {
  const mounter = new ShareMounts({ runner: new SystemRunner() });
  return await openTarget(url, await credentialsOf(flags), { mounter });
}

/** True when the output is to be JSON. @throws {UsageError} */
export function wantsJson({ output = "table" }: TargetFlags): boolean {
  if (output !== "table" && output !== "json") {
    throw new UsageError(`--output ${output}: expected table or json`);
  }
  return output === "json";
}

/** What a command line names. */
export interface Named {
  /** Flags with the target. */
  readonly flags: TargetFlags;
  /** The volume in the store. */
  readonly volume: string;
  /** The other words. */
  readonly rest: readonly string[];
}

/**
 * The volume and what follows; the first word may be a URL of a backup, which names target, volume and backup.
 *
 * @throws {UsageError}
 */
export function named(words: readonly string[], flags: TargetFlags): Named {
  const [first = "", ...rest] = words;
  if (!first.includes("://")) return { flags, volume: first, rest };
  const { target, volume, backup } = decodeBackupUrl(first);
  if (volume === "") throw new UsageError(`${first}: names no volume; write TARGET?backup=NAME&volume=NAME`);
  return { flags: { ...flags, target }, volume, rest: backup === "" ? rest : [backup, ...rest] };
}

/** A whole number of a flag. @throws {UsageError} */
export function wholeNumber(
  flag: string,
  text: string | undefined,
  least: number,
  most: number,
): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,10}$/.test(text) ? Number(text) : NaN;
  if (!(value >= least && value <= most)) {
    throw new UsageError(`${flag} ${text}: expected ${least} to ${most}`);
  }
  return value;
}

/** Labels of flags `KEY=VALUE`. @throws {UsageError} */
export function labelsOf(texts: readonly string[] | undefined): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const text of texts ?? []) {
    const cut = text.indexOf("=");
    if (cut < 1) throw new UsageError(`--label ${text}: expected KEY=VALUE`);
    labels[text.slice(0, cut)] = text.slice(cut + 1);
  }
  return labels;
}

/**
 * Asks before something is lost.
 *
 * @returns false when the answer is no
 * @throws {UsageError} when nobody is there to ask
 */
export function agreed(question: string, yes: boolean | undefined): boolean {
  if (yes) return true;
  if (!Deno.stdin.isTerminal()) {
    throw new UsageError(`nobody is there to ask; --yes does it without (${question})`);
  }
  return confirm(question);
}
