/**
 * The full feature phase: what each PDU of a logged-in initiator does (RFC 7143 chapter 11).
 *
 * @module
 */
import { NO_BUFFER } from "../../io/pool.ts";
import type { Connection } from "./connection.ts";
import { negotiate } from "./negotiation.ts";
import {
  AsyncEvent,
  CONTINUE,
  Field,
  FINAL,
  IMMEDIATE,
  Logout,
  NO_TAG,
  Opcode,
  OPCODE_MASK,
  READ_FLAG,
  RejectReason,
  serialBefore,
  WRITE_FLAG,
} from "./pdu.ts";
import { Asc, NOTHING } from "./scsi/sense.ts";
import { type Task, TaskState } from "./scsi/task.ts";
import type { Session } from "./session.ts";
import { manageTasks } from "./task_management.ts";
import { TextError } from "./errors.ts";
import { formatPairs, MAX_TEXT_BYTES, parsePairs } from "./text.ts";

/** Longest ping that is answered whole, bytes; of longer ones the start comes back. */
const MAX_PONG_BYTES = 16 * 1024;
/** Keys that may still be negotiated after the login (RFC 7143 chapter 13, "FFPO" and "ALL"). */
const LATE_KEYS: ReadonlySet<string> = new Set(["MaxRecvDataSegmentLength", "InitiatorAlias", "TargetAlias"]);
const NO_BYTES = new Uint8Array(0);

/** Handles the PDUs of one connection after its login. */
export class FullFeature {
  readonly #c: Connection;
  readonly #u8: Uint8Array;
  readonly #view: DataView;
  /** A task whose data waits for memory: the next {@linkcode begin} goes on with it. */
  /** PDUs with data that came: by it who sends is told from who stands still. */
  #dataPdus = 0;
  #seenPdus = 0;
  #stillTicks = 0;
  #starved = false;
  #starvedLength = 0;
  /** Text of a request in several PDUs. */
  #text: Uint8Array = NO_BYTES;
  #textTag = 1;
  #pingTag = 1;

  /**
   * Handles nothing until there is a session.
   *
   * @param connection whose PDUs these are
   */
  constructor(connection: Connection) {
    this.#c = connection;
    this.#u8 = connection.io.arena.u8;
    this.#view = connection.io.arena.view;
  }

