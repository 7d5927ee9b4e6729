/**
 * One client: first the handshake, then requests, then the end.
 *
 * @module
 */
import type { Completer, Io } from "../../io/io.ts";
import { NO_TIMER } from "../../io/io.ts";
import { Stream, type StreamMemory, type StreamOwner } from "../../io/stream.ts";
import { errnoText } from "../../io/errno.ts";
import { Haggle, Step } from "./haggle.ts";
import type { Host } from "./host.ts";
import { Transmission } from "./transmission.ts";

const HANDSHAKE = 1;
const LINGER = 2;

/** Who is told when a connection is over. */
export interface ConnectionOwner {
  /** Nothing of the connection is left, its memory is free. `complaint` is empty for an orderly end. */
  onGone(connection: Connection, complaint: string): void;
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
   */
  constructor(host: Host, fd: number, readonly memory: StreamMemory, owner: ConnectionOwner) {
    this.#host = host;
    this.#io = host.io;
    this.#owner = owner;
    this.#stream = new Stream(host.io, fd, memory, this);
    this.#haggle = new Haggle(this.#stream, host.volume);
    this.#transmission = new Transmission(
      host,
      this.#stream,
      () => this.#finish(),
      (complaint) => this.#break(complaint),
    );
    this.#timer = host.io.timer(host.handshakeMs, this, HANDSHAKE);
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
