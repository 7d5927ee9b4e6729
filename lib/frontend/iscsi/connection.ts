/**
 * One TCP connection: cuts the stream into PDUs, checks digests and lengths, and puts data where it belongs.
 *
 * The data segments of SCSI Command and Data-Out go straight into the buffer of their task; everything else is
 * small and is looked at in the receive window. Before the login is done only Login Requests are taken.
 *
 * What breaks the protocol ends the connection (ErrorRecoveryLevel 0), with a reason for the log.
 *
 * @module
 */
import type { Completer, Deferred, Io } from "../../io/io.ts";
import { NO_TIMER } from "../../io/io.ts";
import type { BufferPool } from "../../io/pool.ts";
import { Stream, type StreamMemory, type StreamOwner } from "../../io/stream.ts";
import { CRC_START, crcFinish, crcUpdate } from "./digest.ts";
import { type CloseCode, ConnectionError } from "./errors.ts";
import { FullFeature } from "./full_feature.ts";
import type { HandedConnection } from "./handing.ts";
import { LoginPhase } from "./login_phase.ts";
import { MAX_RECEIVE_BYTES } from "./negotiation.ts";
import { BHS_BYTES, DIGEST_BYTES, Field, Opcode, OPCODE_MASK, padding } from "./pdu.ts";
import { type DataSink, Phase } from "./phase.ts";
import { LoginWindow, Sender } from "./sender.ts";
import type { Session, SessionConnection } from "./session.ts";
import type { Task } from "./scsi/task.ts";
import type { Target } from "./role.ts";

/** Longest data segment of a PDU that is looked at in the window, bytes: more than any text or ping needs. */
export const MAX_CONTROL_BYTES = 64 * 1024;
/** Bytes of the receive window: a control PDU and the start of the next one always fit. */
export const WINDOW_BYTES = 256 * 1024;
/** Bytes of the ring for headers and small answers. */
export const HEADER_RING_BYTES = 128 * 1024;

