/**
 * Load over iSCSI: a small initiator, one session with one connection, as many commands under way as the load and
 * the target's window want. It asks no more than to measure a target: no authentication, no digests, no recovery.
 *
 * @module
 */
import { Errno, errnoText } from "../io/errno.ts";
import { type Address, type Completer, formatAddress, type Io } from "../io/io.ts";
import { Stream, StreamMemory, type StreamOwner } from "../io/stream.ts";
import { IscsiLogin } from "./iscsi_login.ts";
import {
  ASYNC_MESSAGE,
  BHS_BYTES,
  CAPACITY_BYTES,
  CHECK_CONDITION,
  DATA_IN,
  GOOD,
  LOGOUT_RESPONSE,
  MAX_TEXT_BYTES,
  NO_TAG,
  NOP_IN,
  OPCODE_MASK,
  R2T,
  REJECT,
  SCSI_RESPONSE,
  serialAfter,
  STATUS_FLAG,
  UNIT_ATTENTION,
} from "./iscsi_protocol.ts";
import { IscsiSender, TaskKind } from "./iscsi_send.ts";
import { BenchError, type Target, type TargetOwner } from "./target.ts";

const TWO_32 = 2 ** 32;
/** Least segments and header bytes of the send queue; the sender stops at half. */
const LEAST_SEGMENTS = 1024;
const SEGMENTS_PER_TASK = 4;
const LEAST_HEADER_BYTES = 64 * 1024;
/** TEST UNIT READY is repeated this often while the target has unit attentions to report. */
const MAX_ATTENTIONS = 8;
const NO_TEXT = "";

/** What to log in to. */
export interface IscsiPlace {
  /** The portal. */
  readonly address: Address;
  /** Name of the target. */
  readonly targetName: string;
  /** Number of the logical unit, 0 to 255. */
  readonly lun: number;
}

/** See the module text. */
export class IscsiTarget implements Target, StreamOwner, Completer {
  /** See {@linkcode Target}. */
  bytes = 0;
  readonly #memory: StreamMemory;
  readonly #login: IscsiLogin;
  readonly #send: IscsiSender;
  readonly #received: Float64Array;
  /** The tag of our own commands. */
  readonly #ownTag: number;
  readonly #ownData: number;
  #stream: Stream | undefined;
  #loggedIn = false;
  #attentions = 0;
  #closing = false;
  #error: BenchError | undefined;
  // The Data-In whose data is arriving.
  #filling = -1;
  #fillingStatus = -1;

