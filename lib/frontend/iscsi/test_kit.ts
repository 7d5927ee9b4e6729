/**
 * An initiator for tests, in the same loop as the target: scripts are generators that wait for conditions.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { BlockDevice, Op } from "../../block/device.ts";
import { MemoryDevice } from "../../block/memory_device.ts";
import type { Completer, Io } from "../../io/io.ts";
import { BufferPool } from "../../io/pool.ts";
import { Stream, StreamMemory, type StreamOwner } from "../../io/stream.ts";
import { crc32c } from "./digest.ts";
import { BHS_BYTES, Field, FINAL, IMMEDIATE, NO_TAG, Opcode, padding, READ_FLAG, WRITE_FLAG } from "./pdu.ts";
import { type IscsiEvent, IscsiFrontend, type IscsiOptions } from "./target.ts";
import { formatPairs, parsePairs } from "./text.ts";

/** Name of the target in tests. */
export const TARGET = "iqn.2019-10.io.longhorn:test";
/** Bytes of the disk in tests. */
export const DISK_BYTES = 32 * 1024 * 1024;

/** What a script waits for. */
export type Condition = () => boolean;
/** A script, or a part of one. */
export type Script<T = void> = Generator<Condition, T, void>;

/** How long a script may wait for one condition, milliseconds: only a hang takes that long. */
const PATIENCE_MS = 20_000;
/** How often conditions are looked at, milliseconds. */
const TICK_MS = 1;

/** Runs the loop until a script is through. */
export function play(io: Io, script: Script): void {
  let failure: unknown;
  let over = false;
  let condition: Condition | undefined;
  let since = io.now();
  const ticker: Completer = {
    complete() {
      try {
        while (!over && (condition === undefined || condition())) {
          const next = script.next();
          since = io.now();
          if (next.done) over = true;
          else condition = next.value;
        }
        if (!over && io.now() - since > PATIENCE_MS) {
          script.throw(new Error(`waited ${PATIENCE_MS} ms in vain for ${condition}`));
        }
      } catch (error) {
        failure = error;
        over = true;
      }
      if (over) io.stop();
      else io.timer(TICK_MS, ticker, 0);
    },
  };
  io.timer(0, ticker, 0);
  io.run();
  if (failure !== undefined) throw failure;
}

/** A PDU as it came. */
export class Pdu {
  readonly #view: DataView;
  constructor(readonly header: Uint8Array, readonly data: Uint8Array) {
    this.#view = new DataView(header.buffer);
  }
  get opcode(): number {
    return this.header[0] & 0x3f;
  }
  get flags(): number {
    return this.header[1];
  }
  u16(at: number): number {
    return this.#view.getUint16(at);
  }
  u32(at: number): number {
    return this.#view.getUint32(at);
  }
  get text(): Map<string, string> {
    return parsePairs(this.data);
  }
}

/** What became of a command. */
export interface Result {
  readonly status: number;
  /** Sense key and additional sense code (code << 8 | qualifier), 0 without sense. */
  readonly key: number;
  readonly asc: number;
  readonly sense: Uint8Array;
  readonly data: Uint8Array;
  readonly flags: number;
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
  readonly lun?: number;
  readonly attribute?: number;
  readonly immediate?: boolean;
}

/** Memory of initiators that are gone. */
const spare = new WeakMap<Io, StreamMemory[]>();

function streamMemory(io: Io): StreamMemory {
  return spare.get(io)?.pop() ?? new StreamMemory(io, { window: 1024 * 1024, headers: 256 * 1024 });
}