/** One connection; see the module text. */
export class Connection implements StreamOwner, Completer, Deferred, SessionConnection {
  /** The socket. */
  readonly stream: Stream;
  /** What writes to it. */
  readonly sender: Sender;
  /** The command window until there is a session. */
  readonly loginWindow = new LoginWindow();
  /** The session, once logged in. */
  session: Session | undefined;
  /** Arena offset of the header that is handled, for as long as its PDU is. */
  readonly bhs: number;
  /** Where the data segment at hand goes. */
  readonly sink: DataSink = { at: 0, take: 0, task: undefined };
  /** Connection id the initiator gave at login. */
  cid = 0;
  /** Why it ended, once it does. */
  reason: ConnectionError | undefined;
  readonly #u8: Uint8Array;
  readonly #view: DataView;
  readonly #login: LoginPhase;
  readonly #fullFeature: FullFeature;
  #phase: number = Phase.HEADER;
  #dataLength = 0;
  #drop = 0;
  #crc = CRC_START;
  #timer = NO_TIMER;
  #heard = false;
  #pinged = false;
  #pumpDeferred = false;
  #suspended = false;
  #fresh = true;
  /** Apart from {@linkcode runDeferred}, which memory that came back calls. */
  readonly #pumper: Deferred = {
    runDeferred: () => {
      this.#pumpDeferred = false;
      this.session?.pump();
    },
  };

  /**
   * Takes over a socket; it has to log in within {@linkcode Timing.loginMs}.
   *
   * @param id for the log
   * @param bhs arena offset of 48 bytes of its own
   * @param unread of a socket that another process handed over: the connection begins suspended
   */
  constructor(
    readonly io: Io,
    readonly pool: BufferPool,
    readonly target: Target,
    readonly id: number,
    fd: number,
    readonly memory: StreamMemory,
    bhs: number,
    unread?: Uint8Array,
  ) {
    this.#u8 = io.arena.u8;
    this.#view = io.arena.view;
    this.bhs = bhs;
    this.stream = new Stream(io, fd, memory, this, unread);
    this.sender = new Sender(this.stream, pool, this.loginWindow);
    this.#login = new LoginPhase(this);
    this.#fullFeature = new FullFeature(this);
    if (!unread) this.#timer = io.timer(target.timing.loginMs, this, 0);
  }

  /** See {@linkcode SessionConnection}. */
  get closing(): boolean {
    return this.stream.closing;
  }

  /** See {@linkcode SessionConnection}. */
  isFilling(task: Task): boolean {
    return this.#phase >= Phase.MEMORY && this.sink.task === task;
  }

  /** Asks the initiator to log out. */
  requestLogout(seconds: number): void {
    if (!this.closing) this.#fullFeature.requestLogout(seconds);
  }

  /** Ends the connection now. */
  close(code: CloseCode, message: string): void {
    this.reason ??= new ConnectionError(code, message);
    this.stream.close();
  }

  /** Ends the connection after what is queued was sent. */
  finish(code: CloseCode, message: string): void {
    this.reason ??= new ConnectionError(code, message);
    this.stream.finish();
  }

  // ---- receiving -------------------------------------------------------------------------------------------

  /** See {@linkcode StreamOwner}. */
  onData(): void {
    this.#heard = true;
    this.session?.pump();
    while (!this.stream.closing && !this.#halts() && this.#advance());
  }

  /** See {@linkcode StreamOwner}. */
  onFilled(): void {
    this.#filled();
    // The PDU may be complete with this, and `onData` comes only with more bytes.
    this.onData();
  }

  /** One step. @returns false when more bytes, memory or room is needed */
  #advance(): boolean {
    switch (this.#phase) {
      case Phase.HEADER:
        return !this.stream.congested && this.#header();
      case Phase.CONTROL:
        return this.#control();
      case Phase.MEMORY:
        return this.#prepare();
      case Phase.FILL:
        this.#phase = Phase.FILLING;
        if (!this.stream.fill(this.sink.at, this.sink.take)) return false;
        this.#filled();
        return true;
      case Phase.DROP:
        return this.#dropSome();
      case Phase.TAIL:
        return this.#tail();
      default:
        return false;
    }
  }

  #header(): boolean {
    const { stream } = this, u8 = this.#u8, view = this.#view;
    // Who speaks something else is told apart by the first byte, whatever lengths the next ones seem to say.
    if (!this.session && stream.available > 0 && (u8[stream.position] & OPCODE_MASK) !== Opcode.LOGIN) {
      this.close("protocol", `byte 0x${u8[stream.position].toString(16)} came instead of a login request`);
      return false;
    }
    if (stream.available < BHS_BYTES) return false;
    this.#fresh = false;
    const at = stream.position;
    const headerBytes = BHS_BYTES + 4 * u8[at + Field.AHS_WORDS];
    const digestBytes = this.sender.headerDigest ? DIGEST_BYTES : 0;
    if (stream.available < headerBytes + digestBytes) return false;
    if (digestBytes > 0) {
      const digest = crcFinish(crcUpdate(CRC_START, u8, at, headerBytes));
      if (digest !== view.getUint32(at + headerBytes, true)) {
        this.close("digest", "header digest does not match");
        return false;
      }
    }
    u8.copyWithin(this.bhs, at, at + BHS_BYTES);
    stream.consume(headerBytes + digestBytes);
    this.#dataLength = view.getUint32(this.bhs + Field.DATA_LENGTH) & 0xffffff;
    if (this.#dataLength > MAX_RECEIVE_BYTES) {
      this.close("too-long", `data segment of ${this.#dataLength} bytes, ${MAX_RECEIVE_BYTES} are announced`);
      return false;
    }
    this.sink.task = undefined;
    const opcode = u8[this.bhs] & OPCODE_MASK;
    if (this.session && !this.session.parameters.discovery && isDataOpcode(opcode)) return this.#prepare();
    if (this.#dataLength === 0) {
      this.#dispatch(opcode, this.bhs, 0);
      return true;
    }
    if (this.#dataLength > MAX_CONTROL_BYTES) {
      this.close(
        "too-long",
        `data segment of ${this.#dataLength} bytes with opcode 0x${opcode.toString(16)}`,
      );
      return false;
    }
    this.#phase = Phase.CONTROL;
    return true;
  }

  /** A whole PDU with its data in the window. */
  #control(): boolean {
    const length = this.#dataLength, tail = this.#tailBytes();
    if (this.stream.available < length + tail) return false;
    const at = this.stream.position;
    if (
      this.sender.dataDigest && !this.#digestMatches(crcUpdate(CRC_START, this.#u8, at, length), at + length)
    ) {
      return false;
    }
    this.#phase = Phase.HEADER;
    this.#dispatch(this.#u8[this.bhs] & OPCODE_MASK, at, length);
    this.stream.consume(length + tail);
    return true;
  }

  #dispatch(opcode: number, at: number, length: number): void {
    if (this.session) this.#fullFeature.handle(opcode, at, length);
    else this.#login.handle(at, length);
  }

  /** Finds out where the data segment goes; may wait for memory. */
  #prepare(): boolean {
    const { sink } = this;
    sink.take = 0;
    if (!this.#fullFeature.begin(this.#dataLength)) {
      if (this.stream.closing) return false;
      this.#phase = Phase.MEMORY;
      this.stream.pause();
      this.pool.wait(this);
      return false;
    }
    this.#crc = CRC_START;
    this.#drop = this.#dataLength - sink.take;
    this.#phase = sink.take > 0 ? Phase.FILL : this.#drop > 0 ? Phase.DROP : Phase.TAIL;
    return true;
  }

  #filled(): void {
    const { sink } = this;
    if (this.sender.dataDigest) this.#crc = crcUpdate(this.#crc, this.#u8, sink.at, sink.take);
    this.#phase = this.#drop > 0 ? Phase.DROP : Phase.TAIL;
  }

  #dropSome(): boolean {
    const bytes = Math.min(this.#drop, this.stream.available);
    if (this.sender.dataDigest) this.#crc = crcUpdate(this.#crc, this.#u8, this.stream.position, bytes);
    this.stream.consume(bytes);
    this.#drop -= bytes;
    if (this.#drop > 0) return false;
    this.#phase = Phase.TAIL;
    return true;
  }

  #tail(): boolean {
    const tail = this.#tailBytes();
    if (this.stream.available < tail) return false;
    const at = this.stream.position;
    if (this.sender.dataDigest && this.#dataLength > 0 && !this.#digestMatches(this.#crc, at)) return false;
    this.stream.consume(tail);
    this.#phase = Phase.HEADER;
    const { task } = this.sink;
    this.sink.task = undefined;
    this.#fullFeature.end(task, this.#dataLength);
    return true;
  }

  /** Bytes of padding and data digest. */
  #tailBytes(): number {
    if (this.#dataLength === 0) return 0;
    return padding(this.#dataLength) + (this.sender.dataDigest ? DIGEST_BYTES : 0);
  }

  /** Compares a digest over data so far and the padding at `at` with what follows. */
  #digestMatches(state: number, at: number): boolean {
    const pad = padding(this.#dataLength);
    const digest = crcFinish(crcUpdate(state, this.#u8, at, pad));
    if (digest === this.#view.getUint32(at + pad, true)) return true;
    this.close("digest", "data digest does not match");
    return false;
  }

  /** Memory came back. */
  runDeferred(): void {
    if (this.#phase === Phase.MEMORY && !this.stream.closing) this.stream.resume();
  }

  // ---- from one process to the next ------------------------------------------------------------------------

  /** Lets what was begun end, and the command window run out; see {@linkcode rests}. */
  suspend(): void {
    this.#suspended = true;
    this.io.cancel(this.#timer);
    if (this.session?.parameters.discovery) this.close("stopping", "a discovery session does not move");
    else this.session?.freeze();
  }

  /** True when it is suspended, no command is under way and all was sent. */
  rests(): boolean {
    this.#halts();
    return this.stream.quiet;
  }

  /** Halts when it is suspended and between two commands; until then it receives, as data of a command may be missing. */
  #halts(): boolean {
    if (!this.#suspended) return false;
    const { session } = this;
    const between = session
      ? session.live === 0 && !session.parameters.discovery && !this.#fullFeature.reading
      : this.#fresh;
    if (!between || this.#phase !== Phase.HEADER || this.stream.filling) return false;
    this.stream.halt();
    return true;
  }

  /** Goes on. The initiator is shown the whole command window again. */
  resume(): void {
    this.#suspended = false;
    const { session } = this, { timing } = this.target;
    this.#heard = true;
    this.#timer = this.io.timer(session ? timing.pingMs : timing.loginMs, this, 0);
    this.stream.go();
    if (!session) return;
    session.thaw();
    this.#fullFeature.ping();
  }

  /** Goes on with the session that a connection in another process had. */
  adopt(session: Session, { cid, statSN }: HandedConnection): void {
    const { parameters } = session;
    this.session = session;
    this.cid = cid;
    this.#fresh = false;
    this.sender.window = session;
    this.sender.statSN = statSN;
    this.sender.agree(parameters);
  }

  // ---- the end, and time -----------------------------------------------------------------------------------

  /** See {@linkcode StreamOwner}. */
  onSent(_stream: Stream, token: number): void {
    this.sender.sent(token);
    this.#heard = true; // it takes what it asked for
    if (this.#pumpDeferred || !this.session?.hasReady) return;
    this.#pumpDeferred = true;
    this.io.defer(this.#pumper);
  }

  /** See {@linkcode StreamOwner}. */
  onClosed(_stream: Stream, result: number): void {
    this.#phase = Phase.HEADER; // nothing is filled any more
    this.sink.task = undefined;
    this.io.cancel(this.#timer);
    this.reason ??= new ConnectionError(
      "socket",
      result === 0 ? "closed by the initiator" : `socket error ${-result}`,
    );
    this.target.connectionClosed(this);
  }

  /** The login is done: the timer watches over silence from now on. */
  loggedIn(session: Session): void {
    this.session = session;
    this.io.cancel(this.#timer);
    this.#timer = this.io.timer(this.target.timing.pingMs, this, 0);
  }

  /** The initiator is to be asked only after a silence. */
  complete(): void {
    const { session } = this, { timing } = this.target;
    if (this.stream.closing) return;
    if (!session) return this.close("timeout", `no login within ${timing.loginMs} ms`);
    this.#fullFeature.tick();
    // While memory is missing it is us who do not listen.
    if (this.#phase === Phase.MEMORY) this.#heard = true;
    if (!this.#heard && this.#pinged) return this.close("timeout", `silent for ${2 * timing.pingMs} ms`);
    this.#pinged = !this.#heard;
    this.#heard = false;
    if (this.#pinged && !session.parameters.discovery) this.#fullFeature.ping();
    this.#timer = this.io.timer(timing.pingMs, this, 0);
  }
}

function isDataOpcode(opcode: number): boolean {
  return opcode === Opcode.SCSI_COMMAND || opcode === Opcode.DATA_OUT;
}
