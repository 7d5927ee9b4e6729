/**
 * An initiator for tests: it does what it is told, right or wrong, and takes apart what comes back.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Io } from "../../io/io.ts";
import { Stream, StreamMemory, type StreamOwner } from "../../io/stream.ts";
import { crc32c } from "./digest.ts";
import { BHS_BYTES, Field, FINAL, IMMEDIATE, NO_TAG, Opcode, padding, READ_FLAG, WRITE_FLAG } from "./pdu.ts";
import type { Script } from "./test_script.ts";
import { formatPairs, parsePairs } from "./text.ts";

/** Name of the target in tests. */
export const TARGET = "iqn.2019-10.io.longhorn:test";

/** A PDU as it came. */
export class Pdu {
  readonly #view: DataView;
  /** As it came. */
  constructor(readonly header: Uint8Array, readonly data: Uint8Array) {
    this.#view = new DataView(header.buffer);
  }
  /** Opcode. */
  get opcode(): number {
    return this.header[0] & 0x3f;
  }
  /** Byte 1. */
  get flags(): number {
    return this.header[1];
  }
  /** 16 bits of the header. */
  u16(at: number): number {
    return this.#view.getUint16(at);
  }
  /** 32 bits of the header. */
  u32(at: number): number {
    return this.#view.getUint32(at);
  }
  /** The data segment as pairs. */
  get text(): Map<string, string> {
    return parsePairs(this.data);
  }
}

/** What became of a command. */
export interface Result {
  /** SCSI status. */
  readonly status: number;
  /** Sense key and additional sense code (code << 8 | qualifier), 0 without sense. */
  readonly key: number;
  /** Additional sense code and qualifier. */
  readonly asc: number;
  /** Sense data. */
  readonly sense: Uint8Array;
  /** What was read. */
  readonly data: Uint8Array;
  /** Byte 1. */
  readonly flags: number;
  /** Residual count. */
  readonly residual: number;
}

/** What can be said of a command. */
export interface CommandOptions {
  /** Data to write. */
  readonly out?: Uint8Array;
  /** Bytes expected to be read. */
  readonly read?: number;
  /** Expected data transfer length, when it is neither. */
  readonly expected?: number;
  /** Another logical unit. */
  readonly lun?: number;
  /** Task attribute, default SIMPLE. */
  readonly attribute?: number;
  /** As an immediate command. */
  readonly immediate?: boolean;
}

/** Memory of initiators that are gone. */
const spare = new WeakMap<Io, StreamMemory[]>();

function streamMemory(io: Io): StreamMemory {
  return spare.get(io)?.pop() ?? new StreamMemory(io, { window: 1024 * 1024, headers: 256 * 1024 });
}

/** An initiator with one connection; see the module text. */
export class Initiator implements StreamOwner {
  /** The socket. */
  readonly stream: Stream;
  /** PDUs nobody looked at yet. */
  readonly received: Pdu[] = [];
  /** The connection is over. */
  closed = false;
  /** Number of the next command. */
  cmdSN = 100;
  /** End of the window, as last told. */
  maxCmdSN = 0;
  /** Headers have digests. */
  headerDigest = false;
  /** Data segments have digests. */
  dataDigest = false;
  /** Tag of the last command. */
  tag = 1;
  /** What was agreed on. */
  agreed = new Map<string, string>();
  /** Initiator name. */
  name = "iqn.2001-04.com.example:host";
  /** Initiator session id. */
  isid: readonly number[] = [0x40, 0, 0, 1, 0, 0];
  /** Bytes not yet sent because the send queue is full. */
  readonly #outbox: Uint8Array[] = [];

  /** Takes over a connected socket. */
  constructor(readonly io: Io, fd: number, readonly lun = 1) {
    this.stream = new Stream(io, fd, streamMemory(io), this);
  }