  /** Connects nothing yet. @param depth most operations under way */
  constructor(
    readonly io: Io,
    readonly index: number,
    readonly place: IscsiPlace,
    depth: number,
    readonly owner: TargetOwner,
  ) {
    this.#memory = new StreamMemory(io, {
      client: true,
      segments: Math.max(LEAST_SEGMENTS, SEGMENTS_PER_TASK * depth),
      headers: Math.max(LEAST_HEADER_BYTES, SEGMENTS_PER_TASK * BHS_BYTES * depth),
    });
    // A random ISID (RFC 7143 section 11.12.5, type 10b): two programs at once do not end each other's session.
    const isid = crypto.getRandomValues(new Uint8Array(6));
    isid[0] = 0x80;
    this.#login = new IscsiLogin(io, place.targetName, isid);
    this.#send = new IscsiSender(io, place.lun, depth + 1);
    this.#received = new Float64Array(depth + 1);
    this.#ownTag = depth;
    this.#ownData = io.arena.reserve(CAPACITY_BYTES);
  }

  /** See {@linkcode Target}. */
  open(): void {
    this.io.connect(this.place.address, this, 0);
  }

  /** The end of the connecting. */
  complete(_tag: number, result: number): void {
    if (result < 0) {
      const where = formatAddress(this.place.address);
      return this.owner.onEnded(this, new BenchError(`cannot connect to ${where}: ${errnoText(result)}`));
    }
    this.#stream = new Stream(this.io, result, this.#memory, this);
    this.#login.begin(this.#stream);
  }

  /** See {@linkcode Target}. */
  submit(write: boolean, offset: number, length: number, at: number, tag: number): void {
    this.#received[tag] = 0;
    const kind = write ? TaskKind.WRITE : TaskKind.READ;
    if (this.#stream) this.#send.submit(this.#stream, kind, offset, length, at, tag);
  }

  /** See {@linkcode Target}. */
  close(): void {
    this.#closing = true;
    if (this.#stream) this.#send.logout(this.#stream, this.#ownTag);
  }

  // ---- PDUs of the target ------------------------------------------------------------------------------------

  /** See {@linkcode StreamOwner}. */
  onData(stream: Stream): void {
    if (!this.#loggedIn) {
      try {
        if (!this.#login.advance(stream)) return;
      } catch (error) {
        if (!(error instanceof BenchError)) throw error;
        return this.#give(error.message);
      }
      this.#loggedIn = true;
      this.#send.begin(this.#login);
      this.#own(TaskKind.READY);
    }
    while (!stream.closing && stream.available >= BHS_BYTES && this.#pdu(stream));
    this.#send.pump(stream);
  }

  /** Takes one PDU; false when it is not there as a whole. */
  #pdu(stream: Stream): boolean {
    const { view, u8 } = this.io.arena, at = stream.position;
    const opcode = u8[at] & OPCODE_MASK, length = view.getUint32(at + 4) & 0xffffff;
    const padded = (length + 3) & ~3;
    if (opcode === DATA_IN && length === padded) return this.#dataIn(stream, at, length);
    if (length > MAX_TEXT_BYTES) {
      this.#give(`the target sends a PDU 0x${opcode.toString(16)} with ${length} bytes`);
      return false;
    }
    if (stream.available < BHS_BYTES + padded) return false;
    stream.consume(BHS_BYTES + padded);
    this.#window(at);
    switch (opcode) {
      case SCSI_RESPONSE:
        this.#response(at, length);
        break;
      case R2T:
        this.#r2t(stream, at);
        break;
      case NOP_IN:
        if (view.getUint32(at + 20) !== NO_TAG) this.#send.pong(stream, view.getUint32(at + 20));
        break;
      case LOGOUT_RESPONSE:
        stream.close();
        break;
      case ASYNC_MESSAGE:
        this.#give("the target asks to end the session");
        break;
      case REJECT:
        this.#give(`the target rejects a PDU, reason 0x${u8[at + 2].toString(16)}`);
        break;
      default:
        this.#give(`the target sends a PDU 0x${opcode.toString(16)} that was not expected`);
    }
    return true;
  }

  /** Takes over the numbers that every PDU of the target carries. */
  #window(at: number): void {
    const { view } = this.io.arena, max = view.getUint32(at + 32);
    if (serialAfter(max, this.#send.maxCmdSN)) this.#send.maxCmdSN = max;
  }

  #status(at: number): void {
    this.#send.expStatSN = (this.io.arena.view.getUint32(at + 24) + 1) >>> 0;
  }

  #dataIn(stream: Stream, at: number, length: number): boolean {
    const { view, u8 } = this.io.arena;
    const tag = view.getUint32(at + 16), from = view.getUint32(at + 40), send = this.#send;
    const kind = tag < send.kind.length ? send.kind[tag] : TaskKind.FREE;
    const reads = kind === TaskKind.READ || kind === TaskKind.CAPACITY;
    if (!reads || from + length > send.length[tag] || this.#received[tag] + length > send.length[tag]) {
      this.#give("the target sends data that was not asked for");
      return false;
    }
    this.#window(at);
    const hasStatus = (u8[at + 1] & STATUS_FLAG) !== 0;
    if (hasStatus) this.#status(at);
    this.#received[tag] += length;
    this.#filling = tag;
    this.#fillingStatus = hasStatus ? u8[at + 3] : -1;
    stream.consume(BHS_BYTES);
    if (!stream.fill(send.at[tag] + from, length)) return false;
    this.onFilled();
    return true;
  }

  /** See {@linkcode StreamOwner}. */
  onFilled(): void {
    if (this.#fillingStatus >= 0) this.#end(this.#filling, this.#fillingStatus, NO_TEXT);
  }

  #r2t(stream: Stream, at: number): void {
    const { view } = this.io.arena, tag = view.getUint32(at + 16);
    const from = view.getUint32(at + 40), length = view.getUint32(at + 44);
    const fine = tag < this.#ownTag && this.#send.ask(stream, tag, view.getUint32(at + 20), from, length);
    if (!fine) this.#give("the target asks for data that there is not");
  }

  #response(at: number, length: number): void {
    const { view, u8 } = this.io.arena, tag = view.getUint32(at + 16), sense = at + BHS_BYTES + 2;
    this.#status(at);
    if (!(tag < this.#send.kind.length) || this.#send.kind[tag] === TaskKind.FREE) {
      return this.#give("the target answers a command that was not sent");
    }
    if (u8[at + 2] !== 0) {
      return this.#end(tag, CHECK_CONDITION, `iSCSI response 0x${u8[at + 2].toString(16)}`);
    }
    const status = u8[at + 3], key = length >= 16 ? u8[sense + 2] & 0x0f : 0;
    if (tag === this.#ownTag && status === CHECK_CONDITION && key === UNIT_ATTENTION) {
      if (++this.#attentions > MAX_ATTENTIONS) return this.#give("the target always has a unit attention");
      return this.#own(this.#send.kind[tag] as TaskKind);
    }
    this.#end(tag, status, status === GOOD ? NO_TEXT : this.#senseText(status, length >= 16 ? sense : -1));
  }

  /** Words for a status and fixed format sense data (SPC-4 section 4.5.3). */
  #senseText(status: number, sense: number): string {
    const { u8 } = this.io.arena, hex = (n: number) => n.toString(16).padStart(2, "0");
    if (sense < 0) return `SCSI status 0x${hex(status)}`;
    const code = `${hex(u8[sense + 12])}/${hex(u8[sense + 13])}`;
    return `SCSI status 0x${hex(status)}, sense key ${u8[sense + 2] & 0x0f}, code ${code}`;
  }

  #own(kind: TaskKind): void {
    const length = kind === TaskKind.CAPACITY ? CAPACITY_BYTES : 0;
    this.#received[this.#ownTag] = 0;
    if (this.#stream) this.#send.submit(this.#stream, kind, 0, length, this.#ownData, this.#ownTag);
  }

  /** A command has ended. */
  #end(tag: number, status: number, text: string): void {
    const kind = this.#send.kind[tag], missing = this.#send.length[tag] - this.#received[tag];
    this.#send.kind[tag] = TaskKind.FREE;
    if (tag === this.#ownTag) return this.#ownEnded(kind, status, text);
    const short = status === GOOD && kind === TaskKind.READ && missing > 0;
    const result = status === GOOD && !short ? 0 : -Errno.EIO;
    this.owner.onDone(this, tag, result, short ? `${missing} bytes are missing` : text);
  }

  #ownEnded(kind: number, status: number, text: string): void {
    if (status !== GOOD) return this.#give(`logical unit ${this.place.lun} is not usable: ${text}`);
    if (kind === TaskKind.READY) return this.#own(TaskKind.CAPACITY);
    const { view } = this.io.arena, at = this.#ownData;
    this.#send.blockBytes = view.getUint32(at + 8);
    this.bytes = (view.getUint32(at) * TWO_32 + view.getUint32(at + 4) + 1) * this.#send.blockBytes;
    this.owner.onReady(this);
  }

  #give(message: string): void {
    this.#error ??= new BenchError(message);
    this.#stream?.close();
  }

  /** See {@linkcode StreamOwner}. The response says so as well. */
  onSent(): void {}

  /** See {@linkcode StreamOwner}. */
  onClosed(_stream: Stream, result: number): void {
    const why = result === 0 ? "the target closed the connection" : errnoText(result);
    const lost = new BenchError(`${formatAddress(this.place.address)}: ${why}`);
    this.owner.onEnded(this, this.#closing ? undefined : this.#error ?? lost);
  }
}
