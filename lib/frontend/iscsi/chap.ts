/**
 * CHAP for iSCSI logins: RFC 7143 section 12.1.3 and RFC 1994, one-way and mutual.
 *
 * The target challenges; the answer is a hash over the identifier, the secret and the challenge. With mutual
 * CHAP the initiator challenges as well. What a careless implementation gets wrong and is guarded here: a
 * challenge sent back to us (reflection), one secret for both directions, and comparing byte by byte with an
 * early exit.
 *
 * @module
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { Buffer } from "node:buffer";
import { SettingError } from "./errors.ts";
import { formatHex, parseBinary, parseNumber } from "./text.ts";

/** A name and its secret. */
export interface Credentials {
  /** The name, as in `CHAP_N`. */
  readonly user: string;
  /** The secret, as UTF-8. */
  readonly secret: string;
}

/** Who may log in, and who we are to them. */
export interface ChapSettings extends Credentials {
  /** Our side for initiators that ask us to prove ourselves. The secret must differ from the other one. */
  readonly mutual?: Credentials;
  /** Ask for it in discovery sessions as well. Default: no, they only learn the target's name. */
  readonly discovery?: boolean;
}

/** Hash functions by their number in `CHAP_A` (IANA PPP authentication algorithms; RFC 7143 section 12.1.3). */
const ALGORITHMS: ReadonlyMap<number, { readonly hash: string; readonly challengeBytes: number }> = new Map([
  [5, { hash: "md5", challengeBytes: 16 }],
  [6, { hash: "sha1", challengeBytes: 20 }],
  [7, { hash: "sha256", challengeBytes: 32 }],
  [8, { hash: "sha3-256", challengeBytes: 32 }],
]);
/** Longest challenge or response taken from a peer, bytes (RFC 7143 section 12.1.3). */
const MAX_BINARY_BYTES = 1024;

/** Refuses settings that would make CHAP worthless. @throws {SettingError} */
export function checkChap(settings: ChapSettings): void {
  if (settings.user === "" || settings.secret === "") throw new SettingError("CHAP: empty user or secret");
  if (settings.mutual && settings.mutual.secret === settings.secret) {
    throw new SettingError(
      "CHAP: the mutual secret must differ from the initiator's (RFC 7143 section 9.2.1)",
    );
  }
}

/** The answer to a challenge. */
export function chapResponse(hash: string, id: number, secret: string, challenge: Uint8Array): Uint8Array {
  return createHash(hash).update(Buffer.from([id])).update(secret, "utf8").update(challenge).digest();
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** What one step of CHAP ends with. */
export type ChapStep =
  | { readonly kind: "answer"; readonly pairs: [string, string][]; readonly done: boolean }
  | { readonly kind: "failed"; readonly reason: string };

/** The target's side of one exchange. */
export class Chap {
  #algorithm: { readonly hash: string; readonly challengeBytes: number } | undefined;
  #id = 0;
  #challenge: Uint8Array = new Uint8Array(0);
  #done = false;

  /**
   * Begins an exchange.
   *
   * @param random fills bytes with secure randomness; a parameter for tests
   */
  constructor(
    readonly settings: ChapSettings,
    readonly random: (bytes: Uint8Array<ArrayBuffer>) => void = (bytes) => void crypto.getRandomValues(bytes),
  ) {}

  /** True after the initiator proved itself. */
  get done(): boolean {
    return this.#done;
  }

  /** Takes the CHAP keys of one request; undefined when there are none. */
  step(pairs: ReadonlyMap<string, string>): ChapStep | undefined {
    const offered = pairs.get("CHAP_A");
    if (offered !== undefined) return this.#challengeFor(offered);
    if (pairs.has("CHAP_N") || pairs.has("CHAP_R")) return this.#verify(pairs);
    return undefined;
  }

  #challengeFor(offered: string): ChapStep {
    if (this.#algorithm) return { kind: "failed", reason: "CHAP_A is given twice" };
    for (const item of offered.split(",")) {
      const number = parseNumber(item, 0, 255);
      this.#algorithm = number === undefined ? undefined : ALGORITHMS.get(number);
      if (!this.#algorithm) continue;
      const bytes = new Uint8Array(1 + this.#algorithm.challengeBytes);
      this.random(bytes);
      this.#id = bytes[0];
      this.#challenge = bytes.slice(1);
      return {
        kind: "answer",
        done: false,
        pairs: [["CHAP_A", String(number)], ["CHAP_I", String(this.#id)], [
          "CHAP_C",
          formatHex(this.#challenge),
        ]],
      };
    }
    return { kind: "failed", reason: `no CHAP algorithm in common with "${offered.slice(0, 40)}"` };
  }

  #verify(pairs: ReadonlyMap<string, string>): ChapStep {
    const algorithm = this.#algorithm;
    if (!algorithm || this.#done) return { kind: "failed", reason: "CHAP_R out of turn" };
    const { settings } = this;
    const name = Buffer.from(pairs.get("CHAP_N") ?? ""), wanted = Buffer.from(settings.user);
    const answer = parseBinary(pairs.get("CHAP_R") ?? "", MAX_BINARY_BYTES);
    const expected = chapResponse(algorithm.hash, this.#id, settings.secret, this.#challenge);
    // Both are compared in every case, so that the time taken does not tell which one was wrong.
    const nameRight = equal(name, wanted);
    const answerRight = answer !== undefined && equal(answer, expected);
    if (!nameRight || !answerRight) return { kind: "failed", reason: "wrong CHAP name or secret" };
    const answers: [string, string][] = [];
    if (pairs.has("CHAP_I") || pairs.has("CHAP_C")) {
      const refused = this.#answerBack(pairs, algorithm.hash, answers);
      if (refused) return { kind: "failed", reason: refused };
    }
    this.#done = true;
    return { kind: "answer", pairs: answers, done: true };
  }

  #answerBack(pairs: ReadonlyMap<string, string>, hash: string, out: [string, string][]): string | undefined {
    const mutual = this.settings.mutual;
    if (!mutual) return "mutual CHAP is asked for, but no secret is set for it";
    const id = parseNumber(pairs.get("CHAP_I") ?? "", 0, 255);
    const challenge = parseBinary(pairs.get("CHAP_C") ?? "", MAX_BINARY_BYTES);
    if (id === undefined || challenge === undefined) return "bad CHAP_I or CHAP_C";
    if (equal(challenge, this.#challenge)) return "our own challenge came back (reflection)";
    out.push(["CHAP_N", mutual.user]);
    out.push(["CHAP_R", formatHex(chapResponse(hash, id, mutual.secret, challenge))]);
    return undefined;
  }
}
