/**
 * Targets of tgtd whose volume is gone: initiators that log in get errors only.
 *
 * @module
 */
import { HostError } from "../retry.ts";
import { removeTarget, STORE_TYPE } from "../tgt/target.ts";
import { Tgtadm } from "../tgt/tgtadm.ts";
import type { Finding, NodeView } from "./finding.ts";
import { isTargetServed, TARGET_PREFIX } from "./iscsi.ts";

/** Targets without a volume behind them. */
export async function orphanedTargets(node: NodeView): Promise<Finding[]> {
  const tgt = new Tgtadm(node.context.runner), findings: Finding[] = [];
  // No tgtd, or no tgtadm: nothing is orphaned.
  if (await tgt.system().catch(() => null) === null) return [];
  for (const { id, name, units } of await tgt.targets()) {
    const unit = units.find(({ storeType }) => storeType === STORE_TYPE);
    if (!name.startsWith(TARGET_PREFIX) || !unit) continue;
    const isOrphan = async () =>
      !isTargetServed(node, name) &&
      await node.listens({ transport: "unix", path: unit.storePath }) === "no";
    if (!await isOrphan()) continue;
    findings.push({
      severity: "left-over",
      subject: "tgt target",
      what: `target ${id}, ${name}: the volume behind it (${unit.storePath}) is gone`,
      todo: `tgtadm --lld iscsi --op delete --mode target --tid ${id} --force`,
      repair: async () => {
        if (!await isOrphan()) throw new HostError("the volume is there now");
        await removeTarget(tgt, name, node.context);
      },
    });
  }
  return findings;
}