/** An initiator with one connection; see the module text. */
export class Initiator implements StreamOwner {
  readonly stream: Stream;
  readonly received: Pdu[] = [];
  closed = false;
  cmdSN = 100;
  maxCmdSN = 0;
  headerDigest = false;
  dataDigest = false;
  tag = 1;
  /** What was agreed on. */
  agreed = new Map<string, string>();
  name = "iqn.2001-04.com.example:host";
  isid: readonly number[] = [0x40, 0, 0, 1, 0, 0];
  /** Bytes not yet sent because the send queue is full. */
  readonly #outbox: Uint8Array[] = [];

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

/** A disk that keeps operations until it is told to let them go. */
export class HoldingDevice implements BlockDevice {
  readonly held: (() => void)[] = [];
  holding = false;
  constructor(readonly inner: MemoryDevice) {}
  get name(): string {
    return this.inner.name;
  }
  get bytes(): number {
    return this.inner.bytes;
  }
  submit(op: Op, offset: number, length: number, at: number, who: Completer, tag: number): void {
    const go = (): void => this.inner.submit(op, offset, length, at, who, tag);
    if (this.holding) this.held.push(go);
    else go();
  }
  onResize(listener: () => void): void {
    this.inner.onResize(listener);
  }
  /** Lets all held operations go. */
  release(): void {
    this.holding = false;
    for (const go of this.held.splice(0)) go();
  }
}

/** A target with its disk, and what it said. */
export class Bench {
  readonly pool: BufferPool;
  readonly memory: MemoryDevice;
  readonly device: HoldingDevice;
  readonly frontend: IscsiFrontend;
  readonly events: IscsiEvent[] = [];
  /** Bytes free with nothing going on. */
  readonly free: number;
  constructor(readonly io: Io, options: Partial<IscsiOptions> = {}, poolBytes = 16 * 1024 * 1024) {
    this.pool = new BufferPool(io, poolBytes, Math.min(poolBytes, 4 * 1024 * 1024));
    this.memory = new MemoryDevice(io, "test", DISK_BYTES);
    this.device = new HoldingDevice(this.memory);
    this.frontend = new IscsiFrontend(io, this.pool, this.device, {
      address: { kind: "tcp", host: "127.0.0.1", port: 0 },
      targetName: TARGET,
      onEvent: (event) => this.events.push(event),
      ...options,
    });
    this.free = this.pool.free;
  }

  /** A logged-in initiator without pending unit attentions. */
  *initiator(keys: Record<string, string> = {}, name = ""): Script<Initiator> {
    const initiator = yield* Initiator.connect(this.io, this.frontend.port);
    if (name !== "") initiator.name = name;
    const response = yield* initiator.login(keys);
    assert.equal(response.u16(36), 0, "login status");
    yield* initiator.clearAttentions();
    return initiator;
  }

  /** The code a connection was closed with, in the order they closed. */
  get closings(): string[] {
    return this.events.filter((event) => event.kind === "closed").map((event) => event.code);
  }

  /** Waits until nothing is held of the pool any more. */
  *settled(): Script {
    yield () => this.pool.free === this.free;
  }

  /** Closes an initiator's side and stops the target; asserts that everything came back. */
  *stop(...initiators: Initiator[]): Script {
    for (const initiator of initiators) initiator.stream.close();
    yield () => initiators.every((i) => i.closed);
    let stopped = false;
    this.frontend.stop(() => void (stopped = true));
    yield () => stopped;
    assert.equal(this.frontend.sessions.length, 0);
    assert.ok(this.pool.free > this.free, "the scratch buffer came back too");
  }
}

/** Bytes to recognise. */
export function pattern(bytes: number, seed = 1): Uint8Array {
  const data = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) data[i] = Math.imul(i + seed * 7919, 0x9e3779b1) >>> 24;
  return data;
}

/** READ(10) or WRITE(10). */
export function rw10(opcode: 0x28 | 0x2a, lba: number, blocks: number, flags = 0): number[] {
  return [
    opcode,
    flags,
    lba >>> 24,
    lba >>> 16 & 255,
    lba >>> 8 & 255,
    lba & 255,
    0,
    blocks >> 8,
    blocks & 255,
    0,
  ];
}
