/**
 * Writes PDUs into a stream: headers into its ring, payloads by reference, digests where they are agreed on.
 *
 * Data-In carries the buffer the disk filled; the buffer gets one more reference for every PDU and loses it
 * when the PDU was sent, so the task itself is free as soon as everything of it is queued.
 *
 * @module
 */
import type { BufferPool } from "../../io/pool.ts";
import type { Stream } from "../../io/stream.ts";
import { PAGE_BYTES } from "../../io/arena.ts";
import type { Parameters } from "./negotiation.ts";
import { CRC_START, crcFinish, crcUpdate } from "./digest.ts";
import {
  BHS_BYTES,
  DIGEST_BYTES,
  Field,
  FINAL,
  NO_TAG,
  Opcode,
  OVERFLOW,
  padding,
  STATUS_FLAG,
  UNDERFLOW,
} from "./pdu.ts";
import { MAX_SENSE_BYTES, Status, writeSense } from "./scsi/sense.ts";
import type { Task } from "./scsi/task.ts";

/** The command window, as every PDU to the initiator tells it. */
export interface CommandWindow {
  /** Next CmdSN expected. */
  readonly expCmdSN: number;
  /** Last CmdSN there is room for. */
  readonly maxCmdSN: number;
}

/** The window of a connection that has not logged in. */
export class LoginWindow implements CommandWindow {
  /** See {@linkcode CommandWindow}. */
  expCmdSN = 0;
  /** See {@linkcode CommandWindow}. */
  get maxCmdSN(): number {
    return this.expCmdSN;
  }
}

/** Sends the PDUs of one connection. */
export class Sender {
  /** StatSN of the next response. */
  statSN = 1;
  /** Headers get a digest. */
  headerDigest = false;
  /** Data segments get a digest. */
  dataDigest = false;
  /** Largest data segment the initiator takes, bytes. */
  segmentLength = 8192;
  /** Largest sequence of Data-In, bytes. */
  burstLength = 262144;
  /** Payloads that are queued and not sent yet. */
  lent = 0;
  readonly #u8: Uint8Array;
  readonly #view: DataView;

  /**
   * Sends nothing yet.
   *
   * @param stream where to
   * @param pool whose buffers payloads lie in
   * @param window told in every PDU; exchanged at the end of the login
   */
  constructor(readonly stream: Stream, readonly pool: BufferPool, public window: CommandWindow) {
    this.#u8 = pool.arena.u8;
    this.#view = pool.arena.view;
  }

  /** What was agreed on is in force from the next PDU on. */
  agree(parameters: Parameters): void {
    this.headerDigest = parameters.headerDigest;
    this.dataDigest = parameters.dataDigest;
    this.segmentLength = parameters.sendSegmentLength;
    this.burstLength = parameters.maxBurstLength;
  }

