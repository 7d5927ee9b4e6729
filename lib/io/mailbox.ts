/**
 * The main thread's end of the mailbox, and the life of a volume thread.
 *
 * A volume thread blocks in the kernel and runs no event loop of the runtime, so it cannot hear a
 * `postMessage`. A request therefore goes through shared memory and an eventfd that wakes its loop; answers and
 * events come back by `postMessage`, which works while the sender never returns to an event loop.
 *
 * The other end is `MailboxServer`.
 *
 * @module
 */
import { libc, openEvent, signalEvent } from "./libc.ts";
import { MailboxRing, makeRingMemory } from "./mailbox_ring.ts";

/** Most calls without an answer at once; more are refused at once. */
export const MAX_PENDING_CALLS = 1024;

/**
 * How long a volume thread may take to start, milliseconds, unless told otherwise. It takes a tenth of a second; but
 * after a node was restarted all its volumes start at once, and none must be given up because the others are loud.
 */
export const START_TIMEOUT_MS = 180_000;

/** How long a volume thread may take to end its loop before it is terminated, milliseconds. */
export const STOP_TIMEOUT_MS = 10_000;

/** What a volume thread needs to read the mailbox; goes to it by `postMessage`. */
export interface MailboxShared {
  /** The ring of requests. */
  readonly memory: SharedArrayBuffer;
  /** The eventfd. */
  readonly event: number;
}

/** What travels of an error. */
export interface ErrorRecord {
  /** Name of the class. */
  readonly name: string;
  /** The text. */
  readonly message: string;
  /** Symbolic, such as `ENOSPC`; empty when the error had none. */
  readonly code: string;
}

/** A message from the volume thread to the main thread. */
export type MailboxMessage =
  | { readonly mailbox: "ready"; readonly value: unknown }
  | { readonly mailbox: "failed"; readonly error: ErrorRecord }
  | { readonly mailbox: "answer"; readonly id: number; readonly value: unknown }
  | { readonly mailbox: "refusal"; readonly id: number; readonly error: ErrorRecord }
  | { readonly mailbox: "event"; readonly event: unknown }
  | { readonly mailbox: "room" }
  | { readonly mailbox: "closed" };

/** Why the mailbox itself failed a call. */
export type MailboxFault = "TIMEOUT" | "DIED" | "CLOSED" | "TOO_LARGE" | "TOO_MANY";

/** A call that got no answer from the volume thread. */
export class MailboxError extends Error {
  /** The class, for logs. */
  override readonly name = "MailboxError";

