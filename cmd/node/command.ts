/**
 * `drover node ...`: what outages and crashes have left on this machine.
 *
 * @module
 */
import type { Command } from "commander";
import { hostContext } from "../../lib/host/context.ts";
import {
  cleanNode,
  type Finding,
  INSPECTIONS,
  listensAt,
  type NodeView,
  servedVolumes,
} from "../../lib/host/node/mod.ts";
import { reasonOf } from "../../lib/host/retry.ts";
import { getLogger } from "../../lib/log/log.ts";
import { freezeDirectory } from "../support/freezer.ts";
import { DEVICE_DIRECTORY, runDirectory } from "../support/loop_host.ts";
import { EXIT_FAILURE, UsageError } from "../support/program.ts";
import { formatTable } from "../support/table.ts";
import { deadLoops } from "./loop.ts";

interface NodeFlags {
  readonly output: string;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

/** Something is wrong with this node. */
export class NodeError extends Error {
  /** The class, for logs. */
  override readonly name = "NodeError";
  /** See {@linkcode EXIT_FAILURE}. */
  readonly exitCode: number = EXIT_FAILURE;
}

function thisNode(): NodeView {
  const context = hostContext(getLogger({ program: "drover" }));
  return {
    context,
    run: runDirectory(),
    devices: DEVICE_DIRECTORY,
    freezes: freezeDirectory(),
    served: () => servedVolumes(context.proc),
    listens: listensAt,
  };
}

/** All findings. What cannot be looked at is a finding too. */
async function inspect(node: NodeView): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [name, look] of [...INSPECTIONS, ["loop devices", deadLoops] as const]) {
    try {
      findings.push(...await look(node));
    } catch (error) {
      const what = `cannot be looked at: ${reasonOf(error)}`;
      findings.push({ severity: "risk", subject: name, what, todo: "run as root, on the host itself" });
    }
  }
  return findings;
}

function print(findings: readonly Finding[]): void {
  const rows = findings.map(({ severity, subject, what }) => [severity, subject, what]);
  console.log(formatTable(["STATE", "WHAT", "FOUND"], rows));
  console.log("\nWhat to do:");
  for (const { subject, todo, repair } of findings) {
    console.log(`  ${subject}: ${todo}${repair ? " (or: drover node clean)" : ""}`);
  }
}

function checkOutput({ output }: NodeFlags): void {
  if (output !== "table" && output !== "json") {
    throw new UsageError(`--output ${output}: expected table or json`);
  }
}

function toJson(findings: readonly Finding[]): string {
  const list = findings.map(({ repair, ...rest }) => ({ ...rest, repairable: repair !== undefined }));
  return JSON.stringify(list, null, 2);
}

async function check(flags: NodeFlags): Promise<void> {
  checkOutput(flags);
  const findings = await inspect(thisNode());
  if (flags.output === "json") console.log(toJson(findings));
  else if (findings.length === 0) console.log("nothing is left over, nothing is broken");
  else print(findings);
  const bad = findings.filter(({ severity }) => severity !== "risk").length;
  if (bad > 0) throw new NodeError(`${bad} things are broken or left over`);
}

/** Whether these are to be cleaned. @throws {UsageError} nobody is there to ask */
function agrees(safe: readonly Finding[], flags: NodeFlags): boolean {
  for (const { subject, what } of safe) {
    console.log(`${flags.dryRun ? "would" : "will"} clean: ${subject}: ${what}`);
  }
  if (flags.dryRun) return false;
  if (flags.yes) return true;
  if (!Deno.stdin.isTerminal()) {
    throw new UsageError("nobody is there to ask; --yes cleans without, --dry-run shows");
  }
  return confirm(`clean ${safe.length} of these?`);
}

async function clean(flags: NodeFlags): Promise<void> {
  const node = thisNode();
  let asked = false;
  const { tried, failures } = await cleanNode({
    look: () => inspect(node),
    leftAlone: (others) => {
      for (const { subject, what, todo } of others) console.log(`left alone: ${subject}: ${what}; ${todo}`);
    },
    agree: (safe) => {
      asked = true;
      return agrees(safe, flags);
    },
    cleaned: ({ subject, what }) => console.log(`cleaned: ${subject}: ${what}`),
    failed: ({ subject, what }, reason) => console.error(`not cleaned: ${subject}: ${what}: ${reason}`),
  });
  if (!asked) console.log("there is nothing to clean");
  else if (tried === 0 && !flags.dryRun) console.log("nothing was cleaned");
  if (failures > 0) throw new NodeError(`${failures} of ${tried} were not cleaned`);
}

const HELP = `
Looked at: iSCSI sessions and records of volumes' targets, targets of tgtd, NBD and loop devices, names in
${DEVICE_DIRECTORY}, file systems that an outage left read-only, dead or frozen, multipathd that takes volumes' disks.

What an engine on this machine serves, or somebody uses, is never touched. Run it on the host: in a container
without the host's processes (/host/proc), engines of other containers cannot be seen.

Exit status: 0 nothing is wrong, or all was cleaned; 1 something is broken or left over; 2 the command line makes
no sense.`;

/**
 * Adds the command with its subcommands.
 * @internal
 */
export function nodeCommand(parent: Command): void {
  const node = parent.command("node").description("what crashes and outages have left on this machine")
    .addHelpText("after", HELP);
  node.command("check").description("look, and say what to do")
    .option("-o, --output <format>", "table or json", "table")
    .action(check);
  node.command("clean").description("remove what is left over, where that is safe")
    .option("--dry-run", "only say what would be removed")
    .option("-y, --yes", "do not ask")
    .action(clean);
}
