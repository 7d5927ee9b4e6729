/**
 * File systems on volumes that an outage has left in a bad state: read-only after an error, shut down, mounted from a
 * device that is gone, or frozen for a snapshot that was never finished. Only the last is repaired: the others may
 * have lost writes, and who uses them has to know.
 *
 * @module
 */
import { type BlockNumber, numberOfPath, stackOn } from "../block_stack.ts";
import { thawLeftovers } from "../freeze.ts";
import { findMountsWhere, type FoundMount, reachMount } from "../mounts.ts";
import { HostError } from "../retry.ts";
import { type Finding, isServed, type NodeView } from "./finding.ts";

/** Options that the kernel shows for a file system that it has stopped after an error. */
const STOPPED = /^(?:shutdown|emergency_ro)$/;
/** Time limit of a look, milliseconds: a dead device may keep it. */
const LOOK_MS = 5_000;

function entries(directory: string): string[] {
  try {
    return [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
  } catch {
    return [];
  }
}

/** How a file system is, from its mount: what the kernel tells without touching the disk. */
export function stateOfMount({ options, superOptions }: FoundMount): "fine" | "read-only" | "stopped" {
  const words = superOptions.split(",");
  if (words.some((word) => STOPPED.test(word))) return "stopped";
  const asked = options.split(",").includes("ro");
  return words.includes("ro") && !asked ? "read-only" : "fine";
}

function repairText({ mountPoint, type, source }: FoundMount): string {
  const check = type === "xfs" ? `xfs_repair ${source}` : `fsck ${source}`;
  return `stop who uses it, umount ${mountPoint}, ${check}, mount it again`;
}

/** File systems on volumes that do not work any more. */
export async function brokenFileSystems(node: NodeView): Promise<Finding[]> {
  const { context, devices } = node, { sys, proc } = context, findings: Finding[] = [];
  const numbers = entries(devices).flatMap((name): BlockNumber[] => {
    const bottom = numberOfPath(`${devices}/${name}`, sys);
    return bottom === null ? [] : [bottom, ...stackOn(bottom, sys)];
  });
  const isOurs = ({ major, minor }: BlockNumber) =>
    numbers.some((n) => n.major === major && n.minor === minor);
  const seen = new Set<string>();
  // By name too: the names of devices that are gone may be gone already.
  const isNamed = ({ source }: { source: string }) => source.startsWith(`${devices}/`);
  for (const mount of findMountsWhere((mount) => isOurs(mount) || isNamed(mount), proc)) {
    const key = `${mount.major}:${mount.minor}`, subject = "file system", { mountPoint } = mount;
    if (seen.has(key)) continue;
    seen.add(key);
    const severity = "broken", todo = repairText(mount);
    if (stackOn(mount, sys).length === 0) {
      const what = `${mountPoint} is mounted from a device that is gone`;
      findings.push({ severity, subject, what, todo: `stop who uses it, then: umount --lazy ${mountPoint}` });
    } else if (stateOfMount(mount) === "stopped") {
      findings.push({ severity, subject, what: `${mountPoint} was shut down after an error`, todo });
    } else if (stateOfMount(mount) === "read-only") {
      const what = `${mountPoint} has become read-only after an error; what was not synced may be lost`;
      findings.push({ severity, subject, what, todo });
    } else if (await doesNotAnswer(node, mount)) {
      const what = `${mountPoint} answers with errors, or not at all`;
      findings.push({ severity, subject, what, todo });
    }
  }
  return findings;
}

/** XFS shows a shutdown by failing only. Done by a child: it may never return. */
async function doesNotAnswer({ context }: NodeView, mount: FoundMount): Promise<boolean> {
  const path = reachMount(mount, context.proc);
  try {
    const { code, stderr } = await context.runner.run(["stat", "--format=%i", path], { timeoutMs: LOOK_MS });
    return code !== 0 && /Input\/output error/.test(stderr);
  } catch {
    return true;
  }
}

/** Notes of freezes whose engine is gone. */
export function leftFrozen(node: NodeView): Promise<Finding[]> {
  const { context, devices, freezes } = node;
  const volumes = new Set(entries(freezes).map((name) => name.replace(/@\d+$/, "")));
  const findings = [...volumes].filter((volume) => !isServed(node, volume)).map((volume): Finding => ({
    severity: "broken",
    subject: "frozen file system",
    what: `a snapshot of volume ${volume} was interrupted and may have left its file system frozen`,
    todo: `fsfreeze --unfreeze ${freezes}/${volume}; umount ${freezes}/${volume}; rmdir ${freezes}/${volume}`,
    repair: async () => {
      if (isServed(node, volume)) throw new HostError("an engine serves the volume now; it thaws by itself");
      const { runner, log, sys, proc } = context, device = `${devices}/${volume}`;
      const done = await thawLeftovers({ runner, volume, device, directory: freezes, log, proc, sys });
      if (done.length === 0) throw new HostError("it could not be thawed; see the log");
    },
  }));
  return Promise.resolve(findings);
}