  /** Connects to the target. */
  static *connect(io: Io, port: number, lun = 1): Script<Initiator> {
    let fd = 0;
    io.connect(
      { kind: "tcp", host: "127.0.0.1", port },
      { complete: (_tag, result) => void (fd = result) },
      0,
    );
    yield () => fd !== 0;
    assert.ok(fd > 0, `connect: ${fd}`);
    return new Initiator(io, fd, lun);
  }

  onData(stream: Stream): void {
    this.#flush();
    const { u8, view } = this.io.arena;
    for (;;) {
      if (stream.available < BHS_BYTES) return;
      const at = stream.position;
      const length = view.getUint32(at + Field.DATA_LENGTH) & 0xffffff;
      const head = BHS_BYTES + (this.headerDigest ? 4 : 0);
      const tail = padding(length) + (this.dataDigest && length > 0 ? 4 : 0);
      if (stream.available < head + length + tail) return;
      if (this.headerDigest) {
        assert.equal(crc32c(u8, at, BHS_BYTES), view.getUint32(at + BHS_BYTES, true), "header digest");
      }
      if (this.dataDigest && length > 0) {
        const end = at + head + length + padding(length);
        assert.equal(crc32c(u8, at + head, end - at - head), view.getUint32(end, true), "data digest");
      }
      const pdu = new Pdu(u8.slice(at, at + BHS_BYTES), u8.slice(at + head, at + head + length));
      this.maxCmdSN = pdu.u32(Field.MAX_CMD_SN);
      this.received.push(pdu);
      stream.consume(head + length + tail);
    }
  }
  onFilled(): void {}
  onSent(): void {}
  onClosed(): void {
    this.closed = true;
    const memories = spare.get(this.io) ?? [];
    memories.push(this.stream.memory);
    spare.set(this.io, memories);
  }