  /**
   * Makes one.
   *
   * @param code what happened
   * @param message the same for people
   */
  constructor(readonly code: MailboxFault, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** An error that the volume thread answered with. `name` and `message` are those of the original. */
export class RemoteError extends Error {
  /** Symbolic, such as `ENOSPC`; empty when the original had none. */
  readonly code: string;

  /** Makes it again from what came over. */
  constructor(record: ErrorRecord) {
    super(record.message);
    this.name = record.name;
    this.code = record.code;
  }
}

interface Call {
  readonly kind: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: ReturnType<typeof setTimeout> | undefined;
}

/** The main thread's end. */
export class Mailbox {
  /** To be given to the volume thread. */
  readonly shared: MailboxShared;
  /** Called with every event that the volume thread notifies. */
  onEvent: (event: unknown) => void = () => {};

  readonly #ring: MailboxRing;
  readonly #post: Uint8Array<ArrayBuffer>[] = [];
  readonly #calls = new Map<number, Call>();
  #nextId = 1;
  #fault: MailboxError | undefined;
  #eventOpen = true;

  /**
   * Makes the shared memory and the eventfd.
   *
   * @param bytes of the ring, a power of two; default: 1 MiB
   * @throws {IoError} when no eventfd can be had
   */
  constructor(bytes?: number) {
    const memory = makeRingMemory(bytes);
    this.#ring = new MailboxRing(memory);
    this.shared = { memory, event: openEvent() };
  }

  /**
   * Asks the volume thread.
   *
   * @param kind which handler
   * @param body anything JSON can carry
   * @param timeoutMs give up after so long; default: never. The volume thread is not told
   * @returns what the handler answered
   * @throws {RemoteError} what the handler refused with
   * @throws {MailboxError}
   */
  call(kind: string, body?: unknown, timeoutMs?: number): Promise<unknown> {
    // What is thrown in here, by JSON too, rejects the promise.
    return new Promise((resolve, reject) => {
      if (this.#fault) throw this.#fault;
      if (this.#calls.size >= MAX_PENDING_CALLS) {
        throw new MailboxError("TOO_MANY", `call ${kind}: ${MAX_PENDING_CALLS} calls have no answer yet`);
      }
      const id = this.#nextId++;
      const record = MailboxRing.encode({ id, kind, body });
      if (record.length > this.#ring.capacity) {
        const message = `call ${kind}: ${record.length} bytes do not fit a mailbox of ${this.#ring.capacity}`;
        throw new MailboxError("TOO_LARGE", message);
      }
      const timer = timeoutMs === undefined ? undefined : setTimeout(() => {
        this.#calls.delete(id);
        reject(new MailboxError("TIMEOUT", `call ${kind}: no answer within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#calls.set(id, { kind, resolve, reject, timer });
      this.#post.push(record);
      this.#flush();
    });
  }

  /** Takes a message of the volume thread. */
  deliver(message: MailboxMessage): void {
    switch (message.mailbox) {
      case "answer":
        return this.#take(message.id)?.resolve(message.value);
      case "refusal":
        return this.#take(message.id)?.reject(new RemoteError(message.error));
      case "event":
        return this.onEvent(message.event);
      case "room":
        return this.#flush();
      case "closed":
        return this.fail(new MailboxError("CLOSED", "the volume thread has ended"));
      case "ready":
      case "failed":
        return;
    }
  }

  /** Fails all calls, those to come included. The first fault stays. */
  fail(fault: MailboxError): void {
    this.#fault ??= fault;
    this.#post.length = 0;
    for (const id of [...this.#calls.keys()]) {
      const call = this.#take(id);
      call?.reject(new MailboxError(fault.code, `call ${call.kind}: ${fault.message}`, { cause: fault }));
    }
  }

  /** Asks the volume thread to end its loop. */
  askStop(): void {
    this.#ring.askStop();
    if (this.#eventOpen) signalEvent(this.shared.event);
  }

  /** Fails what is open and closes the eventfd; for when the volume thread is gone. */
  close(): void {
    this.fail(new MailboxError("CLOSED", "the mailbox is closed"));
    if (this.#eventOpen) libc.close(this.shared.event);
    this.#eventOpen = false;
  }

  #take(id: number): Call | undefined {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    clearTimeout(call?.timer);
    return call;
  }

  #flush(): void {
    let put = 0;
    while (put < this.#post.length && this.#ring.put(this.#post[put] as Uint8Array)) put++;
    if (put === 0) return;
    this.#post.splice(0, put);
    signalEvent(this.shared.event);
  }
}

/** How to start a volume thread. */
export interface ThreadOptions {
  /** Goes to the thread as it is (structured clone). */
  readonly init?: unknown;
  /** Name of the thread, for debuggers. */
  readonly name?: string;
  /** Default: {@linkcode START_TIMEOUT_MS}. */
  readonly startTimeoutMs?: number;
  /** Called with every event that the thread notifies. */
  readonly onEvent?: (event: unknown) => void;
}

/** A running volume thread. */
export class VolumeThread {
  /** Resolves when the thread is gone, with the reason. Never rejects. */
  readonly ended: Promise<MailboxError>;
  readonly #worker: Worker;
  readonly #mailbox: Mailbox;
  #end: (reason: MailboxError) => void = () => {};

  private constructor(
    worker: Worker,
    mailbox: Mailbox,
    /** What the thread said when it was ready. */
    readonly ready: unknown,
  ) {
    this.#worker = worker;
    this.#mailbox = mailbox;
    this.ended = new Promise((resolve) => this.#end = resolve);
    worker.onmessage = ({ data }: MessageEvent<MailboxMessage>) => {
      if (data.mailbox !== "closed") return mailbox.deliver(data);
      this.#gone(new MailboxError("CLOSED", "the volume thread has ended"));
      mailbox.close();
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#gone(
        new MailboxError("DIED", `the volume thread died: ${event.message}`, { cause: event.error }),
      );
    };
  }

  /**
   * Starts a Worker whose module calls `serveThread` and waits until it is ready.
   *
   * @param module URL of the module
   * @throws {RemoteError} what the thread's start failed with
   * @throws {MailboxError} DIED or TIMEOUT
   */
  static start(module: URL, options: ThreadOptions = {}): Promise<VolumeThread> {
    const mailbox = new Mailbox();
    if (options.onEvent) mailbox.onEvent = options.onEvent;
    const worker = new Worker(module, { type: "module", ...(options.name ? { name: options.name } : {}) });
    const limit = options.startTimeoutMs ?? START_TIMEOUT_MS;
    return new Promise((resolve, reject) => {
      const giveUp = (error: Error) => {
        clearTimeout(timer);
        // A late start must not run on unheard; the eventfd stays open for it as in terminate().
        mailbox.askStop();
        mailbox.fail(new MailboxError("DIED", "the volume thread did not start"));
        worker.terminate();
        reject(error);
      };
      const timer = setTimeout(
        () => giveUp(new MailboxError("TIMEOUT", `the volume thread did not start within ${limit} ms`)),
        limit,
      );
      worker.onerror = (event) => {
        event.preventDefault();
        giveUp(new MailboxError("DIED", `the volume thread died at start: ${event.message}`));
      };
      worker.onmessage = ({ data }: MessageEvent<MailboxMessage>) => {
        if (data.mailbox === "failed") return giveUp(new RemoteError(data.error));
        if (data.mailbox !== "ready") return mailbox.deliver(data);
        clearTimeout(timer);
        resolve(new VolumeThread(worker, mailbox, data.value));
      };
      worker.postMessage({ shared: mailbox.shared, init: options.init });
    });
  }

  /** See {@linkcode Mailbox.call}. */
  call(kind: string, body?: unknown, timeoutMs?: number): Promise<unknown> {
    return this.#mailbox.call(kind, body, timeoutMs);
  }

  /** Asks the thread to end its loop, and terminates it when it does not within the time. */
  async stop(timeoutMs: number = STOP_TIMEOUT_MS): Promise<void> {
    this.#mailbox.askStop();
    const timer = setTimeout(() => this.terminate(), timeoutMs);
    await this.ended;
    clearTimeout(timer);
  }

  /**
   * Ends the thread now; calls without an answer fail. Its eventfd stays open: the thread may be about to read
   * it, and the number could be somebody else's by then.
   */
  terminate(): void {
    // A thread that blocks in the kernel cannot be ended from outside: wake it.
    this.#mailbox.askStop();
    this.#gone(new MailboxError("DIED", "the volume thread was terminated"));
  }

  #gone(reason: MailboxError): void {
    this.#worker.terminate();
    this.#mailbox.fail(reason);
    this.#end(reason);
  }
}
