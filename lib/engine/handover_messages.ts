/**
 * What two engines say to each other in a live upgrade, over a unix socket that passes descriptors: messages of JSON.
 * Unknown fields are ignored, so that versions can differ.
 *
 * The running engine is the giver, the one that comes is the taker.
 *
 * | step | who | message | what holds then |
 * |---|---|---|---|
 * | 1 | giver | `hello` | nothing has happened; the taker gets ready: program, memory, connections to replicas |
 * | 2 | taker | `want` | the giver comes to rest: no request is under way, clients wait |
 * | 3 | giver | `parcel`, descriptors | the giver touches neither replicas nor clients |
 * | 4 | taker | `ready` | the members have recorded the taker's generation: the giver is fenced |
 * | 5 | giver | `go` | the giver does not take it back as long as the taker lives |
 * | 6 | taker | `taken` | the volume is the taker's; it goes on with the clients after it has said so |
 *
 * `no` (giver) and `failed` (taker) end it at any step before `go`. The giver takes everything back after `failed`, when
 * the taker's process ends before `taken`, or, before `go`, when the taker takes too long; it always says `no` before
 * it does so. So an end of the connection without `no` means to the taker, which waits for `go`, that the giver's
 * process is gone: it goes on with what it has.
 *
 * @module
 */
import { closeAll, type Passed, readable, receive, send } from "../io/passing.ts";
import type { PackedJournal } from "./journals.ts";

/** Version of the messages. Raised only when an older taker or giver could not work with what is new. */
export const HANDOVER_FORMAT = 1;

/** Step 1. */
export interface Hello {
  /** Tells it from others. */
  readonly type: "hello";
  /** {@linkcode HANDOVER_FORMAT}. */
  readonly format: number;
  /** Name of the volume. */
  readonly volume: string;
  /** Its size. */
  readonly bytes: number;
}

/** Step 2. */
export interface Want {
  /** Tells it from others. */
  readonly type: "want";
  /** {@linkcode HANDOVER_FORMAT}. */
  readonly format: number;
  /** Replicas that the taker is connected to. */
  readonly replicas: readonly string[];
  /** Their identifiers. */
  readonly ids: readonly string[];
  /** Kind of frontend the taker is to have, "" for none. */
  readonly frontend: string;
}

/** Step 3. Descriptors: memory with JSON ({@linkcode Baggage}), the listener for the next upgrade, the frontend's. */
export interface ParcelMessage {
  /** Tells it from others. */
  readonly type: "parcel";
  /** The replicas stay open and serve whoever has the higher generation; or the giver has closed them. */
  readonly mode: "adopt" | "reopen";
  /** Size of the volume. */
  readonly bytes: number;
  /** The giver's; the taker's is the next one. */
  readonly generation: number;
  /** Of the record of members. */
  readonly revision: number;
  /** Identifiers of the complete copies. */
  readonly members: readonly string[];
  /** Names of the complete copies, in the order in which they are read from. */
  readonly complete: readonly string[];
  /** Copies may differ: reads go to the first of `complete`. */
  readonly readsFromOne: boolean;
  /** What was set while the volume ran; absent from older engines. */
  readonly settings?: HandedSettings;
  /** The frontend: its kind ("" for none), where hosts find it, and the host's share of it. */
  readonly frontend: { readonly kind: string; readonly endpoint: string; readonly host: unknown };
}

/** Settings that a call may have changed since the engine was started. The taker's own flags go before them. */
export interface HandedSettings {
  /** Limit for snapshots. */
  readonly snapshotMaxCount: number;
  /** Limit for their bytes; 0 = none. */
  readonly snapshotMaxSize: number;
  /** An unmap marks the snapshots below the head as removed. */
  readonly unmapMark: boolean;
  /** Copies that a rebuild reads from at the same time, at most. */
  readonly rebuildSources: number;
  /** Bytes per second that the engine copies to a copy that joins; 0 = no limit; absent from older engines. */
  readonly copyLimit?: number;
  /** What went wrong with the last expansion, and when; "". */
  readonly expansion: { readonly error: string; readonly failedAt: string };
}

/** What is too long for a message. */
export interface Baggage {
  /** What is served: `Frontend.kind`, whatever the frontend is called outside; "" without one. */
  readonly served: string;
  /** See `Parcel.state`; null without a frontend. */
  readonly frontend: unknown;
  /** Dirty regions, base64. */
  readonly regions: string;
  /** What copies missed that are away; absent from older engines. */
  readonly journals?: readonly PackedJournal[];
}

/** Any of them. */
export type HandoverMessage =
  | Hello
  | Want
  | ParcelMessage
  | { readonly type: "no" | "failed"; readonly reason: string }
  | { readonly type: "ready" | "go" | "taken" };

/** What was received. */
export interface Received {
  /** The message. */
  readonly message: HandoverMessage;
  /** The receiver owns them. */
  readonly descriptors: readonly number[];
}

/** One end of the conversation. */
export class HandoverChannel {
  #open = true;

  /** Takes a connected descriptor over. */
  constructor(readonly fd: number) {}

  /** Says something. @throws {IoError} when the other end is gone */
  say(message: HandoverMessage, descriptors: readonly number[] = []): void {
    send(this.fd, new TextEncoder().encode(JSON.stringify(message)), descriptors);
  }

  /** As {@linkcode say}, to somebody who may be gone. @returns false when it was not heard */
  tell(message: HandoverMessage): boolean {
    try {
      this.say(message);
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Waits for the next message.
   *
   * @param timeoutMs below 0: for ever
   * @returns "end" when the other process is gone or has closed, "late" after the time
   * @throws {SyntaxError} {@linkcode IoError} for what is no message
   */
  async next(timeoutMs: number): Promise<Received | "end" | "late"> {
    if (!await readable(this.fd, timeoutMs)) return "late";
    const passed = receive(this.fd);
    return passed === undefined ? "end" : parse(passed);
  }

  /** Closes this end. */
  close(): void {
    if (this.#open) closeAll([this.fd]);
    this.#open = false;
  }
}

function parse({ bytes, descriptors }: Passed): Received {
  try {
    const message = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (typeof message?.type !== "string") throw new SyntaxError("a message without a type");
    return { message, descriptors };
  } catch (error) {
    closeAll(descriptors);
    throw error;
  }
}
