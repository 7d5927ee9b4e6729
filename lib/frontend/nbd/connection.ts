/**
 * One client: first the handshake, then requests, then the end.
 *
 * @module
 */
import type { Completer, Io } from "../../io/io.ts";
import { NO_TIMER } from "../../io/io.ts";
import { Stream, type StreamMemory, type StreamOwner } from "../../io/stream.ts";
import { errnoText } from "../../io/errno.ts";
import { Haggle, type HaggleState, Step } from "./haggle.ts";
import { fromBase64, toBase64 } from "../standstill.ts";
import type { Host } from "./host.ts";
import type { Form } from "./reply.ts";
import { Transmission } from "./transmission.ts";

const HANDSHAKE = 1;
const LINGER = 2;

/** Who is told when a connection is over. */
export interface ConnectionOwner {
  /** Nothing of the connection is left, its memory is free. `complaint` is empty for an orderly end. */
  onGone(connection: Connection, complaint: string): void;
}

/** A connection that another process goes on with; JSON. */
export interface ConnectionState {
  /** Received and not used, base64. */
  readonly unread: string;
  /** The handshake, while it is not done. */
  readonly haggle: HaggleState | null;
  /** After that: the form of replies that was agreed on. */
  readonly form: Form;
  /** After that: whether the client selected `base:allocation`. */
  readonly allocation: boolean;
}

/** One client; see the module text. */
export class Connection implements StreamOwner, Completer {
  readonly #host: Host;
  readonly #io: Io;
  readonly #owner: ConnectionOwner;
  readonly #stream: Stream;
  readonly #transmission: Transmission;
  #haggle: Haggle | undefined;
  #timer = NO_TIMER;
  #complaint = "";
  #closed = false;
  #finishing = false;

  /**
   * Greets the client.
   *
   * @param host what the connections share
   * @param fd the accepted socket
   * @param memory memory for its stream
   * @param owner who is told about the end
   * @param state of a connection that another process handed over: it is not greeted, and begins suspended
   */
  constructor(
    host: Host,
    readonly fd: number,
    readonly memory: StreamMemory,
    owner: ConnectionOwner,
    state?: ConnectionState,
  ) {
    this.#host = host;
    this.#io = host.io;
    this.#owner = owner;
    this.#stream = new Stream(host.io, fd, memory, this, state && fromBase64(state.unread));
    if (!state || state.haggle) {
      this.#haggle = new Haggle(this.#stream, host.volume, state?.haggle ?? undefined);
    }
    this.#transmission = new Transmission(
      host,
      this.#stream,
      () => this.#finish(),
      (complaint) => this.#break(complaint),
    );
    if (!state) this.#timer = host.io.timer(host.handshakeMs, this, HANDSHAKE);
    else if (!state.haggle) this.#transmission.begin(state.form, state.allocation);
  }

  /** Takes nothing new; see {@linkcode Connection.rests}. */
  suspend(): void {
    this.#io.cancel(this.#timer);
    this.#timer = NO_TIMER;
    this.#transmission.suspend();
  }

  /** True when it is suspended, everything was answered, and nothing of it is under way. */
  rests(): boolean {
    if (this.#transmission.suspend() && !this.#stream.filling) this.#stream.halt();
    return this.#stream.quiet && !this.#transmission.busy;
  }

  /** What another process needs, while it {@linkcode Connection.rests}. */
  get state(): ConnectionState {
    const haggle = this.#haggle?.state ?? null;
    return { unread: toBase64(this.#stream.unread()), haggle, ...this.#transmission.agreed };
  }

  /** Goes on. */
  resume(): void {
    this.#transmission.resume();
    if (this.#haggle) this.#timer = this.#io.timer(this.#host.handshakeMs, this, HANDSHAKE);
    this.#stream.go();
  }

  /** Lets go of the socket; nothing more follows. */
  leave(): void {
    this.#stream.leave();
  }

  /** True while the client has not opened the export yet. */
  get haggling(): boolean {
    return this.#haggle !== undefined;
  }

  /** Lets a connection that waits for a slot try again. */
  wake(): void {
    this.#transmission.wake();
  }

  /** Says farewell: what is under way is answered first. The host says that it is stopping already. */
  stop(): void {
    if (this.#haggle) return this.#stream.close();
    if (this.#timer === NO_TIMER) this.#timer = this.#io.timer(this.#host.lingerMs, this, LINGER);
    this.#transmission.stop();
  }

  /** See {@linkcode StreamOwner.onData}. */
  onData(stream: Stream): void {
    const haggle = this.#haggle;
    if (haggle) {
      const step = haggle.feed();
      if (step === Step.MORE) return;
      if (step === Step.GOODBYE) return this.#finish();
      if (step === Step.BROKEN) return this.#break(haggle.complaint);
      this.#io.cancel(this.#timer);
      this.#timer = NO_TIMER;
      this.#haggle = undefined;
      this.#transmission.begin(haggle.form, haggle.allocation);
      if (stream.available === 0) return;
    }
    this.#transmission.serve();
  }

  /** See {@linkcode StreamOwner.onFilled}. */
  onFilled(_stream: Stream): void {
    if (this.#haggle) this.#haggle.skipped();
    else this.#transmission.filled();
  }

  /** See {@linkcode StreamOwner.onSent}. */
  onSent(_stream: Stream, token: number): void {
    this.#transmission.sent(token);
  }

  /** See {@linkcode StreamOwner.onClosed}. */
  onClosed(_stream: Stream, result: number): void {
    this.#io.cancel(this.#timer);
    this.#closed = true;
    if (result < 0 && this.#complaint === "") this.#complaint = errnoText(result);
    this.#transmission.closed();
    this.#checkGone();
  }

  /** A timer of this connection fired. */
  complete(tag: number): void {
    this.#timer = NO_TIMER;
    if (tag === HANDSHAKE) this.#break(`did not open the volume within ${this.#host.handshakeMs} ms`);
    else this.#break(`did not take its last replies within ${this.#host.lingerMs} ms`);
  }

  /** Nothing is under way any more: send what is queued and close; or, closed already, tell the owner. */
  #finish(): void {
    if (this.#closed) return this.#checkGone();
    if (this.#finishing) return;
    this.#finishing = true;
    this.#stream.finish();
  }

  #checkGone(): void {
    if (this.#transmission.busy || !this.#closed) return;
    this.#owner.onGone(this, this.#complaint);
  }

  #break(complaint: string): void {
    if (this.#complaint === "") this.#complaint = complaint;
    this.#stream.close();
  }
}