  /** Bytes of a PDU of ours besides its data segment and padding. */
  #overhead(dataLength: number): number {
    return BHS_BYTES + (this.headerDigest ? DIGEST_BYTES : 0) +
      (this.dataDigest && dataLength > 0 ? DIGEST_BYTES : 0);
  }

  /** Starts a header: zeroed, with opcode, flags, data length, task tag and the window. */
  #begin(at: number, opcode: number, flags: number, tag: number, dataLength: number): void {
    const view = this.#view;
    this.#u8.fill(0, at, at + BHS_BYTES);
    view.setUint32(at, (opcode << 24) | (flags << 16));
    view.setUint32(at + Field.DATA_LENGTH, dataLength);
    view.setUint32(at + Field.TASK_TAG, tag);
    view.setUint32(at + Field.EXP_CMD_SN, this.window.expCmdSN);
    view.setUint32(at + Field.MAX_CMD_SN, this.window.maxCmdSN);
  }

  /** Puts StatSN in and counts it. */
  #status(at: number): void {
    this.#view.setUint32(at + Field.STAT_SN, this.statSN);
    this.statSN = (this.statSN + 1) >>> 0;
  }

  /** Ends a header. @returns the offset behind it and its digest */
  #seal(at: number): number {
    if (!this.headerDigest) return at + BHS_BYTES;
    const digest = crcFinish(crcUpdate(CRC_START, this.#u8, at, BHS_BYTES));
    this.#view.setUint32(at + BHS_BYTES, digest, true);
    return at + BHS_BYTES + DIGEST_BYTES;
  }

  /** Pads and digests a data segment that lies in the ring, right behind its header. */
  #sealData(at: number, length: number): void {
    const pad = padding(length);
    this.#u8.fill(0, at + length, at + length + pad);
    if (!this.dataDigest || length === 0) return;
    const digest = crcFinish(crcUpdate(CRC_START, this.#u8, at, length + pad));
    this.#view.setUint32(at + length + pad, digest, true);
  }

  /** A small PDU whose data, if any, is copied. @returns the offset of its header; call {@linkcode #finish} */
  #small(opcode: number, flags: number, tag: number, data: number): number {
    const at = this.stream.header(this.#overhead(data) + data + padding(data));
    this.#begin(at, opcode, flags, tag, data);
    return at;
  }

  #finish(at: number, data?: Uint8Array): void {
    const body = this.#seal(at);
    if (!data || data.length === 0) return;
    this.#u8.set(data, body);
    this.#sealData(body, data.length);
  }

  // ---- tasks -----------------------------------------------------------------------------------------------

  /**
   * Queues the next PDUs of a task that has its result.
   * @returns true when the response is complete; false when the send queue filled up before
   */
  result(task: Task): boolean {
    const sendable = task.isRead ? Math.min(task.inBytes, task.expected) : 0;
    const plain = task.status !== Status.CHECK_CONDITION;
    while (task.sent < sendable) {
      if (this.stream.congested) return false;
      const inBurst = task.sent % this.burstLength;
      const length = Math.min(this.segmentLength, this.burstLength - inBurst, sendable - task.sent);
      const last = task.sent + length === sendable;
      task.answered = last && plain;
      this.#dataIn(task, length, last || inBurst + length === this.burstLength, last && plain);
      if (last && plain) return true;
    }
    if (this.stream.congested) return false;
    task.answered = true;
    this.#response(task);
    return true;
  }

  #dataIn(task: Task, length: number, final: boolean, withStatus: boolean): void {
    const view = this.#view;
    const at = this.stream.header(this.headerDigest ? BHS_BYTES + DIGEST_BYTES : BHS_BYTES);
    const flags = (final ? FINAL : 0) | (withStatus ? STATUS_FLAG | residualFlag(task) : 0);
    this.#begin(at, Opcode.DATA_IN, flags, task.tag, length);
    view.setUint32(at + Field.TRANSFER_TAG, NO_TAG);
    view.setUint32(at + Field.DATA_SN, task.dataSN++);
    view.setUint32(at + Field.BUFFER_OFFSET, task.sent);
    if (withStatus) {
      this.#u8[at + Field.STATUS] = task.status;
      view.setUint32(at + Field.RESIDUAL, residual(task));
      this.#status(at);
    }
    this.#seal(at);
    const from = task.buffer + task.sent;
    this.pool.retain(task.buffer);
    this.lent++;
    this.stream.payload(from, length, task.buffer / PAGE_BYTES);
    task.sent += length;
    this.#trailer(from, length);
  }

  /** Padding and digest of a data segment that is no part of the ring. */
  #trailer(from: number, length: number): void {
    const pad = padding(length), bytes = pad + (this.dataDigest ? DIGEST_BYTES : 0);
    if (bytes === 0) return;
    const at = this.stream.header(bytes);
    this.#u8.fill(0, at, at + pad);
    if (!this.dataDigest) return;
    const state = crcUpdate(crcUpdate(CRC_START, this.#u8, from, length), this.#u8, at, pad);
    this.#view.setUint32(at + pad, crcFinish(state), true);
  }

  #response(task: Task): void {
    const sense = task.status === Status.CHECK_CONDITION;
    // Room for the longest sense data; the length that is really used is known after writing it.
    const descriptor = task.unit.mode.descriptorSense;
    const view = this.#view;
    const length = sense ? 2 + this.#senseLength(task, descriptor) : 0;
    const at = this.#small(Opcode.SCSI_RESPONSE, FINAL | residualFlag(task), task.tag, length);
    this.#u8[at + Field.STATUS] = task.status;
    view.setUint32(at + Field.DATA_SN, task.dataSN + task.r2tSN);
    view.setUint32(at + Field.RESIDUAL, residual(task));
    this.#status(at);
    const body = this.#seal(at);
    if (!sense) return;
    view.setUint16(body, length - 2);
    writeSense(this.#u8, body + 2, task, descriptor);
    this.#sealData(body, length);
  }

  #senseLength(task: Task, descriptor: boolean): number {
    if (!descriptor) return 18;
    return Math.min(MAX_SENSE_BYTES, 8 + (task.information >= 0 ? 12 : 0) + (task.field >= 0 ? 8 : 0));
  }

  /** Ready To Transfer: asks for the next `length` bytes. */
  r2t(task: Task, length: number): void {
    const at = this.#small(Opcode.R2T, FINAL, task.tag, 0), view = this.#view;
    view.setUint32(at + Field.LUN, task.lunHigh);
    view.setUint32(at + Field.LUN + 4, task.lunLow);
    view.setUint32(at + Field.TRANSFER_TAG, task.transferTag);
    view.setUint32(at + Field.STAT_SN, this.statSN); // shown, not counted
    view.setUint32(at + Field.DATA_SN, task.r2tSN++);
    view.setUint32(at + Field.BUFFER_OFFSET, task.arrived);
    view.setUint32(at + Field.DESIRED_LENGTH, length);
    this.#finish(at);
  }

  // ---- everything else -------------------------------------------------------------------------------------

  /** Answers a NOP-Out with its own data. */
  pong(tag: number, lunHigh: number, lunLow: number, data: Uint8Array): void {
    const at = this.#small(Opcode.NOP_IN, FINAL, tag, data.length), view = this.#view;
    view.setUint32(at + Field.LUN, lunHigh);
    view.setUint32(at + Field.LUN + 4, lunLow);
    view.setUint32(at + Field.TRANSFER_TAG, NO_TAG);
    this.#status(at);
    this.#finish(at, data);
  }

  /** Asks whether the initiator is there; it answers with the same transfer tag. */
  ping(transferTag: number): void {
    const at = this.#small(Opcode.NOP_IN, FINAL, NO_TAG, 0);
    this.#view.setUint32(at + Field.TRANSFER_TAG, transferTag);
    this.#view.setUint32(at + Field.STAT_SN, this.statSN);
    this.#finish(at);
  }

  /** Task Management Function Response. */
  taskManagement(tag: number, response: number): void {
    const at = this.#small(Opcode.TASK_MANAGEMENT_RESPONSE, FINAL, tag, 0);
    this.#u8[at + Field.RESPONSE] = response;
    this.#status(at);
    this.#finish(at);
  }

  /** Logout Response. */
  logout(tag: number, response: number, time2Wait: number): void {
    const at = this.#small(Opcode.LOGOUT_RESPONSE, FINAL, tag, 0);
    this.#u8[at + Field.RESPONSE] = response;
    this.#view.setUint16(at + 40, time2Wait);
    this.#status(at);
    this.#finish(at);
  }

  /** Text Response. `transferTag` is {@linkcode NO_TAG} in the last one. */
  text(tag: number, flags: number, transferTag: number, data: Uint8Array): void {
    const at = this.#small(Opcode.TEXT_RESPONSE, flags, tag, data.length);
    this.#view.setUint32(at + Field.TRANSFER_TAG, transferTag);
    this.#status(at);
    this.#finish(at, data);
  }

  /** Login Response. `head` is the ISID and TSIH: 8 bytes at arena offset. */
  login(tag: number, flags: number, status: number, isid: number, tsih: number, data: Uint8Array): void {
    const at = this.#small(Opcode.LOGIN_RESPONSE, flags, tag, data.length), view = this.#view;
    this.#u8.copyWithin(at + Field.ISID, isid, isid + 6);
    view.setUint16(at + Field.TSIH, tsih);
    view.setUint16(at + 36, status);
    this.#status(at);
    this.#finish(at, data);
  }

  /** Reject, with the header of the PDU that is rejected. */
  reject(reason: number, header: number): void {
    const at = this.#small(Opcode.REJECT, FINAL, NO_TAG, BHS_BYTES);
    this.#u8[at + Field.RESPONSE] = reason;
    this.#status(at);
    const body = this.#seal(at);
    this.#u8.copyWithin(body, header, header + BHS_BYTES);
    this.#sealData(body, BHS_BYTES);
  }

  /** Asynchronous Message. The three parameters are seconds or numbers that depend on the event. */
  asyncMessage(event: number, parameter1: number, parameter2: number, parameter3: number): void {
    const at = this.#small(Opcode.ASYNC, FINAL, NO_TAG, 0), view = this.#view;
    this.#u8[at + 36] = event;
    view.setUint16(at + 38, parameter1);
    view.setUint16(at + 40, parameter2);
    view.setUint16(at + 42, parameter3);
    this.#status(at);
    this.#finish(at);
  }

  /** Gives a payload back to the pool. */
  sent(token: number): void {
    this.lent--;
    this.pool.release(token * PAGE_BYTES);
  }
}

/** What the command would have transferred, in the direction the initiator chose. */
function asked(task: Task): number {
  return task.isWrite ? task.outBytes : task.isRead ? task.inBytes : task.outBytes + task.inBytes;
}

/** Bytes more or less than expected, RFC 7143 section 11.4.5. */
function residual(task: Task): number {
  return Math.abs(asked(task) - task.expected);
}

function residualFlag(task: Task): number {
  const difference = asked(task) - task.expected;
  return difference > 0 ? OVERFLOW : difference < 0 ? UNDERFLOW : 0;
}
