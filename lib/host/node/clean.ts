/**
 * Removing what an inspection found. A repair may bring something to light: when a session is ended, the name of its
 * device leads nowhere. So the node is looked at again until nothing new is found.
 *
 * @module
 */
import { reasonOf } from "../retry.ts";
import type { Finding } from "./finding.ts";

/** Looks at most: a repair brings to light what stood on the thing repaired, a chain of three at the most. */
const MAX_LOOKS = 8;

/** A finding that can be repaired without risk. */
export type Repairable = Finding & { readonly repair: () => Promise<void> };

/** Who is asked, and told what happens. */
export interface CleaningOwner {
  /** Looks the node over. */
  look(): Promise<readonly Finding[]>;
  /** What is not touched; the first look only. */
  leftAlone(findings: readonly Finding[]): void;
  /** Whether these are to be repaired. */
  agree(findings: readonly Repairable[]): boolean;
  /** It is repaired. */
  cleaned(finding: Finding): void;
  /** It could not be repaired; it is not tried again. */
  failed(finding: Finding, reason: string): void;
}

/** How many there were. */
export interface Cleaning {
  /** Repairs that were tried. */
  readonly tried: number;
  /** Those of them that did not succeed. */
  readonly failures: number;
}

function isRepairable(finding: Finding): finding is Repairable {
  return finding.repair !== undefined;
}

/** Repairs what can be repaired without risk, as far as the owner agrees. */
export async function cleanNode(owner: CleaningOwner): Promise<Cleaning> {
  const seen = new Set<string>();
  let tried = 0, failures = 0;
  for (let look = 0; look < MAX_LOOKS; look++) {
    const findings = await owner.look();
    if (look === 0) owner.leftAlone(findings.filter((finding) => !isRepairable(finding)));
    const safe = findings.filter(isRepairable).filter(({ subject, what }) => !seen.has(`${subject} ${what}`));
    if (safe.length === 0 || !owner.agree(safe)) return { tried, failures };
    for (const finding of safe) {
      seen.add(`${finding.subject} ${finding.what}`);
      tried++;
      try {
        await finding.repair();
        owner.cleaned(finding);
      } catch (error) {
        failures++;
        owner.failed(finding, reasonOf(error));
      }
    }
  }
  return { tried, failures };
}
