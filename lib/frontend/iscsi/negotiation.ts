/**
 * The operational keys of a session and how each is agreed on (RFC 7143 chapter 13; RFC 7144 section 3).
 *
 * The initiator's values come in, answers go out, and what was agreed on lands in {@linkcode Parameters}.
 * Answers are `NotUnderstood` for unknown keys, `Irrelevant` for keys without meaning in this session, and
 * `Reject` for values outside the key's domain; neither changes a parameter.
 *
 * @module
 */
import { parseNumber } from "./text.ts";

/** Data segments we take, bytes: what initiators on Linux announce themselves. */
export const MAX_RECEIVE_BYTES = 256 * 1024;
/** Largest burst of Data-Out or Data-In we agree to, bytes: one transfer of the largest size. */
export const MAX_BURST_BYTES = 4 * 1024 * 1024;
/** Largest burst of unsolicited data we agree to, bytes. */
export const MAX_FIRST_BURST_BYTES = 256 * 1024;
/** Highest value of the keys that count bytes: their field in a PDU has 24 bits. */
const MAX_24_BITS = 0xffffff;

/** What both sides agreed on. Starts with the defaults of RFC 7143 chapter 13. */
export class Parameters {
  /** HeaderDigest is CRC32C. */
  headerDigest = false;
  /** DataDigest is CRC32C. */
  dataDigest = false;
  /** InitialR2T: no unsolicited Data-Out. */
  initialR2T = true;
  /** ImmediateData: commands may carry data. */
  immediateData = true;
  /** MaxBurstLength, bytes. */
  maxBurstLength = 262144;
  /** FirstBurstLength, bytes: unsolicited data of one command. */
  firstBurstLength = 65536;
  /** DefaultTime2Wait, seconds. */
  defaultTime2Wait = 2;
  /** DefaultTime2Retain, seconds: nothing is retained. */
  defaultTime2Retain = 0;
  /** Largest data segment the initiator takes, bytes. */
  sendSegmentLength = 8192;
  /** InitiatorName. */
  initiatorName = "";
  /** InitiatorAlias. */
  initiatorAlias = "";
  /** TargetName, as the initiator wrote it. */
  targetName = "";
  /** SessionType is Discovery. */
  discovery = false;
}

/** One key: takes the initiator's value, changes the parameters, returns the answer (undefined = none). */
type Rule = (value: string, parameters: Parameters) => string | undefined;

const REJECT = "Reject";

function yesNo(value: string): boolean | undefined {
  return value === "Yes" ? true : value === "No" ? false : undefined;
}

/** List keys: the first value of the initiator's list that we know (RFC 7143 section 6.2.1). */
function choose(value: string, known: readonly string[]): string {
  return value.split(",").find((v) => known.includes(v)) ?? REJECT;
}

function digest(set: (parameters: Parameters, on: boolean) => void): Rule {
  return (value, parameters) => {
    const chosen = choose(value, ["None", "CRC32C"]);
    if (chosen !== REJECT) set(parameters, chosen === "CRC32C");
    return chosen;
  };
}

/** Boolean keys: the result is `value OR ours` or `value AND ours`. */
function boolean(combine: (theirs: boolean) => boolean, set?: (p: Parameters, on: boolean) => void): Rule {
  return (value, parameters) => {
    const theirs = yesNo(value);
    if (theirs === undefined) return REJECT;
    const result = combine(theirs);
    set?.(parameters, result);
    return result ? "Yes" : "No";
  };
}

/** Numerical keys: the result comes of the initiator's value and ours. */
function number(
  low: number,
  high: number,
  combine: (theirs: number) => number,
  set?: (p: Parameters, n: number) => void,
): Rule {
  return (value, parameters) => {
    const theirs = parseNumber(value, low, high);
    if (theirs === undefined) return REJECT;
    const result = combine(theirs);
    set?.(parameters, result);
    return String(result);
  };
}

/** Keys without meaning in a discovery session (RFC 7143 chapter 13, "Irrelevant when: SessionType=Discovery"). */
const NORMAL_SESSIONS_ONLY: ReadonlySet<string> = new Set([
  "MaxConnections",
  "InitialR2T",
  "ImmediateData",
  "MaxBurstLength",
  "FirstBurstLength",
  "MaxOutstandingR2T",
  "DataPDUInOrder",
  "DataSequenceInOrder",
  "TaskReporting",
]);

const RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ["HeaderDigest", digest((p, on) => p.headerDigest = on)],
  ["DataDigest", digest((p, on) => p.dataDigest = on)],
  ["MaxConnections", number(1, 65535, () => 1)],
  ["InitialR2T", boolean((theirs) => theirs, (p, on) => p.initialR2T = on)],
  ["ImmediateData", boolean((theirs) => theirs, (p, on) => p.immediateData = on)],
  // Declared, not negotiated: no answer; ours is declared by the login.
  ["MaxRecvDataSegmentLength", (value, p) => {
    const theirs = parseNumber(value, 512, MAX_24_BITS);
    if (theirs === undefined) return REJECT;
    p.sendSegmentLength = theirs;
    return undefined;
  }],
  [
    "MaxBurstLength",
    number(512, MAX_24_BITS, (n) => Math.min(n, MAX_BURST_BYTES), (p, n) => p.maxBurstLength = n),
  ],
  [
    "FirstBurstLength",
    number(512, MAX_24_BITS, (n) => Math.min(n, MAX_FIRST_BURST_BYTES), (p, n) => p.firstBurstLength = n),
  ],
  ["DefaultTime2Wait", number(0, 3600, (n) => Math.max(n, 2), (p, n) => p.defaultTime2Wait = n)],
  ["DefaultTime2Retain", number(0, 3600, () => 0)],
  ["MaxOutstandingR2T", number(1, 65535, () => 1)],
  ["DataPDUInOrder", boolean(() => true)],
  ["DataSequenceInOrder", boolean(() => true)],
  ["ErrorRecoveryLevel", number(0, 2, () => 0)],
  ["TaskReporting", (value) => choose(value, ["RFC3720"])],
  ["iSCSIProtocolLevel", number(0, 31, (n) => Math.min(n, 1))],
  // Markers are obsolete, but answering "not understood" is forbidden: RFC 7143 section 13.25.
  ["IFMarker", () => "No"],
  ["OFMarker", () => "No"],
  ["IFMarkInt", () => REJECT],
  ["OFMarkInt", () => REJECT],
  ["RDMAExtensions", () => "No"],
]);

/** Keys that only inform; nothing is answered (RFC 7143 sections 13.4, 13.7, 13.21, 13.26 and others). */
const DECLARATIONS: ReadonlySet<string> = new Set([
  "InitiatorName",
  "InitiatorAlias",
  "TargetName",
  "SessionType",
  "X#NodeArchitecture",
  // Answers to what we offered or declared.
  "TargetPortalGroupTag",
  "TargetAlias",
]);

/** Values that answer something; as an offer they mean nothing and are not answered again. */
const ANSWERS: ReadonlySet<string> = new Set(["NotUnderstood", "Irrelevant", "Reject"]);

/**
 * Answers the operational keys of one request.
 *
 * @param pairs the initiator's keys; those that only inform are skipped, they are the login's
 * @param parameters changed to what is agreed on
 * @returns the answers, in the order of the keys
 */
export function negotiate(pairs: ReadonlyMap<string, string>, parameters: Parameters): [string, string][] {
  const answers: [string, string][] = [];
  for (const [key, value] of pairs) {
    if (DECLARATIONS.has(key) || ANSWERS.has(value)) continue;
    const rule = RULES.get(key);
    if (!rule) answers.push([key, "NotUnderstood"]);
    else if (parameters.discovery && NORMAL_SESSIONS_ONLY.has(key)) answers.push([key, "Irrelevant"]);
    else {
      const answer = rule(value, parameters);
      if (answer !== undefined) answers.push([key, answer]);
    }
  }
  settleFirstBurst(parameters, answers);
  return answers;
}

/** FirstBurstLength depends on other keys, in whatever order they came (RFC 7143 section 13.14). */
function settleFirstBurst(parameters: Parameters, answers: [string, string][]): void {
  parameters.firstBurstLength = Math.min(parameters.firstBurstLength, parameters.maxBurstLength);
  const answer = answers.find(([key, value]) => key === "FirstBurstLength" && !ANSWERS.has(value));
  if (!answer) return;
  answer[1] = parameters.initialR2T && !parameters.immediateData
    ? "Irrelevant"
    : String(parameters.firstBurstLength);
}
