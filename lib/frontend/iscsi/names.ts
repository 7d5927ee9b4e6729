/**
 * How initiators name the target and its logical unit.
 *
 * @module
 */
import { PORTAL_GROUP_TAG, sameName } from "./login.ts";
import type { Parameters } from "./negotiation.ts";

/** True for an address that listens everywhere, and so tells nobody where to connect. */
export function isWildcard(host: string): boolean {
  return host === "" || host === "0.0.0.0" || host === "::";
}

/** True when the 8 bytes, as two words, name a logical unit: peripheral or flat addressing (SAM-5 section 4.7.7). */
export function namesUnit(lun: number, lunHigh: number, lunLow: number): boolean {
  if (lunLow !== 0 || (lunHigh & 0xffff) !== 0) return false;
  const method = lunHigh >>> 30, value = (lunHigh >>> 16) & 0x3fff;
  return value === lun && (method === 1 || (method === 0 && value < 256));
}

/** Answers `SendTargets`. @param portal host and port that initiators are told; absent: the one they are connected to */
export function sendTargets(
  targetName: string,
  portal: string | undefined,
  wanted: string,
  parameters: Parameters,
): [string, string][] {
  // Empty means "the target of this session", which a discovery session has not.
  const matches = wanted === "All" || sameName(wanted, targetName) ||
    (wanted === "" && !parameters.discovery);
  if (!matches) return [];
  const answers: [string, string][] = [["TargetName", targetName]];
  // Without an address the initiator takes the one it is connected to (RFC 7143 appendix C).
  if (portal) answers.push(["TargetAddress", `${portal},${PORTAL_GROUP_TAG}`]);
  return answers;
}