  /** Sends raw bytes. */
  raw(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += 16_384) this.#outbox.push(bytes.slice(at, at + 16_384));
    this.#flush();
  }
  #flush(): void {
    while (this.#outbox.length > 0 && !this.stream.congested && !this.stream.closing) {
      const bytes = this.#outbox.shift() as Uint8Array;
      this.io.arena.u8.set(bytes, this.stream.header(bytes.length));
    }
  }

  /** Puts a PDU together and sends it; `fields` are 32-bit words at offsets. */
  pdu(
    byte0: number,
    flags: number,
    fields: Readonly<Record<number, number>>,
    data: Uint8Array = new Uint8Array(0),
    break_: "nothing" | "header digest" | "data digest" = "nothing",
  ): void {
    const header = new Uint8Array(BHS_BYTES + (this.headerDigest ? 4 : 0));
    const view = new DataView(header.buffer);
    for (const [at, value] of Object.entries(fields)) view.setUint32(Number(at), value);
    header[0] = byte0;
    header[1] = flags;
    view.setUint32(Field.DATA_LENGTH, data.length);
    if (this.headerDigest) {
      view.setUint32(BHS_BYTES, crc32c(header, 0, BHS_BYTES) ^ (break_ === "header digest" ? 1 : 0), true);
    }
    this.raw(header);
    if (data.length === 0) return;
    const body = new Uint8Array(data.length + padding(data.length) + (this.dataDigest ? 4 : 0));
    body.set(data);
    if (this.dataDigest) {
      const end = body.length - 4;
      new DataView(body.buffer).setUint32(
        end,
        crc32c(body, 0, end) ^ (break_ === "data digest" ? 1 : 0),
        true,
      );
    }
    this.raw(body);
  }

  /** The next PDU. */
  *next(): Script<Pdu> {
    yield () => this.received.length > 0 || this.closed;
    const pdu = this.received.shift();
    if (!pdu) throw new Error("the connection was closed");
    return pdu;
  }

  /** The next PDU, which must have this opcode. */
  *expect(opcode: number): Script<Pdu> {
    const pdu = yield* this.next();
    assert.equal(pdu.opcode, opcode, `opcode 0x${pdu.opcode.toString(16)} came`);
    return pdu;
  }

  /** Sends a login request. */
  loginRequest(pairs: [string, string][], flags: number, tsih = 0): void {
    const isid = this.isid;
    this.pdu(Opcode.LOGIN | IMMEDIATE, flags, {
      8: (isid[0] << 24) | (isid[1] << 16) | (isid[2] << 8) | isid[3],
      12: (isid[4] << 24) | (isid[5] << 16) | tsih,
      16: 7,
      20: 5 << 16, // CID
      24: this.cmdSN,
    }, formatPairs(pairs));
  }

  /** Logs in without authentication. @returns the last response */
  *login(keys: Record<string, string> = {}, type: "Normal" | "Discovery" = "Normal"): Script<Pdu> {
    const pairs: [string, string][] = [["InitiatorName", this.name], ["SessionType", type]];
    if (type === "Normal") pairs.push(["TargetName", TARGET]);
    pairs.push(...Object.entries(keys));
    this.loginRequest(pairs, FINAL | (1 << 2) | 3);
    const response = yield* this.expect(Opcode.LOGIN_RESPONSE);
    this.agreed = response.text;
    if (response.u16(36) !== 0) return response;
    this.headerDigest = this.agreed.get("HeaderDigest") === "CRC32C";
    this.dataDigest = this.agreed.get("DataDigest") === "CRC32C";
    return response;
  }

  /** Sends a SCSI command with what immediate data fits, nothing else. @returns its tag */
  command(cdb: readonly number[], options: CommandOptions = {}, immediateBytes = 0, final = true): number {
    const { out, read = 0, lun = this.lun } = options;
    const fields: Record<number, number> = {
      8: lun << 16,
      16: ++this.tag,
      20: options.expected ?? out?.length ?? read,
      24: this.cmdSN,
    };
    const bytes = new Uint8Array(16);
    bytes.set(cdb);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < 4; i++) fields[32 + 4 * i] = view.getUint32(4 * i);
    const flags = (final ? FINAL : 0) | (out ? WRITE_FLAG : 0) | (read > 0 ? READ_FLAG : 0) |
      (options.attribute ?? 1);
    this.pdu(
      Opcode.SCSI_COMMAND | (options.immediate ? IMMEDIATE : 0),
      flags,
      fields,
      out?.subarray(0, immediateBytes),
    );
    if (!options.immediate) this.cmdSN = (this.cmdSN + 1) >>> 0;
    return this.tag;
  }

  /** Sends Data-Out for [from, to) of the data in PDUs of at most `segment` bytes. */
  dataOut(
    tag: number,
    transferTag: number,
    out: Uint8Array,
    from: number,
    to: number,
    segment = 65_536,
  ): void {
    let sn = 0;
    for (let at = from; at < to; at += segment) {
      const end = Math.min(to, at + segment);
      this.pdu(Opcode.DATA_OUT, end === to ? FINAL : 0, {
        8: this.lun << 16,
        16: tag,
        20: transferTag,
        36: sn++,
        40: at,
      }, out.subarray(at, end));
    }
  }

  /** Runs a command to its end as the negotiated keys say. */
  *scsi(cdb: readonly number[], options: CommandOptions = {}): Script<Result> {
    const { out } = options;
    const expected = options.expected ?? out?.length ?? 0;
    const first = Math.min(Number(this.agreed.get("FirstBurstLength") ?? 65536), expected);
    const immediate = out && this.agreed.get("ImmediateData") !== "No" ? Math.min(first, 8192) : 0;
    const unsolicited = out !== undefined && this.agreed.get("InitialR2T") === "No" && first > immediate;
    const tag = this.command(cdb, options, immediate, !unsolicited);
    if (out && unsolicited) this.dataOut(tag, NO_TAG, out, immediate, first, 4096);
    return yield* this.finish(tag, options);
  }

  /** Collects data, answers R2Ts, until the status of a command that has seen `sn` R2Ts already. */
  *finish(tag: number, options: CommandOptions = {}, sn = 0): Script<Result> {
    const { out = new Uint8Array(0), read = 0 } = options;
    const data = new Uint8Array(read);
    let got = 0;
    for (;;) {
      const pdu = yield* this.next();
      assert.equal(
        pdu.u32(Field.TASK_TAG),
        tag,
        `a PDU for another task, opcode 0x${pdu.opcode.toString(16)}`,
      );
      if (pdu.opcode === Opcode.R2T) {
        const from = pdu.u32(Field.BUFFER_OFFSET);
        assert.equal(pdu.u32(Field.DATA_SN), sn++);
        this.dataOut(
          tag,
          pdu.u32(Field.TRANSFER_TAG),
          out,
          from,
          from + pdu.u32(Field.DESIRED_LENGTH),
          16_384,
        );
      } else if (pdu.opcode === Opcode.DATA_IN) {
        assert.equal(pdu.u32(Field.BUFFER_OFFSET), got);
        assert.equal(pdu.u32(Field.DATA_SN), sn++);
        data.set(pdu.data, got);
        got += pdu.data.length;
        if (pdu.flags & 1) return result(pdu, data.subarray(0, got), pdu.header[3]);
      } else {
        assert.equal(pdu.opcode, Opcode.SCSI_RESPONSE);
        assert.equal(pdu.u32(Field.DATA_SN), sn, "ExpDataSN");
        return result(pdu, data.subarray(0, got), pdu.header[3]);
      }
    }
  }

  /** Reports the pending unit attentions until there is none. @returns their additional sense codes */
  *clearAttentions(): Script<number[]> {
    const seen: number[] = [];
    for (;;) {
      const ready = yield* this.scsi([0]);
      if (ready.key !== 6) return seen;
      seen.push(ready.asc);
    }
  }

  /**
   * Makes the disk usable again after others did to it what they could: takes reported conditions, preempts
   * reservations, lifts write protection. @returns true when a command succeeds
   */
  *clearAttentionsAndReservations(): Script<boolean> {
    for (let round = 0; round < 4; round++) {
      yield* this.clearAttentions();
      const key = new Uint8Array(24);
      key[15] = 1;
      yield* this.scsi([0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0], { out: key });
      yield* this.scsi([0x5f, 3, 0, 0, 0, 0, 0, 0, 24, 0], {
        out: new Uint8Array([...key.subarray(8, 16), ...new Uint8Array(16)]),
      });
      if ((yield* this.scsi([0])).status === 0) return true;
    }
    return false;
  }

  /** Sends a task management function. @returns the response code */
  *manage(fn: number, referenced = NO_TAG, lun = this.lun): Script<number> {
    this.pdu(Opcode.TASK_MANAGEMENT | IMMEDIATE, FINAL | fn, {
      8: lun << 16,
      16: ++this.tag,
      20: referenced,
      24: this.cmdSN,
    });
    const pdu = yield* this.expect(Opcode.TASK_MANAGEMENT_RESPONSE);
    assert.equal(pdu.u32(Field.TASK_TAG), this.tag);
    return pdu.header[2];
  }
}

function result(pdu: Pdu, data: Uint8Array, status: number): Result {
  const sense = pdu.opcode === Opcode.SCSI_RESPONSE ? pdu.data.subarray(2) : new Uint8Array(0);
  const fixed = (sense[0] & 0x7e) === 0x70;
  return {
    status,
    key: sense.length === 0 ? 0 : fixed ? sense[2] & 15 : sense[1],
    asc: sense.length === 0 ? 0 : fixed ? (sense[12] << 8) | sense[13] : (sense[2] << 8) | sense[3],
    sense,
    data,
    flags: pdu.flags,
    residual: pdu.u32(Field.RESIDUAL),
  };
}
