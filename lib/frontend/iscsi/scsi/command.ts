/**
 * What is known about a command apart from running it: its name, its CDB usage, who may send it under a
 * reservation. The table of all commands answers REPORT SUPPORTED OPERATION CODES and checks reserved bits.
 *
 * @module
 */
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

/** How reservations affect a command (SPC-4 table 65, SBC-3 table 12). */
export const Access = {
  /** Allowed to everybody. */
  ALWAYS: 0,
  /** Allowed under persistent reservations, a conflict under RESERVE(6). */
  STATUS: 1,
  /** Reads the medium or settings: a conflict under exclusive access. */
  READ: 2,
  /** Changes the medium or settings: a conflict under write exclusive and exclusive access. */
  WRITE: 3,
  /** PERSISTENT RESERVE OUT and RESERVE/RELEASE: they decide for themselves. */
  OWN: 4,
} as const;

/** Means "this command has no service action". */
export const NO_ACTION = -1 as number;

/** One command. */
export interface CommandSpec {
  /** Its name in the standard. */
  readonly name: string;
  /** Byte 0 of its CDB. */
  readonly opcode: number;
  /** Service action, or {@linkcode NO_ACTION}. */
  readonly action: number;
  /**
   * CDB usage bitmap (SPC-4 section 6.28.3): a bit is set where the command looks. Its length is the CDB's.
   * Bits outside are reserved and must be zero.
   */
  readonly usage: Uint8Array;
  /** One of {@linkcode Access}. */
  readonly access: number;
  /** Runs although a unit attention is pending, without reporting it. */
  readonly passesAttention: boolean;
  /** Nominal and recommended time-out, seconds (SPC-4 section 6.28.4). */
  readonly nominalSeconds: number;
  /** Recommended time-out, seconds. */
  readonly recommendedSeconds: number;
  /**
   * Checks the CDB and says what data it needs.
   * @returns false when the command is refused; the task has its status then
   */
  prepare(unit: LogicalUnit, task: Task): boolean;
  /** Runs the command, with its Data-Out at hand. Called again when memory was missing. */
  run(unit: LogicalUnit, task: Task): void;
  /** A device operation of it ended; `result` is 0 or more, errors are handled before. */
  step(unit: LogicalUnit, task: Task, result: number): void;
}

/** What {@linkcode command} fills in when it is not said. */
export interface CommandParts {
  /** Default: none. */
  readonly action?: number;
  /** One of {@linkcode Access}. */
  readonly access?: number;
  /** Default: false. */
  readonly passesAttention?: boolean;
  /** Default: 1. */
  readonly nominalSeconds?: number;
  /** Recommended time-out, seconds. */
  readonly recommendedSeconds?: number;
  /** Default: accepts. */
  readonly prepare?: (unit: LogicalUnit, task: Task) => boolean;
  /** See {@linkcode CommandSpec.run}. */
  readonly run: (unit: LogicalUnit, task: Task) => void;
  /** Default: the command starts no device operation. */
  readonly step?: (unit: LogicalUnit, task: Task, result: number) => void;
}

function accept(): boolean {
  return true;
}

function unexpected(_unit: LogicalUnit, task: Task): void {
  throw new Error(`${task.spec?.name}: a device operation ended that it never started`);
}

/**
 * Makes the entry of a command.
 * @param usage the CDB usage bitmap from byte 1 on, in hexadecimal, bytes apart: `"1f ffff ff 04"`
 */
export function command(opcode: number, name: string, usage: string, parts: CommandParts): CommandSpec {
  const digits = usage.replaceAll(" ", "");
  const bytes = new Uint8Array(1 + digits.length / 2);
  bytes[0] = 0xff;
  for (let i = 1; i < bytes.length; i++) bytes[i] = parseInt(digits.slice(2 * i - 2, 2 * i), 16);
  return {
    name,
    opcode,
    action: parts.action ?? NO_ACTION,
    usage: bytes,
    access: parts.access ?? Access.WRITE,
    passesAttention: parts.passesAttention ?? false,
    nominalSeconds: parts.nominalSeconds ?? 1,
    recommendedSeconds: parts.recommendedSeconds ?? 60,
    prepare: parts.prepare ?? accept,
    run: parts.run,
    step: parts.step ?? unexpected,
  };
}

/** The commands of a device, found by opcode and service action. */
export class CommandTable {
  readonly #plain: (CommandSpec | undefined)[] = new Array(256).fill(undefined);
  readonly #actions: ((CommandSpec | undefined)[] | undefined)[] = new Array(256).fill(undefined);

  /**
   * Files the commands.
   *
   * @param all every command once
   */
  constructor(readonly all: readonly CommandSpec[]) {
    for (const spec of all) {
      if (spec.action === NO_ACTION) this.#plain[spec.opcode] = spec;
      else (this.#actions[spec.opcode] ??= new Array(32).fill(undefined))[spec.action] = spec;
    }
  }

  /** True when some command has this opcode. */
  knows(opcode: number): boolean {
    return this.#plain[opcode] !== undefined || this.#actions[opcode] !== undefined;
  }

  /** True when the opcode needs a service action. */
  hasActions(opcode: number): boolean {
    return this.#actions[opcode] !== undefined;
  }

  /**
   * Finds a command.
   *
   * @returns undefined when there is no such command
   */
  find(opcode: number, action: number): CommandSpec | undefined {
    return this.#plain[opcode] ?? this.#actions[opcode]?.[action];
  }
}
