/**
 * The login of an iSCSI session: no authentication, no digests, and the parameters that Linux' initiator proposes,
 * except that the target asks for all data beyond the immediate (InitialR2T=Yes).
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import type { Stream } from "../io/stream.ts";
import {
  BHS_BYTES,
  FINAL,
  FIRST_BURST_BYTES,
  IMMEDIATE,
  LOGIN_REQUEST,
  LOGIN_RESPONSE,
  MAX_BURST_BYTES,
  MAX_RECEIVE_BYTES,
  MAX_TEXT_BYTES,
  OPCODE_MASK,
  STAGE_FULL_FEATURE,
  STAGE_OPERATIONAL,
  STAGE_SECURITY,
} from "./iscsi_protocol.ts";
import { BenchError } from "./target.ts";

/** Name of this initiator. A target that admits only certain initiators must admit it. */
export const INITIATOR_NAME = "iqn.2019-10.io.longhorn:drover-bench";

/** Requests of one login before it is given up: a target that never goes on. */
const MAX_REQUESTS = 10;

/** Classes and details of refusals (RFC 7143 section 11.13.5) that have something to say. */
const REFUSALS: Readonly<Record<number, string>> = {
  0x0101: "the target has moved for a while",
  0x0102: "the target has moved",
  0x0201: "it wants authentication, which this client does not have",
  0x0202: `it does not admit ${INITIATOR_NAME}`,
  0x0203: "there is no such target",
  0x0206: "it has too many connections",
  0x0301: "it is out of service",
  0x0302: "it is out of resources",
};

/** The initiator's side of a login. */
export class IscsiLogin {
  /** Largest data segment that the target takes, bytes. Default of RFC 7143 section 13.12. */
  sendSegmentBytes = 8192;
  /** Largest data that may come with a command, bytes; 0: none. */
  immediateBytes = 65536;
  /** Sequence number of the first command. */
  cmdSN = 1;
  /** Highest command number that the target takes. */
  maxCmdSN = 1;
  /** What we expect next of the target's status numbers. */
  expStatSN = 0;
  #stage = STAGE_SECURITY;
  #requests = 0;

  /** Sends nothing yet. @param isid six bytes that tell our sessions apart */
  constructor(readonly io: Io, readonly targetName: string, readonly isid: Uint8Array) {}

  /** Sends the first request. */
  begin(stream: Stream): void {
    this.#request(stream, [
      ["InitiatorName", INITIATOR_NAME],
      ["SessionType", "Normal"],
      ["TargetName", this.targetName],
      ["AuthMethod", "None"],
    ]);
  }

  #request(stream: Stream, pairs: readonly (readonly [string, string])[]): void {
    if (++this.#requests > MAX_REQUESTS) throw new BenchError("the login does not come to an end");
    const text = new TextEncoder().encode(pairs.map(([key, value]) => `${key}=${value}\0`).join(""));
    const padded = (text.length + 3) & ~3;
    const { view, u8 } = this.io.arena, at = stream.header(BHS_BYTES + padded);
    u8.fill(0, at, at + BHS_BYTES + padded);
    const next = this.#stage === STAGE_SECURITY ? STAGE_OPERATIONAL : STAGE_FULL_FEATURE;
    u8[at] = LOGIN_REQUEST | IMMEDIATE;
    u8[at + 1] = FINAL | (this.#stage << 2) | next;
    view.setUint32(at + 4, text.length);
    u8.set(this.isid, at + 8);
    view.setUint32(at + 24, this.cmdSN);
    view.setUint32(at + 28, this.expStatSN);
    u8.set(text, at + BHS_BYTES);
  }

  /**
   * Goes on with what the stream has.
   * @returns true when the session is in its full feature phase
   * @throws {BenchError} when the target refuses
   */
  advance(stream: Stream): boolean {
    if (stream.available < BHS_BYTES) return false;
    const { view, u8 } = this.io.arena, at = stream.position;
    const length = view.getUint32(at + 4) & 0xffffff, padded = (length + 3) & ~3;
    if ((u8[at] & OPCODE_MASK) !== LOGIN_RESPONSE || length > MAX_TEXT_BYTES) {
      throw new BenchError("the other side is no iSCSI target: it does not answer a login");
    }
    if (stream.available < BHS_BYTES + padded) return false;
    stream.consume(BHS_BYTES + padded);
    const status = view.getUint16(at + 36);
    if (status !== 0) {
      const why = REFUSALS[status] ?? `status 0x${status.toString(16).padStart(4, "0")}`;
      throw new BenchError(`the login to ${this.targetName} was refused: ${why}`);
    }
    this.expStatSN = (view.getUint32(at + 24) + 1) >>> 0;
    this.cmdSN = view.getUint32(at + 28);
    this.maxCmdSN = view.getUint32(at + 32);
    const text = new TextDecoder().decode(u8.slice(at + BHS_BYTES, at + BHS_BYTES + length));
    if (this.#stage === STAGE_OPERATIONAL) this.#agree(text);
    const flags = u8[at + 1], transit = (flags & FINAL) !== 0;
    if (transit && (flags & 3) === STAGE_FULL_FEATURE) return true;
    if (transit && this.#stage === STAGE_SECURITY) {
      this.#stage = STAGE_OPERATIONAL;
      this.#request(stream, OPERATIONAL);
    } else this.#request(stream, []);
    return false;
  }

  #agree(text: string): void {
    let immediate = true, firstBurst = FIRST_BURST_BYTES;
    for (const pair of text.split("\0")) {
      const [key, value = ""] = pair.split("=");
      if (key === "MaxRecvDataSegmentLength") this.sendSegmentBytes = Math.max(512, Number(value) || 8192);
      else if (key === "FirstBurstLength") firstBurst = Number(value) || 0;
      else if (key === "ImmediateData") immediate = value === "Yes";
    }
    this.immediateBytes = immediate ? Math.min(firstBurst, this.sendSegmentBytes) : 0;
  }
}

const OPERATIONAL: readonly (readonly [string, string])[] = [
  ["HeaderDigest", "None"],
  ["DataDigest", "None"],
  ["MaxRecvDataSegmentLength", String(MAX_RECEIVE_BYTES)],
  ["InitialR2T", "Yes"],
  ["ImmediateData", "Yes"],
  ["MaxBurstLength", String(MAX_BURST_BYTES)],
  ["FirstBurstLength", String(FIRST_BURST_BYTES)],
  ["DefaultTime2Wait", "2"],
  ["DefaultTime2Retain", "0"],
  ["MaxOutstandingR2T", "1"],
  ["ErrorRecoveryLevel", "0"],
  ["MaxConnections", "1"],
  ["DataPDUInOrder", "Yes"],
  ["DataSequenceInOrder", "Yes"],
];
