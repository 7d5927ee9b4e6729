/**
 * The login phase of a connection as a state machine without input and output: requests in, responses out
 * (RFC 7143 sections 6.3 and 11.12).
 *
 * Stages go security (0) → operational (1) → full feature (3). The initiator asks for a transit; it is granted
 * when nothing of the stage is open. An error ends the login with a status of RFC 7143 section 11.13.5.
 *
 * @module
 */
import { Chap, type ChapSettings } from "./chap.ts";
import { TextError } from "./errors.ts";
import { MAX_RECEIVE_BYTES, negotiate, Parameters } from "./negotiation.ts";
import { clip, formatPairs, MAX_TEXT_BYTES, parsePairs } from "./text.ts";

/** Login stages, RFC 7143 section 11.12.3. */
export const Stage = { SECURITY: 0, OPERATIONAL: 1, FULL_FEATURE: 3 } as const;

/** Login statuses (class << 8 | detail), RFC 7143 section 11.13.5. */
export const LoginStatus = {
  SUCCESS: 0x0000,
  INITIATOR_ERROR: 0x0200,
  AUTHENTICATION_FAILED: 0x0201,
  FORBIDDEN: 0x0202,
  NOT_FOUND: 0x0203,
  UNSUPPORTED_VERSION: 0x0205,
  TOO_MANY_CONNECTIONS: 0x0206,
  MISSING_PARAMETER: 0x0207,
  SESSION_TYPE: 0x0209,
  NO_SESSION: 0x020a,
  INVALID_REQUEST: 0x020b,
  OUT_OF_RESOURCES: 0x0302,
} as const;

/** Requests of one login before it is given up. */
const MAX_REQUESTS = 32;
/** Longest iSCSI name, bytes (RFC 7143 section 4.2.7.1). */
const MAX_NAME_BYTES = 223;
/** Our only portal group. */
export const PORTAL_GROUP_TAG = 1;

/** What the login needs to know of the target. */
export interface LoginPolicy {
  /** The only name that is served. */
  readonly targetName: string;
  /** What people call it. */
  readonly targetAlias: string;
  /** Whom to let in; undefined: everybody. */
  readonly chap?: ChapSettings | undefined;
}

/** The parts of a login request that matter to the negotiation. */
export interface LoginRequest {
  /** T bit. */
  readonly transit: boolean;
  /** C bit: the text goes on in the next request. */
  readonly goesOn: boolean;
  /** CSG, see {@linkcode Stage}. */
  readonly currentStage: number;
  /** NSG, see {@linkcode Stage}. */
  readonly nextStage: number;
  /** Lowest protocol version the initiator speaks; 0 is the only one there is. */
  readonly versionMin: number;
  /** The pairs as bytes. */
  readonly text: Uint8Array;
}

/** What to answer. Text is shorter than 8192 bytes: the key limit makes sure. */
export interface LoginResponse {
  /** One of {@linkcode LoginStatus}. */
  readonly status: number;
  /** T bit. */
  readonly transit: boolean;
  /** CSG, see {@linkcode Stage}. */
  readonly currentStage: number;
  /** NSG, see {@linkcode Stage}. */
  readonly nextStage: number;
  /** The pairs as bytes. */
  readonly text: Uint8Array;
  /** For the log, when the status is not success. */
  readonly reason: string;
}

/** Keys that are stated, not negotiated, or have a state machine of their own: initiators repeat them. */
const REPEATABLE = /^(CHAP_.|InitiatorName|InitiatorAlias|TargetName|SessionType|AuthMethod)$/;

const NO_TEXT = new Uint8Array(0);

/** Compares iSCSI names, which are case-insensitive (RFC 7143 section 4.2.7.2; ASCII is enough for ours). */
export function sameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

/** One login. */
export class Login {
  /** What is agreed on so far. */
  readonly parameters = new Parameters();
  #stage = -1;
  #chap: Chap | undefined;
  #requests = 0;
  #collected: Uint8Array[] = [];
  #collectedBytes = 0;
  #named = false;
  #declared = false;
  #segmentDeclared = false;
  #authenticated = false;
  readonly #seen = new Set<string>();

  /**
   * Begins a login.
   *
   * @param policy of the target; `chap` there makes authentication mandatory
   */
  constructor(readonly policy: LoginPolicy) {}

  /** True after the transit to the full feature phase. */
  get done(): boolean {
    return this.#stage === Stage.FULL_FEATURE;
  }

  /** Takes one request. */
  receive(request: LoginRequest): LoginResponse {
    try {
      return this.#receive(request);
    } catch (error) {
      if (!(error instanceof TextError)) throw error;
      return this.#fail(request, LoginStatus.INITIATOR_ERROR, error.message);
    }
  }