  get #session(): Session {
    return this.#c.session as Session;
  }

  // ---- SCSI Command and Data-Out -----------------------------------------------------------------------------

  /**
   * Handles the header of a PDU whose data goes to a task, and says where that is (`sink`).
   * @returns false when memory is missing: to be called again, or the connection was closed
   */
  begin(length: number): boolean {
    const { bhs, sink } = this.#c;
    if (this.#starved && sink.task) {
      this.#starved = false;
      return this.#place(sink.task, this.#starvedLength);
    }
    return (this.#u8[bhs] & OPCODE_MASK) === Opcode.SCSI_COMMAND
      ? this.#command(length)
      : this.#dataOut(length);
  }

  /**
   * Takes the next command number.
   * @returns false when the PDU is to be ignored: outside the window (RFC 7143 section 4.2.2.1)
   */
  #accept(): boolean {
    const { bhs } = this.#c, session = this.#session;
    if (this.#u8[bhs] & IMMEDIATE) return true;
    const cmdSN = this.#view.getUint32(bhs + Field.CMD_SN);
    if (serialBefore(cmdSN, session.expCmdSN) || serialBefore(session.maxCmdSN, cmdSN)) return false;
    if (cmdSN !== session.expCmdSN) {
      // One connection delivers in order; what is missing will never come.
      this.#c.close("sequence", `CmdSN ${cmdSN} came, ${session.expCmdSN} was expected`);
      return false;
    }
    session.expCmdSN = (cmdSN + 1) >>> 0;
    return true;
  }

  #command(length: number): boolean {
    const c = this.#c, { bhs, sink } = c, session = this.#session, u8 = this.#u8, view = this.#view;
    if (!this.#accept()) return !c.closing;
    const immediate = (u8[bhs] & IMMEDIATE) !== 0;
    const task = session.allocate(immediate);
    if (!task) {
      c.sender.reject(RejectReason.TOO_MANY_IMMEDIATE, bhs);
      return true;
    }
    const flags = u8[bhs + Field.FLAGS];
    task.tag = view.getUint32(bhs + Field.TASK_TAG);
    task.cmdSN = view.getUint32(bhs + Field.CMD_SN);
    task.expected = view.getUint32(bhs + Field.EXPECTED_LENGTH);
    task.lunHigh = view.getUint32(bhs + Field.LUN);
    task.lunLow = view.getUint32(bhs + Field.LUN + 4);
    task.lunKnown = c.target.isOurs(task.lunHigh, task.lunLow);
    task.attribute = flags & 7;
    task.isWrite = (flags & WRITE_FLAG) !== 0;
    // No command here moves data both ways: with both bits set, the data is the initiator's.
    task.isRead = (flags & READ_FLAG) !== 0 && !task.isWrite;
    u8.copyWithin(task.cdb, bhs + Field.CDB, bhs + Field.CDB + 16);
    task.state = TaskState.RECEIVING;
    task.refused = !session.unit.begin(task);
    sink.task = task;
    if (!task.isWrite) return true;
    this.#expectData(task, flags, length);
    return this.#place(task, length);
  }

  /** Works out what data of a write comes unasked, and whether it may. */
  #expectData(task: Task, flags: number, length: number): void {
    const session = this.#session, { parameters } = session;
    const unasked = Math.min(parameters.firstBurstLength, task.expected);
    task.burstEnd = unasked;
    if (!(flags & FINAL)) {
      if (parameters.initialR2T) session.dataError(task, Asc.UNEXPECTED_UNSOLICITED_DATA);
      else task.bursting = true;
    }
    if (length > 0 && (!parameters.immediateData || length > unasked)) {
      session.dataError(task, Asc.UNEXPECTED_UNSOLICITED_DATA);
    }
    task.wanted = task.refused ? 0 : Math.min(task.expected, task.outBytes);
  }

  #dataOut(length: number): boolean {
    const { bhs, sink } = this.#c, view = this.#view, session = this.#session;
    const task = session.findForData(
      view.getUint32(bhs + Field.TASK_TAG),
      view.getUint32(bhs + Field.TRANSFER_TAG),
    );
    // Data of a task that was aborted or answered early still comes; nobody wants it.
    if (!task) return true;
    sink.task = task;
    const wrong = view.getUint32(bhs + Field.BUFFER_OFFSET) !== task.arrived ||
      view.getUint32(bhs + Field.DATA_SN) !== task.expectedDataSN || task.arrived + length > task.burstEnd;
    if (wrong) session.dataError(task, Asc.DATA_PHASE_ERROR);
    task.expectedDataSN++;
    return this.#place(task, length);
  }

  /** Finds the place for the next bytes of a task. @returns false when there is no memory now */
  #place(task: Task, length: number): boolean {
    const { sink } = this.#c, session = this.#session;
    const take = task.refused || task.aborted ? 0 : Math.max(0, Math.min(length, task.wanted - task.arrived));
    if (take > 0 && task.buffer === NO_BUFFER) {
      if (!session.unit.memory.take(task, task.wanted)) {
        // Memory that others of this connection hold comes back only after their data, which is behind ours.
        if (session.hasOthersReceiving(task)) {
          session.busy(task);
          return true;
        }
        this.#starved = true;
        this.#starvedLength = length;
        return false;
      }
    }
    sink.at = task.buffer + task.arrived;
    sink.take = take;
    return true;
  }

  /** The data of a PDU that went to a task is complete. */
  end(task: Task | undefined, length: number): void {
    if (!task) return;
    task.arrived += length;
    this.#dataPdus = (this.#dataPdus + 1) | 0;
    if (!task.refused) task.received = Math.min(task.arrived, task.wanted);
    if (this.#u8[this.#c.bhs + Field.FLAGS] & FINAL) {
      const short = task.transferTag !== NOTHING && task.arrived < task.burstEnd;
      if (short) this.#session.dataError(task, Asc.NOT_ENOUGH_UNSOLICITED_DATA);
      task.bursting = false;
    }
    this.#session.advance(task);
  }

  // ---- everything else ---------------------------------------------------------------------------------------

  /** Handles a PDU whose data, if any, lies in the window. */
  handle(opcode: number, at: number, length: number): void {
    const c = this.#c, { bhs } = c, { discovery } = this.#session.parameters;
    switch (opcode) {
      case Opcode.NOP_OUT:
        return this.#nop(at, length);
      case Opcode.TEXT:
        return this.#textRequest(at, length);
      case Opcode.LOGOUT:
        return this.#logout();
      case Opcode.TASK_MANAGEMENT:
        if (discovery) return c.sender.reject(RejectReason.PROTOCOL_ERROR, bhs);
        if (this.#accept()) manageTasks(c, this.#session);
        return;
      case Opcode.SNACK:
        return c.sender.reject(RejectReason.SNACK, bhs);
      case Opcode.LOGIN:
        return c.close("protocol", "login request after the login");
      case Opcode.SCSI_COMMAND:
      case Opcode.DATA_OUT:
        return c.sender.reject(RejectReason.PROTOCOL_ERROR, bhs); // in a discovery session
      default:
        return c.sender.reject(RejectReason.NOT_SUPPORTED, bhs);
    }
  }

  #nop(at: number, length: number): void {
    const { bhs, sender } = this.#c, view = this.#view;
    const tag = view.getUint32(bhs + Field.TASK_TAG);
    if (!this.#accept() || tag === NO_TAG) return; // no tag: an answer to our ping
    const bytes = Math.min(length, MAX_PONG_BYTES, sender.segmentLength);
    const high = view.getUint32(bhs + Field.LUN), low = view.getUint32(bhs + Field.LUN + 4);
    sender.pong(tag, high, low, bytes === 0 ? NO_BYTES : this.#u8.subarray(at, at + bytes));
  }

  /** True inside of a text request in several PDUs. */
  get reading(): boolean {
    return this.#text.length > 0;
  }

  /**
   * Called every so often. An initiator that sends nothing of the data that it was asked for from one call to the
   * next, while others wait for memory, is closed: it logs in again and repeats its commands.
   */
  tick(): void {
    const session = this.#session;
    session.pump();
    const still = this.#seenPdus === this.#dataPdus && session.awaitsData &&
      session.unit.memory.starvesBeside(session);
    this.#seenPdus = this.#dataPdus;
    this.#stillTicks = still ? this.#stillTicks + 1 : 0;
    if (this.#stillTicks < 2) return;
    const seconds = this.#c.target.timing.pingMs / 1000;
    this.#c.close("timeout", `sent no data for ${seconds} s that it was asked for, while others waited`);
  }

  /** Asks the initiator for a sign of life. */
  ping(): void {
    this.#pingTag = (this.#pingTag % 0x7fffffff) + 1;
    this.#c.sender.ping(this.#pingTag);
  }

  /** Asks the initiator to log out within some seconds. */
  requestLogout(seconds: number): void {
    this.#c.sender.asyncMessage(AsyncEvent.LOGOUT_REQUEST, 0, 0, seconds);
  }

  #logout(): void {
    const c = this.#c, { bhs, sender } = c;
    if (!this.#accept()) return;
    const reason = this.#u8[bhs + Field.FLAGS] & 0x7f;
    const tag = this.#view.getUint32(bhs + Field.TASK_TAG);
    const cid = this.#view.getUint16(bhs + Field.CID);
    const { defaultTime2Wait } = this.#session.parameters;
    if (reason > Logout.FOR_RECOVERY) return sender.reject(RejectReason.PROTOCOL_ERROR, bhs);
    if (reason === Logout.FOR_RECOVERY) return sender.logout(tag, Logout.NO_RECOVERY, defaultTime2Wait);
    if (reason === Logout.CLOSE_CONNECTION && cid !== c.cid) return sender.logout(tag, Logout.NO_CID, 0);
    sender.logout(tag, Logout.SUCCESS, 0);
    c.finish("logout", "logged out");
  }

  // ---- text --------------------------------------------------------------------------------------------------

  #textRequest(at: number, length: number): void {
    const c = this.#c, { bhs, sender } = c, view = this.#view;
    if (!this.#accept()) return;
    const tag = view.getUint32(bhs + Field.TASK_TAG), flags = this.#u8[bhs + Field.FLAGS];
    if (view.getUint32(bhs + Field.TRANSFER_TAG) === NO_TAG) this.#text = NO_BYTES;
    if (this.#text.length + length > MAX_TEXT_BYTES) {
      this.#text = NO_BYTES;
      return sender.reject(RejectReason.OUT_OF_RESOURCES, bhs);
    }
    this.#text = concatenate(this.#text, this.#u8.subarray(at, at + length));
    this.#textTag = (this.#textTag % 0x7fffffff) + 1;
    if (flags & CONTINUE) return sender.text(tag, 0, this.#textTag, NO_BYTES);
    try {
      const answer = formatPairs(this.#answer(parsePairs(this.#text)));
      const final = (flags & FINAL) !== 0;
      sender.text(tag, final ? FINAL : 0, final ? NO_TAG : this.#textTag, answer);
    } catch (error) {
      if (!(error instanceof TextError)) throw error;
      sender.reject(RejectReason.PROTOCOL_ERROR, bhs);
    }
    this.#text = NO_BYTES;
  }

  #answer(pairs: ReadonlyMap<string, string>): [string, string][] {
    const { parameters } = this.#session, answers: [string, string][] = [];
    const wanted = pairs.get("SendTargets");
    if (wanted !== undefined) answers.push(...this.#c.target.sendTargets(wanted, parameters));
    for (const [key, value] of pairs) {
      if (key === "SendTargets") continue;
      const late = LATE_KEYS.has(key);
      for (const [, answer] of negotiate(new Map([[key, value]]), late ? parameters : { ...parameters })) {
        answers.push([key, late || answer === "NotUnderstood" ? answer : "Reject"]);
      }
    }
    this.#c.sender.segmentLength = parameters.sendSegmentLength;
    return answers;
  }
}

function concatenate(a: Uint8Array, b: Uint8Array): Uint8Array {
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}
