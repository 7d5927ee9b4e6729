/**
 * What an iSCSI initiator sends: commands with their immediate data as far as the target's window lets them, and
 * the data that the target asked for as far as the send queue has room.
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import type { Stream } from "../io/stream.ts";
import type { IscsiLogin } from "./iscsi_login.ts";
import {
  BHS_BYTES,
  CAPACITY_BYTES,
  DATA_OUT,
  FINAL,
  IMMEDIATE,
  LOGOUT_REQUEST,
  NO_TAG,
  NOP_OUT,
  READ_10,
  READ_16,
  READ_CAPACITY_16,
  READ_FLAG,
  SCSI_COMMAND,
  serialAfter,
  SERVICE_ACTION_IN_16,
  SIMPLE_TASK,
  TEST_UNIT_READY,
  WRITE_10,
  WRITE_16,
  WRITE_FLAG,
} from "./iscsi_protocol.ts";

const TWO_32 = 2 ** 32;
/** Highest block address and count that fit the ten byte commands. */
const MAX_ADDRESS_10 = 2 ** 32 - 1;
const MAX_COUNT_10 = 2 ** 16 - 1;
/** Where the CDB is in the header of a command. */
const CDB = 32;

/** What a task does. */
export const enum TaskKind {
  FREE,
  READ,
  WRITE,
  READY,
  CAPACITY,
}

/** The tasks of a session by tag, and their way to the target. */
export class IscsiSender {
  /** One of {@linkcode TaskKind} per tag. */
  readonly kind: Uint8Array;
  /** Arena offset of a task's data. */
  readonly at: Float64Array;
  /** Bytes of a task's data. */
  readonly length: Float64Array;
  /** Bytes of a logical block. */
  blockBytes = 512;
  /** What we expect next of the target's status numbers. */
  expStatSN = 0;
  /** Highest command number that the target takes. */
  maxCmdSN = 0;

  readonly #offset: Float64Array;
  readonly #lun: number;
  #cmdSN = 0;
  #immediateBytes = 0;
  #segmentBytes = 8192;
  // Tags that wait for the target's window, oldest first.
  readonly #waiting: Int32Array;
  #waitingFirst = 0;
  #waitingCount = 0;
  // Data that the target asked for, one request per task at most, oldest first.
  readonly #asked: Int32Array;
  readonly #askedTag: Uint32Array;
  readonly #askedFrom: Float64Array;
  readonly #askedLeft: Float64Array;
  readonly #dataSN: Uint32Array;
  #askedFirst = 0;
  #askedCount = 0;

  /** Makes room for the tasks. @param tasks most tasks at once */
  constructor(readonly io: Io, lun: number, tasks: number) {
    this.#lun = lun;
    this.kind = new Uint8Array(tasks);
    this.at = new Float64Array(tasks);
    this.length = new Float64Array(tasks);
    this.#offset = new Float64Array(tasks);
    this.#waiting = new Int32Array(tasks);
    this.#asked = new Int32Array(tasks);
    this.#askedTag = new Uint32Array(tasks);
    this.#askedFrom = new Float64Array(tasks);
    this.#askedLeft = new Float64Array(tasks);
    this.#dataSN = new Uint32Array(tasks);
  }

  /** Takes over what the login agreed on. */
  begin(login: IscsiLogin): void {
    this.#cmdSN = login.cmdSN;
    this.maxCmdSN = login.maxCmdSN;
    this.expStatSN = login.expStatSN;
    this.#immediateBytes = login.immediateBytes;
    this.#segmentBytes = login.sendSegmentBytes;
  }

  /** Queues a task; it leaves when the window lets it. */
  submit(stream: Stream, kind: TaskKind, offset: number, length: number, at: number, tag: number): void {
    this.kind[tag] = kind;
    this.#offset[tag] = offset;
    this.length[tag] = length;
    this.at[tag] = at;
    this.#waiting[(this.#waitingFirst + this.#waitingCount++) % this.#waiting.length] = tag;
    this.pump(stream);
  }