  #receive(request: LoginRequest): LoginResponse {
    const { currentStage } = request;
    if (++this.#requests > MAX_REQUESTS) {
      return this.#fail(request, LoginStatus.INITIATOR_ERROR, `no end after ${MAX_REQUESTS} login requests`);
    }
    if (request.versionMin > 0) {
      return this.#fail(request, LoginStatus.UNSUPPORTED_VERSION, `version ${request.versionMin} asked for`);
    }
    if (currentStage > Stage.OPERATIONAL || (this.#stage >= 0 && currentStage !== this.#stage)) {
      return this.#fail(request, LoginStatus.INVALID_REQUEST, `stage ${currentStage} out of turn`);
    }
    if (request.transit && (request.nextStage <= currentStage || request.nextStage === 2)) {
      return this.#fail(
        request,
        LoginStatus.INVALID_REQUEST,
        `no transit ${currentStage} to ${request.nextStage}`,
      );
    }
    this.#stage = currentStage;
    this.#collectedBytes += request.text.length;
    if (this.#collectedBytes > MAX_TEXT_BYTES) {
      throw new TextError(`more than ${MAX_TEXT_BYTES} bytes of text`);
    }
    this.#collected.push(request.text.slice());
    if (request.goesOn) {
      if (request.transit) {
        return this.#fail(request, LoginStatus.INVALID_REQUEST, "transit before the end of the text");
      }
      return this.#answer(request, [], false);
    }
    const pairs = parsePairs(join(this.#collected, this.#collectedBytes));
    this.#collected = [];
    this.#collectedBytes = 0;
    for (const key of pairs.keys()) {
      if (this.#seen.has(key) && !REPEATABLE.test(key)) {
        throw new TextError(`key ${key} is negotiated twice`);
      }
      this.#seen.add(key);
    }
    return this.#identify(request, pairs) ?? this.#proceed(request, pairs);
  }

  /** The first complete request names both sides. */
  #identify(request: LoginRequest, pairs: ReadonlyMap<string, string>): LoginResponse | undefined {
    if (this.#named) return undefined;
    this.#named = true;
    const p = this.parameters;
    p.initiatorName = pairs.get("InitiatorName") ?? "";
    p.initiatorAlias = pairs.get("InitiatorAlias") ?? "";
    p.targetName = pairs.get("TargetName") ?? "";
    if (p.initiatorName === "" || p.initiatorName.length > MAX_NAME_BYTES) {
      return this.#fail(request, LoginStatus.MISSING_PARAMETER, "no usable InitiatorName");
    }
    const type = pairs.get("SessionType") ?? "Normal";
    if (type === "Discovery") p.discovery = true;
    else if (type !== "Normal") {
      return this.#fail(request, LoginStatus.SESSION_TYPE, `session type "${clip(type)}"`);
    } else if (p.targetName === "") {
      return this.#fail(request, LoginStatus.MISSING_PARAMETER, "no TargetName");
    } else if (!sameName(p.targetName, this.policy.targetName)) {
      return this.#fail(request, LoginStatus.NOT_FOUND, `target "${clip(p.targetName)}" is not here`);
    }
    const { chap } = this.policy;
    if (chap && (!p.discovery || chap.discovery)) this.#chap = new Chap(chap);
    else this.#authenticated = true;
    return undefined;
  }

  #proceed(request: LoginRequest, pairs: ReadonlyMap<string, string>): LoginResponse {
    const answers: [string, string][] = [];
    if (!this.#declared) {
      this.#declared = true;
      if (!this.parameters.discovery) {
        answers.push(["TargetPortalGroupTag", String(PORTAL_GROUP_TAG)]);
        if (this.policy.targetAlias !== "") answers.push(["TargetAlias", this.policy.targetAlias]);
      }
    }
    if (this.#stage === Stage.SECURITY) {
      const refused = this.#security(request, pairs, answers);
      if (refused) return refused;
    }
    const operational = new Map(
      [...pairs].filter(([key]) => key !== "AuthMethod" && !key.startsWith("CHAP_")),
    );
    if (this.#stage === Stage.OPERATIONAL && !this.#authenticated) {
      return this.#fail(request, LoginStatus.AUTHENTICATION_FAILED, "authentication was skipped");
    }
    if (this.#stage === Stage.OPERATIONAL && !this.#segmentDeclared) {
      this.#segmentDeclared = true;
      answers.push(["MaxRecvDataSegmentLength", String(MAX_RECEIVE_BYTES)]);
    }
    answers.push(...negotiate(operational, this.parameters));
    const transit = request.transit && this.#authenticated;
    if (request.transit && !transit && request.nextStage === Stage.FULL_FEATURE && !pairs.has("CHAP_A")) {
      // Nothing is under way that could still prove who this is.
      if (!pairs.has("AuthMethod")) {
        return this.#fail(request, LoginStatus.AUTHENTICATION_FAILED, "authentication is required");
      }
    }
    return this.#answer(request, answers, transit);
  }

  #security(
    request: LoginRequest,
    pairs: ReadonlyMap<string, string>,
    answers: [string, string][],
  ): LoginResponse | undefined {
    const methods = pairs.get("AuthMethod");
    if (methods !== undefined) {
      const method = this.#chap ? "CHAP" : "None";
      if (!methods.split(",").includes(method)) {
        return this.#fail(
          request,
          LoginStatus.AUTHENTICATION_FAILED,
          `AuthMethod ${method} is required, offered "${clip(methods)}"`,
        );
      }
      answers.push(["AuthMethod", method]);
    }
    const step = this.#chap?.step(pairs);
    if (step?.kind === "failed") return this.#fail(request, LoginStatus.AUTHENTICATION_FAILED, step.reason);
    if (step) {
      answers.push(...step.pairs);
      if (step.done) this.#authenticated = true;
    }
    return undefined;
  }

  #answer(request: LoginRequest, pairs: [string, string][], transit: boolean): LoginResponse {
    const currentStage = this.#stage;
    if (transit) this.#stage = request.nextStage;
    return {
      status: LoginStatus.SUCCESS,
      transit,
      currentStage,
      nextStage: transit ? request.nextStage : 0,
      text: formatPairs(pairs),
      reason: "",
    };
  }

  #fail(request: LoginRequest, status: number, reason: string): LoginResponse {
    const { currentStage } = request;
    return { status, transit: false, currentStage, nextStage: 0, text: NO_TEXT, reason };
  }
}

function join(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
