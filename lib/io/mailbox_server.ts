/**
 * The volume thread's end of the mailbox: requests arrive through the Io like everything else, one at a time
 * from the loop; see `mailbox.ts` for the way and why.
 *
 * @module
 */
import { Errno, errnoName, IoError } from "./errno.ts";
import type { Completer, Io } from "./io.ts";
import type { ErrorRecord, MailboxMessage, MailboxShared } from "./mailbox.ts";
import { MailboxRing } from "./mailbox_ring.ts";

/** How a handler answers: once, now or later from the loop. A second answer is ignored. */
export interface Reply {
  /** The call succeeded. @param value anything `postMessage` can carry */
  ok(value?: unknown): void;
  /** The call failed. */
  error(error: unknown): void;
}

/** Serves one kind of call. What it throws is the answer. The body is what JSON made of the caller's. */
export type Handler = (body: unknown, reply: Reply) => void;

/** Handlers by kind of call. */
export type Handlers = Readonly<Record<string, Handler>>;

/** Takes a message to the main thread. */
export type Post = (message: MailboxMessage) => void;

interface Request {
  readonly id: number;
  readonly kind: string;
  readonly body: unknown;
}

/** No such handler. */
export class UnknownCallError extends Error {
  /** The class, for the caller to match on. */
  override readonly name = "UnknownCallError";
  /** For the caller to match on. */
  readonly code = "UNKNOWN_CALL";

  /** Names the kind that was called. */
  constructor(kind: string) {
    super(`the volume thread has no handler for ${JSON.stringify(kind)}`);
  }
}

/** What travels of an error. */
export function describeError(error: unknown): ErrorRecord {
  if (!(error instanceof Error)) return { name: "Error", message: String(error), code: "" };
  const { code } = error as { code?: unknown };
  const symbolic = error instanceof IoError ? errnoName(error.errno) : typeof code === "string" ? code : "";
  return { name: error.name, message: error.message, code: symbolic };
}

/** Posts through the Worker this runs in. */
export function postToMain(message: MailboxMessage): void {
  (globalThis as unknown as { postMessage(message: unknown): void }).postMessage(message);
}

const EVENT_BYTES = 8;

/** The volume thread's end. Reads as soon as the loop runs. */
export class MailboxServer implements Completer {
  readonly #io: Io;
  readonly #event: number;
  readonly #ring: MailboxRing;
  readonly #handlers: Map<string, Handler>;
  readonly #post: Post;
  readonly #at: number;
  /** Called when the main thread wants the loop to end. Default: `io.stop()`. */
  onStop: () => void;

  /**
   * Starts to listen.
   *
   * @param io of this thread; 8 bytes of its arena are taken
   * @param shared from the main thread
   * @param handlers by kind
   * @param post default: `postMessage` of the Worker
   */
  constructor(io: Io, shared: MailboxShared, handlers: Handlers, post: Post = postToMain) {
    this.#io = io;
    this.#event = shared.event;
    this.#ring = new MailboxRing(shared.memory);
    this.#handlers = new Map(Object.entries(handlers));
    this.#post = post;
    this.#at = io.arena.reserve(EVENT_BYTES);
    this.onStop = () => io.stop();
    this.#read();
  }

  /** Tells the main thread something it did not ask for. @param event anything `postMessage` can carry */
  notify(event: unknown): void {
    this.#post({ mailbox: "event", event });
  }

  /** The eventfd was signalled. */
  complete(_tag: number, result: number): void {
    if (result < 0 && result !== -Errno.EAGAIN) throw new IoError("read", "eventfd of the mailbox", result);
    this.#read();
    for (;;) {
      const request = this.#ring.take() as Request | undefined;
      if (request === undefined) break;
      this.#dispatch(request);
    }
    if (this.#ring.takeStarving()) this.#post({ mailbox: "room" });
    if (this.#ring.stopAsked) this.onStop();
  }

  #read(): void {
    this.#io.read(this.#event, this.#at, EVENT_BYTES, -1, this, 0);
  }

  #dispatch({ id, kind, body }: Request): void {
    let answered = false;
    const answer = (message: MailboxMessage) => {
      if (answered) return;
      answered = true;
      try {
        this.#post(message);
      } catch (error) {
        // A value that cannot be cloned: the caller hears of it, the loop goes on.
        this.#post({ mailbox: "refusal", id, error: describeError(error) });
      }
    };
    const reply: Reply = {
      ok: (value) => answer({ mailbox: "answer", id, value }),
      error: (error) => answer({ mailbox: "refusal", id, error: describeError(error) }),
    };
    const handler = this.#handlers.get(kind);
    if (handler === undefined) return reply.error(new UnknownCallError(kind));
    try {
      handler(body, reply);
    } catch (error) {
      reply.error(error);
    }
  }
}

/** What the start of a volume thread gives. */
export interface ThreadStart {
  /** Its loop runs until stopped; it is disposed afterwards. */
  readonly io: Io;
  /** Goes to the main thread with the news that the thread is ready. */
  readonly ready?: unknown;
}

/**
 * Makes this Worker a volume thread: waits for the main thread's word, calls `start`, says that it is ready
 * and runs the loop until it is stopped. `start` makes a {@linkcode MailboxServer}; what it throws fails
 * `VolumeThread.start` on the main thread.
 */
export function serveThread(start: (init: unknown, shared: MailboxShared) => ThreadStart): void {
  const scope = globalThis as unknown as {
    onmessage: ((event: MessageEvent<{ init: unknown; shared: MailboxShared }>) => void) | null;
    close(): void;
  };
  scope.onmessage = ({ data }) => {
    scope.onmessage = null;
    let started: ThreadStart;
    try {
      started = start(data.init, data.shared);
    } catch (error) {
      postToMain({ mailbox: "failed", error: describeError(error) });
      return scope.close();
    }
    postToMain({ mailbox: "ready", value: started.ready });
    started.io.run();
    started.io[Symbol.dispose]();
    postToMain({ mailbox: "closed" });
    scope.close();
  };
}