  /**
   * Queues data that the target asked for.
   * @returns false when it asks for what the task does not have, or twice
   */
  ask(stream: Stream, tag: number, transferTag: number, from: number, length: number): boolean {
    const fits = length > 0 && from + length <= this.length[tag];
    if (this.kind[tag] !== TaskKind.WRITE || !fits || this.#askedLeft[tag] > 0) return false;
    this.#askedTag[tag] = transferTag;
    this.#askedFrom[tag] = from;
    this.#askedLeft[tag] = length;
    this.#dataSN[tag] = 0;
    this.#asked[(this.#askedFirst + this.#askedCount++) % this.#asked.length] = tag;
    this.pump(stream);
    return true;
  }

  /** Sends what can be sent now. To be called whenever the window or the send queue may have opened. */
  pump(stream: Stream): void {
    if (stream.closing) return;
    while (this.#askedCount > 0 && !stream.congested) this.#dataOut(stream, this.#asked[this.#askedFirst]);
    while (
      this.#waitingCount > 0 && !stream.congested && !serialAfter(this.#cmdSN, this.maxCmdSN)
    ) {
      const tag = this.#waiting[this.#waitingFirst];
      this.#waitingFirst = (this.#waitingFirst + 1) % this.#waiting.length;
      this.#waitingCount--;
      this.#command(stream, tag);
    }
  }

  #dataOut(stream: Stream, tag: number): void {
    const length = Math.min(this.#askedLeft[tag], this.#segmentBytes), from = this.#askedFrom[tag];
    const last = length === this.#askedLeft[tag];
    const { view, u8 } = this.io.arena, header = this.#header(stream, DATA_OUT);
    if (last) u8[header + 1] = FINAL;
    view.setUint32(header + 4, length);
    view.setUint32(header + 16, tag);
    view.setUint32(header + 20, this.#askedTag[tag]);
    view.setUint32(header + 36, this.#dataSN[tag]++);
    view.setUint32(header + 40, from);
    stream.payload(this.at[tag] + from, length, tag);
    this.#askedFrom[tag] = from + length;
    this.#askedLeft[tag] -= length;
    if (!last) return;
    this.#askedFirst = (this.#askedFirst + 1) % this.#asked.length;
    this.#askedCount--;
  }

  #command(stream: Stream, tag: number): void {
    const { view, u8 } = this.io.arena, header = this.#header(stream, SCSI_COMMAND);
    const kind = this.kind[tag] as TaskKind, length = this.length[tag];
    view.setUint32(header + 16, tag);
    view.setUint32(header + 20, length);
    view.setUint32(header + 24, this.#cmdSN);
    this.#cmdSN = (this.#cmdSN + 1) >>> 0;
    if (kind === TaskKind.WRITE) {
      u8[header + 1] = FINAL | WRITE_FLAG | SIMPLE_TASK;
      this.#transfer(header + CDB, WRITE_10, WRITE_16, this.#offset[tag], length);
      const immediate = Math.min(length, this.#immediateBytes);
      view.setUint32(header + 4, immediate);
      if (immediate > 0) stream.payload(this.at[tag], immediate, tag);
      return;
    }
    u8[header + 1] = FINAL | (length > 0 ? READ_FLAG : 0) | SIMPLE_TASK;
    if (kind === TaskKind.READ) {
      this.#transfer(header + CDB, READ_10, READ_16, this.#offset[tag], length);
    } else if (kind === TaskKind.CAPACITY) {
      u8[header + CDB] = SERVICE_ACTION_IN_16;
      u8[header + CDB + 1] = READ_CAPACITY_16;
      view.setUint32(header + CDB + 10, CAPACITY_BYTES);
    } else u8[header + CDB] = TEST_UNIT_READY;
  }

  /** READ or WRITE, the ten byte form where it suffices (SBC-3 sections 5.11 and 5.12). */
  #transfer(cdb: number, op10: number, op16: number, offset: number, length: number): void {
    const { view, u8 } = this.io.arena;
    const address = offset / this.blockBytes, count = length / this.blockBytes;
    if (address + count <= MAX_ADDRESS_10 && count <= MAX_COUNT_10) {
      u8[cdb] = op10;
      view.setUint32(cdb + 2, address);
      view.setUint16(cdb + 7, count);
    } else {
      u8[cdb] = op16;
      view.setUint32(cdb + 2, address / TWO_32);
      view.setUint32(cdb + 6, address);
      view.setUint32(cdb + 10, count);
    }
  }

  /** Room for a header with what all have. */
  #header(stream: Stream, opcode: number): number {
    const { view, u8 } = this.io.arena, header = stream.header(BHS_BYTES);
    u8.fill(0, header, header + BHS_BYTES);
    u8[header] = opcode;
    // Single level addressing (SAM-5 section 4.6.6): the first level's number is in the second byte.
    u8[header + 9] = this.#lun;
    view.setUint32(header + 28, this.expStatSN);
    return header;
  }

  /** Answers a NOP-In that wants an answer. */
  pong(stream: Stream, transferTag: number): void {
    const { view, u8 } = this.io.arena, header = this.#header(stream, NOP_OUT | IMMEDIATE);
    u8[header + 1] = FINAL;
    view.setUint32(header + 16, NO_TAG);
    view.setUint32(header + 20, transferTag);
    view.setUint32(header + 24, this.#cmdSN);
  }

  /** Says farewell: closes the session. */
  logout(stream: Stream, tag: number): void {
    const { view, u8 } = this.io.arena, header = this.#header(stream, LOGOUT_REQUEST | IMMEDIATE);
    u8[header + 1] = FINAL;
    u8[header + 9] = 0;
    view.setUint32(header + 16, tag);
    view.setUint32(header + 24, this.#cmdSN);
  }
}
