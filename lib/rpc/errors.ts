/**
 * Errors of calls: status codes, the error that carries one, and the error of an expansion that says whether the
 * replica was rolled back. No dependency on the gRPC library, so that any room can throw them.
 *
 * @module
 */

/** Status codes of gRPC (grpc/doc/statuscodes.md). */
export const Code = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** One of {@linkcode Code}. */
export type Code = typeof Code[keyof typeof Code];

/** What else is known about a failed call. */
export interface RpcErrorOptions {
  /** The error behind this one. */
  cause?: unknown;
  /** Who was called, as the caller named it. */
  address?: string;
  /** Path of the method that was called, `/package.Service/Method`. */
  method?: string;
}

/**
 * A failed call. A handler throws it to choose the status; a client throws it for every failure. The message is
 * the status text and nothing else: peers compare such texts.
 */
export class RpcError extends Error {
  /** Name of the class. */
  override name = "RpcError";
  /** Status code. */
  readonly code: Code;
  /** Who was called; undefined in a server. */
  readonly address: string | undefined;
  /** Path of the method that was called; undefined in a server. */
  readonly method: string | undefined;

  /**
   * Makes the error.
   *
   * @param code status code
   * @param text status text
   * @param options what else is known
   */
  constructor(code: Code, text: string, options: RpcErrorOptions = {}) {
    super(text, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.address = options.address;
    this.method = options.method;
  }
}

/** What became of a change that failed half way, in the words that peers know. */
export type RollbackOutcome =
  | "ResultUnknown"
  | "FunctionFailedWithoutRollback"
  | "FunctionFailedRollbackSucceeded"
  | "FunctionFailedRollbackFailed";

const OUTCOMES: ReadonlySet<string> = new Set<RollbackOutcome>([
  "ResultUnknown",
  "FunctionFailedWithoutRollback",
  "FunctionFailedRollbackSucceeded",
  "FunctionFailedRollbackFailed",
]);

/** Longest part of a text inside a {@linkcode RollbackError}, characters: the JSON must not be cut. */
const MAX_ROLLBACK_TEXT = 1024;

/**
 * A failed expansion of a replica. On the wire: INTERNAL, and as text a JSON object
 *
 * | key | content |
 * |---|---|
 * | code | a {@linkcode RollbackOutcome}: whether the replica is as it was; the engine keeps or drops it by that |
 * | message | what failed |
 * | rollbackMessage | what failed while rolling back; empty otherwise |
 */
export class RollbackError extends RpcError {
  /** Name of the class. */
  override name = "RollbackError";
  /** What became of the change. */
  readonly outcome: RollbackOutcome;
  /** What failed. */
  readonly reason: string;
  /** What failed while rolling back; empty otherwise. */
  readonly rollbackReason: string;

  /**
   * Makes the error.
   *
   * @param outcome what became of the change
   * @param reason what failed
   * @param rollbackReason what failed while rolling back
   * @param options what else is known
   */
  constructor(outcome: RollbackOutcome, reason: string, rollbackReason = "", options: RpcErrorOptions = {}) {
    const text = JSON.stringify({
      code: outcome,
      message: reason.slice(0, MAX_ROLLBACK_TEXT),
      rollbackMessage: rollbackReason.slice(0, MAX_ROLLBACK_TEXT),
    });
    super(Code.INTERNAL, text, options);
    this.outcome = outcome;
    this.reason = reason;
    this.rollbackReason = rollbackReason;
  }

  /** Reads the error of a call; undefined when it is no such error (another code, no JSON, unknown outcome). */
  static from(error: unknown): RollbackError | undefined {
    if (error instanceof RollbackError) return error;
    if (!(error instanceof RpcError) || error.code !== Code.INTERNAL) return undefined;
    let parsed: unknown;
    try {
      parsed = JSON.parse(error.message);
    } catch {
      return undefined;
    }
    if (typeof parsed !== "object" || parsed === null) return undefined;
    const { code, message, rollbackMessage } = parsed as Record<string, unknown>;
    if (typeof code !== "string" || !OUTCOMES.has(code)) return undefined;
    const text = (value: unknown): string => typeof value === "string" ? value : "";
    return new RollbackError(code as RollbackOutcome, text(message), text(rollbackMessage), { cause: error });
  }
}

/** Longest status text sent, characters. It travels in a header, and peers limit headers (some to 8 KiB). */
export const MAX_STATUS_TEXT = 4096;

/** A status as it goes out. */
export interface Status {
  /** Status code. */
  code: Code;
  /** Status text. */
  details: string;
}

/**
 * The status for whatever a handler threw: the code of an {@linkcode RpcError}, and UNKNOWN with the text for
 * every other error, as peers expect of a plain error.
 */
export function statusOf(error: unknown): Status {
  const text = error instanceof Error ? error.message : String(error);
  const details = text.length > MAX_STATUS_TEXT ? text.slice(0, MAX_STATUS_TEXT - 3) + "..." : text;
  return { code: error instanceof RpcError ? error.code : Code.UNKNOWN, details };
}

/** A handler for methods that are declared but not offered. */
export function unimplemented(): never {
  throw new RpcError(Code.UNIMPLEMENTED, "this method is not implemented");
}
