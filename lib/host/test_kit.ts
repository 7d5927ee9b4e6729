/**
 * For tests of this room: a host that is only a script. Commands are answered by rules instead of being run.
 *
 * @module
 */
import { createLogger, Level, type Logger } from "../log/log.ts";
import { CommandError, type CommandResult, type Runner, type RunOptions } from "./command.ts";

/** What a command leaves; exit code 0 and no output where nothing is said. */
export type Answer =
  | Partial<CommandResult>
  /** Standard output of a command that succeeds. */
  | string
  /** The command does not end in time. */
  | "hangs"
  /** The program is not there. */
  | "missing";

/** One command that is expected: the beginning of the command line, or a pattern for it, and the answers. */
export type Rule = readonly [
  what: string | RegExp,
  answer: Answer | ((argv: readonly string[]) => Answer | Promise<Answer>),
];

/** A runner that runs nothing. The first rule that fits answers; a command without a rule fails the test. */
export class ScriptedRunner implements Runner {
  /** Every command line so far. */
  readonly ran: string[] = [];
  /** What commands got as input, as text. */
  readonly inputs: string[] = [];
  /** Command lines that no rule was for. */
  readonly unexpected: string[] = [];

  /** Takes the rules; they may be changed on the way. */
  constructor(readonly rules: Rule[]) {}

  /** See {@linkcode Runner.run}. */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    const line = argv.join(" ");
    this.ran.push(line);
    if (options.input) this.inputs.push(new TextDecoder().decode(options.input));
    const rule = this.rules.find(([what]) =>
      typeof what === "string" ? line.startsWith(what) : what.test(line)
    );
    if (!rule) {
      this.unexpected.push(line);
      throw new Error(`no rule for: ${line}`);
    }
    const answer = typeof rule[1] === "function" ? await rule[1](argv) : rule[1];
    if (answer === "hangs") throw new CommandError(argv, `did not end within ${options.timeoutMs} ms`);
    if (answer === "missing") throw new CommandError(argv, `${argv[0]} is not installed`);
    if (typeof answer === "string") return { code: 0, stdout: answer, stderr: "" };
    return { code: 0, stdout: "", stderr: "", ...answer };
  }

  /** The commands that began with this. */
  count(beginning: string): number {
    return this.ran.filter((line) => line.startsWith(beginning)).length;
  }
}

/** A logger that keeps its lines. */
export function keptLog(): { readonly log: Logger; readonly lines: string[] } {
  const lines: string[] = [];
  const log = createLogger({
    level: Level.DEBUG,
    format: "text",
    wallClock: () => 0,
    write: (line) => void lines.push(line),
  });
  return { log, lines };
}
