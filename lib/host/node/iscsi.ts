/**
 * What goes wrong with the host's initiator: sessions and records of targets that are gone, and multipathd that takes
 * the disks of volumes for itself.
 *
 * @module
 */
import { numberOfName, stackOn } from "../block_stack.ts";
import { checkMultipath } from "../checks.ts";
import { runOrThrow } from "../command.ts";
import { detachDisk } from "../iscsi/disk.ts";
import { Initiator, IscsiError } from "../iscsi/initiator.ts";
import { formatPortal, type SessionDetails, type TargetPortal } from "../iscsi/parse.ts";
import { usersOfDevice } from "../in_use.ts";
import { HostError } from "../retry.ts";
import type { Finding, NodeView } from "./finding.ts";

/** What the names of all volumes' targets begin with. */
export const TARGET_PREFIX = "iqn.2019-10.io.longhorn:";
/** Time limit of multipath, milliseconds. */
const MULTIPATH_MS = 30_000;

/** Whether an engine here serves the volume of a target; names of volumes have `_` where targets have `:`. */
export function isTargetServed(node: NodeView, target: string): boolean {
  return [...node.served()].some((name) => `${TARGET_PREFIX}${name.replaceAll("_", ":")}` === target);
}

/** An initiator that is not there has nothing stale. */
async function unlessMissing<T>(ask: Promise<T[]>): Promise<T[]> {
  try {
    return await ask;
  } catch (error) {
    if (error instanceof IscsiError && error.code === undefined && /is not installed/.test(error.message)) {
      return [];
    }
    throw error;
  }
}

async function isDead(node: NodeView, { target, portal }: TargetPortal): Promise<boolean> {
  if (isTargetServed(node, target)) return false;
  return await node.listens({ hostname: portal.host, port: portal.port }) === "no";
}

function usersOf(node: NodeView, { disks }: SessionDetails): string[] {
  const { sys } = node.context;
  return disks.flatMap(({ name }) => {
    const number = name === null ? null : numberOfName(name, sys);
    return number === null ? [] : usersOfDevice(number, [`/dev/${name}`], node.context);
  });
}

/** Sessions that nobody answers any more. */
export async function staleSessions(node: NodeView): Promise<Finding[]> {
  const initiator = new Initiator(node.context.host), findings: Finding[] = [];
  for (const session of await unlessMissing(initiator.sessionDetails())) {
    const { target, portal, disks } = session;
    if (!target.startsWith(TARGET_PREFIX) || !await isDead(node, session)) continue;
    const names = disks.flatMap(({ name }) => name === null ? [] : [`/dev/${name}`]).join(", ") || "no disk";
    const what = `session to ${target} at ${formatPortal(portal)} (${names}): nobody listens there any more`;
    const users = usersOf(node, session), subject = "iscsi session";
    if (users.length > 0) {
      const todo = `its disk is in use (${
        users.join(", ")
      }): unmount or close that, or start the volume again`;
      findings.push({ severity: "broken", subject, what, todo });
      continue;
    }
    findings.push({
      severity: "left-over",
      subject,
      what,
      todo: `iscsiadm -m node -T ${target} --logout; iscsiadm -m node -T ${target} -o delete`,
      repair: async () => {
        if (!await isDead(node, session)) throw new HostError("somebody listens there now");
        const now = usersOf(node, session);
        if (now.length > 0) throw new HostError(`its disk is in use now: ${now.join(", ")}`);
        await detachDisk(node.context, target);
      },
    });
  }
  return findings;
}

/** Records of targets without a session. They cost logins that fail at the start of the host. */
export async function staleRecords(node: NodeView): Promise<Finding[]> {
  const initiator = new Initiator(node.context.host);
  const records = await unlessMissing(initiator.nodes());
  const sessions = new Set((await unlessMissing(initiator.sessions())).map(({ target }) => target));
  const findings: Finding[] = [], seen = new Set<string>();
  for (const record of records) {
    const { target, portal } = record;
    if (!target.startsWith(TARGET_PREFIX) || sessions.has(target) || seen.has(target)) continue;
    if (!await isDead(node, record)) continue;
    seen.add(target);
    findings.push({
      severity: "left-over",
      subject: "iscsi record",
      what: `the initiator remembers ${target} at ${formatPortal(portal)}, where nobody listens`,
      todo: `iscsiadm -m node -T ${target} -o delete`,
      repair: async () => {
        if (!await isDead(node, record)) throw new HostError("somebody listens there now");
        const open = (await initiator.sessions()).some((session) => session.target === target);
        if (open) throw new HostError("there is a session now");
        await initiator.deleteNode(target);
      },
    });
  }
  return findings;
}

function readLine(path: string): string {
  try {
    return Deno.readTextFileSync(path).trim();
  } catch {
    return "";
  }
}

/** multipathd that may take disks, and disks that it has taken. */
export async function multipath(node: NodeView): Promise<Finding[]> {
  const { context } = node, { sys } = context, findings: Finding[] = [];
  // Our own root where our processes are the host's; else the directory that has the host's procfs.
  const root = node.context.proc === "/proc" ? "" : node.context.proc.replace(/\/proc$/, "");
  const ioUring = { ok: true, detail: "" };
  const check = checkMultipath({ root, runner: context.runner, ioUring, dataPaths: [] });
  if (!check.ok) {
    const what = `multipathd ${check.detail}`;
    findings.push({ severity: "risk", subject: "multipath", what, todo: check.fix });
  }
  for (const { target, disks } of await unlessMissing(new Initiator(context.host).sessionDetails())) {
    if (!target.startsWith(TARGET_PREFIX)) continue;
    for (const { name } of disks) {
      const number = name === null ? null : numberOfName(name, sys);
      for (const device of number === null ? [] : stackOn(number, sys).slice(1)) {
        if (!readLine(`${sys}/block/${device.name}/dm/uuid`).startsWith("mpath-")) continue;
        const map = readLine(`${sys}/block/${device.name}/dm/name`);
        findings.push({
          severity: "broken",
          subject: "multipath",
          what: `multipathd has taken /dev/${name} of ${target} for its map ${map}: it cannot be mounted`,
          todo: `multipath -f ${map}, and keep multipathd from it (blacklist sd devices)`,
          // It refuses a map that is in use.
          repair: async () =>
            void await runOrThrow(context.host, ["multipath", "-f", map], {
              timeoutMs: MULTIPATH_MS,
            }),
        });
      }
    }
  }
  return findings;
}
