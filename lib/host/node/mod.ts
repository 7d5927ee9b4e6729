/**
 * Looking a node over for what outages and crashes leave behind.
 *
 * @module
 */
import { deadNames, deadNbdDevices } from "./devices.ts";
import { brokenFileSystems, leftFrozen } from "./file_systems.ts";
import type { Inspection } from "./finding.ts";
import { multipath, staleRecords, staleSessions } from "./iscsi.ts";
import { orphanedTargets } from "./tgt.ts";

export { cleanNode } from "./clean.ts";
export {
  type Finding,
  type Inspection,
  listensAt,
  type NodeView,
  servedVolumes,
  type Severity,
} from "./finding.ts";

/** All that this room can look at, by name, in the order in which it is to be repaired. */
export const INSPECTIONS: readonly (readonly [name: string, look: Inspection])[] = [
  ["frozen file systems", leftFrozen],
  ["file systems", brokenFileSystems],
  ["multipath", multipath],
  ["iscsi sessions", staleSessions],
  ["iscsi records", staleRecords],
  ["tgt targets", orphanedTargets],
  ["nbd devices", deadNbdDevices],
  ["device names", deadNames],
];
