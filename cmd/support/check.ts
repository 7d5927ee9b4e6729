/**
 * `drover check`: what this host has and lacks for volumes.
 *
 * @module
 */
import type { Command } from "commander";
import {
  checkDataPaths,
  checkFuse,
  checkIoUring,
  checkLoopDevices,
  checkLosetup,
  checkMultipath,
  checkPrivileges,
  type HostCheck,
  type HostCheckFunction,
  type HostEnvironment,
} from "../../lib/host/checks.ts";
import { SystemRunner } from "../../lib/host/command.ts";
import { resolveDirectories } from "../volume/names.ts";
import {
  checkCryptModule,
  checkCryptsetup,
  checkFileFeatures,
  checkIscsiadm,
  checkIscsiModule,
  checkNbdClient,
  checkNbdModule,
  checkNsenter,
  checkTgtd,
  nearestDirectory,
  tryIoUring,
} from "./probes.ts";
import { UsageError } from "./program.ts";
import { formatTable } from "./table.ts";

/** What somebody may want to do here. */
const PURPOSES = ["loop", "nbd", "iscsi", "tgt", "encryption", "kubernetes"] as const;
type Purpose = typeof PURPOSES[number];

/** A check and who needs it; nobody named: every volume. */
interface Question {
  readonly ask: HostCheckFunction;
  readonly by: readonly Purpose[];
  /** It only advises: another check finds out what counts. */
  readonly advice?: true;
}

const QUESTIONS: readonly Question[] = [
  { ask: checkDataPaths, by: [], advice: true },
  { ask: checkFileFeatures, by: [] },
  { ask: checkIoUring, by: [] },
  { ask: checkPrivileges, by: ["loop", "kubernetes"] },
  { ask: checkFuse, by: ["loop"] },
  { ask: checkLoopDevices, by: ["loop"] },
  { ask: checkLosetup, by: ["loop"] },
  { ask: checkNbdClient, by: ["nbd"] },
  { ask: checkNbdModule, by: ["nbd"] },
  { ask: checkIscsiadm, by: ["iscsi", "tgt"] },
  { ask: checkIscsiModule, by: ["iscsi", "tgt"] },
  { ask: checkMultipath, by: ["iscsi", "tgt"] },
  { ask: checkTgtd, by: ["tgt"] },
  { ask: checkCryptsetup, by: ["encryption"] },
  { ask: checkCryptModule, by: ["encryption"] },
  { ask: checkNsenter, by: ["kubernetes"] },
];

/** An answer for people and for programs; the names are those of `-o json`. */
interface Answer extends HostCheck {
  /** Purposes that need it; empty: every volume. */
  readonly neededBy: readonly Purpose[];
  /** Whether it counts for the exit status. */
  readonly needed: boolean;
}

interface CheckFlags {
  readonly dir?: readonly string[];
  readonly for?: readonly string[];
  readonly output: string;
}

/** Something that was asked for does not work here. */
export class CheckError extends Error {
  /** The class, for logs. */
  override readonly name = "CheckError";
}

function purposes(given: readonly string[] | undefined): Purpose[] {
  return (given ?? []).flatMap((text) => text.split(",")).filter((word) => word !== "").map((word) => {
    const found = PURPOSES.find((purpose) => purpose === word);
    if (!found) throw new UsageError(`--for ${word}: choose from ${PURPOSES.join(", ")}`);
    return found;
  });
}

function resultOf({ ok, needed, neededBy, fix }: Answer): string {
  if (ok) return fix === "" ? "ok" : "slower";
  return needed ? "MISSING" : neededBy.length === 0 ? "doubtful" : "missing";
}

function print(answers: readonly Answer[]): void {
  const rows = answers.map((answer) => [
    answer.name,
    resultOf(answer),
    answer.neededBy.join(", ") || "all",
    answer.detail,
  ]);
  console.log(formatTable(["CHECK", "RESULT", "FOR", "FOUND"], rows));
  const todo = answers.filter(({ fix }) => fix !== "");
  if (todo.length === 0) return;
  console.log("\nWhat to do:");
  for (const { name, fix, neededBy } of todo) {
    console.log(`  ${name}: ${fix}${neededBy.length > 0 ? ` (only for ${neededBy.join(", ")})` : ""}`);
  }
}

async function check(flags: CheckFlags): Promise<void> {
  if (flags.output !== "table" && flags.output !== "json") {
    throw new UsageError(`--output ${flags.output}: expected table or json`);
  }
  const wanted = purposes(flags.for);
  const host: HostEnvironment = {
    root: "",
    runner: new SystemRunner(),
    ioUring: tryIoUring(),
    dataPaths: [...new Set(resolveDirectories(flags.dir).map(nearestDirectory))],
  };
  const answers = await Promise.all(QUESTIONS.map(async ({ ask, by, advice }): Promise<Answer> => ({
    ...await ask(host),
    neededBy: by,
    needed: !advice && by.length === 0 || by.some((purpose) => wanted.includes(purpose)),
  })));
  if (flags.output === "json") console.log(JSON.stringify(answers, null, 2));
  else print(answers);
  const missing = answers.filter(({ ok, needed }) => needed && !ok).map(({ name }) => name);
  if (missing.length > 0) throw new CheckError(`needed and missing: ${missing.join(", ")}`);
}

const HELP = `
Nothing is changed, but for a small file in each --dir that is removed at once.

Examples:
  drover check                        what there is
  drover check --for loop             fails unless volumes can be shown as loop devices
  drover check --dir /disk1 /disk2    looks at these file systems

Exit status: 0 all that is needed is there; 1 something needed is missing; 2 the command line makes no sense.`;

/**
 * Adds the command.
 * @internal
 */
export function checkCommand(parent: Command): void {
  parent.command("check").description("what this host has and lacks for volumes, and what to do")
    .option("--dir <path...>", "directories for copies; default: as for drover volume")
    .option("--for <purpose...>", `what must work: ${PURPOSES.join(", ")}`)
    .option("-o, --output <format>", "table or json", "table")
    .addHelpText("after", HELP)
    .action(check);
}
